"""Policy heads for discrete actions, and which policy head fits an action space.

Only `policy_head_class`, and `networks.heads.greedy` for action values, depend on the action space.
The policy's actions are flat rows. `to_environment` converts them to the starts, shapes, bounds and
dtypes of the environment's action space.
"""

import math
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from conf.schema.extractors import BlocksOptions
from networks.heads.acting import DistributionHead, HeadMirror, Space, one_hot
from networks.heads.box import BoxHead, GaussianHead
from networks.heads.distributions import (
    IMPOSSIBLE,
    Bernoulli,
    Categorical,
    Legal,
    MultiCategorical,
)
from networks.heads.greedy import choice_counts, environment_actions, legal_combinations
from networks.mirror import Array

_TINY = np.finfo(np.float32).tiny


def _gumbel_noise(generator: np.random.Generator, size: tuple[int, ...]) -> Array:
    """Standard Gumbel noise: `-log E` with E standard exponential."""
    noise = generator.standard_exponential(size, dtype=np.float32)
    np.maximum(noise, _TINY, out=noise)
    return np.negative(np.log(noise, out=noise), out=noise)


class CategoricalHead(DistributionHead):
    """One of K actions; each combination of several choices counts as one."""

    def __init__(self, space: Space, input_size: int, options: BlocksOptions) -> None:
        self._sent, self._counts = environment_actions(space), choice_counts(space)
        super().__init__(space, input_size, len(self._sent), options)

    def forward(self, summary: Float[Tensor, "*N H"]) -> Categorical:
        """Return the action distribution of each row."""
        return Categorical(self.linear(summary))

    def noise(self, generator: np.random.Generator, batch_size: int) -> Array:
        """Standard Gumbel noise, one number per action."""
        return _gumbel_noise(generator, (batch_size, self.output.out_features))

    def legal(self, mask: Bool[Tensor, "*N M"]) -> Legal:
        """Return which combinations of choices a mask allows."""
        return legal_combinations(mask, self._counts)

    def to_environment(self, actions: Array) -> Array:
        """Convert to the environment's actions; always a copy."""
        return self._sent.take(actions, axis=0)

    def encode(self, actions: Int[Tensor, "*N"]) -> Float[Tensor, "*N E"]:
        """One-hot."""
        return one_hot(actions, self.encoded_size)

    def choice(self) -> HeadMirror:
        """Numpy form of mode and sampling."""
        return lambda logits, noise: (logits if noise is None else logits + noise).argmax(-1)


class MultiCategoricalHead(DistributionHead):
    """D independent choices, given the summary; their shape in the environment is arbitrary.

    One linear layer computes the logits of all choices. Choices with fewer options are padded, so
    that one softmax is enough.
    """

    space: spaces.MultiDiscrete[Any]
    places: Tensor
    columns: Tensor

    def __init__(
        self, space: spaces.MultiDiscrete[Any], input_size: int, options: BlocksOptions
    ) -> None:
        counts = space.nvec.ravel().astype(np.int64)
        total = int(counts.sum())
        super().__init__(space, input_size, total, options)
        self.action_shape = (len(counts),)
        self.starts = space.start.ravel().astype(np.int64)
        self._table = (len(counts), int(counts.max()))  # D, K
        self._is_ragged = bool((counts < counts.max()).any())
        # The column of each logit in the flattened table, and the logit of each cell; the index
        # after the last logit is the padding.
        is_option = np.arange(self._table[1]) < counts[:, None]  # [D, K]
        self._columns = np.flatnonzero(is_option)
        places = np.full(is_option.size, total)
        places[self._columns] = np.arange(total)
        self.register_buffer("places", torch.from_numpy(places), persistent=False)
        self.register_buffer("columns", torch.from_numpy(self._columns), persistent=False)

    def forward(self, summary: Float[Tensor, "*N H"]) -> MultiCategorical:
        """Return the action distribution of each row."""
        logits = self.linear(summary)
        if self._is_ragged:
            padded = functional.pad(logits, (0, 1), value=IMPOSSIBLE)
            logits = padded.index_select(-1, self.places)
        return MultiCategorical(logits.unflatten(-1, self._table))

    def noise(self, generator: np.random.Generator, batch_size: int) -> Array:
        """Standard Gumbel noise, one number per cell of the padded table."""
        return _gumbel_noise(generator, (batch_size, *self._table))

    def legal(self, mask: Bool[Tensor, "*N M"]) -> Legal:
        """Return which options of each choice a mask allows, `[*N, D, K]`; never the padding."""
        padded, places = functional.pad(mask, (0, 1)), self.places.to(mask.device)
        return padded.index_select(-1, places).unflatten(-1, self._table)

    def to_environment(self, actions: Array) -> Array:
        """Add the start of each choice, in the space's shape; always a copy."""
        counted = (actions + self.starts).reshape(len(actions), *self.space.shape)
        return counted.astype(self.space.dtype, copy=False)

    def encode(self, actions: Int[Tensor, "*N D"]) -> Float[Tensor, "*N E"]:
        """Concatenated one-hot encodings of the choices, without padding."""
        table = one_hot(actions, self._table[1]).flatten(-2)
        return table.index_select(-1, self.columns) if self._is_ragged else table

    def choice(self) -> HeadMirror:
        """Numpy form of mode and sampling."""
        table, columns, is_ragged = self._table, self._columns, self._is_ragged

        def choose(logits: Array, noise: Array | None) -> Array:
            if is_ragged:
                padded = np.full((len(logits), table[0] * table[1]), IMPOSSIBLE, np.float32)
                padded[:, columns] = logits
                logits = padded
            logits = logits.reshape(-1, *table)
            return (logits if noise is None else logits + noise).argmax(-1)

        return choose


