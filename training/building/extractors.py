"""Builds extractors, and the autoencoder for an extractor's pre-training."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor, nn

from conf.checking.suggestions import did_you_mean
from conf.schema.extractors import ExtractorOptions
from networks.autoencoding.autoencoder import Autoencoder, Encoder
from networks.autoencoding.decoders import default_layers
from networks.extractors.composite import DictExtractor, Joined
from networks.extractors.images import ImageRows, Unfit
from networks.extractors.structure import Unmirrored
from networks.inputs import DictInput, ObservationInput
from networks.normalization import DictNormalization, NoNormalization, RunningNormalization
from networks.observations import Shape, Shapes, map_observations
from training.building.instantiation import find, make, plain, unmirrored, with_factories

_BY_PART = "networks.extractors.DictExtractor"
"""The extractor with an extractor for each part of an observation."""
_AROUND_ANOTHER = "networks.autoencoding.Encoder"
"""The extractor that adds a layer to another extractor."""

Layouts = str | None | Mapping[str, str | None]
"""Where images have their channels, if the space says so; by part if there are parts."""


def make_normalization(
    inputs: ObservationInput, *, learns: bool
) -> RunningNormalization | DictNormalization | NoNormalization:
    """Build the normalisation of numeric inputs."""
    if isinstance(inputs, DictInput):
        kinds = inputs.kind
        if not (learns and "numbers" in kinds.values()):
            return NoNormalization()
        return DictNormalization(
            {
                name: RunningNormalization(shape) if kinds[name] == "numbers" else NoNormalization()
                for name, shape in inputs.shape.items()
            }
        )
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
    if options["_target_"] == _AROUND_ANOTHER:
        return _build_encoder(key, options, shape, layout)
    target = options["_target_"]
    is_by_part = target == _BY_PART
    reads_parts = getattr(find(key, target, nn.Module), "reads_parts", False)
    if isinstance(shape, dict) and not reads_parts:
        layouts = layout if isinstance(layout, Mapping) else {}
        if is_by_part:
            return _build_by_part(key, options, shape, layouts)
        if _reads_images(options):
            raise ValueError(_needs_parts(key, target, shape))
        joined = (sum(math.prod(part) for part in shape.values()),)
        try:
            extractor, width = build_extractor(key, options, joined)
        except ValueError as error:
            raise ValueError(
                f"{error}; it gets the parts {', '.join(shape)} as one row of {joined[0]} numbers: "
                "by name, a class that says reads_parts = True does; extractor=dict has an "
                "extractor for each"
            ) from error
        return Joined(extractor), width
    if isinstance(shape, tuple) and (is_by_part or reads_parts):
        place, name = _place(key), "cnn" if len(shape) > 2 and _is_image(shape) else "mlp"
        raise ValueError(
            f"{key}: {target} reads Dict observations, this is one array of shape {shape}; use "
            f"{place}={name}"
        )
    extractor = _construct(key, options, shape, layout)
    return extractor, _output_size(key, extractor, shape)


def _construct(key: str, options: dict[str, Any], shape: Shapes, layout: Layouts) -> Any:
    """Call the class of an extractor.

    Raises:
        ValueError: one line that names the option and the remedy.
    """
    own = dict(options)
    if options.get("freeze"):
        raise ValueError(
            f"{key}.freeze: only a whole extractor can be frozen; set extractor.freeze"
        )
    if layout is not None and "layout" in own:
        own["layout"] = layout
    try:
        return make(key, own, nn.Module, shape, read_here=ExtractorOptions)
    except ValueError as error:
        if isinstance(error.__cause__, Unfit):
            raise ValueError(_misfit(key, error.__cause__)) from error
        raise


def _misfit(key: str, error: Unfit) -> str:
    """Describe the option that does not fit, and the override that does."""
    where = f"{key}.{error.option}" if error.option else key
    place = _place(key)
    other = "or use" if error.option else "use"  # an option has its own remedy
    instead = "".join(f"; {other} {place}={name}" for name in error.instead)
    return f"{where}: {error.reason}{instead}"


def _place(key: str) -> str:
    """Return the override that chooses an extractor there."""
    return key if key == "extractor" else f"extractor@{key}"


def _reads_images(options: Mapping[str, Any]) -> bool:
    """Tell whether a class is an image extractor: it has an option `layout`."""
    return "layout" in options


def _needs_parts(key: str, target: str, shapes: dict[str, Shape]) -> str:
    """Explain that an image is read from one part, and how to choose it."""
    parts = f"{key}: {target} reads images, and this observation has the parts {', '.join(shapes)}"
    image = next((name for name, shape in shapes.items() if _is_image(shape)), None)
    if image is None:
        return f"{parts}, none of them an image; use {_place(key)}=dict"
    own = f"{_place(key)}=dict +extractor@{_path(key, image)}=cnn"
    return f"{parts}; give the image one of its own: {own}"


def _is_image(shape: Shape) -> bool:
    """Tell whether a shape can be an image in one of the layouts."""
    try:
        ImageRows(shape, layout="auto")
    except Unfit as error:
        return error.option == "layout"
    return True


def _build_by_part(
    key: str,
    options: Mapping[str, Any],
    shapes: dict[str, Shape],
    layouts: Mapping[str, str | None],
) -> tuple[DictExtractor, int]:
    own = dict(_leaves(options["keys"]))
    for name in own:
        if name not in shapes:
            raise ValueError(
                f"{_path(key, name)}: the observation has no such part, only {', '.join(shapes)}"
                f"{did_you_mean(name, shapes)}"
            )
    extractors: dict[str, nn.Module] = {}
    total = 0
    for name, shape in shapes.items():
        where, config = part_configuration(key, options, name)
        extractors[name], width = build_extractor(where, config, shape, layouts.get(name))
        total += width
    layers = {name: value for name, value in options.items() if name != "_target_"}
    fused = DictExtractor(extractors, total, DictExtractor.Options(**layers))
    return fused, fused.output_size


def part_configuration(
    key: str, options: Mapping[str, Any], name: str
) -> tuple[str, dict[str, Any]]:
    """Return the key and the configuration of one part's extractor."""
    own = dict(_leaves(options["keys"]))
    if name in own:
        return _path(key, name), own[name]
    return f"{key}.default", options["default"]


