"""The keys of each algorithm, conf/agent/*.yaml, and their rules with other keys."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

from conf.checking.steps import (
    Config,
    replay_stride,
    replayed_steps,
    sequence_lengths,
    steps_per_iteration,
    training_sequence_length,
    window_length,
)
from conf.schema.memories import remembers
from conf.schema.parts import Part
from conf.schema.types import (
    Count,
    Fraction,
    Misfit,
    NonNegative,
    Positive,
    PositiveCount,
    PositiveFraction,
    ReplayRatio,
    Schedule,
    by_path,
    show,
)


@dataclass
class AgentOptions(Part, group="agent"):
    """Keys of every agent, a user's own included.

    Attributes:
        learns_from: the returns of its latest rollout, or targets from a replay buffer.
        needs_log_probs: its losses read log-probabilities of actions.
        box_heads: the policy heads that it takes for continuous actions, the first by default; none
            if it acts by action values.
        criticises_actions: its critics read actions.
        weighs_every_action: its losses are sums over all discrete actions.
    """

    learns_from: ClassVar[Literal["rollout", "replay"]] = "rollout"
    needs_log_probs: ClassVar[bool] = False
    box_heads: ClassVar[tuple[str, ...]] = (
        "networks.heads.GaussianHead",
        "networks.heads.SquashedGaussianHead",
    )
    criticises_actions: ClassVar[bool] = False
    weighs_every_action: ClassVar[bool] = False

    @classmethod
    def problems(cls, config: Config) -> Iterator[str]:
        """List the rules that a typed configuration breaks, one line each."""
        if "rollout_length" in config["agent"]:
            yield from _rollout_problems(config)
        elif "train_frequency" not in config["agent"]:
            yield "agent: expected the steps between two updates: rollout_length or train_frequency"


@dataclass
class A2COptions(AgentOptions):
    """conf/agent/a2c.yaml."""

    needs_log_probs: ClassVar[bool] = True

    discount: Fraction
    gae_lambda: Fraction
    rollout_length: PositiveCount
    value_coefficient: NonNegative
    entropy_coefficient: NonNegative
    entropy_coefficient_schedule: Schedule
    normalize_advantages: bool


@dataclass
class PPOOptions(A2COptions, of="agents.ppo.PPO"):
    """conf/agent/ppo.yaml."""

    num_epochs: PositiveCount
    num_minibatches: PositiveCount
    clip_range: Positive
    clip_range_schedule: Schedule
    value_clip_range: Positive | None
    target_kl: Positive | None


A2COptions.describe("agents.a2c.A2C")


@dataclass
class EpsilonGreedyOptions(AgentOptions):
    """Keys of epsilon-greedy agents."""

    box_heads: ClassVar[tuple[str, ...]] = ()

    discount: Fraction
    dueling: bool
    epsilon: Fraction
    final_epsilon: Fraction
    epsilon_fraction: Fraction

    @classmethod
    def problems(cls, config: Config) -> Iterator[str]:
        """Add the rules of value-based agents."""
        yield from super().problems(config)
        agent, name = config["agent"], config["agent"]["_target_"].rpartition(".")[2]
        if agent["final_epsilon"] > agent["epsilon"]:
            yield (
                "agent.final_epsilon: expected at most agent.epsilon, from which it falls: "
                f"{agent['final_epsilon']:g} > {agent['epsilon']:g}"
            )
        if config.get("objective") == "behaviour_cloning":
            yield (
                "agent: expected one with a policy to be taught (agent=ppo), as "
                f"{name} has values of actions"
            )
        head = config["policy_head"]
        if head["_target_"] != "auto":
            yield f"policy_head: expected auto, because {name} has values of actions for a policy"
        elif sizes := head["hidden_sizes"]:
            yield (
                f"policy_head.hidden_sizes: expected [], because {name} acts by its values; layers "
                f"of theirs are value_head.hidden_sizes, got {show(sizes)}"
            )
        for part, losses in by_path(config["gradients"]).items():
            if losses == ["actor"]:
                yield (
                    f"gradients.{part}: expected critic among them, because {name} has no policy "
                    f"loss that could train it; [] trains nothing, got {show(losses)}"
                )
        yield from _one_network(config, name)


@dataclass(kw_only=True)
class ReplayOptions(AgentOptions):
    """Keys of agents that learn from a replay buffer; older runs have no `random_shift`."""

    learns_from: ClassVar[Literal["rollout", "replay"]] = "replay"

    discount: Fraction
    n_step: PositiveCount
    buffer_size: PositiveCount
    batch_size: PositiveCount
    learning_starts: Count
    train_frequency: PositiveCount
    replay_ratio: ReplayRatio
    target_update_interval: PositiveCount
    polyak_rate: PositiveFraction
    prioritized: bool
    priority_exponent: Fraction
    importance_exponent: Fraction
    priority_max_share: Fraction
    sequence_length: PositiveCount
    burn_in: Count
    stored_state: bool
    sequence_stride: PositiveCount
    random_shift: Count = 0

    @classmethod
    def problems(cls, config: Config) -> Iterator[str]:
        """Add the rules of a replay buffer."""
        yield from super().problems(config)
        if config["agent"]["random_shift"] and config["critic"].get("observation") == "full":
            yield (
                "agent.random_shift: expected 0, because with critic.observation=full actor and "
                "critic read images of their own"
            )
        burn_in, before = config["agent"]["burn_in"], [*_stride(config)]
        if burn_in and not remembers(config["memory"]):
            before.append(
                "agent.burn_in: expected 0, because memory=none leaves nothing to bring up to "
                f"date; got {burn_in}"
            )
        yield from before or _capacity(config)
        yield from _beginning(config)


@dataclass
class DQNOptions(EpsilonGreedyOptions, ReplayOptions, of="agents.dqn.DQN"):
    """conf/agent/dqn.yaml."""

    double_q: bool
    noisy: bool
    noisy_sigma: Positive
    value_rescaling: bool

    @classmethod
    def problems(cls, config: Config) -> Iterator[str]:
        """Add the rule of noisy layers, which are plain otherwise."""
        yield from super().problems(config)
        for key, plain in {"normalization": "none", "dropout": 0, "residual": False}.items():
            given = config["value_head"].get(key, plain)
            if config["agent"]["noisy"] and given != plain:
                expected = f"expected {show(plain)} with agent.noisy=true"
                yield f"value_head.{key}: {expected}, got {show(given)}"


@dataclass
class PQNOptions(EpsilonGreedyOptions, of="agents.pqn.PQN"):
    """conf/agent/pqn.yaml."""

    td_lambda: Fraction
    rollout_length: PositiveCount
    num_epochs: PositiveCount
    num_minibatches: PositiveCount


@dataclass
class DDPGOptions(ReplayOptions, of="agents.ddpg.DDPG"):
    """conf/agent/ddpg.yaml."""

    box_heads: ClassVar[tuple[str, ...]] = ("networks.heads.DeterministicHead",)
    criticises_actions: ClassVar[bool] = True

    exploration_noise: NonNegative


@dataclass(kw_only=True)
class CriticsOptions(ReplayOptions):
    """Keys of agents with several critics of actions; older runs have `num_critics` alone."""

    num_critics: PositiveCount
    critic_subset: PositiveCount | None = None
    dropped_quantiles: Count = 0
    target_networks: bool = True
    policy_delay: PositiveCount = 1

    @classmethod
    def problems(cls, config: Config) -> Iterator[str]:
        """Add the rules of several critics."""
        yield from super().problems(config)
        agent, head = config["agent"], config["value_head"]
        subset, dropped = agent["critic_subset"], agent["dropped_quantiles"]
        if subset is not None and subset > (count := agent["num_critics"]):
            yield Misfit(
                f"agent.critic_subset: expected at most agent.num_critics {count}, got {subset}",
                count,
            )
        yield from _batch_statistics(config)
        if dropped and "quantiles" not in head:
            yield f"agent.dropped_quantiles: expected 0 without value_head=quantile, got {dropped}"
        elif dropped and dropped >= head["quantiles"]:
            yield Misfit(
                "agent.dropped_quantiles: expected fewer than value_head.quantiles "
                f"{head['quantiles']}, got {dropped}",
                head["quantiles"] - 1,
            )


def _batch_statistics(config: Config) -> Iterator[str]:
    """Statistics of a batch belong to steps that are learnt, in a pass that reads both."""
    head, extractors = config["value_head"], (config["extractor"], config["critic"]["extractor"])
    if not config["agent"]["target_networks"] and head.get("dropout"):
        yield (
            "value_head.dropout: expected 0, because agent.target_networks=false computes targets "
            f"in the pass that learns; got {head['dropout']:g}"
        )
    if any((each or {}).get("normalization") == "batch_renorm" for each in extractors):
        yield (
            "extractor.normalization: expected none or layer, because a step and the next one "
            "would be normalised by different statistics; got 'batch_renorm'"
        )
    for key in ("policy_head", "value_head"):
        is_by_batch = config[key].get("normalization") == "batch_renorm"
        if is_by_batch and (remembers(config["memory"]) or config["auxiliary"]):
            yield (
                f"{key}.normalization: expected none or layer, because with a memory or auxiliary "
                "losses a batch holds reset steps, which belong to no statistic; got 'batch_renorm'"
            )


@dataclass
class TD3Options(DDPGOptions, CriticsOptions, of="agents.td3.TD3"):
    """conf/agent/td3.yaml."""

    target_noise: NonNegative
    target_noise_clip: NonNegative


@dataclass
class SACOptions(CriticsOptions, of="agents.sac.SAC"):
    """conf/agent/sac.yaml."""

    needs_log_probs: ClassVar[bool] = True
    box_heads: ClassVar[tuple[str, ...]] = ("networks.heads.SquashedGaussianHead",)
    criticises_actions: ClassVar[bool] = True
    weighs_every_action: ClassVar[bool] = True

    temperature: Literal["auto"] | Positive
    initial_temperature: Positive
    target_entropy: Literal["auto"] | float
    target_entropy_scale: Positive = 1.0

    @classmethod
    def problems(cls, config: Config) -> Iterator[str]:
        """Add the rule of the target entropy."""
        yield from super().problems(config)
        agent = config["agent"]
        if agent["target_entropy"] != "auto" and agent.get("target_entropy_scale", 1.0) != 1.0:
            yield (
                "agent.target_entropy_scale: expected 1, because agent.target_entropy="
                f"{agent['target_entropy']:g} is not scaled"
            )


def _one_network(config: Config, name: str) -> Iterator[str]:
    if config["share_backbone"]:
        yield (f"share_backbone: expected false, because {name} has one network, nothing to share")
    for part in ("extractor", "memory"):
        if (own := config["critic"][part]) is not None:
            yield (
                f"critic.{part}: expected null, because {name} has one network, which acts and "
                f"is fitted; {part}=... chooses its {part}, got {show(own['_target_'])}"
            )


def _rollout_problems(config: Config) -> Iterator[str]:
    """Minibatches divide the sequences, sequences divide the rollout."""
    agent, num_envs, lengths = config["agent"], config["env"]["num_envs"], sequence_lengths(config)
    rollout_length, longest = agent["rollout_length"], max(lengths.values())
    uneven = [key for key, length in lengths.items() if rollout_length % length]
    for key in uneven:
        of = f"agent.rollout_length {rollout_length}"
        rest = ", or 0 for the whole rollout"
        yield _divides_not(key, lengths[key], rollout_length, of, rest)
    if len({length for length in lengths.values() if length > 1}) > 1:
        actor, critic = lengths.values()
        yield Misfit(
            f"critic.memory.sequence_length: expected {actor} as in memory.sequence_length, "
            f"got {critic}",
            actor,
        )
    num_sequences = rollout_length // longest * num_envs
    if not uneven and num_sequences % agent.get("num_minibatches", 1):
        of = (
            f"{num_sequences} sequences (agent.rollout_length {rollout_length} / "
            f"sequence_length {longest} x env.num_envs {num_envs})"
        )
        yield _divides_not("agent.num_minibatches", agent["num_minibatches"], num_sequences, of)


def _divides_not(key: str, number: int, whole: int, of: str, rest: str = "") -> Misfit:
    near = _divisors_near(number, whole)
    choice = " or ".join(map(str, near)) + rest
    return Misfit(f"{key}: {number} does not divide {of}; choose {choice}", near[0])


def _divisors_near(number: int, whole: int) -> list[int]:
    """Return the divisors of `whole` next to a number that is not one."""
    divisors = [divisor for divisor in range(1, whole + 1) if whole % divisor == 0]
    below = [divisor for divisor in divisors if divisor < number][-1:]
    return below + [divisor for divisor in divisors if divisor > number][:1]


def _stride(config: Config) -> Iterator[str]:
    """States are known between collected stretches; inside one they are recomputed."""
    stride, frequency = replay_stride(config), steps_per_iteration(config)
    if stride % frequency and frequency % stride:
        below = stride // frequency * frequency
        near = [below, below + frequency] if below else _divisors_near(stride, frequency)
        yield Misfit(
            f"agent.sequence_stride: {stride} neither divides agent.train_frequency {frequency} "
            f"nor is a multiple of it; choose {near[0]} or {near[1]}",
            near[0],
        )


def _capacity(config: Config) -> Iterator[str]:
    """A window must fit into the ring, wherever its newest step is."""
    agent, num_envs = config["agent"], config["env"]["num_envs"]
    stride, held = replay_stride(config), replayed_steps(config)
    needed, brought = window_length(config) + stride - 1, steps_per_iteration(config)
    if held < max(needed, brought):
        least = math.ceil(max(needed, brought) / stride) * stride * num_envs
        rest = f" + {stride - 1} up to a start" if stride > 1 else ""
        why = f"agent.train_frequency {brought} brings at once"
        if held < needed:
            why = f"a window needs: {_window(config)}{rest} = {needed}"
        yield Misfit(
            f"agent.buffer_size: {agent['buffer_size']} / env.num_envs {num_envs} holds {held} "
            f"steps of each environment, fewer than {why}; choose at least {least}",
            least,
        )
    elif agent["batch_size"] > (windows := held // stride * num_envs):
        what = "steps" if stride == 1 else f"sequences, {stride} steps apart"
        yield Misfit(
            f"agent.batch_size: {agent['batch_size']} is more than agent.buffer_size "
            f"{agent['buffer_size']} holds: {windows} {what}",
            windows,
        )


def _window(config: Config) -> str:
    agent, length = config["agent"], training_sequence_length(config)
    burn_in, n_step = agent["burn_in"], agent["n_step"]
    return f"agent.burn_in {burn_in} + sequence {length} + agent.n_step {n_step} - 1"


def _beginning(config: Config) -> Iterator[str]:
    """Learning must start before the run ends, with at least one window to sample."""
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
        yield Misfit(
            f"agent.learning_starts: {starts} leaves {first} steps of each of env.num_envs "
            f"{num_envs} at the first update, fewer than a window: {_window(config)} = {window}; "
            f"choose at least {window * num_envs}",
            window * num_envs,
        )
