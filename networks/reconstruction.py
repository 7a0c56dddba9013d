"""Reconstructs whole observations from features: a decoder and a meaning for each part."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from networks.decoders import DecoderFactory, going_back
from networks.inputs import DictInput, ObservationInput, PartInput
from networks.layout import ImageRows, Unfit
from networks.meaning import Meaning
from networks.observations import Observations, Parts, Shape
from networks.outline import outline_of
from networks.pictures import picture

_WHOLE = "observation"
"""What the only part of an observation without parts is called here."""
RowsByPart = dict[str, Float[Tensor, "N ..."]]


class ObservationDecoder(nn.Module):
    """Decodes every part of an observation from the same features.

    Parts count alike in a loss, however many numbers each consists of: a goal's position is not
    drowned by an image.

    Args:
        encoder: looked at only; where no decoder is given, its layers are gone backwards.
        further_sizes: widths of layers after the encoder, whose output is decoded.
        input_size: numbers that are decoded.
        decoder: makes the decoder of each part; None mirrors the encoder.

    Attributes:
        count: how many numbers, truth values and identifiers an observation tells.

    Raises:
        ValueError: a part cannot be decoded.
    """

    def __init__(
        self,
        inputs: ObservationInput,
        *,
        encoder: nn.Module,
        further_sizes: Sequence[int],
        input_size: int,
        decoder: DecoderFactory | None,
    ) -> None:
        """Build a decoder for each part."""
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
        """Decode every part; `loss`, `expectation` and `squared_error` say what the outputs mean.

        In float32: features may come from an extractor that computes in less.
        """
        outputs: RowsByPart = self.decoders({name: features.float() for name in self.meanings})
        return outputs

    def loss(self, outputs: RowsByPart, rows: Observations) -> Float[Tensor, " N"]:
        """Mean over parts of `Meaning.loss`; no gradient reaches the rows."""
        targets = self._named(rows)
        return self._mean(lambda name, it: it.loss(outputs[name], targets[name].detach()))

    def squared_error(self, outputs: RowsByPart, rows: Observations) -> Float[Tensor, " N"]:
        """Mean over parts of `Meaning.squared_error`."""
        targets = self._named(rows)
        return self._mean(lambda name, it: it.squared_error(outputs[name], targets[name]))

    def expectation(self, outputs: RowsByPart) -> Observations:
        """Say what the observations were expected to be, in the form and units of the rows."""
        expected = {name: it.expectation(outputs[name]) for name, it in self.meanings.items()}
        return expected if self._has_parts else expected[_WHOLE]

    def corrupt(
        self, rows: Observations, noise: float, generator: torch.Generator | None
    ) -> Observations:
        """Disturb every part as `Meaning.corrupt` does."""
        named = self._named(rows)
        disturbed = {
            name: it.corrupt(named[name], noise, generator) for name, it in self.meanings.items()
        }
        return disturbed if self._has_parts else disturbed[_WHOLE]

    @torch.no_grad()
    def pictures(self, outputs: RowsByPart, rows: Observations) -> dict[str, Tensor]:
        """Draw each part that is an image, `uint8 [H, W, 3]`: the rows above what they became.

        By name; that of an observation without parts is `observation`. Vectors are left out.
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
    """Find out how rows are read as an image, where nobody says it; None of what is none."""
    if len(part.shape) < 3:
        return None
    try:
        return ImageRows(part.shape, layout=part.layout or "auto")
    except Unfit:
        return None


@torch.no_grad()
def _built(decoder: DecoderFactory, input_size: int, name: str, shape: Shape) -> nn.Module:
    """Make a decoder of somebody's choice, and see that it decodes.

    Raises:
        ValueError: it cannot be made for such rows, or makes others.
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
