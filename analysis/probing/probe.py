"""Measures what a trained agent's networks hold of what its observations hide."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from agents.agent import Agent
from analysis.probing.readouts import READOUTS, chance, scores
from analysis.probing.recording import Recording, Target, record, rows_of
from analysis.probing.sensitivity import sensitivity
from analysis.runs import read_run
from networks.mirror import Array
from networks.observations import parts_of
from training.building.build import build_agent_for
from training.building.environments import build_environments
from training.evaluation.restore import load_agent
from training.process.threads import set_num_threads
from training.runs.refusal import Refusal

_HELD_OUT = 0.3
"""Share of the episodes that readouts are scored on."""
UNTRAINED = "untrained"


@dataclass(frozen=True)
class Probe:
    """Scores of readouts on held-out episodes, and sensitivity to the past.

    Attributes:
        scores: by readout and source, one number per target: R2, or accuracy for a choice.
        chance: scores of the best constant.
        sensitivity: by steps into the past.
        env_steps: of the run, when it was probed.
    """

    targets: list[Target]
    scores: dict[str, dict[str, list[float]]]
    chance: list[float]
    sensitivity: Array
    steps: int
    episodes: int
    env_steps: float

    def summary(self) -> dict[str, Any]:
        """Return plain numbers for `probe.json`."""
        return {
            "targets": [target.name for target in self.targets],
            "kinds": ["accuracy" if target.classes else "R2" for target in self.targets],
            "chance": self.chance,
            "scores": self.scores,
            "sensitivity": [None if np.isnan(look) else look for look in self.sensitivity.tolist()],
            "steps": self.steps,
            "held_out_episodes": self.episodes,
            "env_steps": self.env_steps,
        }


def probe_run(config: DictConfig) -> Probe:
    """Probe the run in `config.run`.

    Raises:
        Refusal: there is no such run, nothing is hidden, or too few episodes were played.
    """
    try:
        env_steps = read_run(Path(config.run)).env_steps
        run_config, agent = load_agent(
            Path(config.run),
            checkpoint=config.checkpoint,
            device=config.device,
            trusted_packages=config.trusted_packages,
        )
        set_num_threads(run_config.num_threads, agent)
        seed = run_config.seed if config.seed is None else config.seed
        environments = build_environments(run_config, num_envs=config.num_envs, for_acting=True)
        try:
            recording = record(
                agent,
                environments,
                steps=config.steps // config.num_envs,
                seed=seed,
                deterministic=config.deterministic,
            )
            fresh = DictConfig(OmegaConf.merge(run_config, {"seed": run_config.seed + 1}))
            untrained = build_agent_for(fresh, environments)
        finally:
            environments.close()
        untrained.actor.normalization.load_state_dict(agent.actor.normalization.state_dict())
        options = {"seed": seed, "noise": config.noise, "reach": config.reach}
        return probe(agent, untrained, recording, **options, env_steps=env_steps)
    except (ValueError, OSError, RuntimeError) as error:
        raise Refusal(f"run={config.run}: {error}", 2) from error


def probe(
    agent: Agent,
    untrained: Agent,
    recording: Recording,
    *,
    reach: int,
    seed: int,
    noise: float,
    env_steps: float,
) -> Probe:
    """Fit readouts of each source, and follow the policy's gradient into the past.

    Raises:
        ValueError: there are fewer than ten episodes.
    """
    fitted, held_out, episodes = _split(recording.is_first, seed)
    features, states = represent(agent, recording)
    read = agent.actor.rows(_on(agent, recording.observations))  # scaled, codes one-hot
    seen = [rows_of(part, batch_dims=1) for part in parts_of(read)]
    sources = {"observation": np.concatenate(seen, axis=1)}
    sources["features"] = rows_of(features)
    if states.shape[-1]:
        sources["memory"] = rows_of(states[1:])
    control = represent(untrained, recording)
    sources[UNTRAINED] = rows_of(control[1][1:] if states.shape[-1] else control[0])
    return Probe(
        recording.targets,
        {
            kind: {
                name: scores(readout, rows, recording.targets, fitted, held_out, noise)
                for name, rows in sources.items()
            }
            for kind, readout in READOUTS.items()
        },
        [chance(target, held_out) for target in recording.targets],
        sensitivity(agent, recording, states, reach=reach, seed=seed),
        recording.is_first.numel(),
        episodes,
        env_steps,
    )


@torch.no_grad()
def represent(agent: Agent, recording: Recording) -> tuple[Tensor, Tensor]:
    """Return features `[T, B, F]` and the memory's states `[T + 1, B, S]`, each before its step."""
    stream = agent.actor.features(_on(agent, recording.observations))
    memory, is_first = agent.actor.memory, recording.is_first.to(agent.device)
    state = memory.initial_state(is_first.shape[1]).to(agent.device)
    _, before, after = memory.unroll(stream, state, is_first, sequence_length=1)
    return stream, torch.cat([before, after[None]])


def _on(agent: Agent, stream: Any) -> Any:
    if isinstance(stream, dict):
        return {name: part.to(agent.device) for name, part in stream.items()}
    return stream.to(agent.device)


def _split(is_first: Tensor, seed: int) -> tuple[Array, Array, int]:
    """Return the rows of the episodes fitted, those of the others, and how many these are."""
    steps, batch = is_first.shape
    episodes = is_first.cumsum(0).numpy() * batch + np.arange(batch)
    names = np.unique(episodes)
    if len(names) < 10:
        raise ValueError(f"only {len(names)} episodes began in {steps * batch} steps: raise steps")
    chosen = np.random.default_rng(seed).permutation(names)[: round(_HELD_OUT * len(names))]
    is_out = np.isin(episodes, chosen).ravel()
    return np.flatnonzero(~is_out), np.flatnonzero(is_out), len(chosen)
