"""Builds extractors, and the autoencoder for an extractor's pre-training."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from omegaconf import DictConfig
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
from networks.normalization import DictNormalization, NoNormalization, RunningNormalization
from networks.observations import Shape, Shapes, map_observations
from training.building.instantiation import find, make, plain, with_factories

Layouts = str | None | Mapping[str, str | None]
"""Where images have their channels, if the space says so; by part if there are parts."""


def make_normalization(inputs: ObservationInput, *, learns: bool) -> Any:
    """Build the normalisation of numeric inputs."""
    if isinstance(inputs, DictInput):
        parts = {name: make_normalization(p, learns=learns) for name, p in inputs.inputs.items()}
        learning = any(part.learns for part in parts.values())
        return DictNormalization(parts) if learning else NoNormalization()
    is_numeric = inputs.kind == "numbers"
    return RunningNormalization(inputs.shape) if learns and is_numeric else NoNormalization()


def build_extractor(
    key: str, config: DictConfig | dict[str, Any], shape: Shapes, layout: Layouts = None
) -> tuple[nn.Module, int]:
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
        raise ValueError(
            f"{key}.freeze: only a whole extractor can be frozen; set extractor.freeze"
        )
    kind = find(key, options["_target_"], nn.Module)
    if kind is Encoder:  # a user's subclass is built like any other class
        side_by_side = default_layers([], "relu")  # none: features of parts are concatenated
        inner, width = _build_inside(key, options, shape, layout, side_by_side)
        encoder = Encoder(inner, width, _own_options(Encoder, options))
        return encoder, encoder.output_size
    is_by_part, reads_parts = kind is DictExtractor, getattr(kind, "reads_parts", False)
    if isinstance(shape, dict) and not reads_parts:
        if not is_by_part:
            return _build_joined(key, options, shape)
        _refuse_unknown_parts(key, options, shape)
        return _build_inside(key, options, shape, layout, _own_options(DictExtractor, options))
    if isinstance(shape, tuple) and (is_by_part or reads_parts):
        name = "cnn" if len(shape) > 2 and _is_image(shape) else "mlp"
        raise ValueError(
            f"{key}: {options['_target_']} reads Dict observations, this is one array of shape "
            f"{shape}; use {extractor_choice(key)}={name}"
        )
    if layout is not None and "layout" in options:
        options = {**options, "layout": layout}
    extractor = make(key, options, nn.Module, shape, read_here=ExtractorOptions)
    return extractor, _output_size(key, extractor, shape)


def _build_joined(
    key: str, options: dict[str, Any], shapes: dict[str, Shape]
) -> tuple[Joined, int]:
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
    image = next((name for name, shape in shapes.items() if _is_image(shape)), None)
    if image is None:
        return f"{parts}, none of them an image; use {extractor_choice(key)}=dict"
    own = f"{extractor_choice(key)}=dict +extractor@{_path(key, image)}=cnn"
    return f"{parts}; give the image one of its own: {own}"


def _is_image(shape: Shape) -> bool:
    """Tell whether a shape can be an image in one of the layouts."""
    try:
        ImageRows(shape, layout="auto")
    except Unfit as error:
        return error.option == "layout"
    return True


def _refuse_unknown_parts(key: str, options: Mapping[str, Any], shapes: dict[str, Shape]) -> None:
    for name, _ in _leaves(options["keys"]):
        if name not in shapes:
            raise ValueError(
                f"{_path(key, name)}: the observation has no such part, only {', '.join(shapes)}"
                f"{did_you_mean(name, shapes)}"
            )


def inner_extractors(
    key: str, options: Mapping[str, Any], shape: Any
) -> dict[str | None, tuple[str, dict[str, Any]]]:
    """Return the key and the configuration of the extractors inside another, by part.

    Args:
        options: of an extractor by parts, or of an encoder; its only inner extractor, if it reads
            all parts or there is only one, has the name None.
    """
    if "keys" in options:
        own = {name: (_path(key, name), config) for name, config in _leaves(options["keys"])}
        return {name: own.get(name, (f"{key}.default", options["default"])) for name in shape}
    if options["encoder"] is not None:
        return {None: (f"{key}.encoder", options["encoder"])}
    parts: dict[str | None, Shape] = shape if isinstance(shape, dict) else {None: shape}
    kinds = {n: "vector_encoder" if len(s) < 3 else "image_encoder" for n, s in parts.items()}
    return {name: (f"{key}.{kind}", options[kind]) for name, kind in kinds.items()}


def _build_inside(
    key: str, options: Mapping[str, Any], shape: Any, layout: Layouts, common: LayersOptions
) -> tuple[nn.Module, int]:
    """Build the only extractor inside another, or one for each part and common layers."""
    built: dict[str, nn.Module] = {}
    total = 0
    for name, (where, config) in inner_extractors(key, options, shape).items():
        if name is None:
            return build_extractor(where, config, shape, layout)
        own_layout = layout.get(name) if isinstance(layout, Mapping) else None
        built[name], width = build_extractor(where, config, shape[name], own_layout)
        total += width
    extractor = DictExtractor(built, total, common)
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
        ValueError: it cannot read an observation, or does not return one row of features.
    """
    kind = type(extractor).__name__
    try:
        extractor.eval()  # zeros must not change running statistics
        features = extractor(map_observations(lambda part: torch.zeros(2, *part), shape))
    except Exception as error:
        raise ValueError(
            f"{key}: {kind} cannot read observations of shape {shape}: {one_line(error)}"
        ) from error
    if not isinstance(features, Tensor) or features.ndim != 2 or len(features) != 2:
        raise ValueError(
            f"{key}: {kind} must give rows of features, [N, F], for observations of shape {shape}"
        )
    width = features.shape[1]
    if (told := getattr(extractor, "output_size", width)) != width:
        raise ValueError(f"{key}: {kind} says output_size={told} and makes {width} features")
    return width


def build_autoencoder(
    key: str, config: DictConfig | dict[str, Any], inputs: ObservationInput, encoder: Encoder
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
