"""A callable policy: an agent, its normalisation, and a memory state for each environment."""

import copy
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import spaces
from omegaconf import DictConfig
from torch import nn

from agents.agent import Agent
from conf.schema.types import show
from envs.interface import Environments
from envs.spaces import flatten_observation, one_line, reads_alike
from envs.wrappers.action_mask import Masks
from networks.mirror import Array
from networks.observations import Arrays, Shape, Shapes, any_part, with_mask
from training.building.backbones import read_space
from training.building.environments import Source, build_environments, open_environments
from training.building.extractors import Own
from training.evaluation.evaluation import Evaluation, Evaluator
from training.exporting.acting import ActingPolicy
from training.saving.checkpoint import prefixed, save_checkpoint
from training.saving.files import write_configuration


class Policy:
    """Maps observations to the environment's actions, with a memory state per environment.

    Attributes:
        config: that it was built from.
        agent: the networks and their learning algorithm, a `torch.nn.Module`.
        extractor: the caller's own, as it was handed in; None for a configured one.
        env_steps: environment steps that `neurl.fit` has trained it for.
    """

    def __init__(self, config: DictConfig, agent: Agent, extractor: Own = None) -> None:
        """Start without memory states; the first call creates them."""
        self.config, self.agent, self.extractor = config, agent, extractor
        self.env_steps = 0
        self._shapes = agent.actor.inputs.observation_shape
        self._state: Array | None = None
        self._is_first = np.zeros(0, dtype=bool)

    def __repr__(self) -> str:
        """Name the algorithm, the networks, the environment and the size."""
        parts = self.agent, self.agent.actor.extractor, self.agent.actor.memory
        names = ", ".join(type(part).__name__ for part in parts)
        size = sum(parameter.numel() for parameter in self.agent.parameters())
        return f"<Policy: {names} on {self.config.env.id}, {size:,} parameters>"

    def __reduce__(self) -> Any:
        """Refuse to be pickled."""
        raise TypeError("a policy is not pickled; use policy.save(directory) and neurl.load")

    def __deepcopy__(self, memo: dict[int, Any]) -> "Policy":
        """Copy everything; without it, copies would be made by way of pickling."""
        copied = object.__new__(Policy)
        copied.__dict__ = copy.deepcopy(self.__dict__, memo)
        return copied

    def predict(
        self, observation: Any, *, deterministic: bool = True, action_mask: Any = None
    ) -> Any:
        """Choose the action for one observation, or one for each of a batch of environments.

        Memory states carry over between calls. A batch of another size resets all of them.

        Args:
            observation: an array or a number, or a list of them. With Dict or Tuple observations
                one mapping or tuple of these, as the environment or a vector environment gives it.
            action_mask: the legal actions there, with `env.action_mask=true`.

        Raises:
            ValueError: the observation has other parts or shapes than the policy was built for, or
                is not finite, or there is no mask.
        """
        batch, is_single = _batched(observation, self._shapes)
        size = len(any_part(batch))
        if action_mask is not None or self.config.env.get("action_mask"):
            batch = self._with_mask(batch, action_mask, () if is_single else (size,))
        if self._state is None or len(self._state) != size:
            self._state = self.agent.initial_state(size)
            self._is_first = np.ones(size, dtype=bool)
        before = self._state, self._is_first
        actions, self._state = self.agent.act(batch, *before, explore=not deterministic)
        self._is_first = np.zeros(size, dtype=bool)
        chosen = self.agent.policy_head.to_environment(actions)
        if not is_single:
            return chosen
        # Zero-dimensional spaces hold arrays too.
        is_number = isinstance(self.agent.policy_head.space, spaces.Discrete)
        return chosen[0] if is_number else np.asarray(chosen[0])

    def _with_mask(self, batch: Arrays, mask: Any, shape: Shape) -> Arrays:
        if mask is None:
            raise ValueError("env.action_mask=true: expected predict(..., action_mask=...)")
        masks = Masks(self.agent.actor.inputs.space, self.agent.policy_head.space)
        legal = masks.legal(mask, np.zeros(shape, bool))
        return with_mask(batch, legal if shape else legal[None])

    def reset(self, mask: Array | None = None) -> None:
        """Reset the memory before the next observations: everywhere, or where `mask [B]` is True.

        Raises:
            ValueError: the mask does not have one entry per environment.
        """
        if mask is None:
            self._state = None
            return
        chosen = np.asarray(mask, dtype=bool)
        if chosen.shape != self._is_first.shape:
            raise ValueError(f"expected a mask of shape {self._is_first.shape}, got {chosen.shape}")
        self._is_first = self._is_first | chosen

    def save(self, directory: str | Path) -> None:
        """Save configuration and weights as a run has them, for `neurl.load` and `evaluate.py`.

        No file is a pickle. A replay buffer is not saved. A policy that was saved there before is
        replaced.

        Raises:
            ValueError: a run is there.
        """
        place = Path(directory)
        if (place / "summary.json").exists():
            raise ValueError(f"{place} holds a run already; choose another directory")
        tensors, steps = prefixed("agent", self.agent.state_dict()), self.env_steps
        state = {"env_steps": steps, "updates": 0}
        save_checkpoint(place / "checkpoints" / "last", tensors=tensors, state=state, step=steps)
        write_configuration(place, self.config)

    def evaluate(self, env: Source = None, episodes: int = 100) -> Evaluation:
        """Play complete episodes, the same ones in each call, and return their scores.

        Actions are the most probable ones, unless `evaluation.deterministic` is false.

        Args:
            env: as `neurl.fit` takes it; None: the configured environment. A single environment
                and a vector environment are reset, and stay open.

        Raises:
            ValueError: the policy was built for other spaces.
        """
        how, episodes = self.config.evaluation, whole("episodes", episodes)
        with open_environments(self.config, env, num_envs=how.num_envs) as (_, environments):
            refuse_other_spaces(self.agent, environments)
            evaluator = Evaluator(environments, self.config.seed, how.deterministic)
            return evaluator(self.agent, episodes=episodes, index=0)

    def module(self) -> nn.Module:
        """Return the acting networks as a module, which shares the policy's weights.

        `observation [B, *O], state [B, S], is_first [B] -> action [B, *A], state [B, S]`, with
        tensors by name for an observation with parts. With `env.action_mask=true` the legal
        actions, `[B, M]`, are a fourth argument, `action_mask`. Actions are the environment's, the
        most probable ones. It can be traced and exported, which `predict` cannot.
        """
        return ActingPolicy(self.agent, has_masks=bool(self.config.env.get("action_mask")))

    def environments(self, num_envs: int) -> Environments:
        """Make environments for this policy: as configured, wrappers included."""
        return build_environments(self.config, num_envs=num_envs, for_acting=True)


