"""Rules of lengths: which numbers of steps, sequences and minibatches fit together."""

import math
from collections.abc import Iterator

from conf.checking.steps import (
    replay_stride,
    replayed_steps,
    sequence_lengths,
    steps_per_iteration,
    training_sequence_length,
    window_length,
)
from conf.schema.types import Config, Misfit


def rollout_problems(config: Config) -> Iterator[str]:
    """Minibatches divide the sequences, sequences divide the rollout."""
    agent, num_envs, lengths = config["agent"], config["env"]["num_envs"], sequence_lengths(config)
    rollout, longest = agent["rollout_length"], max(lengths.values())
    uneven = {key: length for key, length in lengths.items() if rollout % length}
    for key, length in uneven.items():
        rest = ", or 0 for the whole rollout"
        yield _divides_not(key, length, rollout, f"agent.rollout_length {rollout}", rest)
    if len({*lengths.values()} - {1}) > 1:
        actor, critic = lengths.values()
        expected = f"expected {actor} as in memory.sequence_length, got {critic}"
        yield Misfit(f"critic.memory.sequence_length: {expected}", actor)
    sequences = rollout // longest * num_envs
    if not uneven and sequences % (number := agent.get("num_minibatches", 1)):
        rollouts = f"agent.rollout_length {rollout} / sequence_length {longest}"
        of = f"{sequences} sequences ({rollouts} x env.num_envs {num_envs})"
        yield _divides_not("agent.num_minibatches", number, sequences, of)


def _divides_not(key: str, number: int, whole: int, of: str, rest: str = "") -> Misfit:
    near = _divisors_near(number, whole)
    choice = " or ".join(map(str, near)) + rest
    return Misfit(f"{key}: {number} does not divide {of}; choose {choice}", near[0])


def _divisors_near(number: int, whole: int) -> list[int]:
    """Return the divisors of `whole` next to a number that is not one."""
    divisors = [divisor for divisor in range(1, whole + 1) if whole % divisor == 0]
    below = [divisor for divisor in divisors if divisor < number][-1:]
    return below + [divisor for divisor in divisors if divisor > number][:1]


def stride_problems(config: Config) -> Iterator[str]:
    """States are known between collected stretches; inside one they are recomputed."""
    stride, frequency = replay_stride(config), steps_per_iteration(config)
    if stride % frequency and frequency % stride:
        below = stride // frequency * frequency
        near = [below, below + frequency] if below else _divisors_near(stride, frequency)
        neither = f"neither divides agent.train_frequency {frequency} nor is a multiple of it"
        choice = f"choose {near[0]} or {near[1]}"
        yield Misfit(f"agent.sequence_stride: {stride} {neither}; {choice}", near[0])


def capacity_problems(config: Config) -> Iterator[str]:
    """A window must fit into the ring, wherever its newest step is."""
    agent, num_envs = config["agent"], config["env"]["num_envs"]
    size, batch = agent["buffer_size"], agent["batch_size"]
    stride, held = replay_stride(config), replayed_steps(config)
    needed, brought = window_length(config) + stride - 1, steps_per_iteration(config)
    windows = held // stride * num_envs
    if held < max(needed, brought):
        least = math.ceil(max(needed, brought) / stride) * stride * num_envs
        why = f"agent.train_frequency {brought} brings at once"
        if held < needed:
            rest = f" + {stride - 1} up to a start" if stride > 1 else ""
            why = f"a window needs: {_window(config)}{rest} = {needed}"
        holds = f"{size} / env.num_envs {num_envs} holds {held} steps of each environment"
        choice = f"fewer than {why}; choose at least {least}"
        yield Misfit(f"agent.buffer_size: {holds}, {choice}", least)
    elif batch > windows:
        what = "steps" if stride == 1 else f"sequences, {stride} steps apart"
        holds = f"more than agent.buffer_size {size} holds: {windows} {what}"
        yield Misfit(f"agent.batch_size: {batch} is {holds}", windows)


def _window(config: Config) -> str:
    agent, length = config["agent"], training_sequence_length(config)
    burn_in, n_step = agent.get("burn_in", 0), agent.get("n_step", 1)
    return f"agent.burn_in {burn_in} + sequence {length} + agent.n_step {n_step} - 1"


def beginning_problems(config: Config) -> Iterator[str]:
    """Learning must start before the run ends, with at least one window to sample."""
    agent, num_envs = config["agent"], config["env"]["num_envs"]
    starts, size, total = agent["learning_starts"], agent["buffer_size"], config["total_env_steps"]
    if starts > size:
        yield f"agent.learning_starts: expected at most agent.buffer_size {size}, got {starts}"
    if starts >= total:
        most = f"expected less than total_env_steps {total}, or nothing is learnt"
        yield f"agent.learning_starts: {most}, got {starts}"
    frequency, window = steps_per_iteration(config), window_length(config)
    first = math.ceil(max(starts, 1) / (frequency * num_envs)) * frequency
    if first < window:
        least = window * num_envs
        leaves = f"{starts} leaves {first} steps of each of env.num_envs {num_envs}"
        needs = f"fewer than a window: {_window(config)} = {window}; choose at least {least}"
        yield Misfit(f"agent.learning_starts: {leaves} at the first update, {needs}", least)
