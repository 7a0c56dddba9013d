"""What agents that learn from replay share: when to take gradient steps, and on what."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from agents.learning.sequences import Steps
from agents.trajectory import Trajectory
from networks.backbone import Backbone
from networks.observations import map_observations


@dataclass(frozen=True)
class Windows:
    """How replayed windows are read.

    Attributes:
        burn_in: steps that warm the memory up and are not learnt from.
        sequence_length: steps that are learnt from.
        stride: steps between the starts of windows.
        keeps_state: whether a window begins with the memory that acting had there.
    """

    burn_in: int
    sequence_length: int
    stride: int
    keeps_state: bool

    @property
    def learnt(self) -> slice:
        """The steps that are learnt from."""
        return slice(self.burn_in, self.burn_in + self.sequence_length)


class UpdateClock(nn.Module):
    """Says what is due after environment steps: gradient steps, copies of the target network.

    There are `replay_ratio` gradient steps for each environment step. Fractions are carried over,
    whatever the number of environments, and nothing is made up for: steps taken before learning
    started are not counted. Its counts travel in checkpoints, so that a run that goes on takes the
    steps that it would have taken.

    Args:
        learning_starts: environment steps before the first gradient step.
        replay_ratio: gradient steps per environment step.
        target_update_interval: environment steps between copies; None where there are none.
    """

    counts: Tensor

    def __init__(
        self, *, learning_starts: int, replay_ratio: float, target_update_interval: int | None
    ) -> None:
        """Start at nothing."""
        super().__init__()
        self._learning_starts, self._ratio = learning_starts, replay_ratio
        self._interval = target_update_interval
        # Environment steps so far and before learning started; gradient steps.
        self.register_buffer("counts", torch.zeros(3, dtype=torch.int64))

    def _apply(self, fn: Any, recurse: bool = True) -> "UpdateClock":
        """Stay in CPU memory: whoever asks is there, and would wait for a GPU."""
        return self

    @property
    def updates(self) -> int:
        """Gradient steps taken so far."""
        return int(self.counts[2])

    def advance(self, env_steps: int, *, is_ready: bool) -> tuple[int, bool]:
        """Count environment steps; return the gradient steps due and whether to copy before them.

        A copy is due where a multiple of the interval was reached. Several reached at once are one
        copy: the network has not changed in between.

        Args:
            is_ready: whether there is anything to learn from yet.
        """
        before, base, updates = self.counts.tolist()
        taken = before + env_steps
        if taken < self._learning_starts or not is_ready:
            base = taken
        # Against 3 * 0.1 < 0.3 and the like.
        due = math.floor((taken - base) * self._ratio + 1e-6)
        due = max(due, updates)
        self.counts.copy_(torch.tensor([taken, base, due]))
        every = self._interval
        return due - updates, every is not None and taken // every > before // every


@torch.no_grad()
def states_on_stride(
    backbone: Backbone, trajectory: Trajectory, *, first_step: int, stride: int
) -> Float[Tensor, "K B S"]:
    """Return the memory before those steps of a trajectory that lie on a stride.

    The weights have not moved since it was collected: reading it once more makes the states that
    acting had.

    Args:
        first_step: number of the trajectory's first step, counted from the beginning.
        stride: divides the length of trajectories, or is a multiple of it.
    """
    length = len(trajectory.rewards)
    if first_step % stride:
        return trajectory.state.new_zeros(0, *trajectory.state.shape)
    if stride >= length:
        return trajectory.state[None]
    _, states, _ = backbone.memory.unroll(
        backbone.features(trajectory.step_observations),
        trajectory.state,
        trajectory.is_first[:-1],
        sequence_length=stride,
    )
    return states


def sequence_priorities(
    errors: Float[Tensor, "L N"], valid: Bool[Tensor, "L N"], *, max_share: float
) -> Float[Tensor, " N"]:
    """Weigh the largest error of a sequence and their mean, over valid steps.

        p = share * max_t |delta_t| + (1 - share) * mean_t |delta_t|

    A single step's is its error. What is not finite counts as nothing: it is not drawn again.

    Source: Kapturowski et al. (2019), "Recurrent experience replay", section 2.3; Schaul et al.
    (2016), arXiv:1511.05952.
    """
    kept = torch.where(valid & errors.isfinite(), errors, 0.0)
    mean = kept.sum(0) / valid.sum(0).clamp(min=1)
    return max_share * kept.amax(0) + (1 - max_share) * mean


def warmed(backbone: Backbone, window: Trajectory, burn_in: int) -> Float[Tensor, "N S"]:
    """Read the first steps of windows for the memory they leave behind, without a gradient.

    Source: Kapturowski et al. (2019), section 3.
    """
    if not burn_in:
        return window.state
    with torch.no_grad():
        _, state = backbone.forward(
            map_observations(lambda part: part[:burn_in], window.observations),
            window.state,
            window.is_first[:burn_in],
        )
    return state


def learnt_steps(window: Trajectory, learnt: slice, *, needs_next: bool) -> Steps:
    """Cut out of windows what is learnt from."""
    following = slice(learnt.start + 1, learnt.stop + 1)
    observations = window.observations
    return Steps(
        observations=map_observations(lambda part: part[learnt], observations),
        next_observations=(
            map_observations(lambda part: part[following], observations) if needs_next else None
        ),
        is_first=window.is_first[learnt],
        actions=window.actions[learnt],
        valid=~window.is_first[following],
    )
