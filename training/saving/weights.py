"""Initial weights from a run, from behaviour cloning, or from a file."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from omegaconf import DictConfig
from safetensors import SafetensorError
from torch import Tensor, nn

from agents.agent import Agent
from networks.autoencoding.autoencoder import Encoder
from networks.extractors.composite import DictExtractor, Joined
from networks.observations import Shapes
from training.building.extractors import inner_extractors
from training.building.instantiation import plain
from training.saving.checkpoint import load_checkpoint, part_of
from training.saving.files import has_checkpoint

Tensors = Mapping[str, Tensor]
_PLACES = ("checkpoints/last", "pretraining/weights", "weights", "")
"""Where a directory may have its checkpoint: a run, a pre-training, a checkpoint itself."""


def read_tensors(key: str, source: Path) -> dict[str, Tensor]:
    """Read every tensor under `source` by its name.

    Args:
        key: the configuration's key that names `source`, for messages.
        source: a run (its last checkpoint), a `pretrain.py` directory, a checkpoint directory, a
            safetensors file, or a file of `torch.save` that holds tensors only.

    Raises:
        ValueError: it is missing or damaged, or reading it would execute code.
    """
    if source.is_dir():
        return _read_directory(key, source)[0]
    if not source.is_file():
        raise ValueError(
            f"{key}={source}: nothing is there; expected a run, a checkpoint or a .safetensors file"
        )
    try:
        return safetensors.torch.load_file(source)
    except OSError as error:
        raise ValueError(f"{key}={source}: cannot be read: {error}") from error
    except SafetensorError as error:
        if source.suffix == ".safetensors":
            raise ValueError(f"{key}={source}: a damaged safetensors file: {error}") from error
        return _read_torch(key, source, f"no safetensors file ({error})")


def pretraining_behind(source: Path) -> tuple[int, float]:
    """Return environment steps and seconds of the weights' pre-training; 0 for other weights."""
    try:
        _, state = _read_directory("", source)
        if "progression" in state:  # a run
            at = state["progression"]
            return int(at["pretraining_env_steps"]), float(at.get("pretraining_seconds", 0.0))
        facts = state["pretraining"]
        seconds = float(state.get("seconds", 0.0)) + float(state.get("earlier_seconds", 0.0))
        return int(facts["env_steps"]) + int(state.get("earlier_env_steps", 0)), seconds
    except (ValueError, KeyError, TypeError, OverflowError):
        return 0, 0.0


