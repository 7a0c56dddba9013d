"""Rules of agents that learn from whole rollouts, cut into sequences and minibatches."""

from collections.abc import Iterator

from conf.steps import Config, sequence_lengths

DIVIDES_NOT = " does not divide "


def fitting(config: Config) -> dict[str, int]:
    """Return the largest lengths of sequences and number of minibatches that fit what is chosen."""
    agent, lengths = config["agent"], sequence_lengths(config)
    rollout_length = agent["rollout_length"]
    fit = {key: _largest_divisor(length, rollout_length) for key, length in lengths.items()}
    sequences = rollout_length // max(fit.values()) * config["env"]["num_envs"]
    return fit | {
        "agent.num_minibatches": _largest_divisor(agent.get("num_minibatches", 1), sequences)
    }


def _largest_divisor(number: int, whole: int) -> int:
    return next(n for n in range(min(number, whole), 0, -1) if whole % n == 0)


def rollout_problems(config: Config) -> Iterator[str]:
    """List the rules broken: minibatches are of whole sequences, sequences of whole rollouts."""
    agent = config["agent"]
    if "rollout_length" not in agent:
        return  # another way of learning
    rollout_length, lengths = agent["rollout_length"], sequence_lengths(config)
    uneven = [key for key, length in lengths.items() if rollout_length % length]
    for key in uneven:
        yield (
            f"{key}: {lengths[key]}{DIVIDES_NOT}agent.rollout_length {rollout_length}; "
            f"choose {divisors_near(lengths[key], rollout_length)}, or 0 for the whole rollout"
        )
    if len({length for length in lengths.values() if length > 1}) > 1:
        actor, critic = lengths.values()
        yield (
            f"critic.memory.sequence_length: expected {actor} as in memory.sequence_length, "
            f"got {critic}"
        )
    if not uneven and "num_minibatches" in agent:
        yield from _minibatches(config, max(lengths.values()))


def _minibatches(config: Config, sequence_length: int) -> Iterator[str]:
    agent, num_envs = config["agent"], config["env"]["num_envs"]
    rollout_length, num_minibatches = agent["rollout_length"], agent["num_minibatches"]
    num_sequences = rollout_length // sequence_length * num_envs
    if num_sequences % num_minibatches:
        yield (
            f"agent.num_minibatches: {num_minibatches}{DIVIDES_NOT}{num_sequences} sequences "
            f"(agent.rollout_length {rollout_length} / sequence_length {sequence_length} x "
            f"env.num_envs {num_envs}); choose {divisors_near(num_minibatches, num_sequences)}"
        )


def divisors_near(number: int, whole: int) -> str:
    """Name the divisors of `whole` on both sides of a number."""
    divisors = [divisor for divisor in range(1, whole + 1) if whole % divisor == 0]
    below = [divisor for divisor in divisors if divisor < number][-1:]
    above = [divisor for divisor in divisors if divisor > number][:1]
    return " or ".join(str(divisor) for divisor in below + above)
