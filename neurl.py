"""The Python interface: the same YAML and overrides as the command line.

policy = neurl.load("runs/.../20260101-120000-seed0")
action = policy.predict(observation)

policy = neurl.build("agent=ppo", "memory=gru", env=my_env)
neurl.fit(policy, my_env, env_steps=50_000)

table = neurl.results("runs/**", tags=["evaluation/return"])
"""

from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import gymnasium

from neurl_guard import shadowed

if (_message := shadowed(Path(__file__).parent)) is not None:
    raise ImportError(_message)

from conf.composing.command_line import has_key as _has_key
from conf.composing.command_line import load as _configure
from training.evaluation.policy import Policy
from training.evaluation.restore import load_policy
from training.runs.fit import build_policy, teach

if TYPE_CHECKING:
    from analysis.results import Frame

__all__ = ["Policy", "build", "fit", "load", "results"]

Environment = gymnasium.Env[Any, Any] | Callable[[], gymnasium.Env[Any, Any]]
"""One environment, or a function that makes each of `env.num_envs`."""


def load(
    run: str | Path,
    *,
    checkpoint: Literal["last", "best"] = "last",
    device: str = "cpu",
    trusted_packages: Sequence[str] = (),
) -> Policy:
    """Load the policy of a run; see `Policy.predict`.

    Args:
        trusted_packages: packages of your own whose classes the run may name.

    Raises:
        ValueError: there is no such run, or it cannot be loaded.
    """
    if checkpoint not in ("last", "best"):
        raise ValueError(f"checkpoint={checkpoint!r}: expected 'last' or 'best'")
    return load_policy(
        Path(run), checkpoint=checkpoint, device=device, trusted_packages=trusted_packages
    )


def build(*overrides: str, env: Environment | None = None) -> Policy:
    """Build an untrained policy from overrides, for the configured environment or for `env`.

    A single environment means `env.num_envs=1`, and `agent.num_minibatches=1` (for agents with
    minibatches), unless overridden.

    Raises:
        ValueError: with every problem of the overrides, one per line.
    """
    if not all(isinstance(override, str) for override in overrides):
        raise ValueError(f"expected words such as 'memory=gru', got {overrides!r}")
    words = list(overrides)
    if isinstance(env, gymnasium.Env):
        given = {override.partition("=")[0] for override in overrides}
        single = {"env.num_envs", "agent.num_minibatches"} - given
        words += [f"{key}=1" for key in sorted(single) if _has_key(overrides, key)]
    return build_policy(_configure(words), env)


def fit(
    policy: Policy,
    env: Environment | None = None,
    *,
    env_steps: int,
    total_env_steps: int | None = None,
) -> float | None:
    """Train a policy for at least `env_steps` more steps, in this process, without a run directory.

    Args:
        total_env_steps: of all calls together, at which schedules and epsilon end; None: they end
            with this call.

    Returns:
        Mean return of the last 100 episodes; None if none ended.
    """
    if not isinstance(policy, Policy):
        raise ValueError(f"policy: expected what neurl.build or neurl.load returns, got {policy!r}")
    if not isinstance(env_steps, int) or env_steps < 1:
        raise ValueError(f"env_steps={env_steps!r}: expected an integer, at least 1")
    if not (total_env_steps is None or (isinstance(total_env_steps, int) and total_env_steps > 0)):
        raise ValueError(
            f"total_env_steps={total_env_steps!r}: expected None or an integer above 0"
        )
    return teach(policy, env, env_steps=env_steps, end=total_env_steps)


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
