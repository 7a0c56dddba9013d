"""From a validated configuration to live objects: the one place that reads it to make them."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium.vector import VectorEnv
from hydra.utils import get_class
from omegaconf import DictConfig
from torch import Tensor, nn

from agents.agent import Agent
from agents.optimizer import Optimizer, RuleFactory
from agents.schedules import schedule
from agents.update_rules import SGD, Adam, RMSprop, RMSpropTF, TorchRule
from conf.combinations import training_sequence_length
from envs.seeding import environment_seeds
from networks.backbone import Backbone
from networks.inputs import make_input
from networks.memory import Memory
from networks.normalization import NoRewardScaling, RewardClipping, RewardScaling
from networks.policy_heads import make_policy_head
from training.collect import Collector
from training.environments import build_environments
from training.evaluation import Evaluator
from training.extractors import build_extractor, make_normalization
from training.instantiation import make, plain

_RULES: dict[str, Any] = {
    "torch.optim.Adam": partial(Adam, decoupled=False),
    "torch.optim.AdamW": partial(Adam, decoupled=True),
    "torch.optim.RMSprop": RMSprop,
    "torch.optim.SGD": SGD,
    "agents.update_rules.RMSpropTF": RMSpropTF,
}
"""Optimizers that we write out; any other class is called as it is."""

_OPTIMIZER_KEYS = {
    "_target_",
    "learning_rate",
    "schedule",
    "final_learning_rate",
    "max_grad_norm",
    "weight_decay",
    "groups",
}
_LOOP_KEYS = {"_target_", "rollout_length"}


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
    device = choose_device(config.device)
    if device.type == "cuda":
        # Null steps cancel biases: with 10 bits of mantissa a reset would leave 5e-4 behind.
        torch.backends.cudnn.allow_tf32 = False
    for module in (actor, critic, policy_head, value_head):
        module.to(device)
    options = {k: v for k, v in plain(config.agent).items() if k not in _LOOP_KEYS}
    scaling = _reward_scaling(config, num_envs)
    agent: Agent = get_class(config.agent._target_)(
        actor=actor,
        critic=critic,
        policy_head=policy_head,
        value_head=value_head,
        optimizer=_optimizer_factory(config.optimizer),
        reward_scaling=scaling.to(device),
        generator=np.random.default_rng(agent_seed),
        num_envs=num_envs,
        sequence_length=training_sequence_length(plain(config)),
        compile=config.compile,
        **_with_schedules(options),
    )
    return agent


def _reward_scaling(config: DictConfig, num_envs: int) -> nn.Module:
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
        extractor, width = build_extractor(
            f"{key}extractor", extractor_config, inputs.shape, inputs.layout
        )
        options = {k: v for k, v in plain(memory_config).items() if k != "sequence_length"}
        memory = make("memory", options, width)
        if not isinstance(memory, Memory):
            raise ValueError(f"memory: {options['_target_']} is no networks.memory.Memory")
        return Backbone(
            inputs=inputs, normalization=normalization, extractor=extractor, memory=memory
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


def _optimizer_factory(config: DictConfig) -> Any:
    options = plain(config)
    common = {key: options[key] for key in _OPTIMIZER_KEYS & options.keys()}
    own = {key: value for key, value in options.items() if key not in _OPTIMIZER_KEYS}
    limit = common["max_grad_norm"]
    return partial(
        Optimizer,
        rule=_rule_factory(common["_target_"], own),
        learning_rate=schedule(
            common["schedule"], common["learning_rate"], common["final_learning_rate"]
        ),
        max_grad_norm=float("inf") if limit is None else limit,
        weight_decay=common.get("weight_decay", 0.0),
        groups=common["groups"] or {},
    )


def _rule_factory(target: str, options: Mapping[str, Any]) -> RuleFactory:
    written_out = _RULES.get(target)
    if written_out is not None:
        return lambda parameters, decay: written_out(parameters, weight_decay=decay, **options)

    def make_rule(parameters: Tensor, decay: float) -> TorchRule:
        try:
            factory = partial(get_class(target), **options)
            return TorchRule(parameters, factory=factory, weight_decay=decay)
        except (ImportError, TypeError, ValueError) as error:
            reason = " ".join(str(error).splitlines()[0].split())
            raise ValueError(
                f"optimizer: cannot make {target}: {reason}; keys that it does not take are "
                f"removed with a tilde: {' '.join(f'~optimizer.{key}' for key in options)}"
            ) from error

    return make_rule


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
