"""Numbers of steps per environment that are collected, trained on and stored.

Builders and rules share these, so that they agree.
"""

from conf.schema.memories import remembers
from conf.schema.types import Config


def steps_per_iteration(config: Config) -> int:
    """Return the steps of each environment between two updates."""
    agent = config["agent"]
    return int(agent["rollout_length"] if "rollout_length" in agent else agent["train_frequency"])


def sequence_lengths(config: Config) -> dict[str, int]:
    """Return sequence lengths by their key; 0 is replaced by the agent's own.

    That is the whole rollout, or `agent.sequence_length` with a replay buffer.
    """
    agent, critic_memory = config["agent"], config["critic"]["memory"]
    lengths = {"memory.sequence_length": config["memory"]["sequence_length"]}
    if critic_memory is not None:
        lengths["critic.memory.sequence_length"] = critic_memory["sequence_length"]
    own = agent.get("rollout_length") or agent.get("sequence_length", 1)
    return {key: length or own for key, length in lengths.items()}


def training_sequence_length(config: Config) -> int:
    """Return the length of a (mini)batch's sequences.

    Actor and critic are trained on the same sequences: if one of them has no memory, on the
    other's.
    """
    return max(sequence_lengths(config).values())


def window_length(config: Config) -> int:
    """Return the steps W of a replayed window, which has W + 1 observations.

    The target of the last of `burn_in + L` steps sums `n_step` rewards, starting with its own, and
    reads the observation after them: `W = burn_in + L + n_step - 1`.
    """
    agent, length = config["agent"], training_sequence_length(config)
    return int(agent.get("burn_in", 0) + length + agent.get("n_step", 1) - 1)


def replay_stride(config: Config) -> int:
    """Return the steps between the starts of replayed windows: 1 for single steps."""
    if not remembers(config["memory"]) and training_sequence_length(config) == 1:
        return 1
    return int(config["agent"].get("sequence_stride", 1))


def replayed_steps(config: Config) -> int:
    """Return the steps of each environment in the replay buffer: whole strides."""
    stride = replay_stride(config)
    held = config["agent"]["buffer_size"] // config["env"]["num_envs"]
    return int(held // stride * stride)
