"""An agent's initial weights: of a run, of pre-training, or from a file."""

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import safetensors.torch
import torch
from omegaconf import DictConfig
from safetensors import SafetensorError
from torch import Tensor, nn

from agents.agent import Agent
from training.saving.checkpoint import Tensors, load_checkpoint, part_of
from training.saving.files import has_checkpoint

_LAST, _BEST = "checkpoints/last", "checkpoints/best"
_PLACES = (_LAST, "weights", "")
"""Where a directory may have its checkpoint: a run, a checkpoint itself."""
_WRAPPING = re.compile(
    r"(?:(?:_orig_mod|actor|agent|backbone|critic|encoder|extractor|features_extractor|model|"
    r"model_state_dict|module|network|pi_features_extractor|policy|state_dict|"
    r"vf_features_extractor)\.)*"
)
"""Prefixes of tensor names from models that contain the extractor."""
_LISTED = 6
"""How many names a report lists."""
_OF_A_RUN = ("optimizer", "learner")
"""State of training, which a warm start leaves out: it loads networks and normalisation."""


class Start(NamedTuple):
    """Where an agent's initial weights come from.

    Attributes:
        notices: lines to print.
        env_steps: of the weights' pre-training, counted when runs are compared.
        seconds: of it, counted too.
    """

    notices: list[str]
    env_steps: int
    seconds: float


def take_weights(config: DictConfig, agent: Agent) -> Start:
    """Load into a new agent the weights that its configuration names.

    Raises:
        ValueError: in one line, why they cannot be loaded.
    """
    loaded: dict[str, Path] = {}
    if config.init_from is not None:
        loaded[warm_start(agent, Path(config.init_from))] = Path(config.init_from)
    loaded |= _load_extractors(config, agent)
    agent.learner.weights_replaced()
    costs = [pretraining_behind(source) for source in {path.resolve() for path in loaded.values()}]
    return Start(list(loaded), sum(own for own, _ in costs), sum(own for _, own in costs))


def take_pretrained(config: DictConfig, agent: Agent, directory: Path) -> tuple[int, float]:
    """Load the encoder of a run of agent=autoencoding, into the critic too if it is built alike.

    Returns:
        Its environment steps and seconds, with those of the weights that it began with.
    """
    tensors = read_tensors("extractor", directory)
    agent.actor.normalization.load_state_dict(part_of(tensors, "agent.actor.normalization"))
    alike = agent.networks.backbones.values() if config.critic.extractor is None else [agent.actor]
    for backbone in alike:
        backbone.extractor.load_state_dict(part_of(tensors, "agent.actor.extractor"))
    agent.learner.weights_replaced()
    return pretraining_behind(directory)


# ---- reading


def read_tensors(key: str, source: Path) -> dict[str, Tensor]:
    """Read every tensor under `source` by its name.

    Args:
        key: the configuration's key that names `source`, for messages.
        source: a run (its last checkpoint; of one that pre-trains the best, and what it trained
            alone), a checkpoint directory, a safetensors file, or a file of `torch.save` that holds
            tensors only.

    Raises:
        ValueError: it is missing or damaged, or reading it would execute code.
    """
    where = f"{key}={source}"
    if source.is_dir():
        return _read_directory(where, source)[0]
    if not source.is_file():
        expected = "expected a run, a checkpoint or a .safetensors file"
        raise ValueError(f"{where}: nothing is there; {expected}")
    try:
        return safetensors.torch.load_file(source)
    except OSError as error:
        raise ValueError(f"{where}: cannot be read: {error}") from error
    except SafetensorError as error:
        if source.suffix == ".safetensors":
            raise ValueError(f"{where}: a damaged safetensors file: {error}") from error
        otherwise = f"no safetensors file ({error})"
    try:
        return dict(_tensors(torch.load(source, map_location="cpu", weights_only=True)))
    except Exception as error:  # any error of the restricted loader
        raise ValueError(
            f"{where}: not loaded, as it is {otherwise} and holds more than tensors (or is "
            "damaged), and reading that would run code from it; save the state_dict() alone, best "
            "as safetensors"
        ) from error


