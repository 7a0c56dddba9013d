"""Replay: the stream is stored once, and drawn in windows of the type that collection yields."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from agents.replay.chunks import Chunk, chunks_of, layout_of, restore
from agents.replay.frame_stacks import FrameStacks, mark_cuts
from agents.replay.ring import (
    Ring,
    StepLayout,
    arrays_of,
    as_trajectory,
    refuse_too_large,
)
from agents.replay.samplers import Sampler
from agents.trajectory import Trajectory
from networks.mirror import Array


@dataclass(frozen=True)
class Sample:
    """N windows of W steps.

    Attributes:
        window: time-major, `[W, N]`, with W + 1 observations. Its `state` is the one that was kept
            before each window, zeros where none is kept.
        weights: importance weights, of which the largest is 1; None when drawn uniformly.
        starts: int64 `[N]`, `step * num_envs + environment` of each window's start in the order of
            collection; `Replay.update` knows the windows by them, however late it is called.
        newest: number of the next step, counted as `starts` are.
        state_after: the state that was kept `state_horizon` steps after each window's start; NaN
            where that is not yet known. None where none is kept there.
    """

    window: Trajectory
    weights: Float[Tensor, " N"] | None
    starts: Array
    newest: int
    state_after: Float[Tensor, "N S"] | None

    @property
    def age(self) -> Float[Tensor, ""]:
        """Mean number of environment steps since the windows' starts, over all environments."""
        return torch.tensor(self.newest - float(self.starts.mean()))


