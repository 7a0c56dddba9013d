"""Our worker: uses the library as `train.py` does, timed from outside.

Runs one workload and prints one JSON line:

    python -m benchmarks.ours throughput ppo --iterations 20 --warmup 3 --seed 1
    python -m benchmarks.ours solve recurrent-ppo --seed 1
    python -m benchmarks.ours resets lstm --seed 1
"""

import argparse
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice
from statistics import median

import numpy as np
import torch
from omegaconf import DictConfig

from agents.agent import Agent
from agents.learning.replay_learner import ReplayLearner
from agents.trajectory import Trajectory
from benchmarks.floor import COUNTED, Operations, products_per_second
from benchmarks.words import throughput_overrides
from benchmarks.work import (
    MEMORIES,
    SOLVE,
    THROUGHPUT,
    AnyWork,
    Criticising,
    Measurement,
    Resets,
    Solve,
    Solved,
    Throughput,
    peak_memory_mib,
    report,
)
from conf.composing.command_line import load
from training.building.build import build_agent, build_collector, build_evaluator
from training.building.environments import build_environments
from training.process.memory import keep_freed_memory
from training.stream.collect import Collector
from training.stream.episodes import EpisodeHistory
from training.stream.loop import Iteration, iterations

EPISODE_LENGTH = 30  # mean, of the episodes in `resets`
WATCHED_STEPS = 1_000  # environment steps between logged metrics; the default of runs
UPDATES = 10  # timed in `resets`, of each kind


def build(overrides: list[str], *, seed: int) -> tuple[DictConfig, Agent, Collector]:
    """Compose the configuration and build its objects, on the CPU."""
    config = load([*overrides, f"seed={seed}", "device=cpu"])
    num_envs = config.env.num_envs
    environments = build_environments(config, num_envs=num_envs)
    agent = build_agent(
        config,
        environments.single_observation_space,
        environments.single_action_space,
        num_envs=num_envs,
    )
    return config, agent, build_collector(config, environments)


def measure_throughput(work: AnyWork, *, rollouts: int, warmup: int, seed: int) -> Measurement:
    """Train for `warmup + rollouts` rollouts and time the last ones, statistics included.

    With a replay buffer, a rollout is the steps between two updates; those before learning starts
    come first, and are not counted.
    """
    _, agent, collector = build(throughput_overrides(work), seed=seed)
    history = EpisodeHistory(window=100)
    steps_before = 0 if isinstance(work, Throughput) else work.learning_starts
    has_floor = isinstance(work, Criticising) and not work.compiled
    counted = COUNTED if has_floor else 0
    training = iterations(
        agent,
        collector,
        total_env_steps=steps_before + (warmup + counted + rollouts) * work.steps_per_iteration,
        is_watched=every(WATCHED_STEPS),
    )
    while collector.env_steps + work.steps_per_iteration < steps_before:
        log(next(training), history)
    preparing = time.perf_counter()
    for iteration in islice(training, warmup):
        log(iteration, history)
    compiled = time.perf_counter()
    operations = count_operations(agent, training, steps=counted) if has_floor else 0.0
    started, before = time.perf_counter(), collector.env_steps
    phases = {"environment": 0.0, "acting": 0.0, "update": 0.0}
    for iteration in islice(training, rollouts):
        log(iteration, history)
        for phase in phases:
            phases[phase] += iteration.seconds[phase]
    seconds = time.perf_counter() - started
    phases["rest"] = seconds - sum(phases.values())
    compiling = compiled - preparing - warmup * seconds / rollouts
    return Measurement(
        env_steps=collector.env_steps - before,
        seconds=seconds,
        peak_memory_mib=peak_memory_mib(),
        phases=phases,
        compile_seconds=compiling if work.compiled else 0.0,
        parameters=sum(p.numel() for part in agent.parts().values() for p in part),
        operations=operations,
        operations_per_second=products_per_second() if has_floor else 0.0,
    )


def count_operations(agent: Agent, training: Iterator[Iteration], *, steps: int) -> float:
    """Count the operations of the next gradient steps; their mean, with the acting in between."""
    learner = agent.learner
    assert isinstance(learner, ReplayLearner)
    clock = learner.clock
    before = clock.updates
    with Operations() as operations:
        while clock.updates < before + steps:
            next(training)
    return operations.get_total_flops() / steps


