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
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neurl_guard import shadowed

if (_message := shadowed(Path(__file__).parent)) is not None:
    raise ImportError(_message)

from conf.schema.layout import PREFIX
from training.process.machine import configure_torch

if TYPE_CHECKING:
    from analysis.curves import Frame
    from neurl_command import VERSION as __version__
    from training.building.environments import Source as Environment
    from training.evaluation.evaluation import Evaluation
    from training.evaluation.policy import Policy
    from training.evaluation.restore import load_policy as load
    from training.runs.callbacks import Callback, TrainingProgress
    from training.runs.fit import build, fit
    from training.tracking.trackers import TrackedRun, Tracker

configure_torch()

__all__ = ["Callback", "Environment", "Evaluation", "Policy", "TrainingProgress"]
__all__ += ["TrackedRun", "Tracker", "__version__", "build", "fit", "load", "results"]

_PLACES = {
    "Callback": "training.runs.callbacks:Callback",
    "Environment": "training.building.environments:Source",
    "Evaluation": "training.evaluation.evaluation:Evaluation",
    "Policy": "training.evaluation.policy:Policy",
    "TrackedRun": "training.tracking.trackers:TrackedRun",
    "Tracker": "training.tracking.trackers:Tracker",
    "TrainingProgress": "training.runs.callbacks:TrainingProgress",
    "__version__": "neurl_command:VERSION",
    "build": "training.runs.fit:build",
    "fit": "training.runs.fit:fit",
    "load": "training.evaluation.restore:load_policy",
    "main": "neurl_command:main",  # of the `neurl` command
}


def __dir__() -> list[str]:
    return __all__


if not TYPE_CHECKING:
    # In a wheel, every import of ours executes this file, and the command line is refused before
    # torch is imported.
    def __getattr__(name: str) -> Any:
        if name not in _PLACES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        module, _, own = _PLACES[name].partition(":")
        globals()[name] = found = getattr(import_module(f"{PREFIX}{module}"), own)
        return found


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
    from analysis.curves import curve_table  # not all who train need TensorBoard's format

    return curve_table(places, tags)
