"""Results of runs that nobody trained: four memories, of which two solve CartPole without velocity.

The report's tests use them.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from analysis.comparison import Plan
from analysis.runs import EVALUATIONS, Curve, RunRecord

ARMS: dict[str, tuple[float, float, float, float, int]] = {
    "none": (45, 3, 0.9, 5500, 835),
    "rnn": (310, 60, 0.6, 2900, 12_611),
    "gru": (487, 6, 0.35, 1900, 33_475),
    "lstm": (493, 5, 0.4, 1650, 44_355),
}
"""Final return and its deviation, time constant, steps per second, parameters."""
TASK = "cartpole_no_velocity"
BUDGET = 100_000


def record(
    task: str = TASK, arm: str = "none", seed: int = 0, last: float | None = 45.0, **changes: Any
) -> RunRecord:
    """A finished run."""
    content = {
        "directory": Path("runs/studies/memory") / task / f"{arm}-1a2b3c" / f"seed{seed}",
        "task": task,
        "arm": arm,
        "choices": {"memory": arm.upper(), "agent.clip_range": 0.2, "total_env_steps": BUDGET},
        "seed": seed,
        "budget": BUDGET,
        "status": "finished",
        "last": last,
        "best": last,
        "env_steps": float(BUDGET),
        "pretraining_env_steps": 0,
        "training_seconds": 30.0,
        "pretraining_seconds": 0.0,
        "steps_per_second": 3000.0,
        "parameters": 20_000.0,
        "peak_memory_mib": 410.0,
        "probe_score": None,
        "versions": {"python": "3.13.5", "torch": "2.13.0"},
        "solved_at": 475.0,
        "problem": None,
    }
    return RunRecord(**(content | changes))


def run(arm: str, seed: int, last: float | None, *, task: str = TASK, **changes: Any) -> RunRecord:
    """A run with a score, and nothing else to look at."""
    return record(task, arm, seed, last, **changes)


def trained(task: str, arm: str, seed: int, rng: np.random.Generator) -> RunRecord:
    """A run with a learning curve and telemetry."""
    final, deviation, constant, rate, parameters = ARMS[arm]
    last = float(np.clip(rng.normal(final, deviation), 9, 500))
    steps = np.arange(0.1, 1.01, 0.1) * BUDGET
    shape = 1 - np.exp(-4 / constant * steps / BUDGET * rng.uniform(0.8, 1.2))
    noise = rng.normal(0, 8, len(steps)) * (final > 100)
    values = np.clip(20 + (last - 20) * shape / shape[-1] + noise, 9, 500)
    values[-1] = last
    seconds = steps / rate * rng.uniform(0.95, 1.05)
    curves = {
        EVALUATIONS: values,
        "representation/actor/dormant_units": np.clip(
            0.3 * shape + rng.normal(0, 0.02, len(steps)), 0, 1
        ),
        "representation/actor/effective_rank": 20 + 20 * shape + rng.normal(0, 1, len(steps)),
    }
    changes: dict[str, Any] = {
        "curves": {tag: Curve(steps, seconds, points) for tag, points in curves.items()},
        "steps_per_second": BUDGET / float(seconds[-1]),
        "training_seconds": float(seconds[-1]),
        "parameters": float(parameters),
        "peak_memory_mib": float(380 + rng.integers(0, 60)),
    }
    return record(task, arm, seed, last, **changes)


def memory_study(
    seeds: Sequence[int] = range(5), tasks: Sequence[str] = (TASK,), **changes: Any
) -> tuple[list[RunRecord], Plan]:
    """A finished study of all arms."""
    rng = np.random.default_rng(3)
    places = [(task, arm) for task in tasks for arm in ARMS]
    runs = [trained(task, arm, seed, rng) for task, arm in places for seed in seeds]
    command = "python train.py -m experiment=cartpole_no_velocity evaluation.checkpoint=last"
    content: Mapping[str, Any] = {
        "name": "memory_on_cartpole_no_velocity",
        "question": "Which memory does CartPole need when its velocities are hidden?",
        "baseline": "none",
        "protocol": "fixed",
        "words": {arm: [f"memory={arm}"] for arm in ARMS},
        "seeds": dict.fromkeys(places, seeds),
        "commands": {
            place: f"{command} memory={place[1]} seed={','.join(map(str, seeds))}"
            for place in places
        },
    }
    return runs, Plan(**{**content, **changes})
