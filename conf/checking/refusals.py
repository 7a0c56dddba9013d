"""Errors in the overrides of a command line, before a configuration is composed."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from hydra._internal.config_repository import IConfigRepository
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.types import Override, ValueType
from omegaconf.errors import OmegaConfBaseException

from conf.checking.suggestions import VOCABULARY, did_you_mean
from conf.schema.run import GROUPS
from conf.schema.types import show

_SEVERAL = ("pomdp", "auxiliary")  # groups that allow several options
_GYMNASIUM_ID = re.compile(r"[\w./:-]+-v\d+")


class InvalidConfiguration(ValueError):
    """A configuration that cannot be run; `problems` holds one line for each reason."""

    def __init__(self, problems: Iterable[str]) -> None:
        """Keep each problem once, in order."""
        self.problems = list(dict.fromkeys(problems))
        super().__init__("\n".join(self.problems))


def one_line(error: BaseException) -> str:
    """Shorten a message of Hydra, OmegaConf or YAML to one line, without search paths."""
    parts = [str(error)] if str(error) else []
    if isinstance(error.__cause__, OmegaConfBaseException):
        parts.append(str(error.__cause__).partition("\n")[0])
    texts = [
        re.split(r"\.?\n(?:Config search path|Search path|To append to)", part)[0] for part in parts
    ]
    return " ".join("; ".join(texts).split()) or type(error).__name__


def syntax_problem(text: str) -> str:
    """Explain an argument that is not key=value."""
    key, equals, value = text.partition("=")
    is_key = re.fullmatch(r"[+~]{0,2}[\w/@$-]+(\.[\w/@$-]+)*", key) is not None
    if not equals:
        return (
            f"{text!r}: expected key=value" if key else "'': expected key=value, got an empty word"
        )
    if not key:
        return f"{text!r}: expected a key before the ="
    if not is_key:
        return f"{text!r}: cannot read the key; expected words joined by dots"
    quoted = "" if "'" in value else f": {key}=\"'{value}'\""
    return f"{text!r}: cannot read the value; special characters need quotes{quoted}"


def flag_problem(flag: str) -> str:
    """Explain an unknown flag; other programs set values with flags."""
    name, _, value = flag.lstrip("-").partition("=")
    name = name.replace("-", "_")
    key = "env.id" if name == "env" else VOCABULARY.get(name, name)
    return f"{flag}: unknown flag; values are set without dashes: {key}={value or '...'}"


def repeated_keys(parsed: Sequence[Override]) -> list[str]:
    """Refuse a key that is given twice: Hydra would silently take the last."""
    keys = [override.get_key_element().lstrip("+~") for override in parsed]
    repeated = [key for key, count in Counter(keys).items() if count > 1]
    return [
        f"{repeat}: given more than once: "
        + " ".join(o.input_line or "" for o, key in zip(parsed, keys, strict=True) if key == repeat)
        for repeat in repeated
    ]


def sweep_problems(parsed: Sequence[Override]) -> list[str]:
    """Refuse several values for a single run."""
    problems = []
    for override in (override for override in parsed if override.is_sweep_override()):
        key, _, values = (override.input_line or "").partition("=")
        is_list = override.value_type is ValueType.SIMPLE_CHOICE_SWEEP
        hint = f"; one list is written {key}=[{values}]" if is_list else ""
        problems.append(f"{override.key_or_group}: several values need --multirun (-m){hint}")
    return problems


def directory_problems(parsed: Sequence[Override]) -> list[str]:
    """Allow only one source for the run directory."""
    replaced = {"hydra.run.dir", "hydra.sweep.subdir", "hydra.job.chdir"}
    return [
        f"{o.key_or_group}: derived from run_dir, which is the key to set"
        for o in parsed
        if o.key_or_group in replaced
    ]


def sweeper_problems(parsed: Sequence[Override]) -> list[str]:
    """Refuse `hydra.sweeper.params` as an override, which breaks Hydra's basic sweeper."""
    if any(o.key_or_group == "hydra/sweeper" for o in parsed):
        return []
    return [
        f"{o.key_or_group}: belongs in a file; on the command line write -m seed=1,2"
        for o in parsed
        if f"{o.key_or_group}.".startswith("hydra.sweeper.params.")
    ]


_EXTRAS = {"hydra/launcher/joblib": "pip install -e '.[sweep]'"}
"""Options of Hydra's groups that need an extra of this project."""


def _missing_plugin(group: str, value: Any, repository: IConfigRepository) -> list[str]:
    """Say how to install a Hydra plugin."""
    option = f"{group}/{value}"
    if option not in _EXTRAS or repository.config_exists(option):
        return []
    return [f"{group}: {value} is not installed; {_EXTRAS[option]}"]


def choice_problems(override: Override, repository: IConfigRepository) -> list[str]:
    """Check the option chosen for a group."""
    group, value = override.key_or_group, override.value()
    if override.is_delete() or override.is_hydra_override():
        return _missing_plugin(group, value, repository)
    if override.is_add() and override.package is None and group in GROUPS:
        return [f"{override.input_line}: a group is chosen without a plus: {group}={value}"]
    key = override.get_key_element().lstrip("+")
    options = [
        o for o in repository.get_group_options(group, ObjectType.CONFIG) if not o.startswith("_")
    ]
    listed = f"one of {', '.join(options)}" if len(options) > 1 else ", ".join(options)
    if isinstance(value, list) and group not in _SEVERAL:
        return [f"{key}: expected {listed}, got a list: {show(value)}"]
    names = value if isinstance(value, list) else [value]
    problems = [
        f"{key}: {show(name)} is given twice"
        for name, count in Counter(map(str, names)).items()
        if count > 1
    ]
    for name in names:
        if not isinstance(name, str):
            problems.append(f"{key}: expected {listed}, got {show(name)}")
        elif not repository.config_exists(f"{group}/{name}"):
            hint = did_you_mean(name, options)
            if group == "env" and _GYMNASIUM_ID.fullmatch(name):
                hint = f"; a Gymnasium id is written env.id={name}"
            problems.append(f"{key}: expected {listed}, got {show(name)}{hint}")
    return problems
