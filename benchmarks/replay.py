"""Time to sample from a replay buffer against copying the same bytes, and memory per step.

    python -m benchmarks.replay

Sampling and copying alternate, on one thread; medians are shown.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
import torch

from agents.replay.replay import Replay
from agents.replay.ring import Column, StepLayout
from agents.replay.samplers import PrioritizedSampler, Sampler, UniformSampler
from agents.trajectory import Trajectory
from networks.observations import Shape
from training.process.memory import keep_freed_memory

FRAME = (84, 84)
BATCH, LENGTH = 32, 80  # sequences
IMAGE = Column(FRAME, np.dtype(np.uint8))
SINGLE = 64  # steps of CartPole
WINDOWS = 1_000_000
PAGE = 4096  # bytes
SCALARS = 4 + 3  # of each step: reward and three flags
ACTION = 8


def trajectory(
    steps: int, shape: Shape, dtype: torch.dtype, generator: np.random.Generator, *, stack: int = 0
) -> Trajectory:
    """Make steps of one environment without episode ends; all frames of a stack are equal."""
    frames = generator.integers(0, 255, (1 if stack else steps + 1, 1, *shape))
    observations = torch.from_numpy(frames).to(dtype)
    if stack:
        observations = observations[:, :, None].expand(steps + 1, 1, stack, *shape).contiguous()
    flags = torch.zeros(steps + 1, 1, dtype=torch.bool)
    return Trajectory(
        observations=observations,
        is_first=flags,
        actions=torch.zeros(steps, 1, dtype=torch.int64),
        rewards=torch.zeros(steps, 1),
        terminated=flags[1:],
        truncated=flags[1:],
        state=torch.zeros(1, 0),
    )


def make(
    buffer_size: int,
    sampler: Sampler,
    observation: Column,
    *,
    window_length: int = 1,
    stack: int = 0,
) -> Replay:
    """Build a replay buffer of one environment."""
    stacks = {"": stack} if stack else {}
    return Replay(
        StepLayout({"": observation}, stacks, Column((), np.dtype(np.int32)), state_size=0),
        buffer_size=buffer_size,
        num_envs=1,
        window_length=window_length,
        stride=1,
        valid_step=0,
        state_horizon=1,
        sampler=sampler,
    )


def in_turn(*actions: Callable[[], object], rounds: int) -> list[float]:
    """Time functions in turn, round after round; return each one's median seconds."""
    taken: list[list[float]] = [[] for _ in actions]
    for _ in range(rounds):
        for action, seconds in zip(actions, taken, strict=True):
            started = time.perf_counter()
            action()
            seconds.append(time.perf_counter() - started)
    return [median(seconds) for seconds in taken]


def measure_sequences(steps: int, rounds: int, *, stack: int = 0) -> str:
    """Sample sequences of images, and copy the same number of bytes."""
    generator = np.random.default_rng(0)
    replay = make(steps, UniformSampler(), IMAGE, window_length=LENGTH, stack=stack)
    for _ in range(steps // 100):
        replay.add(trajectory(100, FRAME, torch.uint8, generator, stack=stack), None)
    drawn = replay.sample(BATCH, generator, importance_exponent=0.0).window.observations
    assert isinstance(drawn, torch.Tensor)
    source, target = drawn.numpy().copy(), np.empty_like(drawn.numpy())
    draw, copy = in_turn(
        lambda: replay.sample(BATCH, generator, importance_exponent=0.0),
        lambda: np.copyto(target, source),
        rounds=rounds,
    )
    what = f"{BATCH} sequences x {LENGTH} steps of 84x84" + (
        f", stacks of {stack}" if stack else ""
    )
    return (
        f"{what} ({source.nbytes / 1e6:.1f} MB): {1e3 * draw:.2f} ms, "
        f"copied {1e3 * copy:.2f} ms: {draw / copy:.2f} x"
    )


def measure_single_steps(rounds: int) -> str:
    """Sample single steps of four numbers, and add four steps."""
    generator = np.random.default_rng(0)
    replay = make(100_000, UniformSampler(), Column((4,), np.dtype(np.float32)))
    for _ in range(100):
        replay.add(trajectory(1000, (4,), torch.float32, generator), None)
    four = trajectory(4, (4,), torch.float32, generator)
    draw, add = in_turn(
        lambda: replay.sample(SINGLE, generator, importance_exponent=0.0),
        lambda: replay.add(four, None),
        rounds=rounds,
    )
    return (
        f"{SINGLE} single steps of 4 numbers: drawn {1e6 * draw:.0f} us, 4 added {1e6 * add:.0f} us"
    )


def measure_priorities(rounds: int) -> str:
    """Sample 32 windows of a million by priority, and update their priorities."""
    generator = np.random.default_rng(0)
    sampler = PrioritizedSampler(priority_exponent=0.6)
    sampler.allocate(WINDOWS, 0)
    sampler.advance(0, WINDOWS, np.ones(WINDOWS, np.bool_))
    everything = np.arange(WINDOWS)
    sampler.update(everything, generator.random(WINDOWS))
    priorities = generator.random(BATCH)

    def draw_and_update() -> None:
        numbers, _ = sampler.draw(BATCH, generator, importance_exponent=0.4)
        sampler.update(numbers, priorities)

    (seconds,) = in_turn(draw_and_update, rounds=rounds)
    return f"{BATCH} of {WINDOWS:,} by priority, drawn and updated: {1e6 * seconds:.0f} us"


def resident() -> int:
    """Resident memory of this process in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE


def measure_memory(steps: int) -> str:
    """Fill a replay buffer with single frames, and compare its memory with its data."""
    generator = np.random.default_rng(0)
    piece = trajectory(100, FRAME, torch.uint8, generator, stack=4)
    replay = make(steps, PrioritizedSampler(priority_exponent=0.6), IMAGE, stack=4)
    before = resident()
    for _ in range(steps // 100):
        replay.add(piece, None)
    each = (resident() - before) / steps
    needed = FRAME[0] * FRAME[1] + ACTION + SCALARS
    return (
        f"a step with a stack of 4 x 84x84: {each:,.0f} bytes, {each / needed:.3f} x observation, "
        f"action and scalars; a million: {each * 1e6 / 1e9:.2f} GB"
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--steps", type=int, default=50_000, help="of 84x84 that the ring holds")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(measure_memory(options.steps))  # before freed memory is kept
    keep_freed_memory()
    print(measure_sequences(options.steps, options.rounds))
    print(measure_sequences(options.steps, options.rounds, stack=4))
    print(measure_single_steps(100 * options.rounds))
    print(measure_priorities(10 * options.rounds))


if __name__ == "__main__":
    main()
