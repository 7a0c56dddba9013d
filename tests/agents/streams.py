"""Streams of experience whose observations say where they are from, with a log of all of it."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from agents.replay.ring import Column, StepLayout, arrays_of
from agents.trajectory import Trajectory

ENDS = ("terminated", "truncated", "both")


class Stream:
    """What B environments give, step after step; every observation is (environment, episode, t).

    Args:
        end: probability that a step ends an episode, in one of three ways; 1 is one-step episodes.
        lives: probability that it ends an episode of the stream alone: no stack is filled anew.
        size: of stacks, that are emitted in place of observations; 0 is none.
        stride: between the states that are logged: before step t the state is (t, environment).
    """

    def __init__(
        self,
        num_envs: int,
        *,
        seed: int = 0,
        end: float = 0.2,
        lives: float = 0.0,
        size: int = 0,
        stride: int = 1,
        parts: bool = False,
    ) -> None:
        self.num_envs, self.end, self.lives, self.stride = num_envs, end, lives, stride
        self.size, self.parts = size, parts
        self.generator = np.random.default_rng(seed)
        self.episode = np.zeros(num_envs, int)
        self.age = np.zeros(num_envs, int)
        self.ended: list[str | None] = [None] * num_envs
        self.frames = [[self._frame(i)] * max(size, 1) for i in range(num_envs)]
        self.log: dict[str, list[Any]] = {
            name: [] for name in ("actions", "rewards", "terminated", "truncated")
        }
        self.log["observations"] = [self._shown()]
        self.log["is_first"] = [np.ones(num_envs, bool)]
        self.begun = 0

    def _frame(self, index: int) -> np.ndarray:
        return np.array([index, self.episode[index] % 256, self.age[index] % 256], np.uint8)

    def _shown(self) -> np.ndarray:
        """`[B, size, 3]` in stacks, `[B, 3]` otherwise."""
        stacks = np.array([frames[-self.size :] for frames in self.frames])
        return stacks if self.size else stacks[:, -1]

    def _begin(self, index: int, *, fills: bool) -> None:
        self.episode[index] += 1
        self.age[index] = 0
        if fills:
            self.frames[index] = [self._frame(index)] * max(self.size, 1)
        else:
            self._append(index)

    def _append(self, index: int) -> None:
        self.frames[index] = [*self.frames[index][1:], self._frame(index)]

    def _step(self) -> None:
        log, draw = self.log, self.generator
        is_first = np.zeros(self.num_envs, bool)
        flags = np.zeros((2, self.num_envs), bool)
        for index in range(self.num_envs):
            ended, self.ended[index] = self.ended[index], None
            if ended:
                self._begin(index, fills=ended != "life")
                is_first[index] = True
                continue
            self.age[index] += 1
            self._append(index)
            if draw.random() < self.end:
                self.ended[index] = kind = str(draw.choice(ENDS))
                flags[:, index] = kind != "truncated", kind != "terminated"
            elif draw.random() < self.lives:
                self.ended[index] = "life"
                flags[0, index] = True
        log["actions"].append(draw.integers(0, 300, self.num_envs))
        log["rewards"].append(draw.random(self.num_envs, dtype=np.float32))
        log["terminated"].append(flags[0])
        log["truncated"].append(flags[1])
        log["is_first"].append(is_first)
        log["observations"].append(self._shown())

    def restart(self, chosen: np.ndarray) -> None:
        """Begin anew in the place of the newest observation, as after an inexact resume.

        The log says what the stream then has to say: nothing is known of where the last step led.
        """
        log = self.log
        for index in np.flatnonzero(chosen):
            self.ended[index] = None
            self._begin(index, fills=True)
            if log["is_first"][-1][index]:
                continue
            log["is_first"][-1][index] = True
            if self.begun:
                log["terminated"][-1][index] = log["truncated"][-1][index] = False
            if self.begun > 1 and not log["terminated"][-2][index]:
                log["truncated"][-2][index] = True
        log["observations"][-1] = self._shown()

    def fail(self, chosen: np.ndarray) -> None:
        """Begin anew in the step that comes, without an end before it."""
        for index in np.flatnonzero(chosen):
            if self.ended[index] is None:
                self.ended[index] = "failed"
                if self.begun:
                    self.log["truncated"][-1][index] = True

    def collect(self, steps: int) -> tuple[Trajectory, torch.Tensor]:
        """Take steps; return them with the states before those on the stride."""
        first, log = self.begun, self.log
        for _ in range(steps):
            self._step()
        self.begun += steps

        def taken(name: str, more: int = 0) -> torch.Tensor:
            return torch.from_numpy(np.array(log[name][first : first + steps + more]))

        trajectory = Trajectory(
            observations=self.named(taken("observations", 1)),
            is_first=taken("is_first", 1),
            actions=taken("actions"),
            rewards=taken("rewards"),
            terminated=taken("terminated"),
            truncated=taken("truncated"),
            state=torch.zeros(self.num_envs, 2),
        )
        kept = [t for t in range(first, first + steps) if t % self.stride == 0]
        states = [[[t, index] for index in range(self.num_envs)] for t in kept]
        return trajectory, torch.tensor(states, dtype=torch.float32).reshape(-1, self.num_envs, 2)

    def layout(self, *, keeps_state: bool = False) -> StepLayout:
        """How its steps are stored."""
        name = "camera" if self.parts else ""
        stacks = {name: self.size} if self.size else {}
        shown = self.named(torch.from_numpy(self._shown()))
        parts = {
            part: Column(rows.shape[1 + (part in stacks) :], rows.dtype)
            for part, rows in arrays_of(shown).items()
        }
        return StepLayout(parts, stacks, Column((), np.dtype(np.int32)), 2 * keeps_state)

    def named(self, observations: torch.Tensor) -> Any:
        """As they are emitted: as one tensor, or in parts of several dtypes."""
        if not self.parts:
            return observations
        newest = observations[..., -1, :] if self.size else observations
        return {
            "camera": observations,
            "code": newest[..., 2].long(),
            "vector": newest.float() / 7,
        }

    def check(self, window: Trajectory, starts: np.ndarray, *, origin: int = 0) -> None:
        """Compare windows with the log, bit for bit."""
        steps, environments = np.divmod(starts, self.num_envs)
        steps = steps - origin
        length = len(window.rewards)
        assert steps.min() >= 0
        assert steps.max() + length <= self.begun

        def logged(name: str, rows: int) -> torch.Tensor:
            log = self.log[name]
            columns = [
                np.array([log[step + row][index] for row in range(rows)])
                for step, index in zip(steps, environments, strict=True)
            ]
            return torch.from_numpy(np.stack(columns, 1))

        expected: Mapping[str, Any] = {
            "observations": self.named(logged("observations", length + 1)),
            "is_first": logged("is_first", length + 1),
            **{
                name: logged(name, length)
                for name in ("actions", "rewards", "terminated", "truncated")
            },
        }
        for name, value in expected.items():
            found = getattr(window, name)
            pairs = value if isinstance(value, dict) else {"": value}
            for part, one in pairs.items():
                other = found[part] if part else found
                assert other.dtype == one.dtype
                assert other.shape == one.shape
                assert torch.equal(other, one), (name, part)
