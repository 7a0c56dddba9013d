"""The memory tasks: how fast they step, and which memory learns them with which agent.

    python -m benchmarks.memory_tasks               # steps per second, random actions, one core
    python -m benchmarks.memory_tasks learning      # memory x agent x task

`learning` trains `experiment=memory` (PPO) and `experiment=memory_dqn`, one setting for all, on one
thread, for at most `--seconds` of processor time, which other processes disturb little; evaluations
are not timed. A run that reaches the threshold in two evaluations in a row is solved and stops.
"""

import argparse
import itertools
import time
from dataclasses import dataclass, field

import gymnasium
import numpy as np
import torch

from benchmarks.ours import build
from envs import MEMORY_TASKS
from training.building.build import build_evaluator
from training.process.memory import keep_freed_memory
from training.stream.loop import iterations

NUM_ENVS = 256
SECONDS = 1.0
MEMORIES = ["rnn", "gru", "lstm", "mingru", "lru", "mlstm", "gtrxl", "none"]
AGENTS = {"ppo": "memory", "dqn": "memory_dqn"}
SOLVED = {"TMaze": 3.9, "RepeatPrevious": 0.95, "PassiveTMaze": 0.95}
"""Mean returns, undiscounted, that count as solved; the optima are 4, 1 and 1."""


def steps_per_second(id: str, num_envs: int = NUM_ENVS, seconds: float = SECONDS) -> float:
    """Measures the native form, after some steps of warm-up."""
    task = gymnasium.make_vec(id, num_envs=num_envs, vectorization_mode="vector_entry_point")
    random = np.random.default_rng(0)
    task.reset(seed=0)
    batches = random.integers(task.single_action_space.n, size=(64, num_envs))  # type: ignore[attr-defined]
    for actions in batches:
        task.step(actions)
    begun, steps = time.perf_counter(), 0
    while time.perf_counter() - begun < seconds:
        for actions in batches:
            task.step(actions)
        steps += batches.size
    return steps / (time.perf_counter() - begun)


@dataclass
class Learnt:
    """What a run reached: the returns of its evaluations, and when it was first solved."""

    env_steps: int = 0
    seconds: float = 0.0
    returns: list[float] = field(default_factory=list)
    solved: tuple[int, float] | None = None

    def row(self) -> str:
        """The run's cells of the table."""
        solved = f"{self.solved[0]:,} | {self.solved[1]:.0f}" if self.solved else "- | -"
        return f"{self.returns[-1]:.2f} | {solved} | {self.env_steps:,} | {self.seconds:.0f}"


def learn(words: list[str], *, solved_at: float, seconds: float, seed: int) -> Learnt:
    """Trains until solved, the run's end or for `seconds`; evaluations are of 100 episodes."""
    config, agent, collector = build(words, seed=seed)
    evaluator, result = build_evaluator(config, collector.environments), Learnt()
    interval, budget = int(config.evaluation.interval), int(config.total_env_steps)
    started = time.process_time()
    for iteration in iterations(agent, collector, total_env_steps=budget):
        result.env_steps, due = iteration.env_steps, interval * (1 + len(result.returns))
        result.seconds += time.process_time() - started
        is_last = result.seconds > seconds or result.env_steps >= budget
        if result.env_steps >= due or is_last:
            index = len(result.returns)
            result.returns.append(evaluator(agent, episodes=100, index=index).return_mean)
            was_solved = result.solved
            if result.returns[-1] < solved_at:
                result.solved = None
            elif was_solved is None:
                result.solved = (result.env_steps, result.seconds)
            is_last |= was_solved is not None and result.solved is not None
        if is_last:
            break
        started = time.process_time()
    return result


def speed() -> None:
    """Prints a row for each task."""
    for name in MEMORY_TASKS:
        print(f"| `{name}` | {steps_per_second(f'neurl/{name}-v0') / 1e6:.1f} M |")


def learning(chosen: argparse.Namespace) -> None:
    """Prints a row for each memory, agent and task."""
    print("| task | agent | memory | last weights | solved at steps | seconds | steps | seconds |")
    print("|---|---|---|---:|---:|---:|---:|---:|")
    for task, agent, memory in itertools.product(chosen.tasks, chosen.agents, chosen.memories):
        words = [f"experiment={AGENTS[agent]}", f"env.id=neurl/{task}-v0", f"memory={memory}"]
        words += ["evaluation.num_envs=100", *chosen.words]
        result = learn(words, solved_at=SOLVED[task], seconds=chosen.seconds, seed=chosen.seed)
        print(f"| {task} | {agent} | {memory} | {result.row()} |", flush=True)


def main() -> None:
    """Measures what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", nargs="?", choices=["speed", "learning"], default="speed")
    parser.add_argument("--tasks", nargs="+", choices=SOLVED, default=["TMaze", "RepeatPrevious"])
    parser.add_argument("--agents", nargs="+", choices=AGENTS, default=list(AGENTS))
    parser.add_argument("--memories", nargs="+", choices=MEMORIES, default=MEMORIES)
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--words", nargs="*", default=[], help="further overrides")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    if chosen.what == "learning":
        learning(chosen)
    else:
        speed()


if __name__ == "__main__":
    main()
