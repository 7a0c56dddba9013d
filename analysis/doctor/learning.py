"""Checks of an agent that learns: what moves, what is saved, and where the time goes."""

import copy
from collections.abc import Mapping
from itertools import islice
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from analysis.doctor.patient import Check, Patient
from training.building.build import build_agent_for, build_collector
from training.evaluation.evaluation import Evaluator
from training.stream.loop import Iteration, iterations

_UPDATES, _MOST_ITERATIONS = 3, 1_000


def _weights(patient: Patient) -> dict[str, list[Tensor]]:
    return {
        part: [parameter.detach().clone() for parameter in parameters]
        for part, parameters in patient.agent.parts().items()
    }


def _train(patient: Patient) -> list[Iteration]:
    """Train until some iterations have learnt."""
    collector = build_collector(patient.config, patient.environments)
    rounds = iterations(patient.agent, collector, total_env_steps=10**9)
    done, updates = [], 0
    for iteration in islice(rounds, _MOST_ITERATIONS):
        done.append(iteration)
        updates += any(tag.startswith("loss/") for tag in iteration.metrics)
        if updates == _UPDATES:
            break
    return done


def parts_learn(patient: Patient) -> str | None:
    """Every part moves if a loss trains it, stays if none does; losses are finite."""
    before = _weights(patient)
    done = _train(patient)
    numbers = {tag: value for each in done for tag, value in each.numbers().items()}
    odd = [
        tag for tag, value in numbers.items() if tag.startswith("loss/") and not np.isfinite(value)
    ]
    if odd:
        return f"{odd[0]} is not finite: lower optimizer.learning_rate, or normalize_rewards=true"
    routes = patient.agent.routes
    for part, parameters in patient.agent.parts().items():
        trained = [p for p in parameters if p.requires_grad]
        moved = [
            not torch.equal(old, new.detach())
            for old, new in zip(before[part], parameters, strict=True)
        ]
        if trained and routes.get(part) and not any(moved):
            losses = ", ".join(routes[part])
            return f"{part}: {losses} should train it and moves nothing: is an output detached?"
        if not routes.get(part) and any(moved):
            return f"{part}: no loss should train it, and it moves"
    return None


def evaluating_changes_nothing(patient: Patient) -> str | None:
    """An evaluation leaves every weight and statistic as it was."""
    agent = patient.agent
    before = copy.deepcopy(agent.state_dict())
    evaluator = Evaluator(patient.environments, seed=0, deterministic=True)
    evaluator(agent, episodes=patient.environments.num_envs, index=0, max_episode_steps=50)
    changed = _first_difference(before, agent.state_dict())
    if not changed:
        return None
    return f"an evaluation changes {changed}: update statistics in training mode alone"


def saving_is_exact(patient: Patient) -> str | None:
    """Loaded into new networks, saved weights act the same."""
    agent = patient.agent
    config = DictConfig(OmegaConf.merge(patient.config, {"seed": patient.config.seed + 1}))
    other = build_agent_for(config, patient.environments)
    saved = copy.deepcopy(agent.state_dict())
    other.load_state_dict(saved)
    if changed := _first_difference(saved, other.state_dict()):
        return f"{changed} is not restored: register it as a parameter or a buffer"
    shown = patient.trajectory.step_observations
    parts = shown if isinstance(shown, dict) else {"": shown}
    rows: Any = {name: part[0].numpy() for name, part in parts.items()}
    rows = rows if isinstance(shown, dict) else rows[""]
    columns = patient.trajectory.rewards.shape[1]
    first = np.ones(columns, bool)
    own, restored = (
        each.act(rows, each.initial_state(columns), first, explore=False)[1:]
        for each in (agent, other)
    )
    if all(np.array_equal(a, b) for a, b in zip(own, restored, strict=True)):
        return None
    return "restored networks compute other numbers: something they use is not in state_dict()"


def _first_difference(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> str:
    differing = (
        name
        for name, value in one.items()
        if name not in other or not torch.equal(value, other[name])
    )
    return next(differing, "")


LEARNING: dict[str, Check] = {
    "parts learn": parts_learn,
    "evaluating changes nothing": evaluating_changes_nothing,
    "saving is exact": saving_is_exact,
}


def throughput(patient: Patient) -> list[str]:
    """Return where the time of training goes, and what would help."""
    done = _train(patient)
    seconds = {phase: sum(each.seconds[phase] for each in done) for phase in done[0].seconds}
    total, steps = sum(seconds.values()), done[-1].env_steps
    shares = ", ".join(f"{phase} {share / total:.0%}" for phase, share in seconds.items())
    lines = [
        f"{steps / total:,.0f} steps/s in {patient.environments.num_envs} environments: {shares}"
    ]
    per_step = seconds["environment"] / steps
    if seconds["environment"] > 0.5 * total and per_step > 2e-4:
        lines.append(
            f"a step takes {1e3 * per_step:.1f} ms: env.vectorization=async is faster then"
        )
    if seconds["acting"] > 0.4 * total:
        lines.append("acting is slow: more environments at once (env.num_envs) share its cost")
    if seconds["update"] > 0.7 * total:
        lines.append(
            "learning takes most: fewer epochs or updates, or device=cuda for large networks"
        )
    return lines
