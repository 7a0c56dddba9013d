"""What the doctor looks at: environments, an untrained agent, and what it played."""

import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium
import torch
from gymnasium.vector import VectorEnv
from jaxtyping import Bool
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from agents.agent import Agent
from agents.trajectory import Trajectory
from envs.seeding import environment_seeds
from networks.observations import Observations, map_observations
from training.building.build import build_agent_for
from training.building.environments import build_environments
from training.evaluation.restore import with_env
from training.stream.collect import Collector

STEPS, COLUMNS = 24, 4
_SMALL = {
    "learning_starts": 64,
    "buffer_size": 5_000,
    "batch_size": 16,
    "num_minibatches": COLUMNS,
    "rollout_length": 32,
}
"""Values of the agent that a check cannot wait for."""


@dataclass(frozen=True)
class Patient:
    """The configured parts, small.

    Attributes:
        singles: environments of the same configuration, with their wrappers, unused so far.
        trajectory: of the untrained agent, `STEPS` steps of `COLUMNS` environments.
        is_first: random first steps for the same observations, in every column at other steps.
    """

    config: DictConfig
    agent: Agent
    environments: VectorEnv[Any, Any, Any]
    singles: Sequence[gymnasium.Env[Any, Any]]
    trajectory: Trajectory
    is_first: Bool[Tensor, "T B"]

    @property
    def observations(self) -> Observations:
        """Observations of the trajectory's steps, on the agent's device."""
        device = self.agent.device
        return map_observations(lambda part: part.to(device), self.trajectory.step_observations)


Check = Callable[[Patient], str | None]
"""Returns what is wrong and the remedy; None if nothing is."""


def admit(config: DictConfig) -> Patient:
    """Build everything in this process and play a few steps.

    Raises:
        ValueError: the environment cannot be made, or the networks do not fit it.
    """
    small = {key: value for key, value in _SMALL.items() if key in config.agent}
    small = {key: min(value, config.agent[key]) for key, value in small.items()}
    merged = DictConfig(OmegaConf.merge(config, {"agent": small}))
    config = with_env(merged, vectorization="sync", num_envs=COLUMNS)
    singles = build_environments(config, num_envs=3).unwrapped.envs  # type: ignore[attr-defined]
    environments = build_environments(config, num_envs=COLUMNS)
    agent = build_agent_for(config, environments)
    seeds = environment_seeds(config.seed, COLUMNS, purpose="doctor")
    played = Collector(environments, rollout_length=STEPS, seeds=seeds).collect(agent)
    is_first = torch.zeros(STEPS, COLUMNS, dtype=torch.bool)
    for column in range(COLUMNS):
        is_first[[0, 5 + 3 * column], column] = True
    return Patient(config, agent, environments, singles, played, is_first.to(agent.device))


@dataclass(frozen=True)
class Finding:
    """The result of one check; `problem` is None if all is well."""

    name: str
    problem: str | None


def examine(patient: Patient, checks: dict[str, Check]) -> Iterator[Finding]:
    """Run checks; an error in the user's code is a finding, with its place."""
    for name, check in checks.items():
        try:
            yield Finding(name, check(patient))
        except Exception as error:
            yield Finding(name, f"{type(error).__name__}: {error} ({_place(error)})")


def _place(error: BaseException) -> str:
    """Return file and line of the innermost code that is neither ours nor a library's."""
    frames = traceback.extract_tb(error.__traceback__)
    root = Path(__file__).parents[2]
    ours = tuple(
        str(root / name) for name in ("agents", "analysis", "envs", "networks", "training")
    )
    theirs = [
        frame
        for frame in frames
        if "site-packages" not in frame.filename and not frame.filename.startswith(ours)
    ]
    last = (theirs or frames)[-1]
    return f"{last.filename}:{last.lineno}"
