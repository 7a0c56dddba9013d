"""The keys of each algorithm: conf/agent/*.yaml."""

from dataclasses import dataclass

from conf.schema.types import (
    Count,
    Fraction,
    NonNegative,
    Positive,
    PositiveCount,
    PositiveFraction,
    ReplayRatio,
    Schedule,
)


@dataclass
class PPOOptions:
    """conf/agent/ppo.yaml."""

    discount: Fraction
    gae_lambda: Fraction
    rollout_length: PositiveCount
    num_epochs: PositiveCount
    num_minibatches: PositiveCount
    clip_range: Positive
    clip_range_schedule: Schedule
    value_clip_range: Positive | None
    value_coefficient: NonNegative
    entropy_coefficient: NonNegative
    entropy_coefficient_schedule: Schedule
    normalize_advantages: bool
    target_kl: Positive | None


@dataclass
class A2COptions:
    """conf/agent/a2c.yaml."""

    discount: Fraction
    gae_lambda: Fraction
    rollout_length: PositiveCount
    value_coefficient: NonNegative
    entropy_coefficient: NonNegative
    entropy_coefficient_schedule: Schedule
    normalize_advantages: bool


@dataclass
class EpsilonGreedyOptions:
    """What agents with action values have in common: now and then they act at random."""

    discount: Fraction
    dueling: bool
    epsilon: Fraction
    final_epsilon: Fraction
    epsilon_fraction: Fraction


@dataclass
class DQNOptions(EpsilonGreedyOptions):
    """conf/agent/dqn.yaml."""

    n_step: PositiveCount
    double_q: bool
    noisy: bool
    noisy_sigma: Positive
    value_rescaling: bool
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


@dataclass
class PQNOptions(EpsilonGreedyOptions):
    """conf/agent/pqn.yaml."""

    td_lambda: Fraction
    rollout_length: PositiveCount
    num_epochs: PositiveCount
    num_minibatches: PositiveCount
