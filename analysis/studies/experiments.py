"""Writes a command line as an experiment: a file that runs as it stands."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from conf.composing.composer import Composer
from conf.composing.configuration import configure
from conf.composing.presets import written
from conf.composing.resumption import leaves, lies_under
from conf.schema.run import PRESETS

_OF_ONE_RUN = ("seed", "run_dir", "resume", "trusted_packages", "tracking", "task.name")
_ABSENT = object()


def write_experiment(
    path: Path, words: Sequence[str], *, composer: Composer, comment: Sequence[str]
) -> None:
    """Write the options that a command line chooses, and its values that differ from theirs."""
    chosen = _chosen(composer, words)
    options = [written(group, option) for group, option in chosen.items()]
    usual = dict(leaves(configure(composer, options, "config").typed))
    values = OmegaConf.create()
    for key, value in leaves(configure(composer, words, "config").typed):
        if usual.get(key, _ABSENT) != value and not lies_under(key, _OF_ONE_RUN):
            OmegaConf.update(values, key, value, force_add=True)
    defaults = [{f"override /{group}": option} for group, option in chosen.items()]
    head = ["# @package _global_", *(f"# {line}" for line in comment)]
    body = OmegaConf.to_yaml(OmegaConf.create({"defaults": [*defaults, "_self_"]}))
    body += OmegaConf.to_yaml(values) if values else ""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([*head, body]), encoding="utf-8")


def _chosen(composer: Composer, words: Sequence[str]) -> dict[str, Any]:
    """Return the options that differ from the default ones, by group."""
    usual: Mapping[str, Any] = composer.options([])
    return {
        group: option
        for group, option in composer.options(words).items()
        if group in usual and option != usual[group] and group != PRESETS[0] and option is not None
    }
