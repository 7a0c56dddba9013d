"""Atari games in ale-py's vector version: emulated and resized in C++ threads."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from ale_py.vector_env import AtariVectorEnv
from gymnasium import spaces
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space

from envs.interface import Array
from envs.wrappers.frame_stack import mark_stack

Frames = npt.NDArray[np.uint8]

_NEVER = 2**30  # frames


class AtariGames(AtariVectorEnv):
    """Several environments of one game, with the observations of `AtariGame`, stacked.

    ale-py fills the stack of a new episode with black frames. Here the first frame fills it, as in
    every other frame stack of this project.

    Attributes:
        takes_seeds: each environment has its own seed.

    Args:
        max_episode_steps: steps after which an episode is truncated; None for never.
        frame_stack: number of stacked frames; 1 does not stack.
    """

    takes_seeds = True

    def __init__(
        self,
        num_envs: int,
        game: str,
        *,
        frame_skip: int,
        sticky_actions: float,
        max_noops: int,
        fire_on_reset: bool,
        all_actions: bool,
        size: int,
        num_threads: int,
        max_episode_steps: int | None = None,
        frame_stack: int = 1,
    ) -> None:
        super().__init__(
            game,
            num_envs,
            num_threads=num_threads,
            max_num_frames_per_episode=(max_episode_steps or _NEVER // frame_skip) * frame_skip,
            repeat_action_probability=sticky_actions,
            full_action_space=all_actions,
            img_height=size,
            img_width=size,
            stack_num=frame_stack,
            frameskip=frame_skip,
            noop_max=max_noops,
            reward_clipping=False,  # rewards are raw scores; agents clip them for learning
            use_fire_reset=fire_on_reset,
        )
        self.metadata = {"autoreset_mode": AutoresetMode.NEXT_STEP}
        self._frame_stack = frame_stack
        shape = (frame_stack, size, size) if frame_stack > 1 else (size, size)
        self.single_observation_space = spaces.Box(0, 255, shape, np.uint8)
        if frame_stack > 1:
            mark_stack(self.single_observation_space, frame_stack)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self._ages = np.zeros(num_envs, np.int64)  # steps since the reset
        self._ended = np.zeros(num_envs, np.bool_)

    def reset(  # type: ignore[override]
        self, *, seed: int | Sequence[int] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Frames, dict[str, Any]]:
        """Starts every episode; a single seed means `seed`, `seed + 1`, ..."""
        each = seed if seed is None or isinstance(seed, int) else np.array(seed)
        observations: Any
        observations, infos = super().reset(seed=each, options=options)
        self._ages[:] = 0
        self._ended[:] = False
        return self._filled(observations), infos

    def step(self, actions: Array) -> tuple[Frames, Array, Array, Array, dict[str, Any]]:
        """Steps every environment or, where the episode has ended, resets it."""
        observations, rewards, terminated, truncated, infos = super().step(actions)
        self._ages += 1
        self._ages[self._ended] = 0
        self._ended = terminated | truncated
        return self._filled(observations), rewards, terminated, truncated, infos

    def _filled(self, observations: Frames) -> Frames:
        """Fills missing frames of a new episode with its first frame."""
        if self._frame_stack == 1:
            return observations[:, 0]
        for index in np.flatnonzero(self._ages < self._frame_stack - 1):
            first = self._frame_stack - 1 - self._ages[index]
            observations[index, :first] = observations[index, first]
        return observations
