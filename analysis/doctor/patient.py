"""What the doctor looks at: environments, an untrained agent, and what it played."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium
import torch
from gymnasium.vector import VectorEnv
from jaxtyping import Bool
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from agents.agent import Agent
from envs.seeding import environment_seeds
from envs.vector.failures import in_one_line
from networks.observations import Observations, map_observations
from training.building.build import build_agent_for
from training.building.environments import build_environments, with_values
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
        observations: of `STEPS` steps of `COLUMNS` environments, as the untrained agent plays.
        is_first: other first steps for the same observations: two in every column.
    """

    config: DictConfig
    agent: Agent
    environments: VectorEnv[Any, Any, Any]
    singles: Sequence[gymnasium.Env[Any, Any]]
    observations: Observations
    is_first: Bool[Tensor, "T B"]


Check = Callable[[Patient], Iterator[str]]
"""Yields what is wrong and the remedy; the doctor tells the first of it."""


def admit(config: DictConfig) -> Patient:
    """Build everything in this process and play a few steps.

    Raises:
        ValueError: the environment cannot be made, or the networks do not fit it.
    """
    chosen = config.agent
    small = {key: min(value, chosen[key]) for key, value in _SMALL.items() if key in chosen}
    merged = DictConfig(OmegaConf.merge(config, {"agent": small}))
    config = with_values(merged, env={"vectorization": "sync", "num_envs": COLUMNS})
    singles = build_environments(config, num_envs=3).unwrapped.envs  # type: ignore[attr-defined]
    environments = build_environments(config, num_envs=COLUMNS)
    agent = build_agent_for(config, environments)
    seeds = environment_seeds(config.seed, COLUMNS, purpose="doctor")
    played = Collector(environments, rollout_length=STEPS, seeds=seeds).collect(agent)
    shown = played.to(agent.device).step_observations
    steps, starts = torch.arange(STEPS)[:, None], 5 + 3 * torch.arange(COLUMNS)
    is_first = ((steps == 0) | (steps == starts)).to(agent.device)
    return Patient(config, agent, environments, singles, shown, is_first)


def row_of(patient: Patient, step: int) -> Any:
    """Return the observations of a step as acting gets them."""
    return map_observations(lambda part: part[step].cpu().numpy(), patient.observations)


def examine(patient: Patient, checks: Sequence[Check]) -> Iterator[tuple[str, str | None]]:
    """Run checks; yield each one's name and problem, such as an error in the user's code."""
    for check in checks:
        name = check.__name__.replace("_", " ")
        try:
            yield name, next(check(patient), None)
        except Exception as error:
            yield name, in_one_line(error)
