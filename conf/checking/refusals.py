"""Errors in the overrides of a command line, before a configuration is composed."""

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from difflib import get_close_matches
from itertools import takewhile
from typing import Any

from hydra.core.override_parser.types import Override, ValueType
from omegaconf.errors import OmegaConfBaseException

from conf.checking.suggestions import VOCABULARY, Key, option_hint
from conf.schema.layout import command, installing, preset_of
from conf.schema.run import GROUPS
from conf.schema.types import show

_SEVERAL = ("pomdp", "auxiliary")  # groups that allow several options
_LISTED = 12
"""Options up to which a message lists all."""
_GYMNASIUM_ID = re.compile(r"[\w./:-]+-v\d+")


class Ending(Exception):
    """An early end of a command: a line or more for the user, an exit code for the shell."""

    exit_code = 2


class InvalidConfiguration(ValueError, Ending):
    """A configuration that cannot be run; `problems` holds one line for each reason."""

    def __init__(self, problems: Iterable[str]) -> None:
        """Keep each problem once, in order."""
        self.problems = list(dict.fromkeys(problems))
        super().__init__(self.problems)  # pickled with them

    def __str__(self) -> str:
        """Write a problem a line."""
        return "\n".join(self.problems)


def one_line(error: BaseException) -> str:
    """Write an error of Hydra, OmegaConf or YAML in one line, without search paths."""
    unavailable = re.fullmatch(r"provider=.*, path=(.*) is not available\.", str(error))
    if unavailable:
        return f"hydra.searchpath: no folder or importable package {unavailable[1]!r}"
    if str(error).startswith("Cannot merge DictConfig with ListConfig"):
        return "expected a mapping, got a list"
    cause = error.__cause__
    reason = str(cause).partition("\n")[0] if isinstance(cause, OmegaConfBaseException) else ""
    text = re.split(r"\.?\n(?:Config s|S)earch path", str(error))[0] + (reason and f"; {reason}")
    advice = r" (a new one is added with a plus: \1)"
    text = re.sub(r"\.?\s*To append to your [\w ]+ use (\+[\w/@]*\.[^;\n]*)", advice, text)
    text = re.sub(r"\.?\s*To append to your [^;\n]*", "", text)  # groups are chosen without one
    return " ".join(text.split()) or type(error).__name__


def syntax_problem(text: str) -> str:
    """Explain an argument that is not key=value."""
    key, equals, value = text.partition("=")
    if not text:
        return "'': expected key=value, got an empty word"
    if not equals:
        hint = f"; a run is resumed with resume={text}" if os.path.isdir(text) else ""
        if _GYMNASIUM_ID.fullmatch(text):
            hint = f"; an environment is chosen with {preset_of(text) or f'env.id={text}'}"
        return f"{text!r}: expected key=value{hint or option_hint(text.lower(), ())}"
    if not key:
        return f"{text!r}: expected a key before the ="
    if not re.fullmatch(r"[+~]{0,2}[\w/@$-]+(\.[\w/@$-]+)*", key):
        return f"{text!r}: cannot read the key; expected words joined by dots"
    quoted = f"'{value}'"
    if value.startswith("["):
        quoted = "[" + ", ".join(f"'{each.strip()}'" for each in value.strip("[]").split(",")) + "]"
    remedy = "" if "'" in value else f': {key}="{quoted}"'
    return f"{text!r}: cannot read the value; special characters need quotes{remedy}"


_UNSUPPORTED = {
    "--config-path": "would replace the defaults; add configurations with --config-dir",
    "--experimental-rerun": "not supported, it reads a pickle",
}
"""Flags of Hydra's that are refused."""


def flag_problem(flag: str) -> str:
    """Explain an unknown flag; other programs set values with flags."""
    word, _, value = flag.partition("=")
    if word in _UNSUPPORTED:
        return f"{word}: {_UNSUPPORTED[word]}"
    name = word.lstrip("-").replace("-", "_")
    key = "env.id" if name == "env" else VOCABULARY.get(name, Key(name)).ours
    return f"{flag}: unknown flag; values are set without dashes: {key}={value or '...'}"


def split_problems(words: Sequence[str]) -> Iterator[str]:
    """Explain a list or mapping that the shell split at its spaces."""
    for start, word in enumerate(words):
        rest = list(takewhile(lambda following: "=" not in following, words[start + 1 :]))
        if rest and re.search(r"=[^'\"]*[\[{][^\]}]*$", word):
            whole = " ".join([word, *rest])
            yield f"{word.partition('=')[0]}: the shell split the value; quote it: '{whole}'"