class Replay:
    """The latest `buffer_size` environment steps of B environments, as one ring in time.

    Observations, actions, rewards, ends and the memory's states lie in CPU memory, each once and in
    its own dtype; of stacks of frames only the newest frame. It is allocated when the first
    trajectory arrives. A window is W consecutive steps of one environment: it never reaches over
    the newest step to the oldest, nor to what was not written yet, and may span episodes.

    Args:
        buffer_size: environment steps, over all environments.
        window_length: W, `burn_in + sequence_length + n_step - 1`.
        stride: windows start at its multiples, where states are kept; 1 is anywhere.
        valid_step: step of a window that never only resets, counted from its start; None for any.
        state_horizon: steps after a window's start of the second state that a sample holds.
        frame_stacks: size of each part of an observation that is a stack; "" is an observation
            without parts.
        keeps_state: whether the memory's states are kept.

    Attributes:
        uses_priorities: whether `update` changes anything.

    Raises:
        ValueError: the buffer is too small for a window.

    Source: Kapturowski et al. (2019), "Recurrent experience replay in distributed reinforcement
    learning", section 3 (stored states, burn-in).
    """

    def __init__(
        self,
        *,
        buffer_size: int,
        num_envs: int,
        window_length: int,
        stride: int,
        valid_step: int | None,
        state_horizon: int,
        frame_stacks: Mapping[str, int],
        keeps_state: bool,
        sampler: Sampler,
    ) -> None:
        self._buffer_size, self._num_envs = buffer_size, num_envs
        self._window_length, self._stride = window_length, stride
        self._capacity = buffer_size // num_envs // stride * stride  # steps of each environment
        needed = -(-(window_length + stride - 1) // stride) * stride
        if self._capacity < needed:
            raise ValueError(
                f"agent.buffer_size={buffer_size}: {buffer_size // num_envs} steps of each of "
                f"{num_envs} environments hold no window of {window_length} (burn_in + "
                f"sequence_length + n_step - 1) at every {stride} steps; use "
                f"agent.buffer_size={needed * num_envs} or more"
            )
        self._valid_step = valid_step
        self._state_horizon, self._keeps_state = state_horizon, keeps_state
        self._stacks = FrameStacks(frame_stacks)
        self._sampler, self.uses_priorities = sampler, sampler.uses_priorities
        self._state_size = 0
        self._ring: Ring | None = None
        # The first step: before it lie the frames that its stack is made of.
        self._origin = -(-self._stacks.history // stride) * stride
        self._cursor = self._origin
        self._offsets = (np.arange(window_length + 1) * num_envs)[:, None]

    @property
    def cursor(self) -> int:
        """Number of the step that comes next; states are kept before multiples of the stride."""
        return self._cursor

    @property
    def num_steps(self) -> int:
        """Environment steps that are held, over all environments."""
        return (self._cursor - self._oldest) * self._num_envs

    @property
    def num_windows(self) -> int:
        """How many windows can be drawn."""
        return self._sampler.num_windows

    @property
    def _num_rows(self) -> int:
        """Beside the steps that are kept the newest observation, and the oldest one's stack."""
        rows = self._capacity + 1 + self._stacks.history
        return -(-rows // self._stride) * self._stride

    @property
    def _oldest(self) -> int:
        return max(self._origin, self._cursor - self._capacity)

    def predicted_bytes(self, layout: StepLayout) -> int:
        """Say how much memory steps of this layout will take, once the ring is full."""
        rows = self._num_rows * self._num_envs
        state_bytes = 4 * layout.state_size if self._keeps_state else 0
        each = state_bytes + self._sampler.window_bytes
        return rows * layout.step_bytes + int(rows // self._stride * each)

    def refuse_too_large(self, layout: StepLayout, *, available: int | None) -> None:
        """Refuse to take more memory than there is, before any is allocated.

        Args:
            layout: of the steps that will come (`StepLayout.of_spaces`).
            available: bytes of memory that are free; None where that is not known.

        Raises:
            ValueError: with the estimate and the largest `buffer_size` that fits.
        """
        refuse_too_large(
            buffer_size=self._buffer_size,
            needed=self.predicted_bytes(layout),
            step_bytes=layout.step_bytes,
            available=available,
        )

    def add(self, trajectory: Trajectory, states: Float[Tensor, "K B S"] | None) -> None:
        """Append a trajectory, which begins where the last one ended.

        An environment that began anew in between, which nothing announced, is marked as cut: its
        last episode ends truncated one step earlier, with the last observation that is known to
        belong to it, and the step that led to what was never seen becomes the one that resets.

        Args:
            states: memory before those of its steps that lie on the stride, counted from `cursor`;
                None where none is kept.

        Raises:
            ValueError: it has more steps than there is room for, or stacks that are none.
        """
        num_steps = len(trajectory.rewards)
        if num_steps > self._capacity:
            each = self._stride * self._num_envs
            raise ValueError(
                f"agent.buffer_size: {self._capacity} steps of each environment are kept, fewer "
                f"than the {num_steps} that are collected at once (agent.train_frequency); use "
                f"agent.buffer_size={-(-num_steps // self._stride) * each} or more"
            )
        parts, is_first = arrays_of(trajectory.observations), trajectory.is_first.numpy()
        ring, step, stacks, refilled = self._ring, self._cursor, self._stacks, None
        if ring is None:
            ring = self._allocate(StepLayout.of(trajectory, stacks.sizes))
            stacks.begin(ring, step, parts)
        elif is_first[:2].any():
            self._retract(mark_cuts(ring, step, is_first, first_step=self._origin))
        if stacks.sizes:
            refilled, parts = stacks.refilled(ring, step, parts), stacks.newest(parts)
        ring.write(step, trajectory, parts, refilled)
        if self._keeps_state:
            first, end = (-(-each // self._stride) for each in (step, step + num_steps))
            assert states is not None and len(states) == end - first, "one for each on the stride"
            ring.keep(first, states.numpy())
        self._cursor += num_steps
        self._advance(ring)

    def _allocate(self, layout: StepLayout) -> Ring:
        self._state_size = layout.state_size
        self._ring = Ring(
            layout,
            num_rows=self._num_rows,
            num_envs=self._num_envs,
            stride=self._stride,
            keeps_state=self._keeps_state,
        )
        windows = self._num_rows // self._stride * self._num_envs
        self._sampler.allocate(windows, self._origin // self._stride * self._num_envs)
        return self._ring

    def _retract(self, environments: Array) -> None:
        """Draw no more the windows of the last step, which became one that only resets."""
        if self._valid_step is None or self._window_length != self._valid_step + 1:
            return  # the windows that read it as their valid step are not known yet
        number, remainder = divmod(self._cursor - self._window_length, self._stride)
        if len(environments) and not remainder:
            self._sampler.retract(number * self._num_envs + environments)

    def _advance(self, ring: Ring) -> None:
        """Tell the sampler which windows there are now."""
        sampler, stride, num_envs = self._sampler, self._stride, self._num_envs
        first = -(-self._oldest // stride)
        end = max(first, (self._cursor - self._window_length) // stride + 1)
        known = max(sampler.end // num_envs, first)
        if self._valid_step is None:
            is_drawable = np.ones((end - known) * num_envs, np.bool_)
        else:
            after = np.arange(known, end) * stride + self._valid_step + 1
            is_drawable = ~ring.fields["is_first"][after % ring.num_rows].reshape(-1)
        sampler.advance(first * num_envs, end * num_envs, is_drawable)

    def sample(
        self, batch_size: int, generator: np.random.Generator, *, importance_exponent: float
    ) -> Sample:
        """Draw windows, with replacement.

        Args:
            importance_exponent: how much of the bias of prioritised drawing the weights undo.

        Raises:
            ValueError: there is none yet.
        """
        ring, num_envs, stride = self._ring, self._num_envs, self._stride
        if ring is None or not self._sampler.num_windows:
            raise ValueError(
                f"agent.learning_starts: there is no window of {self._window_length} steps yet"
            )
        numbers, weights = self._sampler.draw(
            batch_size, generator, importance_exponent=importance_exponent
        )
        # Windows are numbered as steps are, but for those between two multiples of the stride.
        starts = numbers
        if stride > 1:
            starts = numbers + numbers // num_envs * ((stride - 1) * num_envs)
        rows = (starts + self._offsets) % ring.size  # [W + 1, N]
        records, stacks, after = ring.gather(rows), self._stacks, None
        parts = ring.observed(rows, records, but=stacks.sizes)
        if stacks.sizes:
            parts |= stacks.rebuild(ring, rows)
        if self._keeps_state:
            state = torch.from_numpy(ring.states_at(numbers))
            after = self._states_after(ring, numbers)
        else:
            state = torch.zeros(batch_size, self._state_size)
        window = as_trajectory(records, parts, state)
        return Sample(window, weights, starts, self._cursor * num_envs, after)

    def _states_after(self, ring: Ring, numbers: Array) -> Tensor | None:
        strides, remainder = divmod(self._state_horizon, self._stride)
        if remainder or not self._state_size:
            return None
        later = numbers + strides * self._num_envs
        states = ring.states_at(later)
        states[later // self._num_envs * self._stride >= self._cursor] = np.nan
        return torch.from_numpy(states)

    def update(self, starts: Array, priorities: Float[Tensor, " N"]) -> None:
        """Take new priorities of windows, by `Sample.starts`.

        Ignored for windows that are no longer held and for priorities that are not finite.
        """
        steps, environments = np.divmod(starts, self._num_envs)
        numbers = steps // self._stride * self._num_envs + environments
        self._sampler.update(numbers, priorities.numpy())

    def state_dict(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return what is not in `chunks`, as tensors and as plain Python: it is small."""
        state = {"cursor": self._cursor, "state_size": self._state_size}
        if self._ring is None:
            return {}, state
        tensors, sampler = self._sampler.state_dict()
        return tensors, {**state, "sampler": sampler}

    def chunks(self) -> dict[str, Callable[[], Chunk]]:
        """Name the pieces of the stream that are held; each is read when it is called.

        Most of them are `steps-<...>`: of such a name a checkpoint that has it needs no second
        copy. What is read is a copy, to be saved before the next `add`.
        """
        return {} if self._ring is None else chunks_of(self._ring, **self._rows)

    def load(
        self, tensors: Mapping[str, Tensor], state: Mapping[str, Any], chunks: Mapping[str, Chunk]
    ) -> None:
        """Go on from a saved state, exactly.

        Args:
            chunks: at least those that `chunks` named as the state was saved. They are asked for
                one after another, so that they need not be in memory together.

        Raises:
            ValueError: some are missing.
        """
        self._cursor, self._state_size = state["cursor"], state["state_size"]
        if self._cursor == self._origin:
            return
        first = next(iter(chunks.values()), None)
        if first is None:
            raise ValueError("the replay's steps are missing")
        ring = self._allocate(layout_of(first, state_size=self._state_size))
        restore(ring, chunks, **self._rows)
        self._advance(ring)
        self._sampler.load_state_dict(tensors, state["sampler"])

    @property
    def _rows(self) -> dict[str, int]:
        """The rows that the ring is made of: the oldest, the first that is a step, the newest."""
        first = self._oldest - self._stacks.history
        return {"first": first, "first_step": self._origin, "newest": self._cursor}
