"""Records what a policy saw, and what its environments hid from it."""

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from jaxtyping import Bool, Float
from torch import Tensor

from agents.agent import Agent
from envs.interface import Environments
from envs.seeding import environment_seeds, reset_with_seeds
from envs.spaces import flat_space, flatten_observation
from networks.mirror import Array
from networks.observations import map_observations, parts_of


@dataclass(frozen=True)
class Target:
    """One hidden number or choice over `T x B` steps.

    Attributes:
        classes: of a choice, whose values are 0 .. classes - 1; 0 for a number.
    """

    name: str
    values: Float[np.ndarray, "T B"]
    classes: int


@dataclass(frozen=True)
class Recording:
    """T steps of B environments; the observation of step t is the one that its action answers.

    Attributes:
        observations: as the policy saw them, `[T, B, *O]`.
        targets: what they do not show.
    """

    observations: Any
    is_first: Bool[Tensor, "T B"]
    targets: list[Target]


def record(
    agent: Agent, environments: Environments, *, steps: int, seed: int, deterministic: bool
) -> Recording:
    """Play `steps` steps in every environment.

    Raises:
        ValueError: the environments hide nothing.
    """
    teller: Any = environments.unwrapped
    space = getattr(teller, "full_observation_space", None)
    if space is None:
        needs = "the method full_observation and the attribute full_observation_space"
        raise ValueError(
            f"nothing is hidden: a probe needs pomdp=..., or an environment with {needs}"
        )
    size, stream, hidden = environments.num_envs, [], []
    seen, _ = reset_with_seeds(environments, environment_seeds(seed, size, purpose="probe"))
    first, ended = np.ones(size, bool), np.zeros(size, bool)
    state, starts = agent.initial_state(size), []
    with agent.using(np.random.default_rng([seed, size])):
        for _ in range(steps):
            stream.append(map_observations(lambda part: torch.from_numpy(part.copy()), seen))
            starts.append(torch.from_numpy(first.copy()))
            hidden.append(copy.deepcopy(teller.full_observation()))
            actions, state = agent.act(seen, state, first, explore=not deterministic)
            sent = agent.policy_head.to_environment(actions)
            seen, _, terminated, truncated, _ = environments.step(sent)
            first, ended = ended, terminated | truncated
    observations: Any = torch.utils.data.default_collate(stream)
    parts = flat_space(space)
    flat = [flatten_observation(batch, parts.keys()) for batch in hidden]
    targets = [
        target
        for name, part in parts.items()
        for target in _targets(name or "observation", part, [batch[name] for batch in flat])
    ]
    return Recording(observations, torch.stack(starts), _unseen(targets, observations))


def _targets(name: str, space: spaces.Space[Any], steps: list[Any]) -> Iterator[Target]:
    """Yield a target for each entry of one part, named by its index."""
    values = np.array(steps, np.float32).reshape(len(steps), len(steps[0]), -1)
    starts, counts = np.zeros(values.shape[2], int), np.zeros(values.shape[2], int)
    if isinstance(space, spaces.Discrete | spaces.MultiDiscrete):
        counts = np.ravel(space.n if isinstance(space, spaces.Discrete) else space.nvec)
        starts = np.ravel(space.start)
    elif isinstance(space, spaces.MultiBinary):
        counts = counts + 2
    for index, (start, classes) in enumerate(zip(starts, counts, strict=True)):
        label = name if len(counts) == 1 else f"{name}[{index}]"
        yield Target(label, values[:, :, index] - np.float32(start), int(classes))


def _unseen(targets: list[Target], observations: Any) -> list[Target]:
    """Leave out what never changes, and what some entry of the observation equals throughout.

    Raises:
        ValueError: nothing is left.
    """
    seen = np.concatenate([rows_of(part) for part in parts_of(observations)], axis=1)
    kept = []
    for target in targets:
        flat = target.values.reshape(-1, 1)
        if np.ptp(flat) > 0 and not np.isclose(seen, flat, atol=1e-6).all(axis=0).any():
            kept.append(target)
    if not kept:
        raise ValueError("nothing is hidden: observations show whatever the environment tells")
    return kept


def rows_of(stream: Tensor, batch_dims: int = 2) -> Array:
    """Flatten `[T, B, *O]`, or `[N, *O]` with one batch dimension, to rows `[N, O]` of float32."""
    count = math.prod(stream.shape[:batch_dims])
    rows: Array = stream.detach().reshape(count, -1).float().cpu().numpy()
    return rows
