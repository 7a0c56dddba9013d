"""Rules of agents with a replay: what it holds, what is drawn from it, and from when on."""

import math
from collections.abc import Iterator

from conf.action_values import REPLAYING
from conf.rollouts import divisors_near
from conf.steps import (
    NO_MEMORY,
    Config,
    replay_stride,
    replayed_steps,
    steps_per_iteration,
    training_sequence_length,
    window_length,
)


def replay_problems(config: Config) -> Iterator[str]:
    """List the rules broken, one line each."""
    if config["agent"]["_target_"] not in REPLAYING:
        return
    before = [*_memory(config), *_stride(config)]
    yield from before or _capacity(config)
    yield from _beginning(config)


def _memory(config: Config) -> Iterator[str]:
    burn_in = config["agent"]["burn_in"]
    if burn_in and config["memory"]["_target_"] == NO_MEMORY:
        yield (
            "agent.burn_in: expected 0, because memory=none leaves nothing to bring up to date; "
            f"got {burn_in}"
        )


def _stride(config: Config) -> Iterator[str]:
    """The memory's state is known where collecting paused; inside it is computed again."""
    stride, frequency = replay_stride(config), steps_per_iteration(config)
    if stride % frequency and frequency % stride:
        near = divisors_near(stride, frequency)
        if stride > frequency:
            below = stride // frequency * frequency
            near = f"{below} or {below + frequency}"
        yield (
            f"agent.sequence_stride: {stride} neither divides agent.train_frequency {frequency} "
            f"nor is a multiple of it; choose {near}"
        )


def _capacity(config: Config) -> Iterator[str]:
    """Some window must lie within the ring wherever its newest step is."""
    agent, num_envs = config["agent"], config["env"]["num_envs"]
    stride, held = replay_stride(config), replayed_steps(config)
    needed = window_length(config) + stride - 1
    holds = f"{agent['buffer_size']} / env.num_envs {num_envs} holds {held} steps of each"
    least = math.ceil(max(needed, steps_per_iteration(config)) / stride) * stride * num_envs
    if held < needed:
        rest = f" + {stride - 1} up to a start" if stride > 1 else ""
        yield (
            f"agent.buffer_size: {holds} environment, fewer than a window needs: "
            f"{_window(config)}{rest} = {needed}; choose at least {least}"
        )
    elif held < steps_per_iteration(config):
        yield (
            f"agent.buffer_size: {holds} environment, fewer than agent.train_frequency "
            f"{steps_per_iteration(config)} brings at once; choose at least {least}"
        )
    elif agent["batch_size"] > (windows := held // stride * num_envs):
        what = "steps" if stride == 1 else f"sequences, {stride} steps apart"
        yield (
            f"agent.batch_size: {agent['batch_size']} is more than agent.buffer_size "
            f"{agent['buffer_size']} holds: {windows} {what}"
        )


def _window(config: Config) -> str:
    agent, length = config["agent"], training_sequence_length(config)
    burn_in, n_step = agent["burn_in"], agent["n_step"]
    return f"agent.burn_in {burn_in} + sequence {length} + agent.n_step {n_step} - 1"


def _beginning(config: Config) -> Iterator[str]:
    """Learning begins while the run lasts, with a window to draw."""
    agent, num_envs = config["agent"], config["env"]["num_envs"]
    starts = agent["learning_starts"]
    size, total = agent["buffer_size"], config["total_env_steps"]
    if starts > size:
        yield f"agent.learning_starts: expected at most agent.buffer_size {size}, got {starts}"
    if starts >= total:
        yield (
            f"agent.learning_starts: expected less than total_env_steps {total}, or nothing is "
            f"learnt, got {starts}"
        )
    frequency, window = steps_per_iteration(config), window_length(config)
    first = math.ceil(max(starts, 1) / (frequency * num_envs)) * frequency
    if first < window:
        yield (
            f"agent.learning_starts: {starts} leaves {first} steps of each of env.num_envs "
            f"{num_envs} at the first update, fewer than a window: {_window(config)} = {window}; "
            f"choose at least {window * num_envs}"
        )
