"""The Python interface: the same YAML and overrides as the command line.

policy = neurl.load("runs/.../20260101-120000-seed0")
action = policy.predict(observation)

policy = neurl.build("agent=ppo", memory="gru", env=my_env)
neurl.fit(policy, my_env, 50_000)
print(policy.evaluate(my_env, episodes=20))
policy.save("my_policy")

table = neurl.results("runs/**", tags=["evaluation/return"])
"""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from neurl_guard import shadowed

if (_message := shadowed(Path(__file__).parent)) is not None:
    raise ImportError(_message)

from training.building.environments import Source as Environment
from training.evaluation.evaluation import Evaluation
from training.evaluation.policy import Policy
from training.evaluation.restore import load_policy as load
from training.runs.callbacks import Callback, TrainingProgress
from training.runs.fit import build, fit
from training.tracking.trackers import TrackedRun, Tracker

if TYPE_CHECKING:
    from analysis.results import Frame

__all__ = ["Callback", "Environment", "Evaluation", "Policy", "TrainingProgress"]
__all__ += ["TrackedRun", "Tracker", "build", "fit", "load", "results"]


def __dir__() -> list[str]:
    return __all__


def results(
    places: str | Sequence[str] = "runs/**", tags: Collection[str] | None = None
) -> "Frame":
    """Read the curves of runs into one table: a row for each point of each scalar.

    Args:
        places: directories, or patterns such as `runs/CartPole-v1*/**`.
        tags: which scalars, such as `evaluation/return`; None: all.

    Returns:
        A pandas data frame with the columns `run`, `environment`, `seed`, the keys of the
        configuration in which the runs differ, `tag`, `env_steps`, `seconds` and `value`. Without
        pandas, a numpy array with these fields. Damaged runs and files are told in warnings.

    Raises:
        ValueError: there are no runs.
    """
    from analysis.results import results as table  # not all who train need TensorBoard's format

    return table(places, tags)
