"""Replay buffer: stores each step once and samples windows as trajectories."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from agents.replay.chunks import Chunk, chunks_of, restore
from agents.replay.frame_stacks import FrameStacks, mark_cuts
from agents.replay.ring import Ring, StepLayout, arrays_of, in_words
from agents.replay.samplers import Sampler
from agents.trajectory import Trajectory
from networks.mirror import Array


class Sample(NamedTuple):
    """N windows of W steps.

    Attributes:
        window: time-major, `[W, N]`, with W + 1 observations. Its `state` is the one stored before
            each window, `[N, 0]` if states are not stored.
        weights: importance weights with a maximum of 1; None with uniform sampling.
        starts: int64 `[N]`, `step * num_envs + environment` of each window's start, with steps
            counted from the start of the run. They identify windows in `Replay.update`.
        newest: number of the next step, counted as in `starts`.
        state_after: the state stored `state_horizon` steps after each window's start; NaN where it
            is not known yet. None if no state is stored there.
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
    """The latest `buffer_size` environment steps of B environments, in a ring buffer.

    Observations, actions, rewards, end flags and memory states are in CPU memory, each once and in
    its own dtype. Only the newest frame of a frame stack is stored. Memory is allocated when the
    first trajectory arrives. A window is W consecutive steps of one environment. It may span
    episodes, but never wraps from the newest step to the oldest nor includes unwritten steps.

    Args:
        layout: of the steps.
        buffer_size: environment steps, summed over environments; `conf.checking.lengths` says which
            hold a window and a trajectory.
        window_length: W, `burn_in + sequence_length + n_step - 1`.
        stride: windows start at multiples of it, where states are stored; 1 means at every step.
        valid_step: step of a window, counted from its start, that is never a reset step; None for
            no such condition.
        state_horizon: steps from a window's start to `Sample.state_after`.

    Attributes:
        cursor: number of the next step; states are stored before multiples of the stride.
        uses_priorities: whether sampling is prioritised; otherwise `update` does nothing.

    Source: Kapturowski et al. (2019), "Recurrent experience replay in distributed reinforcement
    learning", section 3 (stored states, burn-in).
    """

    def __init__(
        self,
        layout: StepLayout,
        *,
        buffer_size: int,
        num_envs: int,
        window_length: int,
        stride: int,
        valid_step: int | None,
        state_horizon: int,
        sampler: Sampler,
    ) -> None:
        self._buffer_size, self._num_envs = buffer_size, num_envs
        self._window_length, self._stride = window_length, stride
        self._capacity = buffer_size // num_envs // stride * stride  # steps of each environment
        self._valid_step, self._state_horizon = valid_step, state_horizon
        self._layout, self._stacks = layout, FrameStacks(layout.frame_stacks)
        self._sampler, self.uses_priorities = sampler, sampler.uses_priorities
        self._ring: Ring | None = None
        # The first step: the rows before it hold the frames of its stack.
        self._origin = -(-self._stacks.history // stride) * stride
        self.cursor = self._origin
        self._offsets = (np.arange(window_length + 1) * num_envs)[:, None]

    @property
    def num_steps(self) -> int:
        """Environment steps stored, summed over environments."""
        return (self.cursor - self._oldest) * self._num_envs

    @property
    def num_windows(self) -> int:
        """Number of windows that can be sampled."""
        return self._sampler.num_windows

    @property
    def _num_rows(self) -> int:
        """Rows for the stored steps, the newest observation, and the frames of the oldest stack."""
        rows = self._capacity + 1 + self._stacks.history
        return -(-rows // self._stride) * self._stride

    @property
    def _oldest(self) -> int:
        return max(self._origin, self.cursor - self._capacity)

    @property
    def predicted_bytes(self) -> int:
        """The memory in bytes that the full ring takes."""
        rows, layout = self._num_rows * self._num_envs, self._layout
        each = 4 * layout.state_size + self._sampler.window_bytes
        return rows * layout.step_bytes + int(rows // self._stride * each)

    def refuse_too_large(self, *, available: int | None) -> None:
        """Refuse a replay that does not fit into memory, before it is allocated.

        Args:
            available: free memory in bytes; None if unknown.

        Raises:
            ValueError: it does not fit; names the estimate and the largest `buffer_size` that fits.
        """
        size, needed, step = self._buffer_size, self.predicted_bytes, self._layout.step_bytes
        if available is None or needed <= available:
            return
        fits = available * size // needed
        fits -= fits % 10 ** max(0, len(str(fits)) - 2)  # two significant digits
        raise ValueError(
            f"agent.buffer_size={size} takes {in_words(needed)} ({step:,} bytes for each "
            f"step), and {in_words(available)} of memory are free; use "
            f"agent.buffer_size={fits} or less"
        )

    def add(self, trajectory: Trajectory, states: Float[Tensor, "K B S"] | None) -> None:
        """Append a trajectory, which starts where the last one ended.

        If an environment restarted in between, the end of its episode was never reported. The
        episode is then truncated one step earlier, at the last observation known to belong to it,
        and the step whose next observation was never seen becomes the reset step.

        Args:
            states: memory states before the steps that are multiples of the stride, counted from
                `cursor`; None if states are not stored.
        """
        num_steps = len(trajectory.rewards)
        parts, is_first = arrays_of(trajectory.observations), trajectory.arrays["is_first"]
        ring, step, stacks, refilled = self._ring, self.cursor, self._stacks, None
        if ring is None:
            self._layout.refuse_other(parts)
            ring = self._allocate()
            stacks.begin(ring, step, parts)
        elif np.count_nonzero(is_first[:2]):
            self._retract(mark_cuts(ring, step, is_first, first_step=self._origin))
        if stacks.sizes:
            refilled, parts = stacks.refilled(ring, step, parts), stacks.newest(parts)
        ring.write(step, trajectory, parts, refilled)
        if self._layout.state_size:
            first, end = (-(-each // self._stride) for each in (step, step + num_steps))
            assert states is not None and len(states) == end - first, "one for each on the stride"
            ring.keep(first, states.numpy())
        self.cursor += num_steps
        self._advance(ring)

    def _allocate(self) -> Ring:
        rows, num_envs, stride = self._num_rows, self._num_envs, self._stride
        self._ring = Ring(self._layout, num_rows=rows, num_envs=num_envs, stride=stride)
        self._sampler.allocate(rows // stride * num_envs, self._origin // stride * num_envs)
        return self._ring

    def _retract(self, environments: Array) -> None:
        """Exclude the windows whose valid step is the last step, which became a reset step."""
        if self._valid_step is None or self._window_length != self._valid_step + 1:
            return  # the sampler does not have these windows yet
        number, remainder = divmod(self.cursor - self._window_length, self._stride)
        if len(environments) and not remainder:
            self._sampler.retract(number * self._num_envs + environments)

    def _advance(self, ring: Ring) -> None:
        """Update the sampler's range of windows."""
        sampler, stride, num_envs = self._sampler, self._stride, self._num_envs
        first = -(-self._oldest // stride)
        end = max(first, (self.cursor - self._window_length) // stride + 1)
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
        """Sample windows with replacement.

        Args:
            importance_exponent: beta of the importance weights; 1 corrects the bias fully.
        """
        ring, num_envs, stride = self._ring, self._num_envs, self._stride
        assert ring is not None, "steps are added first"
        numbers, weights = self._sampler.draw(
            batch_size, generator, importance_exponent=importance_exponent
        )
        # Windows are numbered like steps, without those between multiples of the stride.
        starts = numbers
        if stride > 1:
            starts = numbers + numbers // num_envs * ((stride - 1) * num_envs)
        rows = (starts + self._offsets) % ring.size  # [W + 1, N]
        state, after = torch.empty(batch_size, 0), None
        if self._layout.state_size:
            state = torch.from_numpy(ring.states_at(numbers))
            after = self._states_after(ring, numbers)
        rebuilt = self._stacks.rebuild(ring, rows) if self._stacks.sizes else {}
        window = ring.window(rows, state, rebuilt)
        return Sample(window, weights, starts, self.cursor * num_envs, after)

    def _states_after(self, ring: Ring, numbers: Array) -> Tensor | None:
        strides, remainder = divmod(self._state_horizon, self._stride)
        if remainder:
            return None
        later = numbers + strides * self._num_envs
        states = ring.states_at(later)
        states[later // self._num_envs * self._stride >= self.cursor] = np.nan
        return torch.from_numpy(states)

    def update(self, starts: Array, priorities: Float[Tensor, " N"]) -> None:
        """Update the priorities of windows, given by `Sample.starts`.

        Windows that were overwritten and priorities that are not finite are ignored.
        """
        steps, environments = np.divmod(starts, self._num_envs)
        numbers = steps // self._stride * self._num_envs + environments
        self._sampler.update(numbers, priorities.numpy())

    def state_dict(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return the small state that is not in `chunks`, as tensors and JSON values."""
        state = {"cursor": self.cursor}
        if self._ring is None:
            return {}, state
        tensors, sampler = self._sampler.state_dict()
        return tensors, {**state, "sampler": sampler}

    def chunks(self) -> dict[str, Callable[[], Chunk]]:
        """Return the stored chunks: name to a function that reads the chunk.

        Chunks named `steps-<...>` are complete: a checkpoint that has one need not save it again.
        The functions return copies and must be called before the next `add`.
        """
        return {} if self._ring is None else chunks_of(self._ring, **self._rows)

    def load(
        self, tensors: Mapping[str, Tensor], state: Mapping[str, Any], chunks: Mapping[str, Chunk]
    ) -> None:
        """Restore a saved state exactly.

        Args:
            chunks: at least those of `chunks` when the state was saved. They are read one at a
                time, so that they need not be in memory together.

        Raises:
            ValueError: chunks are missing.
        """
        self.cursor = state["cursor"]
        if self.cursor == self._origin:
            return
        ring = self._allocate()
        restore(ring, chunks, **self._rows)
        self._advance(ring)
        self._sampler.load_state_dict(tensors, state["sampler"])

    @property
    def _rows(self) -> dict[str, int]:
        """Bounds of the ring's rows: the oldest, the first that is a step, the newest."""
        first = self._oldest - self._stacks.history
        return {"first": first, "first_step": self._origin, "newest": self.cursor}