def every(steps: int) -> Callable[[int], bool]:
    """Log like runs: the first iteration that ends past each multiple of this many steps."""
    watched = -1

    def is_watched(env_steps: int) -> bool:
        nonlocal watched
        is_due = env_steps // steps > watched
        watched = max(watched, env_steps // steps)
        return is_due

    return is_watched


def log(iteration: Iteration, history: EpisodeHistory) -> dict[str, float]:
    """Convert a rollout's metrics to numbers, as the peers do after every rollout."""
    history.extend(iteration.episodes)
    return {tag: float(value) for tag, value in iteration.metrics.items()} | history.report()


def measure_solve(work: Solve, *, seed: int) -> Solved:
    """Train the preset until an evaluation reaches the threshold; evaluations are not timed."""
    config, agent, collector = build(
        [
            f"experiment={work.preset}",
            f"total_env_steps={work.budget}",
            f"evaluation.num_envs={work.episodes}",
        ],
        seed=seed,
    )
    evaluator, history = build_evaluator(config, collector.environments), EpisodeHistory(window=100)
    returns: list[float] = []
    seconds = 0.0
    started = time.perf_counter()
    for iteration in iterations(agent, collector, total_env_steps=work.budget):
        log(iteration, history)
        is_last = iteration.env_steps >= work.budget
        if iteration.env_steps < (len(returns) + 1) * work.evaluation_interval and not is_last:
            continue
        seconds += time.perf_counter() - started
        evaluation = evaluator(agent, episodes=work.episodes, index=len(returns))
        returns.append(evaluation.return_mean)
        if evaluation.return_mean >= work.threshold:
            return Solved(env_steps=iteration.env_steps, seconds=seconds, returns=returns)
        started = time.perf_counter()
    return Solved(env_steps=None, seconds=None, returns=returns)


def measure_resets(memory: str, *, seed: int) -> Resets:
    """Time the same update on rollouts with and without episode ends, alternating."""
    work = THROUGHPUT["recurrent-ppo-shared"]
    overrides = throughput_overrides(work)
    overrides[overrides.index("memory=lstm")] = f"memory={memory}"
    _, agent, collector = build(overrides, seed=seed)
    template = collector.collect(agent)
    generator = np.random.default_rng(seed)
    rollouts = {
        "with": with_ends(template, generator, probability=1 / EPISODE_LENGTH),
        "without": with_ends(template, generator, probability=0.0),
    }
    seconds: dict[str, list[float]] = {kind: [] for kind in rollouts}
    for _ in range(1 + UPDATES):
        for kind, rollout in rollouts.items():
            started = time.perf_counter()
            agent.learn(rollout)
            seconds[kind].append(time.perf_counter() - started)
    return Resets(
        with_resets=median(seconds["with"][1:]), without_resets=median(seconds["without"][1:])
    )


def with_ends(
    rollout: Trajectory, generator: np.random.Generator, *, probability: float
) -> Trajectory:
    """Copy a rollout and end its episodes at random; the step after an end only resets."""
    length, num_envs = rollout.rewards.shape
    terminated = np.zeros((length, num_envs), dtype=bool)
    is_first = np.zeros((length + 1, num_envs), dtype=bool)
    for step in range(length):
        ended_before = terminated[step - 1] if step else np.zeros(num_envs, dtype=bool)
        is_first[step + 1] = ended_before
        terminated[step] = (generator.random(num_envs) < probability) & ~ended_before
    return replace(
        rollout,
        is_first=torch.from_numpy(is_first),
        terminated=torch.from_numpy(terminated),
        truncated=torch.zeros(length, num_envs, dtype=torch.bool),
    )


def main() -> None:
    """Run the workload that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    kinds = parser.add_subparsers(dest="kind", required=True)
    throughput = kinds.add_parser("throughput")
    throughput.add_argument("work", choices=THROUGHPUT)
    throughput.add_argument("--iterations", type=int, required=True)
    throughput.add_argument("--warmup", type=int, required=True)
    kinds.add_parser("solve").add_argument("work", choices=SOLVE)
    kinds.add_parser("resets").add_argument("work", choices=MEMORIES)
    for kind in kinds.choices.values():
        kind.add_argument("--seed", type=int, required=True)
    given = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    if given.kind == "solve":
        report(measure_solve(SOLVE[given.work], seed=given.seed))
    elif given.kind == "resets":
        report(measure_resets(given.work, seed=given.seed))
    else:
        work = THROUGHPUT[given.work]
        report(
            measure_throughput(
                work, rollouts=given.iterations, warmup=given.warmup, seed=given.seed
            )
        )


if __name__ == "__main__":
    main()
