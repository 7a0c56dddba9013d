"""The keys of each algorithm, conf/agent/*.yaml, and their rules with other keys."""

from typing import ClassVar, Literal

from conf.checking.lengths import (
    beginning_problems,
    capacity_problems,
    rollout_problems,
    stride_problems,
)
from conf.schema.extractors import LAYERS_OFF, is_autoencoder
from conf.schema.memories import remembers
from conf.schema.parts import Part
from conf.schema.types import (
    Config,
    Count,
    Fraction,
    Misfit,
    NonNegative,
    Path,
    Positive,
    PositiveCount,
    PositiveFraction,
    ReplayRatio,
    Rule,
    Rules,
    Schedule,
    at,
)


class AgentOptions(Part, group="agent"):
    """Keys of every agent, a user's own included.

    Attributes:
        learns_from: the returns of its latest rollout, or targets from a replay buffer.
        needs_log_probs: its losses read log-probabilities of actions.
        box_heads: the policy heads that it takes for continuous actions, the first by default; none
            if it acts by action values.
        criticises_actions: its critics read actions.
        weighs_every_action: its losses are sums over all discrete actions.
        has_critic: it has a second network, for values.
        reconstructs: it trains the extractor as an autoencoder's encoder, with a decoder.
    """

    learns_from: ClassVar[Literal["rollout", "replay"]] = "rollout"
    needs_log_probs: ClassVar[bool] = False
    box_heads: ClassVar[tuple[str, ...]] = (
        "networks.heads.GaussianHead",
        "networks.heads.SquashedGaussianHead",
    )
    criticises_actions: ClassVar[bool] = False
    weighs_every_action: ClassVar[bool] = False
    has_critic: ClassVar[bool] = True
    reconstructs: ClassVar[bool] = False

    @staticmethod
    def problems(config: Config) -> Rules:
        """List the rules that a typed configuration breaks, one line each.

        Those of subclasses add to these.
        """
        if "rollout_length" in config["agent"]:
            yield from rollout_problems(config)
        elif "train_frequency" not in config["agent"]:
            yield "agent: expected the steps between two updates: rollout_length or train_frequency"


class A2COptions(AgentOptions, of="agents.a2c.A2C"):
    """conf/agent/a2c.yaml."""

    needs_log_probs: ClassVar[bool] = True

    discount: Fraction
    gae_lambda: Fraction
    rollout_length: PositiveCount
    value_coefficient: NonNegative
    entropy_coefficient: NonNegative
    entropy_coefficient_schedule: Schedule
    normalize_advantages: bool


class PPOOptions(A2COptions, of="agents.ppo.PPO"):
    """conf/agent/ppo.yaml."""

    num_epochs: PositiveCount
    num_minibatches: PositiveCount
    clip_range: Positive
    clip_range_schedule: Schedule
    value_clip_range: Positive | None
    target_kl: Positive | None


class EpsilonGreedyOptions(AgentOptions):
    """Keys of epsilon-greedy agents."""

    box_heads: ClassVar[tuple[str, ...]] = ()

    discount: Fraction
    dueling: bool
    epsilon: Fraction
    final_epsilon: Fraction
    epsilon_fraction: Fraction

    @staticmethod
    def problems(config: Config) -> Rules:
        """Refuse a policy, and a second network."""
        agent, name = config["agent"], config["agent"]["_target_"].rpartition(".")[2]
        if agent["final_epsilon"] > agent["epsilon"]:
            falls = f"{agent['final_epsilon']:g} > {agent['epsilon']:g}"
            yield f"agent.final_epsilon: expected at most agent.epsilon: {falls}"
        yield "policy_head._target_", "auto", f"{name} has values of actions for a policy"
        why = f"{name} acts by its values; their layers are value_head.hidden_sizes"
        yield "policy_head.hidden_sizes", [], why
        for part, losses in config["gradients"].items():
            if losses == ["actor"]:
                why = f"{name} has no policy loss that could train it; [] trains nothing"
                yield f"gradients.{part}: expected critic among them, because {why}"
        yield "share_backbone", False, f"{name} has one network, nothing to share"
        why = f"{name} has one network, of extractor= and memory="
        yield "critic.extractor critic.memory", None, why


