"""Collects the stream: steps vector environments with an agent into preallocated storage."""

import bisect
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from agents.agent import Agent
from agents.learning.behaviour import Behaviour
from agents.trajectory import Trajectory
from envs.interface import Environments
from envs.seeding import environment_seeds, reset_with_seeds
from envs.vector.base import SlotVectorEnv
from envs.vector.batch import shown
from envs.vector.snapshot import Restorable
from networks import ranks
from networks.mirror import Array, array_of
from networks.observations import parts_of
from training.stream.episodes import (
    Abandoned,
    Episode,
    EpisodeCounter,
    InvalidExperience,
    State,
)
from training.stream.storage import StepRow, Storage, put

Tensors = Mapping[str, Tensor]


def own_seeds(seed: int, num_envs: int, *, purpose: str, index: int) -> list[int]:
    """Return the seeds of this rank's environments, which follow those of the ranks before it."""
    seeds = environment_seeds(seed, num_envs * ranks.size(), purpose=purpose, index=index)
    return seeds[num_envs * ranks.rank() :][:num_envs]


class Lives:
    """Detects environments that lost a life in a step while the game continues.

    Environments report remaining lives in `infos["lives"]`, as Atari does.

    Attributes:
        left: remaining lives, `[B]`.
    """

    def __init__(self, num_envs: int, infos: Mapping[str, Any]) -> None:
        """Read the lives reported by a reset.

        Raises:
            ValueError: it reported none.
        """
        if "lives" not in infos:
            raise ValueError(
                "env.life_loss=true: the environments tell no lives in their info; "
                "use env.life_loss=false"
            )
        self.left = np.zeros(num_envs, np.int64)
        self.lost(infos)

    def lost(self, infos: Mapping[str, Any]) -> Array:
        """Read one step of every environment; return where a life was lost, `[B]`."""
        lives = np.asarray(infos.get("lives", self.left))
        # Single environments also give a mask: a failed one reports nothing.
        left = np.where(infos.get("_lives", True), lives, self.left)
        has_lost = left < self.left
        self.left = left.astype(np.int64)
        return np.asarray(has_lost)

    def forget(self, chosen: Array) -> None:
        """Reset the environments where `chosen [B]` is True: another game started."""
        self.left[chosen] = 0


class Curriculum:
    """Changes arguments of training's environments as the run goes on.

    An environment is made again at its first reset after a change; its running episode ends as it
    began. After the last stage it is the configured one, which is evaluated throughout.

    Attributes:
        stage: index of the current stage.
    """

    def __init__(self, environments: Environments, stages: Sequence[Mapping[str, Any]]) -> None:
        """Try each stage's arguments.

        Args:
            stages: of `env.curriculum`: `until` as environment steps of the run, and `kwargs`.

        Raises:
            ValueError: an environment cannot be made with them, or has other spaces.
        """
        self._environments = cast("SlotVectorEnv", environments.unwrapped)
        self._ends = [stage["until"] for stage in stages]
        self._changes = [*(stage["kwargs"] for stage in stages), {}]
        self.stage: int | None = None
        for index, changes in enumerate(self._changes[:-1]):
            try:
                self._environments.try_changes(changes)
            except ValueError as error:
                raise ValueError(f"env.curriculum[{index}]: {error}") from error

    def update(self, env_steps: int) -> None:
        """Tell the environments when a stage begins."""
        stage = bisect.bisect_right(self._ends, env_steps)
        if stage != self.stage:
            self.stage = stage
            self._environments.change(self._changes[stage])

    def forget(self) -> None:
        """Tell the environments again at the next update: they were restored."""
        self.stage = None


