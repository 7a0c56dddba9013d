"""How many steps of an environment are collected, learnt from and kept at once.

Builders and rules ask here, so that both mean the same.
"""

from typing import Any

from conf.schema.memories import remembers

Config = dict[str, Any]


def steps_per_iteration(config: Config) -> int:
    """Return how many steps every environment takes between two updates."""
    agent = config["agent"]
    return int(agent["rollout_length"] if "rollout_length" in agent else agent["train_frequency"])


def sequence_lengths(config: Config) -> dict[str, int]:
    """Return the steps of a sequence by the key that says them; a 0 stands for the agent's own.

    That is a whole rollout, or `agent.sequence_length` where there is a replay.
    """
    agent, critic_memory = config["agent"], config["critic"]["memory"]
    lengths = {"memory.sequence_length": config["memory"]["sequence_length"]}
    if critic_memory is not None:
        lengths["critic.memory.sequence_length"] = critic_memory["sequence_length"]
    own = agent["rollout_length"] if "rollout_length" in agent else agent["sequence_length"]
    return {key: length or own for key, length in lengths.items()}


def training_sequence_length(config: Config) -> int:
    """Return how many steps of one environment make up a sequence of a (mini)batch.

    Actor and critic are trained on the same sequences: where one of them has no memory, on the
    other's.
    """
    return max(sequence_lengths(config).values())


def window_length(config: Config) -> int:
    """Return the steps of what a replay draws: W of them read W + 1 observations.

    The last of `burn_in + L` steps has `n_step` rewards, its own the first, and its target reads
    the observation behind them: `W = burn_in + L + n_step - 1`.
    """
    agent = config["agent"]
    return int(agent["burn_in"] + training_sequence_length(config) + agent["n_step"] - 1)


def replay_stride(config: Config) -> int:
    """Return the steps between the starts of replayed windows: 1 for single steps."""
    if not remembers(config["memory"]) and training_sequence_length(config) == 1:
        return 1
    return int(config["agent"]["sequence_stride"])


def replayed_steps(config: Config) -> int:
    """Return how many steps of each environment a replay holds: whole strides."""
    stride = replay_stride(config)
    held = config["agent"]["buffer_size"] // config["env"]["num_envs"]
    return int(held // stride * stride)