class BufferOptions(AgentOptions):
    """Keys of agents that learn from a replay buffer."""

    learns_from: ClassVar[Literal["rollout", "replay"]] = "replay"

    buffer_size: PositiveCount
    batch_size: PositiveCount
    learning_starts: Count
    train_frequency: PositiveCount
    replay_ratio: ReplayRatio

    @staticmethod
    def problems(config: Config) -> Rules:
        """List what does not fit a replay buffer."""
        before: list[Rule] = [*stride_problems(config)]
        if config["agent"].get("burn_in") and not remembers(config["memory"]):
            before.append(("agent.burn_in", 0, "memory=none leaves nothing to bring up to date"))
        yield from before or capacity_problems(config)
        yield from beginning_problems(config)


class SequenceOptions(BufferOptions):
    """Keys of agents that replay sequences with a memory."""

    sequence_length: PositiveCount
    burn_in: Count
    stored_state: bool
    sequence_stride: PositiveCount


class ReplayOptions(SequenceOptions):
    """Keys of agents that learn values from a replay buffer."""

    discount: Fraction
    n_step: PositiveCount
    target_update_interval: PositiveCount
    polyak_rate: PositiveFraction
    prioritized: bool
    priority_exponent: Fraction
    importance_exponent: Fraction
    priority_max_share: Fraction
    random_shift: Count = 0

    @staticmethod
    def problems(config: Config) -> Rules:
        """Refuse to shift images of different sizes alike."""
        if config["critic"].get("observation") == "full":
            why = "with critic.observation=full actor and critic read images of their own"
            yield "agent.random_shift", 0, why


class BehaviourOptions(BufferOptions):
    """Keys of agents that learn, without rewards and values, from what another policy does.

    Attributes:
        source: the policy that acts: `random`, or a finished run.
    """

    has_critic: ClassVar[bool] = False
    # What a replay learner with values also has.
    discount: ClassVar[float] = 1.0
    n_step: ClassVar[int] = 1
    target_networks: ClassVar[bool] = False
    target_update_interval: ClassVar[int | None] = None
    polyak_rate: ClassVar[float] = 1.0
    prioritized: ClassVar[bool] = False
    importance_exponent: ClassVar[float] = 0.0
    priority_max_share: ClassVar[float] = 0.0
    random_shift: ClassVar[int] = 0

    source: Path | None

    @staticmethod
    def problems(config: Config) -> Rules:
        """Refuse what rewards or a critic would be for."""
        name = config["agent"]["_target_"].rpartition(".")[2]
        yield "normalize_rewards", False, f"{name} learns from no rewards"
        yield "clip_rewards", None, f"{name} learns from no rewards"
        yield "share_backbone", False, f"{name} has one network, nothing to share"
        why = f"{name} has one network, of extractor= and memory="
        yield "critic.extractor critic.memory", None, why
        yield "critic.observation", "same", f"{name} has no critic"


class AutoencodingOptions(BehaviourOptions, of="agents.autoencoding.Autoencoding"):
    """conf/agent/autoencoding.yaml."""

    reconstructs: ClassVar[bool] = True
    sequence_length: ClassVar[int] = 1
    burn_in: ClassVar[int] = 0
    stored_state: ClassVar[bool] = False
    sequence_stride: ClassVar[int] = 1

    @staticmethod
    def problems(config: Config) -> Rules:
        """Refuse what has no part in reconstructing single observations."""
        if not is_autoencoder(config["extractor"]):
            target = config["extractor"]["_target_"]
            yield f"extractor: expected autoencoder or vae, for agent=autoencoding; got {target}"
        if remembers(config["memory"]):
            yield "memory: expected none, because Autoencoding trains the extractor alone"
        if config["auxiliary"]:
            yield "auxiliary: expected none, because Autoencoding reconstructs observations already"


