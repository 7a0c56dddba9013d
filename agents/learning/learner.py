"""What every learner has: the step from a trajectory to gradient steps, and what it is told."""

from abc import ABC, abstractmethod
from typing import Any

from torch import Tensor, nn

from agents.replay.replay import Replay
from agents.trajectory import Trajectory


class Learner(nn.Module, ABC):
    """Turns trajectories into gradient steps.

    Attributes:
        replay: the replay buffer; None for learning from rollouts.
    """

    replay: Replay | None = None

    @abstractmethod
    def learn(self, agent: Any, trajectory: Trajectory) -> dict[str, Tensor]:
        """Take the gradient steps that are due; return metrics by TensorBoard tag."""

    def renew(self) -> None:
        """Rebuild what refers to the parameters, after modules were moved, copied or unfrozen."""

    def weights_replaced(self) -> None:
        """Sync target networks after weights were loaded."""

    def begin_anew(self) -> None:
        """Count steps and updates from 0: those of loaded weights filled another replay buffer."""