def whole(name: str, count: Any) -> int:
    """Return a count as an integer; numpy's and 1e6 are included.

    Raises:
        ValueError: it is none, or below 1.
    """
    with suppress(TypeError, ValueError, OverflowError):
        if not isinstance(count, bool) and int(count) == count >= 1:
            return int(count)
    raise ValueError(f"{name}={count!r}: expected an integer, at least 1")


def refuse_other_spaces(agent: Agent, environments: Environments) -> None:
    """Refuse environments whose observations an agent cannot read, or whose actions mean others.

    Raises:
        ValueError: with both spaces.
    """
    read = agent.actor.inputs.space
    emitted = read_space(environments.single_observation_space, "actor")
    if not reads_alike(read, emitted):
        raise ValueError(
            f"the policy reads observations in {one_line(read)}, the environment emits "
            f"{one_line(emitted)}"
        )
    made, taken = agent.policy_head.space, environments.single_action_space
    if made != taken:
        takes = f"the environment takes {one_line(taken)}"
        raise ValueError(f"the policy acts in {one_line(made)}, {takes}")


def _batched(observation: Any, shapes: Shapes) -> tuple[Arrays, bool]:
    """Copy one observation or a batch into arrays `[B, ...]`; tell whether it was one.

    Raises:
        ValueError: its parts or shapes are not as expected.
    """
    if not isinstance(shapes, dict):
        return _rows(observation, shapes, "")
    parts = flatten_observation(observation, shapes)
    found = {name: _rows(parts[name], shape, f" {name!r}") for name, shape in shapes.items()}
    kinds = {(len(rows), is_single) for rows, is_single in found.values()}
    if len(kinds) > 1:
        sizes = {n: "one" if one else f"a batch of {len(rows)}" for n, (rows, one) in found.items()}
        raise ValueError(
            "expected all parts of an observation, or a batch of as many of each, got "
            + ", ".join(f"{name}: {size}" for name, size in sizes.items())
        )
    return {name: rows for name, (rows, _) in found.items()}, kinds.pop()[1]


def _rows(values: Any, shape: Shape, name: str) -> tuple[Array, bool]:
    try:
        rows = np.array(values)  # a copy: the argument may be read-only
    except ValueError:  # lists of different lengths
        rows = np.array(None)
    if rows.dtype.kind not in "biuf":
        hint = "; env.reset() returns (observation, info)" if isinstance(values, tuple) else ""
        raise ValueError(f"expected an observation{name} of numbers, got {show(values)}{hint}")
    is_single = rows.shape == shape
    if not is_single and (rows.ndim == 0 or rows.shape[1:] != shape):
        raise ValueError(
            f"expected an observation{name} of shape {shape} or a batch of them, "
            f"got shape {rows.shape}"
        )
    if rows.dtype == np.float64:
        rows = rows.astype(np.float32)
    if rows.dtype.kind == "f" and not np.isfinite(rows).all():
        raise ValueError(f"expected an observation{name} of finite numbers, got nan or inf")
    return np.ascontiguousarray(rows[None] if is_single else rows), is_single