def _read_directory(where: str, source: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    for place in (source / name for name in _PLACES):
        if has_checkpoint(place):
            tensors, state = load_checkpoint(place)
            if (trained := state.get("pretrained")) is not None:
                best = source / _BEST
                if place == source / _LAST and has_checkpoint(best):
                    tensors, _ = load_checkpoint(best)
                kept = [f"agent.{part}." for part in ("actor.normalization", *trained)]
                tensors = {n: t for n, t in tensors.items() if n.startswith(tuple(kept))}
            return tensors, state
    raise ValueError(f"{where}: neither a run nor a checkpoint is there")


def _tensors(node: Any, name: str = "") -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors of nested mappings, their names joined by dots."""
    if isinstance(node, Tensor):
        yield name, node
    elif isinstance(node, Mapping):
        for key, value in node.items():
            yield from _tensors(value, f"{name}.{key}" if name else str(key))


def pretraining_behind(source: Path) -> tuple[int, float]:
    """Return environment steps and seconds of the weights' pre-training; 0 for other weights."""
    try:
        _, state = _read_directory("", source)
        at, pretrains = state["progression"], "pretrained" in state
        steps, seconds = (at["env_steps"], at["training_seconds"]) if pretrains else (0, 0.0)
        return int(at["pretraining_env_steps"] + steps), float(at["pretraining_seconds"] + seconds)
    except (ValueError, KeyError, TypeError, OverflowError):
        return 0, 0.0


# ---- loading


def _load_extractors(config: DictConfig, agent: Agent) -> dict[str, Path]:
    """Load weights into the extractors whose configuration names them, outer ones first.

    Actor and critic get the same weights if their extractors are built alike.

    Returns:
        A line for each key that names weights, with their source.

    Raises:
        ValueError: in one line, why weights cannot be loaded.
    """
    wanted: dict[tuple[str, str], list[nn.Module]] = {}
    for backbone in agent.networks.backbones.values():
        for module in backbone.extractor.modules():
            key, source = getattr(module, "weights_from", ("", None))
            # A privileged critic's extractor is built by the actor's options for other inputs.
            is_copied = key.startswith("critic.") and config.critic.extractor is None
            if source and not is_copied:
                wanted.setdefault((key, source), []).append(module)
    backbones = agent.networks.backbones.values()
    frozen = {each.extractor for each in backbones if math.isinf(each.frozen_until)}
    lines: dict[str, Path] = {}
    for (key, source), modules in wanted.items():
        path = Path(source)
        found = read_tensors(f"{key}.weights", path)
        if key == "extractor":
            _take_normalization(agent, found, path)
        reports = [
            load_into(key, module, found, path, is_frozen=module in frozen) for module in modules
        ]
        lines[reports[0]] = path
    return lines


def _take_normalization(agent: Agent, found: Tensors, source: Path) -> None:
    """Load the observation statistics that the extractor's weights were trained with.

    Raises:
        ValueError: they were trained on normalised observations and would read raw ones, or vice
            versa.
    """
    if not source.is_dir():
        return  # a foreign file does not say
    own: nn.Module = agent.actor.normalization
    statistics = part_of(found, "agent.actor.normalization")
    if bool(statistics) != agent.actor.normalizes:
        there = str(bool(statistics)).lower()
        raise ValueError(
            f"extractor.weights={source}: trained with normalize_observations={there}, which an "
            f"extractor does not do without; set normalize_observations={there}"
        )
    shapes = {name: tensor.shape for name, tensor in own.state_dict().items()}
    if {name: tensor.shape for name, tensor in statistics.items()} == shapes:
        own.load_state_dict(statistics)


def load_into(
    key: str, module: nn.Module, found: Tensors, source: Path, *, is_frozen: bool = False
) -> str:
    """Load tensors into a module by name; the names may have a common prefix.

    Args:
        key: of the module's configuration; under `critic` a run's critic is preferred.
        source: for messages.
        is_frozen: whether the module is never trained, so that all of it must be found.

    Raises:
        ValueError: no tensor name matches, one has another shape, or one that is missing would stay
            random.
    """
    own, where = module.state_dict(), f"{key}.weights={source}"
    if not own:
        raise ValueError(f"{where}: {type(module).__name__} has no weights to load")
    missing = _load(where, "extractor", module, own, found)
    report = _report(own, missing, source, (name for name in own if name in missing))
    if missing and is_frozen:
        raise ValueError(
            f"{key}.freeze: what is not loaded would stay random ({report}); set false"
        )
    return f"{key}: {report}"


def warm_start(agent: Agent, source: Path) -> str:
    """Load weights into an agent by name; say which there were.

    Args:
        source: as `read_tensors` takes it.

    Raises:
        ValueError: no weights are there, none has a name of the agent's, or one has another shape.
    """
    found = read_tensors("init_from", source)
    own = {k: v for k, v in agent.state_dict().items() if k.partition(".")[0] not in _OF_A_RUN}
    if not any(name.startswith("agent.optimizer.") for name in found):  # a clone, without a critic
        for name, tensor in part_of(found, "agent.actor.extractor").items():
            there = own.get(f"critic.extractor.{name}")
            if there is not None and there.shape == tensor.shape:
                found[f"agent.critic.extractor.{name}"] = tensor
    missing = _load(f"init_from={source}", "agent", agent, own, found)
    # By part: `actor.memory`, `value_head`.
    depth = {name: 2 if name.startswith(("actor.", "critic.")) else 1 for name in missing}
    parts = {".".join(name.split(".")[:count]) for name, count in depth.items()}
    return f"started from {source}: {_report(own, missing, None, sorted(parts))}"


def _load(where: str, kind: str, module: nn.Module, own: Tensors, found: Tensors) -> set[str]:
    """Load a module's own tensors by name, which may have a prefix; return the missing names.

    Args:
        where: they come from, for messages; a critic's prefer a critic's.
        kind: of the module, for messages.

    Raises:
        ValueError: none has a name of its own, or one has another shape; none is loaded.
    """
    prefix = _prefix(found, own, prefers_critic=where.startswith("critic"))
    common = {name: found[prefix + name] for name in own if prefix + name in found}
    if not common:
        raise ValueError(
            f"{where}: none of its {len(found)} tensors has a name of this {kind}'s, such as "
            f"{next(iter(own))}"
        )
    for name, tensor in common.items():
        if tensor.shape != own[name].shape:
            raise ValueError(
                f"{where}: {prefix}{name} has shape {tuple(tensor.shape)} there and "
                f"{tuple(own[name].shape)} here; choose the network that the weights are of"
            )
    module.load_state_dict(common, strict=False)
    return own.keys() - common.keys()


def _prefix(found: Tensors, own: Tensors, *, prefers_critic: bool) -> str:
    """Choose the prefix with the most matching names."""
    heads = (name[: -len(mine)] for name in found for mine in own if name.endswith(mine))
    counts = Counter(head for head in heads if _WRAPPING.fullmatch(head))
    other, preferred = ("actor", "critic") if prefers_critic else ("critic", "actor")

    def suitability(prefix: str) -> tuple[bool, int, int]:
        words = prefix.split(".")
        return other not in words or preferred in words, counts[prefix], -len(prefix)

    return max(counts, key=suitability, default="")


def _report(own: Tensors, missing: set[str], source: Path | None, names: Iterable[str]) -> str:
    """Say how many of a module's own tensors were loaded, and which names were not."""
    start, first = f"{len(own) - len(missing)} of {len(own)} tensors", list(names)
    start += f" from {source}" if source else ""
    more = f" and {len(first) - _LISTED} more" if len(first) > _LISTED else ""
    return f"{start}; as drawn: {', '.join(first[:_LISTED])}{more}" if first else start