def _read_directory(key: str, source: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    for place in _PLACES:
        if has_checkpoint(source / place):
            return load_checkpoint(source / place)
    raise ValueError(f"{key}={source}: neither a run nor a checkpoint is there")


def _read_torch(key: str, source: Path, otherwise: str) -> dict[str, Tensor]:
    try:
        return dict(_tensors(torch.load(source, map_location="cpu", weights_only=True)))
    except Exception as error:  # any error of the restricted loader
        raise ValueError(
            f"{key}={source}: not loaded, as it is {otherwise} and holds more than tensors (or is "
            "damaged), and reading that would run code from it; save the state_dict() alone, best "
            "as safetensors"
        ) from error


def _tensors(node: Any, name: str = "") -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors of nested mappings, their names joined by dots."""
    if isinstance(node, Mapping):
        for key, value in node.items():
            yield from _tensors(value, f"{name}.{key}" if name else str(key))
    elif isinstance(node, Tensor):
        yield name, node


_WRAPPING = re.compile(
    r"(?:(?:_orig_mod|actor|agent|backbone|critic|encoder|extractor|features_extractor|model|"
    r"model_state_dict|module|network|pi_features_extractor|policy|state_dict|"
    r"vf_features_extractor)\.)*"
)
"""Prefixes of tensor names from models that contain the extractor."""
_LISTED = 6
"""How many names a report lists."""


def load_weights(config: DictConfig, agent: Agent) -> dict[str, Path]:
    """Load into an agent's extractors the weights that the configuration names.

    Actor and critic get the same weights if their extractors are built alike.

    Returns:
        A line for each key that names weights, with their source.

    Raises:
        ValueError: in one line, why weights cannot be loaded.
    """
    lines: dict[str, Path] = {}
    for key, source, modules in _wanted(config, agent):
        found = read_tensors(f"{key}.weights", source)
        if key == "extractor":
            _take_normalization(agent, found, source)
        reports = [load_into(key, module, found, source) for module in modules]
        lines[reports[0]] = source
    return lines


def _take_normalization(agent: Any, found: Tensors, source: Path) -> None:
    """Load the observation statistics that the extractor's weights were trained with.

    Raises:
        ValueError: they were trained on normalised observations and would read raw ones, or vice
            versa.
    """
    if not source.is_dir():
        return  # a foreign file does not say
    own = agent.actor.normalization
    # Of a pre-training, or of a run.
    statistics = part_of(found, "normalization") or part_of(found, "agent.actor.normalization")
    if bool(statistics) != bool(own.learns):
        there = str(bool(statistics)).lower()
        raise ValueError(
            f"extractor.weights={source}: trained with normalize_observations={there}, which an "
            f"extractor does not do without; set normalize_observations={there}"
        )
    shapes = {name: tensor.shape for name, tensor in own.state_dict().items()}
    if {name: tensor.shape for name, tensor in statistics.items()} == shapes:
        own.load_state_dict(statistics)


def load_into(key: str, module: nn.Module, found: Tensors, source: Path) -> str:
    """Load tensors into a module by name; the names may have a common prefix.

    Args:
        key: of the module's configuration; under `critic` a run's critic is preferred.
        source: for messages.

    Raises:
        ValueError: no tensor name matches, or one has another shape.
    """
    own = module.state_dict()
    if not own:
        raise ValueError(f"{key}.weights={source}: {type(module).__name__} has no weights to load")
    prefix = _prefix(found, own, prefers_critic=key.startswith("critic"))
    missing = _load_matching(f"{key}.weights={source}", "extractor", module, own, found, prefix)
    rest = _listed([name for name in own if name in missing])
    return f"{key}: {len(own) - len(missing)} of {len(own)} tensors from {source}{rest}"


def _load_matching(
    where: str, kind: str, module: nn.Module, own: Tensors, found: Tensors, prefix: str
) -> set[str]:
    """Load a module's own tensors by name, behind a prefix; return the names that are missing.

    Args:
        where: they come from, for messages.
        kind: of the module, for messages.

    Raises:
        ValueError: none has a name of its own, or one has another shape; none is loaded.
    """
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
    counts: Counter[str] = Counter()
    for name in found:
        wrapping = _WRAPPING.match(name)
        assert wrapping is not None  # it matches nothing as well
        cuts = [0, *(dot.end() for dot in re.finditer(r"\.", wrapping.group()))]
        counts.update(name[:cut] for cut in cuts if name[cut:] in own)

    def suitability(prefix: str) -> tuple[bool, int, int]:
        words = prefix.split(".")
        other, mine = ("actor", "critic") if prefers_critic else ("critic", "actor")
        return other not in words or mine in words, counts[prefix], -len(prefix)

    return max(counts, key=suitability, default="")


def _listed(names: Sequence[str]) -> str:
    if not names:
        return ""
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return f"; as drawn: {', '.join(names[:_LISTED])}{more}"


def _wanted(config: DictConfig, agent: Any) -> Iterator[tuple[str, Path, list[nn.Module]]]:
    """Yield each key with the weights it names and the modules to load them into."""
    own_critic, shape = plain(config.critic.extractor), agent.actor.inputs.shape
    extractors = [backbone.extractor for backbone in agent.networks.backbones.values()]
    is_privileged = agent.networks.critic.inputs is not agent.actor.inputs
    alike = extractors[:1] if own_critic or is_privileged else extractors
    yield from _walk("extractor", plain(config.extractor), alike, shape)
    if own_critic:
        shape = agent.networks.critic.inputs.shape
        yield from _walk("critic.extractor", own_critic, extractors[1:], shape)


def _walk(
    key: str, options: Mapping[str, Any], modules: Sequence[nn.Module], shape: Shapes
) -> Iterator[tuple[str, Path, list[nn.Module]]]:
    """Yield the weights of extractors and of those inside them, outer ones first."""
    inside: list[Any] = [each.extractor if isinstance(each, Joined) else each for each in modules]
    if options.get("weights"):
        yield key, Path(options["weights"]), inside
    first = inside[0]
    if isinstance(first, DictExtractor | Encoder):
        around: list[Any] = [each.encoder if isinstance(each, Encoder) else each for each in inside]
        parts: Any = shape
        for name, (where, config) in inner_extractors(key, options, shape).items():
            if name is None:
                yield from _walk(where, config, around, shape)
            else:
                yield from _walk(where, config, [e.parts[name] for e in around], parts[name])


_OF_A_RUN = ("optimizer", "learner")
"""State of training, which a warm start leaves out: it loads networks and normalisation."""


def warm_start(agent: Agent, source: Path) -> str:
    """Load weights into an agent by name; say which there were.

    Args:
        source: as `training.saving.weights.read_tensors` takes it.

    Raises:
        ValueError: no weights are there, none has a name of the agent's, or one has another shape.
    """
    tensors = read_tensors("init_from", source)
    found = part_of(tensors, "agent") or tensors
    own = {k: v for k, v in agent.state_dict().items() if k.partition(".")[0] not in _OF_A_RUN}
    missing = _load_matching(f"init_from={source}", "agent", agent, own, found, "")
    rest = _listed(sorted({_part(name) for name in missing}))
    return f"started from {source}: {len(own) - len(missing)} of {len(own)} tensors{rest}"


def _part(name: str) -> str:
    """Name the part that a tensor belongs to: `actor.memory`, `value_head`."""
    first, second, *_ = [*name.split("."), ""]
    return f"{first}.{second}" if first in ("actor", "critic") else first
