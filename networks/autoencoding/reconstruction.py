"""Reconstructs observations from features, with a decoder and an output meaning per part."""

import colorsys
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn import functional

from networks.autoencoding.decoders import DecoderFactory, going_back
from networks.extractors.images import ImageRows, Unfit
from networks.extractors.structure import outline_of
from networks.inputs import DictInput, ObservationInput, PartInput
from networks.observations import Observations, Parts, Shape

Rows = Float[Tensor, "N *O"]


@dataclass(frozen=True)
class Meaning:
    """How a decoder's output represents a part of an observation.

    Attributes:
        kind: numbers | intensities | booleans | identifiers, as in `networks.inputs`.
        shape: of the part's rows and of the decoder's output.
        groups: number of columns of each identifier in the last axis; empty for other kinds.
    """

    kind: str
    shape: Shape
    groups: tuple[int, ...]

    @staticmethod
    def of(part: PartInput) -> "Meaning":
        """Return the meaning of an input's rows."""
        groups: tuple[int, ...] = getattr(part, "groups", ())
        return Meaning(kind=part.kind, shape=part.shape, groups=groups)

    @property
    def count(self) -> int:
        """Number of reconstructed numbers, booleans or identifiers."""
        positions = math.prod(self.shape[:-1]) * len(self.groups)
        return positions if self.kind == "identifiers" else math.prod(self.shape)

    def loss(self, output: Rows, rows: Rows) -> Float[Tensor, " N"]:
        """Mean error of each row.

            numbers, intensities:  (y - x)^2
            booleans:              -x log s(y) - (1 - x) log(1 - s(y)), s the logistic function
            identifiers:           -log softmax(y)_x, over the identifier's columns

        Computed in float32, whatever the decoder's dtype.
        """
        output = output.float()
        if self.kind == "identifiers":
            return -(rows * self._log_probabilities(output)).flatten(1).sum(1) / self.count
        if self.kind == "booleans":
            errors = functional.binary_cross_entropy_with_logits(output, rows, reduction="none")
        else:
            errors = (output - rows).square()
        return errors.flatten(1).mean(1)

    def expectation(self, output: Rows) -> Rows:
        """Return the expected observation in the units of its rows.

        For booleans and identifiers these are probabilities.
        """
        output = output.float()
        if self.kind == "identifiers":
            return self._log_probabilities(output).exp()
        return output.sigmoid() if self.kind == "booleans" else output

    def squared_error(self, output: Rows, rows: Rows) -> Float[Tensor, " N"]:
        """Mean of (expectation - row)^2 over a row's columns, comparable with any linear map."""
        return (self.expectation(output) - rows).square().flatten(1).mean(1)

    def _log_probabilities(self, output: Rows) -> Rows:
        """Log-softmax over the columns of each identifier, in the same places."""
        first = self.groups[0]
        if all(count == first for count in self.groups):
            table = output.unflatten(-1, (len(self.groups), first))
            return functional.log_softmax(table, dim=-1).flatten(-2)
        parts = [functional.log_softmax(part, dim=-1) for part in output.split(self.groups, dim=-1)]
        return torch.cat(parts, dim=-1)


_SMALLEST = 64
"""Height in pixels below which images are magnified."""


def picture(
    meaning: Meaning, front: ImageRows, rows: Rows, expected: Rows
) -> UInt8[Tensor, "H W 3"]:
    """Draw observations side by side, above their expectations."""
    originals, copies = (_colours(meaning, front, each.detach().cpu()) for each in (rows, expected))
    if meaning.kind == "numbers":  # both scaled by the range of the observations
        low, high = originals.min(), originals.max()
        width = (high - low).clamp(min=1e-8)
        originals, copies = (originals - low) / width, (copies - low) / width
    lines = [torch.cat(list(images), dim=2) for images in (originals, copies)]  # [3, H, N * W]
    drawn = torch.cat(lines, dim=1).clamp(0.0, 1.0)
    times = math.ceil(_SMALLEST / front.size[0])
    magnified = drawn.repeat_interleave(times, 1).repeat_interleave(times, 2)
    return (255.0 * magnified).round().to(torch.uint8).permute(1, 2, 0)


