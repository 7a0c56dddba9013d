"""Masks of legal actions, which travel with observations as a share that only policies read.

Observations are a flat Dict then (`envs.wrappers.privileged`), in which
`networks.observations.mask_of` finds the mask.
"""

from typing import Any

import gymnasium
import numpy as np
from gymnasium import Space, spaces
from gymnasium.utils import RecordConstructorArgs
from gymnasium.vector import VectorEnv, VectorWrapper
from gymnasium.vector.utils import batch_space
from gymnasium.wrappers import FilterObservation, StickyAction

from envs.interface import Array, Environment, Info, Opening, Step, layers
from envs.spaces import parts_of
from envs.wrappers.privileged import Shares
from envs.wrappers.sensors import StickyActions

ACTION_MASK = "action_mask."
"""Name of the mask among the parts of an observation."""
_MISSING = (
    "the environment tells no mask, neither in info['action_mask'] nor by a method action_masks(); "
    "use env.action_mask=false"
)
_KEY, _METHOD, _PART = "action_mask", "action_masks", "actor.action_mask"


def sample_action(space: Any, mask: Array | None) -> Any:
    """Draws a random action from a space; a legal one, if there is a mask."""
    if mask is None:
        return space.sample()
    options = np.split(mask, np.cumsum(_counts(space))[:-1])
    choices = [space.np_random.choice(np.flatnonzero(each)) for each in options]
    return (np.reshape(choices, space.shape) + space.start).astype(space.dtype)


def _counts(space: Any) -> Array:
    """Number of options of each choice."""
    return np.ravel(space.n if isinstance(space, spaces.Discrete) else space.nvec)


def _joined(told: Any, dimensions: int) -> Array:
    """Copies a mask of so many dimensions to booleans, choices one after another.

    Raises:
        ValueError: its rows have different lengths, but are none of choices.
    """
    try:
        # A list may be one of choices, or the mask itself.
        found = {np.ndim(each) for each in told} if isinstance(told, tuple | list) else set()
        return np.array(np.concatenate(told, -1) if found == {dimensions} else told, np.bool_)
    except ValueError as error:
        raise ValueError(f"env.action_mask=true: the mask is no array: {error}") from error


class Masks:
    """Reads masks, and joins them to observations, of one environment or of a batch.

    A mask has an entry for each action, or for each option of each choice, one choice after
    another. It is a part `action_mask` of the observation, which is left out there, or told apart.

    Attributes:
        space: of the joined observation of one environment.

    Raises:
        ValueError: the actions are neither Discrete nor MultiDiscrete, or nothing else is seen.
    """

    def __init__(self, seen: Space[Any], actions: Space[Any]) -> None:
        if not isinstance(actions, spaces.Discrete | spaces.MultiDiscrete):
            raise ValueError(
                "env.action_mask=true: expected a Discrete or MultiDiscrete action space, got "
                f"{actions}; use env.action_mask=false"
            )
        counts = _counts(actions)
        self._starts, self._size = np.cumsum(counts) - counts, int(counts.sum())
        # Beside a twin's share, the policy's has its name already.
        has_shares = isinstance(seen, spaces.Dict) and any("." in name for name in seen)
        self._shares = None if has_shares else Shares(actor=seen)
        parts: Any = seen if self._shares is None else self._shares.space
        kept = {name: part for name, part in parts.items() if name != _PART}
        if not kept:
            raise ValueError("env.action_mask=true: observations need a part beside the mask")
        mask = spaces.Box(0, 1, (self._size,), np.bool_)  # type: ignore[arg-type]
        self.space = spaces.Dict({**kept, ACTION_MASK: mask})

    def __call__(self, observation: Any, told: Any, is_over: Any) -> dict[str, Any]:
        """Joins an observation and its mask.

        Args:
            told: the mask `[*B, M]`, a tuple or a list of one for each choice, or None.
            is_over: whether the episode has ended, `[*B]`: a mask without a legal action means
                nothing there.

        Raises:
            ValueError: there is no mask, it has another size, or it leaves no action.
        """
        parts = dict(observation) if self._shares is None else self._shares(actor=observation)
        mask = parts.pop(_PART, told)
        return {**parts, ACTION_MASK: self.legal(mask, is_over)}

    def legal(self, told: Any, is_over: Any) -> Array:
        """Converts a mask to booleans `[*B, M]`, as `__call__`."""
        shape = (*np.shape(is_over), self._size)
        legal = np.zeros(shape, np.bool_) if told is None else _joined(told, len(shape))
        if legal.shape != shape:
            raise ValueError(
                f"env.action_mask=true: expected a mask of {self._size} entries, one for each "
                f"action (for each option of each choice), got the shape {legal.shape}"
            )
        is_open = np.logical_or.reduceat(legal, self._starts, axis=-1)  # [*B, D]
        if is_open.all():
            return legal
        has_any = is_open.all(-1)
        if not np.all(has_any | is_over):
            problem = _MISSING if told is None else "the mask leaves no legal action"
            raise ValueError(f"env.action_mask=true: {problem}")
        legal[~has_any] = True
        return legal