class BernoulliHead(DistributionHead):
    """D independent bits, given the summary; their shape in the environment is arbitrary."""

    space: spaces.MultiBinary

    def __init__(self, space: spaces.MultiBinary, input_size: int, options: BlocksOptions) -> None:
        size = math.prod(space.shape)
        super().__init__(space, input_size, size, options)
        self.action_shape = (size,)

    def forward(self, summary: Float[Tensor, "*N H"]) -> Bernoulli:
        """Return the action distribution of each row."""
        return Bernoulli(self.linear(summary))

    def noise(self, generator: np.random.Generator, batch_size: int) -> Array:
        """Standard logistic noise, one number per bit."""
        return generator.logistic(size=(batch_size, *self.action_shape)).astype(np.float32)

    def to_environment(self, actions: Array) -> Array:
        """Convert to the space's shape and dtype."""
        return actions.reshape(len(actions), *self.space.shape).astype(self.space.dtype)

    def encode(self, actions: Int[Tensor, "*N D"]) -> Float[Tensor, "*N E"]:
        """The bits, as 0 and 1."""
        return actions.float()

    def choice(self) -> HeadMirror:
        """Numpy form of mode and sampling."""
        return lambda logits, noise: np.int64((logits if noise is None else logits + noise) > 0)


def policy_head_class(chosen: Any, space: Space) -> Any:
    """Return the class of the policy head for an action space.

    Args:
        chosen: a class; None for the usual one of the space. `CategoricalHead` means the usual one
            of any discrete space.

    Raises:
        ValueError: the action space is not supported, or not by the chosen class.
    """
    if chosen is not None and not issubclass(chosen, CategoricalHead | BoxHead):
        return chosen
    usual = _usual_class(space)
    if chosen is None:
        return usual
    is_box = usual is GaussianHead
    if issubclass(chosen, BoxHead) is not is_box:
        raise ValueError(
            f"policy_head: {chosen.__name__} does not fit the action space {space}; use "
            f"policy_head={'auto' if is_box else 'categorical'}"
        )
    return usual if chosen is CategoricalHead else chosen


def _usual_class(space: Space) -> type[DistributionHead]:
    if isinstance(space, spaces.Discrete):
        return CategoricalHead
    if isinstance(space, spaces.MultiDiscrete):
        return MultiCategoricalHead
    if isinstance(space, spaces.MultiBinary):
        return BernoulliHead
    if isinstance(space, spaces.Box) and np.issubdtype(space.dtype, np.floating):
        return GaussianHead
    raise ValueError(
        f"action space {space} is not supported; use Discrete, MultiDiscrete, MultiBinary or a Box "
        "of floats"
    )
