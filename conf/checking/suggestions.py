"""Suggestions: the nearest word, or our name for another library's."""

import csv
from collections.abc import Collection
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path


@dataclass(frozen=True)
class Key:
    """A key of ours and its names in other libraries, several of one library with spaces.

    Attributes:
        elsewhere: names that are used by others.
        note: printed beside our key.
        of_replay: our key for agents with a replay buffer, if it is another one.
    """

    ours: str
    sb3: str = ""
    cleanrl: str = ""
    elsewhere: str = ""
    note: str = ""
    of_replay: str = ""


def _table(name: str) -> list[dict[str, str]]:
    with Path(__file__).with_name(name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


KEYS = [Key(**row) for row in _table("vocabulary.csv")]
VOCABULARY = {
    word: key for key in KEYS for word in f"{key.sb3} {key.cleanrl} {key.elsewhere}".split()
}
"""Our key for each word of other libraries."""
_OPTIONS = {row["elsewhere"]: row["ours"] for row in _table("options.csv")}
"""Our words for options of other libraries, in lower case without separators."""
_GROUPS = Path(__file__).parents[1]


def nearest(word: str, words: Collection[str], cutoff: float = 0.66) -> str | None:
    """Find the closest word, ignoring case; None if nothing is close.

    A cutoff of 0.66 accepts a swap in a word of three letters; 1 is the same word.
    """
    by_lower = {candidate.lower(): candidate for candidate in sorted(words)}
    matches = get_close_matches(word.lower(), by_lower, n=1, cutoff=cutoff)
    return by_lower[matches[0]] if matches else None


def did_you_mean(word: str, words: Collection[str]) -> str:
    """Return the end of a message, empty if nothing is close: `; did you mean lstm?`."""
    match = nearest(word, words)
    return f"; did you mean {match}?" if match else ""


def option_hint(name: str, offered: Collection[str]) -> str:
    """Return the end of a message about an unknown option of a group, empty without a hint."""
    if ours := _OPTIONS.get(name.lower().replace("-", "").replace("_", "")):
        return f"; in this project it is {ours}"
    elsewhere = sorted(path.parent.name for path in _GROUPS.glob("*/*.yaml") if path.stem == name)
    if elsewhere:
        return f"; there is {' and '.join(f'{group}={name}' for group in elsewhere)}"
    return did_you_mean(name, offered)


def key_hint(key: str, known: Collection[str]) -> str:
    """Return the end of a message about an unknown key, empty if there is no hint.

    Args:
        key: the path that was given: `agent.clip_rang`.
        known: every path that exists.
    """
    parent, dot, leaf = key.rpartition(".")
    by_leaf: dict[str, list[str]] = {}
    for path in sorted(known):
        by_leaf.setdefault(path.rpartition(".")[2], []).append(path)
    is_unique = len(by_leaf.get(leaf, ())) == 1
    word = VOCABULARY.get(_word(leaf))
    if word and (translates(key, known) or not is_unique):
        return _translation(word, parent, known)
    siblings = [name for name, paths in by_leaf.items() if f"{parent}{dot}{name}" in paths]
    sibling = nearest(leaf, siblings)
    if sibling and not is_unique:
        return f"; did you mean {parent}{dot}{sibling}?"
    elsewhere = nearest(leaf, by_leaf)  # the same word, if there is one
    match = nearest(key, known, cutoff=0.8) if elsewhere is None else by_leaf[elsewhere][0]
    return f"; did you mean {match}?" if match and not key.startswith(f"{match}.") else ""


def translates(key: str, known: Collection[str]) -> bool:
    """Tell whether an unknown key is another library's name for an existing key."""
    leaf = _word(key.rpartition(".")[2])
    word = VOCABULARY.get(leaf, Key(""))
    meanings = (word.ours, word.of_replay)
    return any(ours in known and not f".{ours}".endswith(f".{leaf}") for ours in meanings)


def _word(leaf: str) -> str:
    return leaf.replace("-", "_").lower()


def _translation(word: Key, parent: str, known: Collection[str]) -> str:
    """Return our name for another library's."""
    if word.of_replay in known:
        return f"; in this project it is {word.of_replay}"
    here = f"{parent}.{word.ours.rpartition('.')[2]}"
    if here in known:
        return f"; in this project it is {here}"
    note = f" ({word.note})" if word.note else ""
    lacking = "" if word.ours in known else ", which nothing that is chosen here has"
    return f"; in this project it is {word.ours}{note}{lacking}"
