"""What reconstructing an observation means, by what its numbers mean. No networks here.

Losses are means over what a part consists of: over numbers, intensities and truth values one by
one, over identifiers one by one (a cell's object, its colour). So a loss, and a weight on it, means
the same whatever the size of an image.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from networks.inputs import PartInput
from networks.observations import Shape

Rows = Float[Tensor, "N *O"]


@dataclass(frozen=True)
class Meaning:
    """How a decoder's output says what a part of an observation was.

    Attributes:
        kind: numbers | intensities | booleans | identifiers, as in `networks.inputs`.
        shape: of the part's rows, and of the decoder's output.
        groups: numbers of columns in the last axis that belong to one identifier each; empty of
            other kinds.
    """

    kind: str
    shape: Shape
    groups: tuple[int, ...]

    @staticmethod
    def of(part: PartInput) -> "Meaning":
        """Read the meaning off an input."""
        groups: tuple[int, ...] = getattr(part, "groups", ())
        return Meaning(kind=part.kind, shape=part.shape, groups=groups)

    @property
    def count(self) -> int:
        """How many things are told: numbers, truth values or identifiers."""
        positions = math.prod(self.shape[:-1]) * len(self.groups)
        return positions if self.kind == "identifiers" else math.prod(self.shape)

    def loss(self, output: Rows, rows: Rows) -> Float[Tensor, " N"]:
        """Mean error of each row, against what was observed.

            numbers, intensities:  (y - x)^2
            booleans:              -x log s(y) - (1 - x) log(1 - s(y)), s the logistic function
            identifiers:           -log softmax(y)_x, of each one's own columns

        In float32, whatever the decoder computed in.
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
        """Say what the observation was expected to be, in the units of its rows.

        Of truth values and identifiers these are probabilities.
        """
        output = output.float()
        if self.kind == "identifiers":
            return self._log_probabilities(output).exp()
        return output.sigmoid() if self.kind == "booleans" else output

    def squared_error(self, output: Rows, rows: Rows) -> Float[Tensor, " N"]:
        """Mean over a row's columns of (expectation - row)^2: comparable with any linear map."""
        return (self.expectation(output) - rows).square().flatten(1).mean(1)

    def corrupt(self, rows: Rows, noise: float, generator: torch.Generator | None) -> Rows:
        """Disturb rows: add Gaussian noise to numbers, flip truth values, blank identifiers.

        Args:
            noise: standard deviation, in units of the rows; or probability of a flip, or that
                nothing is known of an identifier (all of its columns read 0).
            generator: of random numbers; None for PyTorch's own, which agents seed.

        Source: Vincent et al. (2008), "Extracting and composing robust features with denoising
        autoencoders".
        """
        if self.kind == "identifiers":
            shape = (*rows.shape[:-1], len(self.groups))
            is_known = (_uniform(shape, rows, generator) >= noise).to(rows.dtype)
            counts = torch.tensor(self.groups, device=rows.device)
            width = rows.shape[-1]
            return rows * is_known.repeat_interleave(counts, -1, output_size=width)
        if self.kind == "booleans":
            is_kept = _uniform(rows.shape, rows, generator) >= noise
            return torch.where(is_kept, rows, 1.0 - rows)
        device = rows.device if generator is None else generator.device
        drawn = torch.randn(rows.shape, generator=generator, device=device)
        return rows + noise * drawn.to(rows)

    def _log_probabilities(self, output: Rows) -> Rows:
        """Normalise each identifier's own columns; their places stay."""
        first = self.groups[0]
        if all(count == first for count in self.groups):
            table = output.unflatten(-1, (len(self.groups), first))
            return functional.log_softmax(table, dim=-1).flatten(-2)
        parts = [functional.log_softmax(part, dim=-1) for part in output.split(self.groups, dim=-1)]
        return torch.cat(parts, dim=-1)


def _uniform(
    shape: tuple[int, ...], like: Tensor, generator: torch.Generator | None
) -> Float[Tensor, "..."]:
    """Draw from [0, 1), where the generator lives, for where `like` does."""
    device = like.device if generator is None else generator.device
    return torch.rand(shape, generator=generator, device=device).to(like.device)