class Collector:
    """Steps environments with an agent, `rollout_length` steps at a time.

    The environments run with Gymnasium's `NEXT_STEP` autoreset: the step after an episode's end
    only resets, and is marked by `is_first` on the observation that it leads to. The memory's state
    and running episodes carry over from one trajectory to the next.

    Attributes:
        env_steps: valid steps taken so far, over all environments.
        episodes: episodes that the latest trajectory finished.
        seconds: of the latest trajectory, by phase (`environment`, `acting`).
        trajectory: the latest; None before the first.
        counter: of the running episodes.
        should_abandon: called before every step; True abandons the trajectory.
        tells_masks: whether infos have masks of legal actions.
        explores: whether actions are sampled; otherwise the most probable ones are taken.
        behaves: whether an agent's behaviour policy acts in its place, where there is one.
    """

    def __init__(
        self,
        environments: Environments,
        rollout_length: int,
        seeds: Sequence[int],
        *,
        life_loss: bool = False,
        curriculum: Curriculum | None = None,
    ) -> None:
        """Allocate storage and reset every environment with its seed.

        Args:
            curriculum: of the environments, at its first stage.
            life_loss: whether a lost life ends an episode of the stream while the game continues.
                The step after it is then marked like a reset step; its reward only enters the
                score.

        Raises:
            ValueError: the environments have no lives.
        """
        self.environments, self.env_steps = environments, 0
        self.explores = self.behaves = True
        self.curriculum = curriculum
        self.episodes: list[Episode] = []
        self.trajectory: Trajectory | None = None
        self.seconds: dict[str, float] = {}
        self.should_abandon: Callable[[], bool] = lambda: False
        first, infos = reset_with_seeds(environments, seeds)
        self.tells_masks = "action_mask" in infos
        num_envs = environments.num_envs
        self._lives = Lives(num_envs, infos) if life_loss else None
        self._storage = Storage(rollout_length, first)
        self._storage.open(first, is_first=True)
        self._ended = np.zeros(num_envs, dtype=bool)  # episodes of the stream
        self.counter = EpisodeCounter(environments)
        self._state: Array | None = None
        self._is_between = True  # and not in the middle of a trajectory

    @property
    def restarts(self) -> int:
        """Number of environments that failed and were restarted."""
        unwrapped = self.environments.unwrapped
        return unwrapped.restarts if isinstance(unwrapped, SlotVectorEnv) else 0

    def collect(self, agent: Agent) -> Trajectory:
        """Take `rollout_length` steps in every environment.

        The trajectory is a view of storage that the next call overwrites.

        Raises:
            InvalidExperience: a reward or observation was not finite.
            Abandoned: `should_abandon` returned True.
        """
        storage = self._storage
        player = (agent.behaviour if self.behaves else None) or agent
        storage.rewind()
        storage.allocate_actions(player.policy_head)
        if self._state is None:
            self._state = player.initial_state(self.environments.num_envs)
        before, self._is_between = self._state, False
        self._state = self._play(player, before)
        own = before if player is agent else before[:, : agent.actor.memory.state_size]
        self.trajectory = trajectory = storage.trajectory(state=own)
        if not storage.is_finite:
            _refuse_non_finite(trajectory)
        self.env_steps += storage.valid_steps
        self._is_between = True
        return trajectory

    def _play(self, player: Agent | Behaviour, state: Array) -> Array:
        """Step to the end of the trajectory; return the memory's state there, `[B, S]`."""
        counter, clock, explores = self.counter, time.perf_counter, self.explores
        act, to_environment = player.act, player.policy_head.to_environment
        step_environments, should_abandon = self.environments.step, self.should_abandon
        self.episodes = []
        acting = stepping = 0.0
        for step, row in enumerate(self._storage.rows):
            if should_abandon():
                raise Abandoned
            started = clock()
            actions, state = act(row.observations, state, row.is_first, explore=explores)
            sent = to_environment(actions)
            acted = clock()
            observations, rewards, terminated, truncated, infos = step_environments(sent)
            stepped = clock()
            acting += acted - started
            stepping += stepped - acted
            row.action[...] = actions
            put(row.next_observations, observations)
            row.reward[...] = rewards
            ended = is_over = terminated | truncated
            if np.count_nonzero(is_over):  # seldom; the flags of a new trajectory are False
                row.terminated[...] = terminated
                row.truncated[...] = truncated
            self.episodes += counter.add(rewards, is_over, infos)
            if self._lives is not None:
                ended = is_over | self._end_lives(row, self._lives.lost(infos) & ~is_over)
            if "restarted" in infos:
                self._cut(step, infos["restarted"])
            # After an episode's end, this step's observation starts the next episode.
            row.next_is_first[...] = self._ended
            self._ended = ended
        self.seconds = {"environment": stepping, "acting": acting}
        return state

    def _end_lives(self, row: StepRow, has_lost: Array) -> Array:
        """End episodes of the stream at a lost life; return where.

        The step after a lost life starts the next episode. Like a reset step it is not learnt
        from, and ends nothing unless the game is over.
        """
        row.reward[self._ended] = 0.0
        ends = has_lost & ~self._ended
        row.terminated[ends] = True
        return ends

    def _cut(self, step: int, restarted: Array) -> None:
        """Turn the step at which environments failed into their reset step.

        The episodes end one step earlier, at their last observation: truncated, not terminated.
        """
        self.counter.forget(restarted)
        if self._lives is not None:
            self._lives.forget(restarted)
        if step > 0:
            self._storage.rows[step - 1].truncated[restarted & ~self._ended] = True
        self._ended = self._ended | restarted

    def state_dict(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return everything that the next trajectory depends on, as tensors and plain Python.

        Call it between trajectories: if collecting was interrupted, the environments are ahead of
        everything else, and will restart.
        """
        unwrapped = self.environments.unwrapped
        snapshots = None
        if isinstance(unwrapped, Restorable) and self._is_between:
            snapshots = unwrapped.snapshot()
        tensors = {"is_first": self._storage.is_first[-1]}
        if self._state is not None:
            tensors["memory"] = torch.from_numpy(self._state)
        return tensors, {
            "env_steps": self.env_steps,
            "ended": self._ended.tolist(),
            "lives": None if self._lives is None else self._lives.left.tolist(),
            "episodes": self.counter.state_dict(),
            "environments": snapshots,
        }

    def load_state_dict(self, tensors: Tensors, state: State, *, seed: int) -> list[bool]:
        """Resume from a saved state; tell which environments are restored exactly.

        Any other starts a new episode, whose first observation opens the next trajectory. The
        stream stays valid, but differs from an uninterrupted run.

        Args:
            seed: of the run; seeds environments without a saved state.
        """
        environments, storage = self.environments, self._storage
        if self.curriculum is not None:
            self.curriculum.update(state["env_steps"])  # of those that are not restored
            self.curriculum.forget()
        unwrapped = environments.unwrapped
        if isinstance(unwrapped, Restorable) and state["environments"] is not None:
            exact = np.array(unwrapped.restore(state["environments"]))
            current = unwrapped.current_observations()
        else:
            size = environments.num_envs
            exact, index = np.zeros(size, dtype=bool), state["env_steps"]
            seeds = own_seeds(seed, size, purpose="resume", index=index)
            current, _ = reset_with_seeds(environments, seeds)
        storage.open(current, tensors["is_first"] | torch.from_numpy(~exact))
        self.env_steps = state["env_steps"]
        self._ended = np.array(state["ended"]) & exact
        # Without `life_loss` both are the same.
        if self._lives is not None:
            self._lives.left[:] = state["lives"]
            self._lives.forget(~exact)
        self.counter.load_state_dict(state["episodes"])
        self.counter.forget(~exact)
        self._state = array_of(tensors["memory"]).copy() if "memory" in tensors else None
        return [bool(is_exact) for is_exact in exact]


def _refuse_non_finite(trajectory: Trajectory) -> None:
    """Refuse non-finite values from a vector environment that does not check them."""
    # An observation's row is one ahead of the step that led to it; the first came with a reset.
    ahead = [("observation", rows, 1) for rows in parts_of(trajectory.observations)]
    for name, rows, lead in (("reward", trajectory.rewards, 0), *ahead):
        if not rows.is_floating_point() or rows.isfinite().all():
            continue
        row, environment, *_ = (~rows.isfinite()).nonzero()[0].tolist()
        step, when = row - lead, "at its reset"
        if step >= 0:
            action = trajectory.actions[step, environment].tolist()
            place = f"at step {step} of the rollout, " if len(trajectory.rewards) > 1 else ""
            when = f"{place}after action {action}"
        raise InvalidExperience(
            f"environment {environment} sent a {name} that is not finite "
            f"({shown(rows[row, environment].tolist())}) {when}; mend it or wrap it (env.wrappers)"
        )