def inner_configuration(
    key: str, options: Mapping[str, Any], shape: Shapes
) -> tuple[str, dict[str, Any]]:
    """Return the key and the configuration of an encoder's inner extractor.

    Args:
        shape: of all observations if `encoder` is chosen, else of one part.
    """
    name = "encoder"
    if options[name] is None:
        name = "vector_encoder" if len(shape) < 3 else "image_encoder"
    return f"{key}.{name}", options[name]


def _build_encoder(
    key: str, options: Mapping[str, Any], shape: Shapes, layout: Layouts
) -> tuple[Encoder, int]:
    if options.get("freeze"):  # left out in a whole extractor's
        raise ValueError(
            f"{key}.freeze: only a whole extractor can be frozen; set extractor.freeze"
        )
    inner, width = _build_inner(key, options, shape, layout)
    own = {name: value for name, value in options.items() if name != "_target_"}
    encoder = Encoder(inner, width, Encoder.Options(**own))
    return encoder, encoder.output_size


def _build_inner(
    key: str, options: Mapping[str, Any], shape: Shapes, layout: Layouts
) -> tuple[nn.Module, int]:
    """Build the chosen extractor, or one by the shape of each part."""
    if options["encoder"] is not None or not isinstance(shape, dict):
        where, config = inner_configuration(key, options, shape)
        return build_extractor(where, config, shape, layout)
    layouts = layout if isinstance(layout, Mapping) else {}
    built = {name: _build_inner(key, options, shape[name], layouts.get(name)) for name in shape}
    total = sum(width for _, width in built.values())
    extractors = {name: extractor for name, (extractor, _) in built.items()}
    return _side_by_side(extractors, total), total


def _side_by_side(extractors: Mapping[str, nn.Module], total: int) -> DictExtractor:
    """Concatenate the features of parts, without shared layers."""
    return DictExtractor(extractors, total, default_layers([], "relu"))


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
        reason = " ".join(str(error).split())
        raise ValueError(
            f"{key}: {kind} cannot read observations of shape {shape}: {reason}"
        ) from error
    if not isinstance(features, Tensor) or features.ndim != 2 or len(features) != 2:
        raise ValueError(
            f"{key}: {kind} must give rows of features, [N, F], for observations of shape {shape}"
        )
    told = getattr(extractor, "output_size", features.shape[1])
    if told != features.shape[1]:
        raise ValueError(
            f"{key}: {kind} says output_size={told} and makes {features.shape[1]} features"
        )
    return features.shape[1]


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
    own = {name: value for name, value in options.items() if name != "_target_"}
    own |= with_factories(key, {"decoder": options["decoder"]}, nn.Module)
    try:
        return Autoencoder(inputs, encoder, Encoder.Options(**own))
    except Unmirrored as error:
        raise ValueError(unmirrored(key, error)) from error
    except ValueError as error:
        raise ValueError(f"{key}: {error}") from error
