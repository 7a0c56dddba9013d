"""Rules of pre-training: what can be pre-trained, on which data, and what it excludes."""

import os
from collections.abc import Iterator, Mapping
from typing import Any

from conf.composing.stored import nodes
from conf.schema.extractors import is_autoencoder
from conf.schema.layout import command
from conf.schema.registry import options_for
from conf.schema.types import Config, at

RANDOM = "random"
"""The source of frames that is not a run."""


def frames_wanted(config: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return `extractor.pretrain` if the extractor is pre-trained before the agent; None if not.

    It is not if a run's agent has given weights, nor if the agent is the one that pre-trains.
    """
    extractor = config["extractor"]
    options = extractor.get("pretrain") if is_autoencoder(extractor) else None
    has_weights = extractor.get("weights") or config.get("init_from")
    if has_weights or options_for(config, "agent").reconstructs:
        return None
    return options if options and options["frames"] else None


def pretraining_problems(config: Config) -> Iterator[str]:
    """List the rules that a typed configuration breaks, one line each."""
    yield from _misplaced(config)
    if (options := frames_wanted(config)) and options["frames"] <= (size := options["batch_size"]):
        few = f"{options['frames']} frames are no more than a batch"
        yield f"extractor.pretrain.frames: {few} (extractor.pretrain.batch_size={size})"
    if not options_for(config, "agent").reconstructs:
        yield from _never_learnt(config)


def missing_sources(config: Mapping[str, Any]) -> list[str]:
    """Report weights and source runs that do not exist, before anything heavy is imported."""
    keys = ["init_from", *(f"{key}.weights" for key, _ in _extractors(config))]
    keys += ["extractor.pretrain.source"] if frames_wanted(config) else []
    keys += [] if options_for(config, "agent").has_critic else ["agent.source"]
    paths = {key: path for key in keys if isinstance(path := at(config, key), str)}
    gone = {k: path for k, path in paths.items() if path != RANDOM and not os.path.exists(path)}
    runs, files = "expected a run directory", "expected a run, a checkpoint or a .safetensors file"
    return [
        f"{key}: there is no {path}; {runs if key.endswith('source') else files}"
        for key, path in gone.items()
    ]


def _extractors(config: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the extractors, those inside others included, with their keys."""
    for path, node in nodes({key: config[key] for key in ("extractor", "critic")}):
        if isinstance(node, Mapping) and "extractor" in path and "_target_" in node:
            yield path, node


def _misplaced(config: Config) -> Iterator[str]:
    """Only the whole extractor can be pre-trained, and only an autoencoder's encoder."""
    for key, node in _extractors(config):
        options = node.get("pretrain")
        if isinstance(options, Mapping) and not is_autoencoder(node):
            remedy = "as one: extractor=autoencoder with it as extractor.encoder"
            yield f"{key}.pretrain: {node['_target_']} is no autoencoder's encoder; {remedy}"
        elif key != "extractor" and options and options["frames"] and not node.get("weights"):
            words = command("train", "agent=autoencoding")
            remedy = f"{words} makes weights, for {key}.weights=RUN_DIR"
            yield f"{key}.pretrain.frames: expected 0, as only `extractor` is pre-trained; {remedy}"


def _never_learnt(config: Config) -> Iterator[str]:
    """Refuse to freeze an autoencoder's encoder with random weights."""
    own = {"critic.extractor": config["critic"]["extractor"] or {}}
    if not frames_wanted(config):
        own["extractor"] = config["extractor"]
    for key, extractor in own.items():
        has_weights = extractor.get("weights") or config["init_from"]
        if "pretrain" in extractor and extractor.get("freeze") and not has_weights:
            frames = "extractor.pretrain.frames=50_000, or " if key == "extractor" else ""
            remedy = f"set {frames}{key}.weights=PATH, or {key}.freeze=false"
            yield f"{key}.freeze: an encoder that never learnt would be frozen; {remedy}"
