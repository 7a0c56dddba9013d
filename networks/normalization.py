"""Running statistics: observations to zero mean and unit variance, rewards to unit return scale.

Statistics are buffers: they travel in checkpoints. The agent alone moves them, once per
trajectory: those of observations at the end of `learn`, so that what is recomputed at its start
sees the numbers that acting saw; those of rewards before it scales the trajectory's.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from networks.mirror import Array, RowFunction, array_of, unchanged
from networks.observations import Observations, Parts

_CLIP = 10.0
"""Bound of normalised inputs and rewards in deviations (OpenAI Baselines' VecNormalize)."""
_EPSILON = 1e-8


class NoNormalization(nn.Module):
    """Hands inputs on unchanged."""

    learns = False
    """Whether `update` does anything."""

    def forward(self, inputs: Observations) -> Observations:
        """Return the inputs."""
        return inputs

    def update(self, inputs: Observations) -> None:
        """Ignore the batch."""

    def mirror(self) -> RowFunction:
        """Numpy form of `forward`."""
        return unchanged


class RunningNormalization(nn.Module):
    """Standardise each input dimension by statistics of everything seen: `(x - mean) / sqrt(var)`.

    Mean and variance are kept in float64 (a float32 count stops growing at 2^24) and merged batch
    by batch. A constant dimension has no variance to divide by and comes out as 0.

    Source: Chan, Golub & LeVeque (1983), parallel variance.
    """

    learns = True
    mean: Tensor
    variance: Tensor
    count: Tensor
    offset: Tensor
    scale: Tensor

    def __init__(self, shape: Sequence[int]) -> None:
        """Start as the identity: mean 0, variance 1, nothing counted."""
        super().__init__()
        self.register_buffer("mean", torch.zeros(tuple(shape), dtype=torch.float64))
        self.register_buffer("variance", torch.ones(tuple(shape), dtype=torch.float64))
        self.register_buffer("count", torch.zeros((), dtype=torch.float64))
        # The float32 pair that is applied, so that acting and learning round alike.
        self.register_buffer("offset", torch.zeros(tuple(shape)))
        self.register_buffer("scale", torch.ones(tuple(shape)))

    def forward(self, inputs: Float[Tensor, "N *I"]) -> Float[Tensor, "N *I"]:
        """Standardise and cut to +-10."""
        return ((inputs - self.offset) * self.scale).clamp(-_CLIP, _CLIP)

    @torch.no_grad()
    def update(self, inputs: Float[Tensor, "N *I"]) -> None:
        """Merge a batch of raw inputs into the statistics; an empty batch changes nothing."""
        size = inputs.shape[0]
        if size == 0:
            return
        batch = inputs.to(torch.float64)
        batch_mean, batch_variance = batch.mean(0), batch.var(0, correction=0)
        total = self.count + size
        difference = batch_mean - self.mean
        moment = self.variance * self.count + batch_variance * size
        moment = moment + difference.square() * self.count * size / total
        self.mean.add_(difference * size / total)
        self.variance.copy_(moment / total)
        self.count.copy_(total)
        self.offset.copy_(self.mean)
        self.scale.copy_((self.variance + _EPSILON).rsqrt())

    def mirror(self) -> RowFunction:
        """Numpy form of `forward`."""
        offset, scale = array_of(self.offset), array_of(self.scale)

        def apply(inputs: Array) -> Array:
            outputs: Array = inputs - offset
            outputs *= scale
            return np.clip(outputs, -_CLIP, _CLIP, out=outputs)

        return apply


class DictNormalization(Parts):
    """Standardise those parts of an observation that are numbers; the others pass."""

    learns = True

    def __init__(self, parts: Mapping[str, RunningNormalization | NoNormalization]) -> None:
        """Take what each part gets."""
        super().__init__(parts)
        self._learning = {name: part for name, part in parts.items() if part.learns}

    def update(self, inputs: dict[str, Float[Tensor, "N ..."]]) -> None:
        """Merge a batch into the statistics of each part."""
        for name, part in self._learning.items():
            part.update(inputs[name])


class RewardClipping(nn.Module):
    """Cuts rewards to +-limit: one learning rate for games whose scores differ by magnitudes.

    Source: Mnih et al. (2015), "Human-level control through deep reinforcement learning", methods.
    """

    learns = False
    """Whether `observe` does anything."""

    def __init__(self, *, limit: float) -> None:
        super().__init__()
        self._limit = limit

    def observe(self, rewards: Tensor, is_first: Tensor, ended: Tensor, valid: Tensor) -> None:
        """Do nothing."""

    def forward(self, rewards: Float[Tensor, "*N"]) -> Float[Tensor, "*N"]:
        """Cut the rewards."""
        return rewards.clamp(-self._limit, self._limit)


class RewardScaling(nn.Module):
    """Divide rewards by the running standard deviation of the discounted return.

        R_t = discount * R_{t-1} + r_t, cut to 0 after every episode's end; r_t / sqrt(Var[R])

    Unlike the usual wrapper it is cut at truncations too, and steps that only reset an environment
    neither decay the accumulator nor count.

    Source: Engstrom et al. (2020), arXiv:2005.12729, section 3.
    """

    accumulator: Tensor
    learns = True

    def __init__(self, *, num_envs: int, discount: float) -> None:
        """Start with empty accumulators, one per environment."""
        super().__init__()
        self.discount = discount
        self.statistics = RunningNormalization(())
        self.register_buffer("accumulator", torch.zeros(num_envs, dtype=torch.float64))

    @torch.no_grad()
    def observe(
        self,
        rewards: Float[Tensor, "T B"],
        is_first: Bool[Tensor, " B"],
        ended: Bool[Tensor, "T B"],
        valid: Bool[Tensor, "T B"],
    ) -> None:
        """Advance the statistics by a trajectory.

        Args:
            is_first: where it opens with a new episode; the return so far is forgotten there.
        """
        accumulator = self.accumulator.masked_fill(is_first, 0.0)
        rows = []
        for reward, end, real in zip(rewards.double(), ended, valid, strict=True):
            accumulator = torch.where(real, self.discount * accumulator + reward, accumulator)
            rows.append(accumulator)
            accumulator = accumulator.masked_fill(end, 0.0)
        self.accumulator.copy_(accumulator)
        self.statistics.update(torch.stack(rows)[valid])

    def forward(self, rewards: Float[Tensor, "*N"]) -> Float[Tensor, "*N"]:
        """Scale rewards by the statistics as they are, and cut them to +-10."""
        return (rewards * self.statistics.scale).clamp(-_CLIP, _CLIP)
