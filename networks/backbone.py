"""Backbones: input scaling, normalisation, extractor and memory."""

import math
from collections.abc import Callable, Iterator
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor, nn

from networks.inputs import ObservationInput
from networks.layers import half_precision
from networks.memory.fused import IsFirst, Outputs, State
from networks.memory.memories import ChosenSteps, Memory, pick_steps
from networks.mirror import Array, chained, mirror_of
from networks.normalization import DictNormalization, RunningNormalization
from networks.observations import (
    Arrays,
    Observations,
    any_part,
    map_observations,
    parts_of,
    share_of,
)

BackboneMirror = Callable[[Arrays, Array, Array], tuple[Array, Array]]
"""`observations [B, *O], state [B, S], is_first [B] -> output [B, H], state [B, S]`."""
Stream = Shaped[Tensor, "T B *O"] | dict[str, Shaped[Tensor, "T B ..."]]
"""T steps of B environments' observations, or of each of their parts."""

_CHUNK = 2**22
"""Numbers that an extractor reads at once when no gradient is needed. Activations then stay in or
near the processor's cache, and memory does not grow with the rollout length."""


class Backbone(nn.Module):
    """`observations -> inputs -> normalization -> extractor -> memory`.

    The actor's and the critic's backbone share `inputs` and `normalization`, and may be the same
    object.

    Args:
        reader: whose share of the observations it reads, where they have shares.
        feature_size: number of the extractor's features.
        normalization: `nn.Identity` for none.
        frozen_until: environment steps before which the extractor is frozen; inf for the whole run.

    Attributes:
        normalizes: whether there is a normalisation.
        half_precision: whether features are computed in bfloat16; the memory always uses float32.
        is_frozen: whether the extractor is frozen now: no gradient and no other change.
    """

    def __init__(
        self,
        *,
        reader: Literal["actor", "critic"],
        inputs: ObservationInput,
        normalization: RunningNormalization | DictNormalization | nn.Identity,
        extractor: nn.Module,
        feature_size: int,
        memory: Memory,
        frozen_until: float,
    ) -> None:
        super().__init__()
        self.reader, self.inputs = reader, inputs
        self.normalization: Any = normalization
        self.normalizes = not isinstance(normalization, nn.Identity)
        self.extractor, self.feature_size = extractor, feature_size
        self.memory = memory
        self.frozen_until, self.half_precision = frozen_until, False
        self.is_frozen = frozen_until > 0
        if math.isinf(frozen_until):
            extractor.requires_grad_(False)

    def unfreeze(self, env_steps: int) -> bool:
        """Unfreeze the extractor once `frozen_until` is reached; return whether it is unfrozen."""
        self.is_frozen = env_steps < self.frozen_until
        return not self.is_frozen

    def train(self, mode: bool = True) -> "Backbone":
        """Set training or evaluation mode; a frozen extractor stays in evaluation mode."""
        super().train(mode)
        if self.is_frozen:
            self.extractor.eval()
        return self

    @property
    def stages(self) -> list[nn.Module] | None:
        """The modules in order; None if there is more than these (a memory, half precision)."""
        is_more = self.memory.state_size or self.half_precision or self.is_frozen
        return None if is_more else self._of_rows

    @property
    def _of_rows(self) -> list[nn.Module]:
        """The modules before the memory, in order."""
        normalization = [self.normalization] if self.normalizes else []
        return [self.inputs, *normalization, self.extractor]

    def rows(self, observations: Stream) -> Observations:
        """Scale and normalise observations to the extractor's input, `[T * B, *O]`."""
        own = share_of(observations, self.reader)
        rows: Observations = self.inputs(map_observations(lambda part: part.flatten(0, 1), own))
        return self.normalization(rows) if self.normalizes else rows

    def extract(self, rows: Observations) -> Float[Tensor, "N F"]:
        """Extract features of rows, without gradient if the extractor is frozen."""
        # Contexts are entered only where needed: they cost as much as a small layer.
        if self.is_frozen and torch.is_grad_enabled():
            with torch.no_grad():
                return self.extract(rows)
        return half_precision(self.extractor, rows, is_on=self.half_precision)

    def features(self, observations: Stream) -> Float[Tensor, "T B F"]:
        """Extract the features of every observation, without the memory."""
        steps, batch = any_part(observations).shape[:2]
        if steps == 1 or torch.is_grad_enabled() or _size(observations) <= _CHUNK:
            features = self.extract(self.rows(observations))
        else:
            features = torch.cat([self.extract(self.rows(each)) for each in _chunks(observations)])
        return features.view(steps, batch, -1)

    def forward(
        self, observations: Stream, state: State, is_first: IsFirst
    ) -> tuple[Outputs, State]:
        """Process T steps of B environments; return the summaries and the state after the last."""
        return self.memory(self.features(observations), state, is_first)

    def at(
        self, observations: Stream, state: State, is_first: IsFirst, steps: ChosenSteps
    ) -> Float[Tensor, "L B H"]:
        """Process T steps; return the summaries at chosen steps, extracting only what is needed."""
        return self.memory.at(
            lambda chosen: self.features(pick_steps(observations, chosen)), state, is_first, steps
        )

    def observe(self, observations: Stream, valid: Bool[Tensor, "T B"]) -> None:
        """Update the normalisation statistics with the observations of valid steps."""
        if self.normalizes:
            own = share_of(observations, self.reader)
            rows = self.inputs(map_observations(lambda part: part[valid], own))
            self.normalization.update(rows)

    def mirror(self) -> BackboneMirror | None:
        """Numpy form of `forward` at T = 1; None when some part has none."""
        if self.half_precision:
            return None  # acting must round as learning does
        features, memory = chained(*map(mirror_of, self._of_rows)), mirror_of(self.memory)
        if features is None or memory is None:
            return None
        return lambda observations, state, is_first: memory(features(observations), state, is_first)


def _size(observations: Stream) -> int:
    """Number of elements of all parts."""
    return sum(part.numel() for part in parts_of(observations))


def _chunks(observations: Stream) -> Iterator[Stream]:
    """Split observations in time into chunks of at most `_CHUNK` numbers (or one step)."""
    steps = any_part(observations).shape[0]
    size = max(1, _CHUNK * steps // _size(observations))
    for start in range(0, steps, size):
        yield map_observations(lambda part: part[start : start + size], observations)  # noqa: B023