class CloningOptions(BehaviourOptions, SequenceOptions, of="agents.cloning.Cloning"):
    """conf/agent/cloning.yaml."""

    needs_log_probs: ClassVar[bool] = True

    deterministic: bool

    @staticmethod
    def problems(config: Config) -> Rules:
        """Ask for the run to clone."""
        if (source := config["agent"]["source"]) in (None, "random"):
            found = "missing" if source is None else "random actions cannot be learnt"
            yield f"agent.source: {found}; name the run whose actions are to be learnt"


class DQNOptions(EpsilonGreedyOptions, ReplayOptions, of="agents.dqn.DQN"):
    """conf/agent/dqn.yaml."""

    double_q: bool
    noisy: bool
    noisy_sigma: Positive
    value_rescaling: bool

    @staticmethod
    def problems(config: Config) -> Rules:
        """Refuse options of layers that noisy ones do not have."""
        if config["agent"]["noisy"]:
            for key, off in LAYERS_OFF.items():
                yield f"value_head.{key}", off, "agent.noisy=true has no such layers"


class PQNOptions(EpsilonGreedyOptions, of="agents.pqn.PQN"):
    """conf/agent/pqn.yaml."""

    td_lambda: Fraction
    rollout_length: PositiveCount
    num_epochs: PositiveCount
    num_minibatches: PositiveCount


class DDPGOptions(ReplayOptions, of="agents.ddpg.DDPG"):
    """conf/agent/ddpg.yaml."""

    box_heads: ClassVar[tuple[str, ...]] = ("networks.heads.DeterministicHead",)
    criticises_actions: ClassVar[bool] = True

    exploration_noise: NonNegative


class CriticsOptions(ReplayOptions):
    """Keys of agents with several critics of actions."""

    num_critics: PositiveCount
    critic_subset: PositiveCount | None = None
    dropped_quantiles: Count = 0
    target_networks: bool = True
    policy_delay: PositiveCount = 1

    @staticmethod
    def problems(config: Config) -> Rules:
        """List what does not fit several critics."""
        agent, quantiles = config["agent"], config["value_head"].get("quantiles")
        subset, count = agent["critic_subset"], agent["num_critics"]
        if subset is not None and subset > count:
            most = f"expected at most agent.num_critics {count}, got {subset}"
            yield Misfit(f"agent.critic_subset: {most}", count)
        dropped = agent["dropped_quantiles"]
        if dropped and quantiles is None:
            yield f"agent.dropped_quantiles: expected 0 without value_head=quantile, got {dropped}"
        elif dropped and dropped >= quantiles:
            most = f"expected fewer than value_head.quantiles {quantiles}, got {dropped}"
            yield Misfit(f"agent.dropped_quantiles: {most}", quantiles - 1)
        yield from _batch_statistics(config)


def _batch_statistics(config: Config) -> Rules:
    """Statistics of a batch belong to steps that are learnt, in a pass that reads both."""
    if not config["agent"]["target_networks"]:
        why = "agent.target_networks=false computes targets in the pass that learns"
        yield "value_head.dropout", 0, why
    for key in ("extractor", "critic.extractor"):
        if at(config, f"{key}.normalization") == "batch_renorm":
            why = "a step and the next one would be normalised by different statistics"
            yield f"{key}.normalization", "none", "layer", why
    if remembers(config["memory"]) or config["auxiliary"]:
        keys = "policy_head.normalization value_head.normalization"
        yield keys, "none", "layer", "memories and auxiliary losses bring reset steps into a batch"


class TD3Options(DDPGOptions, CriticsOptions, of="agents.td3.TD3"):
    """conf/agent/td3.yaml."""

    target_noise: NonNegative
    target_noise_clip: NonNegative


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

    @staticmethod
    def problems(config: Config) -> Rules:
        """Refuse to scale a number."""
        if (target := config["agent"]["target_entropy"]) != "auto":
            yield "agent.target_entropy_scale", 1, f"agent.target_entropy={target:g} is not scaled"
