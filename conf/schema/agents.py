"""The keys of each algorithm, conf/agent/*.yaml, and their rules with other keys."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

from conf.checking.lengths import (
    beginning_problems,
    capacity_problems,
    rollout_problems,
    stride_problems,
)
from conf.checking.steps import Config
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
            yield from rollout_problems(config)
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
        burn_in, before = config["agent"]["burn_in"], [*stride_problems(config)]
        if burn_in and not remembers(config["memory"]):
            before.append(
                "agent.burn_in: expected 0, because memory=none leaves nothing to bring up to "
                f"date; got {burn_in}"
            )
        yield from before or capacity_problems(config)
        yield from beginning_problems(config)


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