def _colours(meaning: Meaning, front: ImageRows, rows: Rows) -> Float[Tensor, "N 3 H W"]:
    images: Tensor = front(rows.float())
    newest: Tensor = images[:, -(front.channels // front.frames) :]
    if meaning.kind == "identifiers":
        # Expected colour of each identifier, averaged over the identifiers of a position.
        palette = torch.cat([_palette(count) for count in meaning.groups])
        return torch.einsum("nkhw,kc->nchw", newest, palette) / len(meaning.groups)
    if meaning.kind == "booleans":
        return torch.einsum("nkhw,kc->nchw", newest, _palette(newest.shape[1] + 1)[1:])
    if newest.shape[1] == 3:
        return newest
    return newest[:, -1:].expand(-1, 3, -1, -1)  # grey, or frames of grey as channels


def _palette(count: int) -> Float[Tensor, "K 3"]:
    """Black, then colours that are as different as possible."""
    hues = [index / max(count - 1, 1) for index in range(count - 1)]
    return torch.tensor([(0.0, 0.0, 0.0), *(colorsys.hsv_to_rgb(hue, 0.8, 1.0) for hue in hues)])


_WHOLE = "observation"
"""Name of an observation without parts."""
RowsByPart = dict[str, Float[Tensor, "N ..."]]


class ObservationDecoder(nn.Module):
    """Decodes every part of an observation from the same features.

    All parts have the same weight in a loss, whatever their size: an image does not outweigh a
    goal's position.

    Args:
        encoder: not kept; without a given decoder, its layers are mirrored.
        further_sizes: widths of layers after the encoder, whose output is decoded.
        input_size: number of decoded features.
        decoder: makes the decoder of each part; None mirrors the encoder.

    Attributes:
        count: number of numbers, booleans and identifiers in an observation.

    Raises:
        ValueError: a part cannot be decoded.
    """

    def __init__(
        self,
        inputs: ObservationInput,
        encoder: nn.Module,
        input_size: int,
        decoder: DecoderFactory | None,
        *,
        further_sizes: Sequence[int],
    ) -> None:
        super().__init__()
        self._has_parts = isinstance(inputs, DictInput)
        parts = inputs.inputs if isinstance(inputs, DictInput) else {_WHOLE: inputs}
        self.meanings = {name: Meaning.of(part) for name, part in parts.items()}
        self.count = sum(meaning.count for meaning in self.meanings.values())

        def build(name: str, shape: Shape) -> nn.Module:
            if decoder is not None:
                return _built(decoder, input_size, name, shape)
            outline = outline_of(encoder, shape, name if self._has_parts else None)
            return going_back(outline.then(*further_sizes), input_size, shape)

        self._fronts = {name: _front(part) for name, part in parts.items()}
        self.decoders = Parts({name: build(name, part.shape) for name, part in parts.items()})

    def forward(self, features: Float[Tensor, "N F"]) -> RowsByPart:
        """Decode every part; `loss`, `expectation` and `squared_error` interpret the outputs.

        In float32, as features may come from an extractor in lower precision.
        """
        return self.decoders({name: features.float() for name in self.meanings})

    def loss(self, outputs: RowsByPart, rows: Observations) -> Float[Tensor, " N"]:
        """Mean over parts of `Meaning.loss`; no gradient reaches the rows."""
        targets = self._named(rows)
        return self._mean(lambda name, it: it.loss(outputs[name], targets[name].detach()))

    def squared_error(self, outputs: RowsByPart, rows: Observations) -> Float[Tensor, " N"]:
        """Mean over parts of `Meaning.squared_error`."""
        targets = self._named(rows)
        return self._mean(lambda name, it: it.squared_error(outputs[name], targets[name]))

    def expectation(self, outputs: RowsByPart) -> Observations:
        """Return the expected observations in the units of the rows."""
        expected = {name: it.expectation(outputs[name]) for name, it in self.meanings.items()}
        return expected if self._has_parts else expected[_WHOLE]

    @torch.no_grad()
    def pictures(self, outputs: RowsByPart, rows: Observations) -> dict[str, Tensor]:
        """Draw the image parts above their reconstructions, `uint8 [H, W, 3]` by name.

        An observation without parts has the name `observation`. Vectors are left out.
        """
        named = self._named(rows)
        drawn = {}
        for name, meaning in self.meanings.items():
            front = getattr(self.decoders[name], "front", None) or self._fronts[name]
            if front is not None:
                expected = meaning.expectation(outputs[name])
                drawn[name] = picture(meaning, front, named[name], expected)
        return drawn

    def _named(self, rows: Observations) -> dict[str, Tensor]:
        return rows if isinstance(rows, dict) else {_WHOLE: rows}

    def _mean(self, error: Callable[[str, Meaning], Tensor]) -> Float[Tensor, " N"]:
        errors = [error(name, meaning) for name, meaning in self.meanings.items()]
        return torch.stack(errors).mean(0)


def _front(part: PartInput) -> ImageRows | None:
    """Infer the conversion of rows to images; None for rows that are not images."""
    if len(part.shape) < 3:
        return None
    try:
        return ImageRows(part.shape, layout=part.layout or "auto")
    except Unfit:
        return None


@torch.no_grad()
def _built(decoder: DecoderFactory, input_size: int, name: str, shape: Shape) -> nn.Module:
    """Build a given decoder and check its output shape.

    Raises:
        ValueError: it cannot be built for such rows, or its output has another shape.
    """
    try:
        made = decoder(input_size, shape)
        output = made.eval()(torch.zeros(2, input_size))
    except Exception as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"the decoder cannot make {name} of shape {shape}: {reason}") from error
    if tuple(output.shape) != (2, *shape):
        raise ValueError(
            f"the decoder makes rows of shape {tuple(output.shape[1:])} for {name} of shape {shape}"
        )
    return made.train()
