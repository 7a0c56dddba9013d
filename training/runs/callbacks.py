"""Callbacks of `neurl.fit`: they look at training as it goes on, and may stop it."""

from typing import NamedTuple

from training.evaluation.evaluation import Evaluation
from training.stream.loop import Iteration


class TrainingProgress(NamedTuple):
    """What a callback is told.

    Attributes:
        env_steps: that the policy was trained for, over all environments and calls.
        return_mean: of the last 100 episodes of training; None before the first one ends.
        iteration: the round of collecting and learning that has ended: its episodes, its seconds,
            and the metrics of `learn` by TensorBoard tag. None in `on_evaluation`.
        evaluation: the latest; None before the first, and without `run_dir`.
    """

    env_steps: int
    return_mean: float | None
    iteration: Iteration | None
    evaluation: Evaluation | None = None


class Callback:
    """Override one method, or both. Training ends early if one returns False."""

    def on_iteration(self, progress: TrainingProgress) -> bool | None:
        """Called after each round of collecting and learning."""

    def on_evaluation(self, progress: TrainingProgress) -> bool | None:
        """Called after each evaluation, of which a call with `run_dir` has some."""