def mask_apart(env: Environment) -> Environment:
    """Takes a mask out of observations, if it is one of their parts."""
    names = parts_of(env.observation_space).keys()
    return MaskPart(env, [name for name in names if name != _KEY]) if {_KEY} < names else env


class MaskPart(FilterObservation[Any, Any, Any]):
    """Tells the part `action_mask` by a method instead: nothing above can hide or stack it."""

    def observation(self, observation: Any) -> Any:
        """Returns the other parts."""
        self._mask = observation[_KEY]
        return super().observation(observation)

    def action_masks(self) -> Any:
        """Returns the mask of the latest observation."""
        return self._mask


class ActionMask(gymnasium.Wrapper[Any, Any, Any, Any], RecordConstructorArgs):
    """Shows legal actions beside what the policy sees; the outermost wrapper.

    The environment tells them by its method `action_masks()`, or else in its infos.

    Raises:
        ValueError: a wrapper repeats actions, which may be illegal by then.
    """

    def __init__(self, env: Environment) -> None:
        RecordConstructorArgs.__init__(self)
        super().__init__(env)
        if any(isinstance(layer, StickyActions | StickyAction) for layer in layers(env)):
            raise ValueError("env.action_mask=true: sticky actions may be illegal; leave them out")
        self._masks = Masks(env.observation_space, env.action_space)
        self.observation_space = self._masks.space
        self._has_method = env.has_wrapper_attr(_METHOD)

    def reset(self, *, seed: int | None = None, options: Info | None = None) -> Opening:
        """Starts an episode."""
        observation, info = self.env.reset(seed=seed, options=options)
        return self._masks(observation, self._told(info), False), info

    def step(self, action: Any) -> Step:
        """Steps; nothing is legal or illegal where the episode has terminated."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        told = None if terminated else self._told(info)
        seen = self._masks(observation, told, terminated or truncated)
        return seen, reward, terminated, truncated, info

    def _told(self, info: Info) -> Any:
        return self.env.get_wrapper_attr(_METHOD)() if self._has_method else info.get(_KEY)


class VectorActionMask(VectorWrapper[Any, Any, Any, Any, Any]):
    """Shows legal actions, as `ActionMask`, in a vector environment.

    It has the method `action_masks()`, or each single one of it (`SyncVectorEnv.call`).
    """

    def __init__(self, env: VectorEnv[Any, Any, Any]) -> None:
        super().__init__(env)
        self._masks = Masks(env.single_observation_space, env.single_action_space)
        call: Any = getattr(env.unwrapped, "call", None)
        self._call = call if call and all(call("has_wrapper_attr", _METHOD)) else None
        self.single_observation_space = self._masks.space
        self.observation_space = batch_space(self._masks.space, env.num_envs)

    @property
    def unwrapped(self) -> Any:
        """This environment: the one below shows other observations when it is restored."""
        return self

    def reset(self, *, seed: int | None = None, options: Info | None = None) -> Opening:
        """Starts every episode."""
        observations, infos = self.env.reset(seed=seed, options=options)
        return self._masks(observations, self._told(infos), np.zeros(self.num_envs, bool)), infos

    def step(self, actions: Any) -> tuple[Any, Array, Array, Array, dict[str, Any]]:
        """Steps every episode."""
        observations, rewards, terminated, truncated, infos = self.env.step(actions)
        seen = self._masks(observations, self._told(infos), terminated | truncated)
        return seen, rewards, terminated, truncated, infos

    def _told(self, infos: dict[str, Any]) -> Any:
        if self._call is not None:
            return [_joined(mask, 1) for mask in self._call(_METHOD)]
        method = getattr(self.env, _METHOD, None)
        return infos.get(_KEY) if method is None else method()
