"""Measures what a trained agent's networks hold of what its observations hide."""

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from agents.agent import Agent
from analysis.probing.readouts import READOUTS, chance, scores
from analysis.probing.recording import Recording, record, rows_of
from analysis.probing.sensitivity import sensitivity
from analysis.runs import read_run
from networks.mirror import Array
from networks.observations import Observations, map_observations, parts_of
from training.building.build import build_agent_for
from training.building.environments import build_environments
from training.evaluation.restore import load_agent
from training.runs.refusal import Refusal

_HELD_OUT = 0.3
"""Share of the episodes that readouts are scored on."""
UNTRAINED = "untrained"


@dataclass(frozen=True)
class Probe:
    """Scores of readouts on held-out episodes, and sensitivity to the past, as `probe.json` has it.

    Attributes:
        targets: names of what is hidden.
        kinds: of each target's score: R2, or accuracy for a choice.
        chance: scores of the best constant.
        scores: by readout and source, one number per target.
        sensitivity: by steps into the past; None where no episode is as long.
        env_steps: of the run, when it was probed.
    """

    targets: list[str]
    kinds: list[str]
    chance: list[float]
    scores: dict[str, dict[str, list[float]]]
    sensitivity: list[float | None]
    steps: int
    held_out_episodes: int
    env_steps: float


def probe_run(config: DictConfig) -> Probe:
    """Probe the run in `config.run`.

    Raises:
        Refusal: there is no such run, nothing is hidden, or too few episodes were played.
    """
    run, num_envs = Path(config.run), config.num_envs
    try:
        env_steps = read_run(run).env_steps
        own = {key: config[key] for key in ("checkpoint", "device", "trusted_packages")}
        run_config, agent = load_agent(run, **own)
        how = {"seed": run_config.seed if config.seed is None else config.seed}
        how |= {"deterministic": config.deterministic, "steps": config.steps // num_envs}
        fresh = DictConfig(OmegaConf.merge(run_config, {"seed": run_config.seed + 1}))
        made = build_environments(run_config, num_envs=num_envs, for_acting=True)
        with closing(made) as environments:
            recording = record(agent, environments, **how)
            untrained = build_agent_for(fresh, environments)
        untrained.actor.normalization.load_state_dict(agent.actor.normalization.state_dict())
        return _probe(agent, untrained, recording, config, how["seed"], env_steps)
    except (ValueError, OSError, RuntimeError) as error:
        raise Refusal(f"run={config.run}: {error}", 2) from error


def _probe(
    agent: Agent, untrained: Agent, recording: Recording, config: DictConfig, seed: int, at: float
) -> Probe:
    """Fit readouts of each source, and follow the policy's gradient into the past.

    Raises:
        ValueError: there are fewer than ten episodes.
    """
    targets, (fitted, held_out, episodes) = recording.targets, _split(recording.is_first, seed)
    (features, states), control = represent(agent, recording), represent(untrained, recording)
    read = agent.actor.rows(_on(agent, recording.observations))  # scaled, codes one-hot
    seen = [rows_of(part, batch_dims=1) for part in parts_of(read)]
    sources = {"observation": np.concatenate(seen, axis=1), "features": rows_of(features)}
    if states.shape[-1]:
        sources["memory"] = rows_of(states[1:])
    sources[UNTRAINED] = rows_of(control[1][1:] if states.shape[-1] else control[0])
    looks = sensitivity(agent, recording, states, reach=config.reach, seed=seed).tolist()
    split, noise = (fitted, held_out), config.noise
    found = {
        kind: {name: scores(fit, rows, targets, *split, noise) for name, rows in sources.items()}
        for kind, fit in READOUTS.items()
    }
    return Probe(
        [target.name for target in targets],
        ["accuracy" if target.classes else "R2" for target in targets],
        [chance(target, held_out) for target in targets],
        found,
        [None if np.isnan(look) else look for look in looks],
        recording.is_first.numel(),
        episodes,
        at,
    )


@torch.no_grad()
def represent(agent: Agent, recording: Recording) -> tuple[Tensor, Tensor]:
    """Return features `[T, B, F]` and the memory's states `[T + 1, B, S]`, each before its step."""
    stream = agent.actor.features(_on(agent, recording.observations))
    memory, is_first = agent.actor.memory, recording.is_first.to(agent.device)
    state = memory.initial_state(is_first.shape[1]).to(agent.device)
    _, before, after = memory.unroll(stream, state, is_first, sequence_length=1)
    return stream, torch.cat([before, after[None]])


def _on(agent: Agent, stream: Observations) -> Observations:
    return map_observations(lambda part: part.to(agent.device), stream)


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
