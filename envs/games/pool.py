"""EnvPool's environments (Weng et al. 2022, arXiv:2206.10558): in C++, stepped by threads.

Importing this module registers each of them as `envpool/<Id>`, as a native vector environment.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import envpool
from gymnasium.envs.registration import register, registry
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from envs.interface import Array
from envs.wrappers.frame_stack import mark_stack

for _id in envpool.list_all_envs():
    _ours = f"envpool/{_id.replace('/', '-')}"
    if _ours not in registry:
        register(
            id=_ours,
            vector_entry_point=f"{__name__}:PooledEnvironments",
            kwargs={"task": _id},
        )


_OF_THE_POOL = (
    "num_envs", "batch_size", "num_threads", "thread_affinity_offset", "base_path", "seed",
    "env_seed", "gym_reset_return_info", "max_episode_steps", "max_num_players", "stack_num",
)  # fmt: skip
"""Options that have a key of their own, or are no choice."""


class PooledEnvironments(VectorEnv[Any, Any, Any]):
    """Several environments of one task in one pool.

    EnvPool takes seeds when a pool is made, so a reset with seeds makes a new one.

    Attributes:
        takes_seeds: each environment has its own seed.

    Args:
        task: EnvPool's id.
        num_threads: that step environments; 0 for one per core.
        options: of the task, such as `{"episodic_life": True}` for Atari.
        max_episode_steps: steps after which an episode is truncated; None for the task's own.
        frame_stack: number of stacked frames, of tasks that stack frames.

    Raises:
        ValueError: the task has no such option.
    """

    takes_seeds = True
    metadata: dict[str, Any] = {"autoreset_mode": AutoresetMode.NEXT_STEP}  # noqa: RUF012

    def __init__(
        self,
        num_envs: int,
        task: str,
        *,
        num_threads: int,
        options: Mapping[str, Any],
        max_episode_steps: int | None = None,
        frame_stack: int = 1,
    ) -> None:
        known = envpool.make_spec(task).config._fields
        _check(task, [key for key in known if key not in _OF_THE_POOL], options, num_threads)
        asked: dict[str, Any] = {"num_threads": num_threads, **options}
        if max_episode_steps is not None:
            asked["max_episode_steps"] = max_episode_steps
        if "stack_num" in known:
            asked["stack_num"] = frame_stack
        elif frame_stack > 1:
            raise ValueError(f"env.frame_stack={frame_stack}: {task} stacks no frames")
        if frame_stack > 1 and not options.get("gray_scale", True):
            raise ValueError("env.frame_stack: only grey frames are stacked here; set it to 1")
        self._make = partial(envpool.make_gymnasium, task, num_envs=num_envs, **asked)
        self._pool = self._make()
        self.num_envs = num_envs
        self.single_observation_space: Any = self._pool.single_observation_space
        self.single_action_space = self._pool.single_action_space
        if frame_stack > 1:
            mark_stack(self.single_observation_space, frame_stack)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)

    def reset(
        self, *, seed: int | Sequence[int] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Starts every episode; a single seed means `seed`, `seed + 1`, ..."""
        del options  # EnvPool has none
        if isinstance(seed, int):
            seed = range(seed, seed + self.num_envs)
        if seed is not None:
            self._pool.close()
            self._pool = self._make(env_seed=list(seed))
        return self._pool.reset()

    def step(self, actions: Array) -> tuple[Any, Array, Array, Array, dict[str, Any]]:
        """Steps every environment or, where the episode has ended, resets it."""
        return self._pool.step(actions)

    def close_extras(self, **kwargs: Any) -> None:
        """Ends the threads."""
        self._pool.close()


def _check(task: str, known: list[str], options: Mapping[str, Any], num_threads: int) -> None:
    """Refuse what would end the process in C++, without a message."""
    for key in set(options) - set(known):
        raise ValueError(f"env.kwargs.options: {task} has no {key}, only {', '.join(known)}")
    if num_threads < 0:
        raise ValueError(f"env.kwargs.num_threads={num_threads}: expected at least 0")
