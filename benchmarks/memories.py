"""Time of a memory's gradient step, of PPO's update with it and of acting, by memory and length.

    python -m benchmarks.memories --lengths 128 512 --envs 8 64 --memories lstm gru mingru

Memories take turns, on one thread, at equal width; episodes end every 60 steps on average. Shown
are the best of the rounds in processor time, which other processes disturb little, and how many
times faster that is than the first memory.
"""

import argparse
import itertools
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch

from agents.agent import Agent
from benchmarks.ours import build, with_ends
from networks.mirror import mirror_of
from training.process.memory import keep_freed_memory

EPISODE_LENGTH = 60
ACTING_STEPS = 200
Actions = dict[str, Callable[[], object]]


def best_in_turn(actions: Actions, *, rounds: int) -> dict[str, float]:
    """Call functions in turn, round after round; return each one's best milliseconds."""
    best = dict.fromkeys(actions, float("inf"))
    for _ in range(rounds):
        for name, action in actions.items():
            started = time.process_time()
            action()
            best[name] = min(best[name], 1e3 * (time.process_time() - started))
    return best


def gradient_step(agent: Agent, length: int, num_envs: int) -> Callable[[], object]:
    """Forward and backward of the actor's memory alone."""
    memory = agent.actor.memory
    features = torch.randn(length, num_envs, agent.actor.feature_size, requires_grad=True)
    is_first = torch.rand(length, num_envs) < 1 / EPISODE_LENGTH
    wanted, state = [features, *memory.parameters()], memory.initial_state(num_envs)
    return lambda: torch.autograd.grad(memory(features, state, is_first)[0].sum(), wanted)


def acting(agent: Agent, num_envs: int) -> Callable[[], object]:
    """Steps of the memory as agents take them: by its mirror, or in torch."""
    memory, mirror = agent.actor.memory, mirror_of(agent.actor.memory)
    features = torch.randn(num_envs, agent.actor.feature_size)
    state, is_first = memory.initial_state(num_envs), torch.zeros(num_envs, dtype=torch.bool)
    arrays = features.numpy(), state.numpy(), is_first.numpy()

    @torch.inference_mode()
    def steps() -> None:
        for _ in range(ACTING_STEPS):
            if mirror:
                mirror(*arrays)
            else:
                memory(features[None], state, is_first[None])

    return steps


def measure(memories: list[str], length: int, num_envs: int, width: int, rounds: int) -> None:
    """Print one table of a length and a number of environments."""
    words = [f"env.num_envs={num_envs}", f"agent.rollout_length={length}", "num_threads=1"]
    words += ["env=cartpole", "env.vectorization=native", f"extractor.hidden_sizes=[{width}]"]
    words += ["share_backbone=true", "agent.num_minibatches=1", "agent.num_epochs=4"]
    memory: Actions = {}
    update: Actions = {}
    acted: Actions = {}
    for name in memories:
        own = [f"memory={name}", f"memory.hidden_size={width}", "memory.num_layers=1"]
        _, agent, collector = build([*words, *own], seed=0)
        rollout = with_ends(
            collector.collect(agent), np.random.default_rng(0), probability=1 / EPISODE_LENGTH
        )
        memory[name] = gradient_step(agent, length, num_envs)
        update[name] = partial(agent.learn, rollout)
        acted[name] = acting(agent, num_envs)
    parts = [best_in_turn(each, rounds=rounds) for each in (memory, update, acted)]
    print(f"\nT = {length}, B = {num_envs}, {width} units\n")
    print("| memory | gradient step, ms | x | PPO update, ms | x | acting step, us | x |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    for name in memories:
        cells = [
            f"{scale * part[name]:.1f} | {part[memories[0]] / part[name]:.1f}"
            for part, scale in zip(parts, (1, 1, 1e3 / ACTING_STEPS), strict=True)
        ]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


def main() -> None:
    """Measure every length with every number of environments."""
    parser = argparse.ArgumentParser(description=__doc__)
    kinds = ["lstm", "gru", "mingru", "lru", "mlstm", "gtrxl"]
    parser.add_argument("--memories", nargs="+", default=kinds)
    parser.add_argument("--lengths", nargs="+", type=int, default=[128, 512])
    parser.add_argument("--envs", nargs="+", type=int, default=[8, 64])
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=7)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    for length, num_envs in itertools.product(chosen.lengths, chosen.envs):
        measure(chosen.memories, length, num_envs, chosen.width, chosen.rounds)


if __name__ == "__main__":
    main()
