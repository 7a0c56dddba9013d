"""What a command line with `resume=RUN_DIR` asks for: a run's configuration, a little changed.

A run goes on bit for bit only with the configuration it was begun with. Words that repeat it are
welcome, words that would change it are refused, but for a few that leave the course alone.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from conf.constraints import show

_CHANGEABLE = ("total_env_steps", "evaluation", "device")
_SESSION = ("resume", "run_dir", "trusted_packages", "tracking.progress")
"""Keys of a process, not of a run."""
_MISSING = object()


def is_changeable(key: str) -> bool:
    """Tell whether a key may differ between the sessions of one run."""
    return _lies_under(key, (*_CHANGEABLE, *_SESSION))


def stored_configuration(run: Path, config_name: str = "config") -> DictConfig:
    """Read the configuration that a run left, unchecked.

    Args:
        config_name: what a run of this kind is composed from.

    Raises:
        ValueError: there is none, or it cannot be read, or is of another kind of run.
    """
    path = run / "config.yaml"
    try:
        config = OmegaConf.load(path)
    except FileNotFoundError as error:
        raise ValueError(f"no run in {run}: {path.name} is missing") from error
    except (YAMLError, OmegaConfBaseException, UnicodeDecodeError, OSError) as error:
        raise ValueError(f"{path} is damaged: {str(error).splitlines()[0]}") from error
    if not isinstance(config, DictConfig):
        raise ValueError(f"{path} is damaged: it holds no configuration")
    is_pretraining = "objective" in config
    if is_pretraining != (config_name == "pretrain"):
        script = "pretrain.py" if is_pretraining else "train.py"
        raise ValueError(f"{run} is no run of this kind: it was begun by {script}")
    return config


def resumed(
    stored: dict[str, Any],
    given: dict[str, Any],
    default: dict[str, Any],
    said: Sequence[str],
) -> tuple[dict[str, Any], list[str]]:
    """Return the configuration to go on with, and every word that would change the run's course.

    Args:
        stored: of the run, typed.
        given: what the command line alone composes to, typed.
        default: what an empty command line composes to, typed.
        said: keys that the command line sets; they count even where they repeat a default.
    """
    before, asked, usual = dict(leaves(stored)), dict(leaves(given)), dict(leaves(default))
    run = given["resume"]
    merged = OmegaConf.create(stored)
    changes = {
        key: value
        for key, value in asked.items()
        if value != usual.get(key, _MISSING) or _lies_under(key, said)
    }
    for key in filter(is_changeable, changes):
        OmegaConf.update(merged, key, changes[key], force_add=True)
    other = [k for k, v in changes.items() if not is_changeable(k) and before.get(k, _MISSING) != v]
    # Another class has other keys: that it is another class says it all.
    classes = [key.removesuffix("._target_") for key in other if key.endswith("._target_")]
    problems = [
        f"{key}: {show(changes[key])} was asked for, the run in {run} has "
        f"{show(before[key]) if key in before else 'no such key'}; with resume only "
        f"{', '.join(_CHANGEABLE[:-1])} and {_CHANGEABLE[-1]} may change (init_from={run} starts "
        "a new run from its weights)"
        for key in sorted(other)
        if key.endswith("._target_") or not _lies_under(key, classes)
    ]
    if "run_dir" in said:
        problems.append("run_dir: a run goes on in its own directory; leave it out with resume")
    total, stored_total = merged.total_env_steps, stored["total_env_steps"]
    if total < stored_total:
        problems.append(
            f"total_env_steps: expected at least {stored_total}, which the run in {run} has, "
            f"got {total}"
        )
    # What belongs to this session alone: the run itself must not vouch for packages.
    merged.run_dir = merged.resume = run
    merged.trusted_packages = given["trusted_packages"]
    plain: Any = OmegaConf.to_container(merged)
    return plain, problems


def known_to_the_run(problems: Sequence[str], run: str, config_name: str) -> list[str]:
    """Say of keys that the defaults do not know, but the run that goes on does, that they stay."""
    try:
        own = dict(leaves(stored_configuration(Path(run), config_name)))
    except ValueError:
        return list(problems)
    words = f"with resume only {', '.join(_CHANGEABLE[:-1])} and {_CHANGEABLE[-1]} may change"
    return [
        f"{key}: {words} (init_from={run} starts a new run from its weights)"
        if (key := problem.partition(":")[0]) in own and not is_changeable(key)
        else problem
        for problem in problems
    ]


def _lies_under(key: str, places: Sequence[str]) -> bool:
    return any(key == place or key.startswith(f"{place}.") for place in places)


def leaves(node: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every value of a configuration with its key; lists and empty mappings are values."""
    if not isinstance(node, Mapping) or not node:
        yield path, node
        return
    for key, value in node.items():
        yield from leaves(value, f"{path}.{key}" if path else str(key))
