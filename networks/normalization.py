"""Running normalisation of observations, and scaling of rewards.

Statistics are buffers, saved in checkpoints. The agent updates them once per trajectory: those of
observations at the end of `learn`, so that learning recomputes with the statistics of acting; those
of rewards before it scales the trajectory's rewards.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from networks import ranks
from networks.mirror import Array, RowFunction, array_of
from networks.observations import Parts, PartsFunction

Rewards = Float[Tensor, "T B"]
Flags = Bool[Tensor, "T B"]
_CLIP = 10.0
"""Clip range of normalised inputs and rewards (OpenAI Baselines' VecNormalize)."""
_EPSILON = 1e-8


class RunningNormalization(nn.Module):
    """Standardise each input dimension by running statistics: `(x - mean) / sqrt(var)`.

    Mean and variance are in float64 (a float32 count stops growing at 2^24) and merged batch by
    batch. A constant dimension becomes 0.

    Source: Chan, Golub & LeVeque (1983), parallel variance.
    """

    mean: Tensor
    variance: Tensor
    count: Tensor
    offset: Tensor
    scale: Tensor

    def __init__(self, shape: Sequence[int]) -> None:
        """Start as the identity: mean 0, variance 1, count 0."""
        super().__init__()
        self.register_buffer("mean", torch.zeros(tuple(shape), dtype=torch.float64))
        self.register_buffer("variance", torch.ones(tuple(shape), dtype=torch.float64))
        self.register_buffer("count", torch.zeros((), dtype=torch.float64))
        # Applied in float32, so that acting and learning round alike.
        self.register_buffer("offset", torch.zeros(tuple(shape)))
        self.register_buffer("scale", torch.ones(tuple(shape)))

    def forward(self, inputs: Float[Tensor, "N *I"]) -> Float[Tensor, "N *I"]:
        """Standardise and clip to +-10."""
        return ((inputs - self.offset) * self.scale).clamp(-_CLIP, _CLIP)

    @torch.no_grad()
    def update(self, inputs: Float[Tensor, "N *I"]) -> None:
        """Merge a batch of raw inputs into the statistics, and the batches of other ranks."""
        size = ranks.total(inputs.shape[0])
        if size == 0:
            return
        batch_mean, batch_variance = _moments(inputs.to(torch.float64), size)
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


def _moments(batch: Float[Tensor, "N *I"], size: int) -> tuple[Tensor, Tensor]:
    """Return mean and variance of the `size` rows of all ranks."""
    if ranks.size() == 1:
        return batch.mean(0), batch.var(0, correction=0)
    weight = ranks.size() / size
    mean = ranks.average(batch.sum(0)) * weight
    return mean, ranks.average((batch - mean).square().sum(0)) * weight


class DictNormalization(Parts):
    """Normalise the parts of an observation that have a module; others are unchanged."""

    def forward(self, parts: dict[str, Tensor]) -> dict[str, Tensor]:
        """Standardise and clip each part."""
        return parts | super().forward(parts)

    def update(self, inputs: dict[str, Float[Tensor, "N ..."]]) -> None:
        """Merge a batch into the statistics of each part."""
        for name in self.names:
            self[name].update(inputs[name])

    def mirror(self) -> PartsFunction:
        """Numpy form of `forward`."""
        apply: Any = super().mirror()
        return lambda parts: parts | apply(parts)


class RewardClipping(nn.Module):
    """Clips rewards to +-limit, so that one learning rate suits games of different score scales.

    Source: Mnih et al. (2015), "Human-level control through deep reinforcement learning", methods.
    """

    def __init__(self, *, limit: float) -> None:
        super().__init__()
        self._limit = limit

    def forward(self, rewards: Float[Tensor, "*N"]) -> Float[Tensor, "*N"]:
        """Clip rewards."""
        return rewards.clamp(-self._limit, self._limit)


class RewardScaling(nn.Module):
    """Divide rewards by the running standard deviation of the discounted return.

        R_t = discount * R_{t-1} + r_t, reset to 0 after every episode's end; r_t / sqrt(Var[R])

        Unlike in the usual wrapper, R is reset at truncations too, and reset steps neither decay it
        nor count.

    Source: Engstrom et al. (2020), arXiv:2005.12729, section 3.
    """

    accumulator: Tensor

    def __init__(self, *, num_envs: int, discount: float) -> None:
        super().__init__()
        self.discount = discount
        self.statistics = RunningNormalization(())
        self.register_buffer("accumulator", torch.zeros(num_envs, dtype=torch.float64))

    @torch.no_grad()
    def observe(
        self, rewards: Rewards, is_first: Bool[Tensor, " B"], ended: Flags, valid: Flags
    ) -> None:
        """Update the statistics with a trajectory.

        Args:
            is_first: where the trajectory starts with a new episode; R is reset there.
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
        """Scale rewards by the current statistics and clip them to +-10."""
        return (rewards * self.statistics.scale).clamp(-_CLIP, _CLIP)
