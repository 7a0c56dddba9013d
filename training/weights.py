"""Gives extractors weights that exist, by the names of their tensors; says what matched."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from torch import Tensor, nn

from agents.agent import Agent
from networks.autoencoder import Encoder
from networks.composite import DictExtractor, Joined
from networks.observations import Shapes
from training.checkpoint import part_of
from training.extractors import inner_configuration, part_configuration
from training.instantiation import plain
from training.weight_files import frames_behind, read_tensors

_WRAPPING = re.compile(
    r"(?:(?:_orig_mod|actor|agent|backbone|critic|encoder|extractor|features_extractor|model|"
    r"model_state_dict|module|network|pi_features_extractor|policy|state_dict|"
    r"vf_features_extractor)\.)*"
)
"""What may stand before a tensor's name where the extractor was part of something larger."""
_NORMALIZATIONS = ("normalization", "agent.actor.normalization")
"""Where pre-training and runs keep the statistics of observations."""
_LISTED = 6
"""Names that a report spells out."""


def load_weights(config: DictConfig, agent: Agent) -> tuple[list[str], int]:
    """Give an agent's extractors the weights that the configuration names.

    Actor and critic get the same where the critic's extractor is built like the actor's.

    Returns:
        A line for each key that names weights, and the environment steps of their pre-training.

    Raises:
        ValueError: in one line, why weights cannot be taken.
    """
    lines, sources = [], set()
    for key, source, modules in _wanted(config, agent):
        found = read_tensors(f"{key}.weights", source)
        if key == "extractor":
            _take_normalization(agent, found, source)
        reports = [load_into(key, module, found, source) for module in modules]
        lines.append(reports[0])
        sources.add(source.resolve())
    return lines, sum(map(frames_behind, sources))


def _take_normalization(agent: Any, found: Mapping[str, Tensor], source: Path) -> None:
    """Give an agent the statistics that its extractor's weights were trained behind.

    Raises:
        ValueError: they were trained on normalised observations and would read raw ones, or the
            other way round.
    """
    if not source.is_dir():
        return  # a file of somebody else's says nothing of it
    own = agent.actor.normalization
    statistics = next(
        (part for name in _NORMALIZATIONS if (part := part_of(found, name))), dict[str, Tensor]()
    )
    if bool(statistics) != bool(own.learns):
        there = str(bool(statistics)).lower()
        raise ValueError(
            f"extractor.weights={source}: trained with normalize_observations={there}, which an "
            f"extractor does not do without; set normalize_observations={there}"
        )
    shapes = {name: tensor.shape for name, tensor in own.state_dict().items()}
    if {name: tensor.shape for name, tensor in statistics.items()} == shapes:
        own.load_state_dict(statistics)


def load_into(key: str, module: nn.Module, found: Mapping[str, Tensor], source: Path) -> str:
    """Give a module the tensors of its names, which may stand behind a common prefix.

    Args:
        key: of the module's configuration; under `critic` a run's critic comes first.
        source: for messages.

    Raises:
        ValueError: no tensor has a name of the module's, or one has another shape.
    """
    own = module.state_dict()
    if not own:
        raise ValueError(f"{key}.weights={source}: {type(module).__name__} has no weights to load")
    prefix = _prefix(found, own, prefers_critic=key.startswith("critic"))
    if prefix is None:
        raise ValueError(
            f"{key}.weights={source}: none of its {len(found)} tensors has a name of this "
            f"extractor's, such as {next(iter(own))}"
        )
    common = {name: found[prefix + name] for name in own if prefix + name in found}
    for name, tensor in common.items():
        if tensor.shape != own[name].shape:
            raise ValueError(
                f"{key}.weights={source}: {prefix}{name} has shape {tuple(tensor.shape)} there and "
                f"{tuple(own[name].shape)} here; choose the extractor that the weights are of"
            )
    module.load_state_dict(common, strict=False)
    rest = _listed([name for name in own if name not in common])
    return f"{key}: {len(common)} of {len(own)} tensors from {source}{rest}"


def _prefix(
    found: Mapping[str, Tensor], own: Mapping[str, Tensor], *, prefers_critic: bool
) -> str | None:
    """Choose the prefix behind which most of a module's names are found; None where none is."""
    counts: Counter[str] = Counter()
    for name in found:
        wrapping = _WRAPPING.match(name)
        assert wrapping is not None  # it matches nothing as well
        cuts = [0, *(dot.end() for dot in re.finditer(r"\.", wrapping.group()))]
        counts.update(name[:cut] for cut in cuts if name[cut:] in own)
    if not counts:
        return None

    def suitability(prefix: str) -> tuple[bool, int, int]:
        words = prefix.split(".")
        other, mine = ("actor", "critic") if prefers_critic else ("critic", "actor")
        return other not in words or mine in words, counts[prefix], -len(prefix)

    return max(counts, key=suitability)


def _listed(names: Sequence[str]) -> str:
    if not names:
        return ""
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return f"; as drawn: {', '.join(names[:_LISTED])}{more}"


def _wanted(config: DictConfig, agent: Any) -> Iterator[tuple[str, Path, list[nn.Module]]]:
    """Yield each key with the weights it names and the modules that are to have them."""
    own_critic = plain(config.critic.extractor)
    shape = agent.actor.inputs.shape
    backbones = agent.networks.backbones
    alike = [agent.actor] if own_critic else list(backbones.values())
    extractors = list({id(each.extractor): each.extractor for each in alike}.values())
    yield from _walk("extractor", plain(config.extractor), extractors, shape)
    if own_critic:
        yield from _walk("critic.extractor", own_critic, [backbones["critic"].extractor], shape)


def _walk(
    key: str, options: Mapping[str, Any], modules: Sequence[nn.Module], shape: Shapes
) -> Iterator[tuple[str, Path, list[nn.Module]]]:
    """Yield the weights of extractors and of those inside of them, the outer ones first."""
    inside: list[Any] = [each.extractor if isinstance(each, Joined) else each for each in modules]
    if options.get("weights"):
        yield key, Path(options["weights"]), inside
    first = inside[0]
    if isinstance(first, DictExtractor):
        assert isinstance(shape, dict)
        for name, part in shape.items():
            where, config = part_configuration(key, options, name)
            yield from _walk(where, config, [each.parts[name] for each in inside], part)
    elif isinstance(first, Encoder):
        yield from _walk_inside(key, options, [each.encoder for each in inside], shape)


def _walk_inside(
    key: str, options: Mapping[str, Any], modules: Sequence[Any], shape: Shapes
) -> Iterator[tuple[str, Path, list[nn.Module]]]:
    """Yield the weights of the extractor that an encoder reads, or of those of each part."""
    if options["encoder"] is not None or not isinstance(shape, dict):
        where, config = inner_configuration(key, options, shape)
        yield from _walk(where, config, modules, shape)
        return
    for name, part in shape.items():
        where, config = inner_configuration(key, options, part)
        yield from _walk(where, config, [each.parts[name] for each in modules], part)
