"""Guesses at what was meant: the nearest word, or our word for another library's."""

from collections.abc import Collection
from difflib import get_close_matches

from conf.vocabulary import NOTES, OF_REPLAY, VOCABULARY


def nearest(word: str, words: Collection[str], cutoff: float = 0.66) -> str | None:
    """Find the word that was probably meant, whatever its case; None when nothing is close.

    A cutoff of 0.66 lets a swap in a word of three letters pass; 1 would be the same word.
    """
    by_lower = {candidate.lower(): candidate for candidate in sorted(words)}
    matches = get_close_matches(word.lower(), by_lower, n=1, cutoff=cutoff)
    return by_lower[matches[0]] if matches else None


def did_you_mean(word: str, words: Collection[str]) -> str:
    """Write the end of a message, empty when nothing is close: `; did you mean lstm?`."""
    match = nearest(word, words)
    return f"; did you mean {match}?" if match else ""


def key_hint(key: str, known: Collection[str]) -> str:
    """Write the end of a message about an unknown key, empty when nothing is known about it.

    Args:
        key: the path that was written: `agent.clip_rang`.
        known: every path that exists.
    """
    parent, dot, leaf = key.rpartition(".")
    if translates(key, known):
        return _translation(_word(leaf), parent, known)
    by_leaf: dict[str, list[str]] = {}
    for path in sorted(known):
        by_leaf.setdefault(path.rpartition(".")[2], []).append(path)
    if len(by_leaf.get(leaf, ())) == 1:
        return f"; did you mean {by_leaf[leaf][0]}?"
    if _word(leaf) in VOCABULARY:
        return _translation(_word(leaf), parent, known)
    siblings = [name for name, paths in by_leaf.items() if f"{parent}{dot}{name}" in paths]
    sibling = nearest(leaf, siblings)
    if sibling:
        return f"; did you mean {parent}{dot}{sibling}?"
    elsewhere = nearest(leaf, by_leaf)
    match = nearest(key, known, cutoff=0.8) if elsewhere is None else by_leaf[elsewhere][0]
    return f"; did you mean {match}?" if match else ""


def translates(key: str, known: Collection[str]) -> bool:
    """Tell whether an unknown key is a word of another library's for a key that exists."""
    word = _word(key.rpartition(".")[2])
    meanings = (VOCABULARY.get(word), OF_REPLAY.get(word))
    return any(ours in known and not f".{ours}".endswith(f".{word}") for ours in meanings if ours)


def _word(leaf: str) -> str:
    return leaf.replace("-", "_").lower()


def _translation(word: str, parent: str, known: Collection[str]) -> str:
    """Name our word for another library's."""
    if OF_REPLAY.get(word) in known:
        return f"; in this project it is {OF_REPLAY[word]}"
    ours = VOCABULARY[word]
    here = f"{parent}.{ours.rpartition('.')[2]}"
    if here in known:
        return f"; in this project it is {here}"
    note = f" ({NOTES[word]})" if word in NOTES else ""
    lacking = "" if ours in known else ", which nothing that is chosen here has"
    return f"; in this project it is {ours}{note}{lacking}"
