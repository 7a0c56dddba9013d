"""Builds extractors, and the autoencoder for an extractor's pre-training."""

import copy
import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from conf.checking.suggestions import did_you_mean
from conf.schema.extractors import ExtractorOptions, LayersOptions
from envs.spaces import one_line
from networks.autoencoding.autoencoder import Autoencoder, Encoder
from networks.extractors.composite import DictExtractor, Joined
from networks.extractors.images import ImageRows, Unfit, extractor_choice
from networks.extractors.mlp import default_layers
from networks.extractors.structure import Unmirrored
from networks.inputs import DictInput, ObservationInput
from networks.normalization import DictNormalization, RunningNormalization
from networks.observations import Shape, Shapes, map_observations, parts_of
from training.building.instantiation import Node, find, make, plain, with_factories

Layouts = str | None | Mapping[str, str | None]
"""Where images have their channels, if the space says so; by part if there are parts."""
Built = tuple[nn.Module, int]
"""An extractor and its number of features."""
Own = nn.Module | None
"""A caller's own extractor, copied in place of the configured one."""


def make_normalization(inputs: ObservationInput, *, learns: bool) -> Any:
    """Build the normalisation of numeric inputs."""
    if isinstance(inputs, DictInput):
        numbers = {
            name: RunningNormalization(part.shape)
            for name, part in inputs.inputs.items()
            if learns and part.kind == "numbers"
        }
        return DictNormalization(numbers) if numbers else nn.Identity()
    is_numeric = learns and inputs.kind == "numbers"
    return RunningNormalization(inputs.shape) if is_numeric else nn.Identity()


def build_extractor(key: str, config: Node, shape: Shapes, layout: Layouts = None) -> Built:
    """Build an extractor for observations of `shape`; return it and its number of features.

    A class with `reads_parts = True` gets the parts of a Dict by name. Any other, except the
    extractor by parts, reads them as one vector.

    Args:
        key: where its configuration stands, for messages.
        layout: where images have their channels, if the space says so; overrides the
            configuration.

    Raises:
        ValueError: it cannot be built, or cannot read such observations.
    """
    options = plain(config)
    if options.get("freeze"):  # False in a whole extractor's
        problem = "only a whole extractor can be frozen; set extractor.freeze"
        raise ValueError(f"{key}.freeze: {problem}")
    kind: Any = find(key, options["_target_"], nn.Module)
    is_by_part, reads_parts = kind is DictExtractor, getattr(kind, "reads_parts", False)
    extractor: Any
    if kind is Encoder:  # a user's subclass is built like any other class
        side_by_side = default_layers([], "relu")  # none: features of parts are concatenated
        inner, width = _build_inside(key, options, shape, layout, side_by_side)
        extractor = Encoder(inner, width, _own_options(Encoder, options))
        width = extractor.output_size
    elif isinstance(shape, dict) and is_by_part:
        common = _own_options(DictExtractor, options)
        extractor, width = _build_inside(key, options, shape, layout, common)
    elif isinstance(shape, dict) and not reads_parts:
        return _build_joined(key, options, shape)
    elif isinstance(shape, tuple) and (is_by_part or reads_parts):
        name = "cnn" if len(shape) > 2 and _is_image(shape) else "mlp"
        raise ValueError(
            f"{key}: {options['_target_']} reads Dict observations, this is one array of shape "
            f"{shape}; use {extractor_choice(key)}={name}"
        )
    else:
        own = {"layout": layout} if layout is not None and "layout" in options else {}
        extractor = make(key, options | own, nn.Module, shape, read_here=ExtractorOptions)
        width = _output_size(key, extractor, shape)
    extractor.weights_from = key, options.get("weights")  # read by `training.saving.weights`
    return extractor, width


def with_extractor(config: Mapping[str, Any], module: nn.Module) -> dict[str, Any]:
    """Name a caller's own extractor in a plain configuration, which then trusts its package."""
    kind, freeze = type(module), config["extractor"].get("freeze", False)
    trusted = {*config["trusted_packages"], kind.__module__.partition(".")[0]} - {"torch"}
    named = {"_target_": f"{kind.__module__}.{kind.__name__}", "freeze": freeze}
    return {**config, "extractor": named, "trusted_packages": sorted(trusted)}


def copy_extractor(module: nn.Module, shape: Shapes) -> Built:
    """Copy a caller's own extractor; return it and its number of features.

    Raises:
        ValueError: it cannot read such observations.
    """
    extractor = copy.deepcopy(module)
    if isinstance(shape, dict) and not getattr(module, "reads_parts", False):
        extractor = Joined(extractor)
    return extractor, _output_size("extractor", extractor, shape)


