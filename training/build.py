"""From a validated configuration to live objects: the one place that reads it to make them."""

from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium.vector import VectorEnv
from hydra.utils import get_class
from omegaconf import DictConfig
from torch import nn

from agents.actor_critic import ActorCritic, still
from agents.agent import Agent
from agents.on_policy import Preparation
from agents.schedules import schedule
from conf.steps import training_sequence_length
from envs.seeding import environment_seeds
from networks.backbone import Backbone
from networks.inputs import make_input
from networks.memory import Memory
from networks.normalization import NoRewardScaling, RewardClipping, RewardScaling
from networks.policy_heads import make_policy_head
from training.auxiliary import build_auxiliary
from training.collect import Collector
from training.environments import build_environments
from training.evaluation import Evaluator
from training.extractors import build_extractor, make_normalization
from training.instantiation import make, plain
from training.optimizers import frozen_until, optimizer_factory

_OF_THE_RETURNS = ("discount", "gae_lambda")
_NOT_THE_AGENTS = {"_target_", "rollout_length", *_OF_THE_RETURNS}


def build_agent(
    config: DictConfig,
    observation_space: gymnasium.Space[Any],
    action_space: gymnasium.Space[Any],
    *,
    num_envs: int,
) -> Agent:
    """Build the configured agent for single environments' spaces, on the configured device."""
    weights_seed, agent_seed = np.random.SeedSequence(config.seed).spawn(2)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(int(weights_seed.generate_state(1)[0]))
        actor, critic = _build_backbones(config, observation_space)
        policy_head = make_policy_head(
            action_space, actor.memory.output_size, **plain(config.policy_head)
        )
        value_head = make("value_head", config.value_head, critic.memory.output_size)
        auxiliary = build_auxiliary(config, actor, critic, action_size=policy_head.encoded_size)
    _refuse_idle(config, actor, critic)
    networks = ActorCritic(actor, critic, policy_head, value_head, auxiliary)
    for module in still(networks, config.gradients):
        module.requires_grad_(False)
    device = choose_device(config.device)
    if device.type == "cuda":
        # Null steps cancel biases: with 10 bits of mantissa a reset would leave 5e-4 behind.
        torch.backends.cudnn.allow_tf32 = False
        torch.backends.cudnn.deterministic = True  # a seed is a run, convolutions included
    for module in (actor, critic, policy_head, value_head, auxiliary):
        module.to(device)
    options = {k: v for k, v in plain(config.agent).items() if k not in _NOT_THE_AGENTS}
    agent: Agent = get_class(config.agent._target_)(
        networks=networks,
        preparation=_build_preparation(config, networks, num_envs=num_envs).to(device),
        optimizer=optimizer_factory(config),
        generator=np.random.default_rng(agent_seed),
        compile=config.compile,
        **_with_schedules(options),
    )
    return agent


def _build_preparation(config: DictConfig, networks: ActorCritic, *, num_envs: int) -> Preparation:
    return Preparation(
        networks,
        reward_scaling=_build_reward_scaling(config, num_envs=num_envs),
        num_envs=num_envs,
        sequence_length=training_sequence_length(plain(config)),
        **{name: config.agent[name] for name in _OF_THE_RETURNS},
    )


def _build_reward_scaling(
    config: DictConfig, *, num_envs: int
) -> RewardScaling | RewardClipping | NoRewardScaling:
    if config.normalize_rewards:
        return RewardScaling(num_envs=num_envs, discount=config.agent.discount)
    if config.clip_rewards is not None:
        return RewardClipping(limit=config.clip_rewards)
    return NoRewardScaling()


def build_collector(config: DictConfig, environments: VectorEnv[Any, Any, Any]) -> Collector:
    """Build what steps the training environments."""
    return Collector(
        environments,
        rollout_length=config.agent.rollout_length,
        seeds=environment_seeds(config.seed, environments.num_envs, purpose="train"),
        life_loss=config.env.life_loss,
    )


def build_evaluator(config: DictConfig) -> Evaluator:
    """Build what evaluates, with environments of its own."""
    return Evaluator(
        build_environments(config, num_envs=config.evaluation.num_envs),
        seed=config.seed,
        deterministic=config.evaluation.deterministic,
    )


def choose_device(name: str) -> torch.device:
    """Resolve `auto`; refuse a device that this machine lacks.

    Raises:
        ValueError: there is no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(
            f"device={name}: this machine has {torch.cuda.device_count()} CUDA devices; "
            "use device=cpu"
        )
    return device


def _build_backbones(
    config: DictConfig, observation_space: gymnasium.Space[Any]
) -> tuple[Backbone, Backbone]:
    inputs = make_input(observation_space)
    normalization = make_normalization(inputs, learns=config.normalize_observations)

    def build(extractor_config: DictConfig, memory_config: DictConfig, key: str) -> Backbone:
        own = {k: v for k, v in plain(extractor_config).items() if k != "freeze"}
        extractor, width = build_extractor(f"{key}extractor", own, inputs.shape, inputs.layout)
        options = {k: v for k, v in plain(memory_config).items() if k != "sequence_length"}
        memory = make("memory", options, width)
        if not isinstance(memory, Memory):
            raise ValueError(f"memory: {options['_target_']} is no networks.memory.Memory")
        return Backbone(
            inputs=inputs,
            normalization=normalization,
            extractor=extractor,
            feature_size=width,
            memory=memory,
            frozen_until=frozen_until(extractor_config.get("freeze", False)),
            half_precision=config.precision == "bf16",
        )

    actor = build(config.extractor, config.memory, "")
    if config.share_backbone:
        return actor, actor
    own = config.critic
    return actor, build(
        own.extractor or config.extractor,
        own.memory or config.memory,
        "critic." if own.extractor else "",
    )


def _refuse_idle(config: DictConfig, actor: Backbone, critic: Backbone) -> None:
    """Refuse to freeze what has no weights, and losses that could train nothing else.

    Raises:
        ValueError: one line that names the key and the remedy.
    """
    if any(True for each in (actor, critic) for _ in each.extractor.parameters()):
        return
    kind = config.extractor._target_
    if config.extractor.get("freeze", False):
        raise ValueError(
            f"extractor.freeze: {kind} has no weights to freeze; set extractor.freeze=false"
        )
    if config.auxiliary:
        raise ValueError(
            f"auxiliary: expected none, because {kind} has no weights that they could train; use "
            "extractor=mlp"
        )


def _with_schedules(options: Mapping[str, Any]) -> dict[str, Any]:
    """Turn each pair `x`, `x_schedule` into one schedule `x`, which ends at 0."""
    kinds = {
        key.removesuffix("_schedule"): kind
        for key, kind in options.items()
        if key.endswith("_schedule")
    }
    return {
        key: schedule(kinds[key], value, 0.0) if key in kinds else value
        for key, value in options.items()
        if not key.endswith("_schedule")
    }


def parameter_counts(parts: Mapping[str, Sequence[nn.Parameter]]) -> dict[str, int]:
    """Count parameters per part, and in total."""
    counts = {part: sum(p.numel() for p in parameters) for part, parameters in parts.items()}
    return {"total": sum(counts.values()), **counts}
