"""Rules of pre-training: what can be pre-trained, on which data, and what it excludes."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from conf.composing.stored import nodes
from conf.schema.extractors import ExtractorOptions
from conf.schema.layout import command
from conf.schema.registry import options_of
from conf.schema.types import Config

RANDOM = "random"
"""The source of frames that is not a run."""


def pretraining_problems(config: Config) -> Iterator[str]:
    """List the rules that a typed configuration breaks, one line each."""
    yield from _misplaced(config)
    objective, begins = config.get("objective"), config["resume"] is None
    if options := frames_wanted(config):
        yield from _batches("extractor.pretrain", options)
    if objective != "reconstruction" and begins:
        yield from _never_learnt(config)
    if objective and begins:  # else the stored configuration is checked
        yield from _alone(config)


def frames_wanted(config: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return `extractor.pretrain` if the extractor is pre-trained; None otherwise.

    It is not if a run's agent has given weights, nor in behaviour cloning.
    """
    extractor, objective = config["extractor"], config.get("objective")
    options = extractor.get("pretrain") if _is_autoencoder(extractor) else None
    has_weights = extractor.get("weights") or config.get("init_from")
    is_due = objective == "reconstruction" or not (objective or has_weights)
    return options if is_due and options and options["frames"] else None


def missing_sources(config: Mapping[str, Any]) -> list[str]:
    """Report weights and source runs that do not exist, before anything heavy is imported."""
    paths = {key: config.get(key) for key in ("init_from", "source")}
    paths |= {f"{key}.weights": node.get("weights") for key, node in _extractors(config)}
    if (frames_from := (frames_wanted(config) or {}).get("source")) != RANDOM:
        paths["extractor.pretrain.source"] = frames_from
    gone = {key: path for key, path in paths.items() if path and not Path(path).exists()}
    kinds = "expected a run, a checkpoint or a .safetensors file"
    return [f"{key}: there is no {path}; {kinds}" for key, path in gone.items()]


def _is_autoencoder(extractor: Mapping[str, Any]) -> bool:
    return (options_of(extractor["_target_"], "extractor") or ExtractorOptions).is_autoencoder


def _extractors(config: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the extractors, those inside others included, with their keys."""
    for path, node in nodes({key: config[key] for key in ("extractor", "critic")}):
        if isinstance(node, Mapping) and "extractor" in path and "_target_" in node:
            yield path, node


def _misplaced(config: Config) -> Iterator[str]:
    """Only the whole extractor can be pre-trained, and only an autoencoder's encoder."""
    for key, node in _extractors(config):
        options = node.get("pretrain")
        if isinstance(options, Mapping) and not _is_autoencoder(node):
            remedy = "as one: extractor=autoencoder with it as extractor.encoder"
            yield f"{key}.pretrain: {node['_target_']} is no autoencoder's encoder; {remedy}"
        elif key != "extractor" and options and options["frames"] and not node.get("weights"):
            remedy = f"{command('pretrain')} makes weights, for {key}.weights=DIRECTORY"
            yield f"{key}.pretrain.frames: expected 0, as only `extractor` is pre-trained; {remedy}"


def _batches(key: str, options: Mapping[str, Any]) -> Iterator[str]:
    frames, size = options["frames"], options["batch_size"]
    if (learnt := int(frames * (1 - options["held_out"]))) < size:
        few = f"{frames} frames, of which {learnt} are not held out, are fewer than a batch"
        yield f"{key}.frames: {few} ({key}.batch_size={size}); collect more"


def _never_learnt(config: Config) -> Iterator[str]:
    """Refuse to freeze an autoencoder's encoder with random weights."""
    own = {"critic.extractor": config["critic"]["extractor"] or {}}
    if not frames_wanted(config):
        own["extractor"] = config["extractor"]
    for key, extractor in own.items():
        has_weights = extractor.get("weights") or config["init_from"]
        if "pretrain" in extractor and extractor.get("freeze") and not has_weights:
            is_possible = key == "extractor" and "objective" not in config
            frames = "extractor.pretrain.frames=50_000, or " if is_possible else ""
            remedy = f"set {frames}{key}.weights=PATH, or {key}.freeze=false"
            yield f"{key}.freeze: an encoder that never learnt would be frozen; {remedy}"


def _alone(config: Config) -> Iterator[str]:
    """Check the configuration of `pretrain.py`."""
    if config["objective"] == "behaviour_cloning":
        if config["source"] is None:
            yield "source: missing; the run whose actions are to be learnt"
        yield from _batches("cloning", config["cloning"])
        return
    if config["source"] is not None:
        yield "source: of objective=behaviour_cloning; here it is extractor.pretrain.source"
    if frames_wanted(config) is None:
        hint = "" if "pretrain" in config["extractor"] else ", with extractor=autoencoder"
        yield f"extractor.pretrain.frames: how many frames to learn from{hint}; such as 50_000"
