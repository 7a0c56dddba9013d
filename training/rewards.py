"""Builds what scales the rewards that are learnt from."""

from omegaconf import DictConfig

from networks.normalization import NoRewardScaling, RewardClipping, RewardScaling


def build_reward_scaling(
    config: DictConfig, *, num_envs: int
) -> RewardScaling | RewardClipping | NoRewardScaling:
    """Build what `normalize_rewards` or `clip_rewards` asks for."""
    if config.normalize_rewards:
        return RewardScaling(num_envs=num_envs, discount=config.agent.discount)
    if config.clip_rewards is not None:
        return RewardClipping(limit=config.clip_rewards)
    return NoRewardScaling()