def override_problems(parsed: Sequence[Override]) -> Iterator[str]:
    """Refuse a key that is given twice, as Hydra would silently take the last, and settings."""
    lines: dict[str, list[str]] = {}
    for override in parsed:
        key = override.get_key_element().lstrip("+~")
        lines.setdefault(key, []).append(override.input_line or "")
        if override.is_interval_sweep():
            yield f"{key}: an interval needs {SEARCH}"
    for key, given in lines.items():
        if len(given) > 1:
            yield f"{key}: given more than once: {' '.join(given)}"
        if key in ("hydra.run.dir", "hydra.sweep.subdir", "hydra.job.chdir"):
            yield f"{key}: derived from run_dir, which is the key to set"
        # It breaks Hydra's basic sweeper.
        if f"{key}.".startswith("hydra.sweeper.params.") and "hydra/sweeper" not in lines:
            yield f"{key}: belongs in a file; on the command line write -m seed=1,2"


def sweep_problems(parsed: Iterable[Override]) -> Iterator[str]:
    """Refuse several values for a single run."""
    for override in parsed:
        if override.is_sweep_override():
            key, _, values = (override.input_line or "").partition("=")
            is_list = override.value_type is ValueType.SIMPLE_CHOICE_SWEEP
            hint = f"; one list is written {key}=[{values}]" if is_list else ""
            sweep = f"-m {key}={values}"
            yield f"{override.key_or_group}: several values need --multirun (-m): {sweep}{hint}"


SEARCH = f"{command('tune')}, which takes the same ranges: key='interval(1e-4, 1e-2)'"


def choice_problems(override: Override, options: Sequence[str], root: Any) -> Iterator[str]:
    """Check the options chosen for a group, among those that it has.

    Args:
        root: the command's options, of `conf.schema.scripts.ROOTS`.
    """
    group, value = override.key_or_group, override.value()
    if override.is_hydra_override():
        if (group, value) == ("hydra/sweeper", "optuna"):
            yield f"{group}: {value} is not supported; search with {SEARCH}"
        elif (group, value) == ("hydra/launcher", "joblib") and value not in options:
            yield f"{group}: {value} is not installed; {installing('sweep')}"
    elif override.package is None and group in {*GROUPS} - {*root.groups}:
        elsewhere = "; another environment is env.id=... or +env.kwargs.KEY=..."
        has_id = group == "env" and "env" in root.__dataclass_fields__  # of a finished run
        yield f"{group}: no choice of this command{elsewhere * has_id}"
    elif override.is_add() and override.package is None and group in GROUPS:
        yield f"{override.input_line}: a group is chosen without a plus: {group}={value}"
    elif not override.is_delete():
        offered = [option for option in options if not option.startswith("_")]
        yield from _option_problems(override.get_key_element().lstrip("+"), value, offered)


def _option_problems(key: str, value: Any, offered: Sequence[str]) -> Iterator[str]:
    group = key.partition("@")[0]
    names = value if isinstance(value, list) else [value]
    if names is value and group not in _SEVERAL:
        yield f"{key}: expected {_one_of(offered, '')}, got a list: {show(value)}"
        return
    for name, count in Counter(map(str, names)).items():
        if count > 1:
            yield f"{key}: {show(name)} is given twice"
    for name in names:
        is_id = group == "env" and _GYMNASIUM_ID.fullmatch(str(name)) is not None
        is_nested = "/" in str(name) and not is_id  # Hydra looks for it
        if name not in offered and not is_nested:
            hint = option_hint(name, offered) if isinstance(name, str) else ""
            chosen = preset_of(str(name)) or f"env.id={name}"
            hint = f"; a Gymnasium id is written {chosen}" if is_id else hint
            yield f"{key}: expected {_one_of(offered, name)}, got {show(name)}{hint}"


def _one_of(offered: Sequence[str], name: Any) -> str:
    """List the options of a group; of many, those that are nearest to a name."""
    if len(offered) == 1:
        return offered[0]
    if len(offered) <= _LISTED:
        return f"one of {', '.join(offered)}"
    near = get_close_matches(str(name), offered, n=3, cutoff=0.0)
    return f"one of {len(offered)} that --help lists, such as {', '.join(near)}"
