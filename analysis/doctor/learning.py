"""Checks of an agent that learns: what moves, what is saved, and where the time goes."""

import copy
from collections.abc import Iterator, Mapping
from itertools import islice

import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from analysis.doctor.environment import are_equal
from analysis.doctor.patient import COLUMNS, Check, Patient, row_of
from training.building.build import build_agent_for, build_collector
from training.evaluation.evaluation import Evaluator
from training.stream.loop import Iteration, iterations

_UPDATES, _MOST = 3, 1_000


def _train(patient: Patient) -> list[Iteration]:
    """Train until some iterations have learnt."""
    collector, done = build_collector(patient.config, patient.environments), list[Iteration]()
    for iteration in islice(iterations(patient.agent, collector, total_env_steps=10**9), _MOST):
        done.append(iteration)
        if sum(any(tag.startswith("loss/") for tag in i.metrics) for i in done) == _UPDATES:
            break
    return done


def parts_learn(patient: Patient) -> Iterator[str]:
    """Every part moves if a loss trains it, stays if none does; losses are finite."""
    agent, before = patient.agent, copy.deepcopy(patient.agent.parts())
    for iteration in _train(patient):
        for tag, value in iteration.numbers().items():
            if tag.startswith("loss/") and not np.isfinite(value):
                yield f"{tag} is not finite: lower optimizer.learning_rate, or normalize_rewards"
    for part, parameters in agent.parts().items():
        pairs = zip(before[part], parameters, strict=True)
        moved = any(not torch.equal(old, new) for old, new in pairs)
        losses = ", ".join(agent.routes.get(part, ()))
        if losses and not moved and any(each.requires_grad for each in parameters):
            yield f"{part}: {losses} should train it and moves nothing: is an output detached?"
        if moved and not losses:
            yield f"{part}: no loss should train it, and it moves"


def evaluating_changes_nothing(patient: Patient) -> Iterator[str]:
    """An evaluation leaves every weight and statistic as it was."""
    before = copy.deepcopy(patient.agent.state_dict())
    evaluator = Evaluator(patient.environments, seed=0, deterministic=True)
    evaluator(patient.agent, episodes=COLUMNS, index=0, max_episode_steps=50)
    for name in _differing(before, patient.agent.state_dict()):
        yield f"an evaluation changes {name}: update statistics in training mode alone"


def saving_is_exact(patient: Patient) -> Iterator[str]:
    """Loaded into new networks, saved weights act the same."""
    agent, config = patient.agent, patient.config
    fresh = DictConfig(OmegaConf.merge(config, {"seed": config.seed + 1}))
    other, saved = build_agent_for(fresh, patient.environments), copy.deepcopy(agent.state_dict())
    other.load_state_dict(saved)
    for name in _differing(saved, other.state_dict()):
        yield f"{name} is not restored: register it as a parameter or a buffer"
    row, first = row_of(patient, 0), np.ones(COLUMNS, bool)
    acted = [a.act(row, a.initial_state(COLUMNS), first, explore=False) for a in (agent, other)]
    if not are_equal(*acted):
        yield "restored networks compute other numbers: something they use is not in state_dict()"


def _differing(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> Iterator[str]:
    for name, value in one.items():
        if name not in other or not torch.equal(value, other[name]):
            yield name


LEARNING: tuple[Check, ...] = (parts_learn, evaluating_changes_nothing, saving_is_exact)


def throughput(patient: Patient) -> Iterator[str]:
    """Say where the time of training goes, and what would help."""
    done = _train(patient)
    seconds = {phase: sum(each.seconds[phase] for each in done) for phase in done[0].seconds}
    total, steps = sum(seconds.values()), done[-1].env_steps
    share = {phase: each / total for phase, each in seconds.items()}
    shares = ", ".join(f"{phase} {each:.0%}" for phase, each in share.items())
    yield f"{steps / total:,.0f} steps/s in {COLUMNS} environments: {shares}"
    milliseconds = 1e3 * seconds["environment"] / steps
    if share["environment"] > 0.5 and milliseconds > 0.2:
        yield f"a step takes {milliseconds:.1f} ms: env.vectorization=async is faster then"
    if share["acting"] > 0.4:
        yield "acting is slow: more environments at once (env.num_envs) share its cost"
    if share["update"] > 0.7:
        yield "learning takes most: fewer epochs or updates, or device=cuda for large networks"