def _build_joined(key: str, options: dict[str, Any], shapes: dict[str, Shape]) -> Built:
    """Build an extractor of vectors, which reads the parts as one."""
    if "layout" in options:  # an image extractor
        raise ValueError(_needs_parts(key, options["_target_"], shapes))
    size = sum(math.prod(part) for part in shapes.values())
    try:
        extractor, width = build_extractor(key, options, (size,))
    except ValueError as error:
        raise ValueError(
            f"{error}; it gets the parts {', '.join(shapes)} as one row of {size} numbers: by "
            "name, a class that says reads_parts = True does; extractor=dict has an extractor for "
            "each"
        ) from error
    return Joined(extractor), width


def _own_options(kind: Any, options: Mapping[str, Any]) -> Any:
    return kind.Options(**{name: value for name, value in options.items() if name != "_target_"})


def _needs_parts(key: str, target: str, shapes: dict[str, Shape]) -> str:
    """Explain that an image is read from one part, and how to choose it."""
    parts = f"{key}: {target} reads images, and this observation has the parts {', '.join(shapes)}"
    by_part = f"{extractor_choice(key)}=dict"
    image = next((name for name, shape in shapes.items() if _is_image(shape)), None)
    if image is None:
        return f"{parts}, none of them an image; use {by_part}"
    return f"{parts}; give the image one of its own: {by_part} +extractor@{_path(key, image)}=cnn"


def _is_image(shape: Shape) -> bool:
    """Tell whether a shape can be an image in one of the layouts."""
    try:
        ImageRows(shape, layout="auto")
    except Unfit as error:
        return error.option == "layout"
    return True


def _build_inside(
    key: str, options: Mapping[str, Any], shape: Shapes, layout: Layouts, common: LayersOptions
) -> Built:
    """Build the only extractor inside another, or one for each part and common layers."""
    if options.get("encoder") is not None:
        return build_extractor(f"{key}.encoder", options["encoder"], shape, layout)
    chosen = dict(_leaves(options.get("keys", {})))

    def inner(name: str, part: Shape) -> tuple[str, dict[str, Any]]:
        """Return the key and the configuration of a part's extractor."""
        if name in chosen:
            return _path(key, name), chosen[name]
        kind = "vector_encoder" if len(part) < 3 else "image_encoder"
        kind = "default" if "keys" in options else kind
        return f"{key}.{kind}", options[kind]

    if not isinstance(shape, dict):
        return build_extractor(*inner("", shape), shape, layout)
    unknown = [name for name in chosen if name not in shape]
    if unknown:
        raise ValueError(
            f"{_path(key, unknown[0])}: the observation has no such part, only {', '.join(shape)}"
            f"{did_you_mean(unknown[0], shape)}"
        )
    layouts = layout if isinstance(layout, Mapping) else {}
    built = {n: build_extractor(*inner(n, part), part, layouts.get(n)) for n, part in shape.items()}
    sizes = sum(width for _, width in built.values())
    extractor = DictExtractor({name: each for name, (each, _) in built.items()}, sizes, common)
    return extractor, extractor.output_size


def _path(key: str, name: str) -> str:
    return f"{key}.keys.{name.replace('/', '.')}"


def _leaves(tree: Mapping[Any, Any], name: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the configurations of a nested mapping by part."""
    for key, node in tree.items():
        path = f"{name}/{key}" if name else str(key)
        yield from [(path, node)] if "_target_" in node else _leaves(node, path)


@torch.no_grad()
def _output_size(key: str, extractor: Any, shape: Shapes) -> int:
    """Infer the number of features from zeros; `output_size` must agree, if there is one.

    Raises:
        ValueError: it cannot read an observation, changes it in place, where it would be stored
            changed, or does not return one row of features.
    """
    kind, read = f"{key}: {type(extractor).__name__}", f"observations of shape {shape}"
    zeros = map_observations(lambda part: torch.zeros(2, *part), shape)
    try:
        extractor.eval()  # zeros must not change running statistics
        features = extractor(zeros)
    except Exception as error:
        raise ValueError(f"{kind} cannot read {read}: {one_line(error)}") from error
    if not isinstance(features, Tensor) or features.ndim != 2 or len(features) != 2:
        raise ValueError(f"{kind} must give rows of features, [N, F], for {read}")
    if any(part._version for part in parts_of(zeros)):  # counts changes in place
        raise ValueError(f"{kind} changes observations in place; write x = x / 2, not x.div_(2)")
    width = features.shape[1]
    if (told := getattr(extractor, "output_size", width)) != width:
        raise ValueError(f"{kind} says output_size={told} and makes {width} features")
    return width


def build_autoencoder(
    key: str, config: Node, inputs: ObservationInput, encoder: Encoder
) -> Autoencoder:
    """Build an autoencoder: the encoder and a decoder.

    Args:
        key: of the configuration, for messages.

    Raises:
        ValueError: such observations, or this encoder's features, cannot be decoded.
    """
    options = plain(config)
    options |= with_factories(key, {"decoder": options["decoder"]}, nn.Module)
    try:
        return Autoencoder(inputs, encoder, _own_options(Encoder, options))
    except ValueError as error:
        named = error.at(key) if isinstance(error, Unmirrored) else f"{key}: {error}"
        raise ValueError(named) from error
