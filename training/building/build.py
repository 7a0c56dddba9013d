"""Builds agents, collectors and evaluators from a validated configuration."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig
from torch import nn

from agents.agent import Agent, Setup
from agents.learning.parts import Networks
from agents.replay.replay import Replay
from conf.checking.steps import steps_per_iteration, training_sequence_length
from conf.schema.registry import options_for
from envs.interface import Environments
from envs.wrappers.frame_stack import frame_stacks
from networks import ranks
from networks.autoencoding.autoencoder import Encoder
from networks.backbone import Backbone
from networks.heads.acting import PolicyHead
from networks.heads.critics import CriticLayers
from networks.heads.values import Head, StateLayers
from networks.memory.memories import Memory
from training.building.backbones import build_backbones, refuse_batch_statistics, refuse_idle
from training.building.environments import build_environments
from training.building.extractors import Own, build_autoencoder
from training.building.heads import (
    build_action_values,
    build_auxiliary,
    build_critics,
    build_policy_head,
    build_reward_scaling,
    build_value_head,
)
from training.building.instantiation import Space, find, plain
from training.building.optimizers import optimizer_factory
from training.evaluation.evaluation import Evaluator
from training.process.memory import free_memory
from training.process.threads import drawing
from training.stream.collect import Collector, Curriculum, own_seeds

_SHARED = ("batch_size", "buffer_size")
"""Numbers of an agent of which each rank has a part."""


def refuse_large_replay(agent: Agent) -> None:
    """Refuse a replay buffer that would run out of memory hours later.

    Raises:
        ValueError: it does not fit; the message has the largest size that does.
    """
    replay = agent.experience()
    if isinstance(replay, Replay):
        free = free_memory()
        replay.refuse_too_large(available=free and free // ranks.on_machine()[1])


def build_agent(
    config: DictConfig, observations: Space, actions: Space, *, num_envs: int, extractor: Own = None
) -> Agent:
    """Build the configured agent for single environments' spaces, on the configured device."""
    weights_seed, agent_seed = np.random.SeedSequence(config.seed).spawn(2)
    agent_seed = [agent_seed, *agent_seed.spawn(ranks.rank())][-1]  # of this rank
    kind: Any = find("agent", config.agent._target_, Agent)
    given = {k: v for k, v in plain(config.agent).items() if k != "_target_"}
    given |= {key: given[key] // ranks.size() for key in _SHARED if key in given}
    options = kind.Options(**given)
    with drawing(int(weights_seed.generate_state(1)[0])):
        networks = build_networks(config, kind, options, (observations, actions), extractor)
    refuse_idle(config, networks)
    device = choose_device(config.device)
    if device.type == "cuda":
        # Null steps cancel biases: with a 10-bit mantissa a reset would leave an error of 5e-4.
        torch.backends.cudnn.allow_tf32 = False
        torch.backends.cudnn.deterministic = True  # the same seed gives the same run
    for network in networks.modules():
        network.to(device)
        for module in network.modules():
            if isinstance(module, Backbone | Head | CriticLayers):
                # An extractor without weights rounds nothing, and acts in numpy.
                rounds = not isinstance(module, Backbone) or [*module.extractor.parameters()]
                module.half_precision = config.precision == "bf16" and bool(rounds)
    setup = Setup(
        optimizer=optimizer_factory(config),
        gradients=plain(config.gradients),
        generator=np.random.default_rng(agent_seed),
        compile=compiles(config, networks, device),
        num_envs=num_envs,
        sequence_length=training_sequence_length(plain(config)),
        reward_scaling=build_reward_scaling(config, num_envs),
        observations=observations,
        frame_stacks=frame_stacks(observations),
    )
    return kind(networks, options, setup).to(device).eval()


def build_agent_for(config: DictConfig, environments: Environments, extractor: Own = None) -> Agent:
    """Build the configured agent for this rank's share of `env.num_envs` such environments."""
    spaces = environments.single_observation_space, environments.single_action_space
    num_envs = config.env.num_envs // ranks.size()
    return build_agent(config, *spaces, num_envs=num_envs, extractor=extractor)


_LARGE = 1_500_000
"""Parameters from which arithmetic decides, and compiling gains nothing (NatureCNN: 1.7M)."""


def compiles(config: DictConfig, networks: Networks, device: torch.device) -> bool:
    """Tell whether to compile the gradient step: with `compile=true` only where it is faster."""
    loses = device.type == "cpu" and slower_compiled(networks)
    return config.compile == "force" or (config.compile and not loses)


def slower_compiled(networks: Networks) -> list[str]:
    """List what makes compiled gradient steps slower, or no faster, on a CPU, as measured."""
    modules = [inner for module in networks.modules() for inner in module.modules()]
    size = sum(p.numel() for part in networks.parts().values() for p in part.parameters())
    slow = {
        "a recurrent memory": any(isinstance(m, Memory) and not m.compilable for m in modules),
        "more than 1.5 million parameters": size > _LARGE,
    }
    return [reason for reason, applies in slow.items() if applies]


def build_networks(
    config: DictConfig, kind: type[Agent], options: Any, spaces: tuple[Space, Space], extractor: Own
) -> Networks:
    """Build an agent's networks, with weights from PyTorch's generator."""
    observations, actions = spaces
    described = options_for(plain(config), "agent")
    is_single = kind.acts_by_values or not described.has_critic
    freezes = not described.reconstructs  # else it is of the agent that is to read the extractor
    actor, critic = build_backbones(
        config, observations, is_single, freezes=freezes, given=extractor
    )
    width = actor.memory.output_size
    critic_width = critic.memory.output_size
    policy_head: PolicyHead
    if kind.acts_by_values:
        policy_head = by_values = build_action_values(config, actions, width)
        value_head = by_values.value_head
    else:
        policy_head = build_policy_head(config, described, actions, width)
        if described.criticises_actions:
            value_head = build_critics(config, described, actions, critic_width)
        else:
            value_head = build_value_head(config, partial(StateLayers, critic_width))
    backbones = {"actor": actor} | ({} if critic is actor else {"critic": critic})
    auxiliary = build_auxiliary(config, backbones, action_size=policy_head.encoded_size)
    own = kind.own_parts(options)
    if described.reconstructs:
        if not isinstance(actor.extractor, Encoder):
            raise ValueError("extractor: agent=autoencoding takes none that is handed in")
        own["decoder"] = build_autoencoder(
            "extractor", config.extractor, actor.inputs, actor.extractor
        )
    networks = Networks(actor, critic, policy_head, value_head, auxiliary, own)
    if described.learns_from == "rollout" and not kind.acts_by_values:
        refuse_batch_statistics(networks)
    return networks


def build_collector(config: DictConfig, environments: Environments, *, index: int = 0) -> Collector:
    """Build the collector of the training environments; other episodes for each `index`."""
    seeds = own_seeds(config.seed, environments.num_envs, purpose="train", index=index)
    length = steps_per_iteration(plain(config))
    curriculum = None
    if stages := plain(config.env).get("curriculum"):
        curriculum = Curriculum(environments, stages)
        curriculum.update(index)
    life_loss = config.env.life_loss
    collector = Collector(environments, length, seeds, life_loss=life_loss, curriculum=curriculum)
    collector.counter.info_keys = tuple(config.tracking.info)
    return collector


def build_evaluator(config: DictConfig, training: Environments) -> Evaluator:
    """Build the evaluator, with its own environments.

    Where no more can be made, a run that is evaluated at its end alone uses those of training.
    """
    evaluation = config.evaluation
    try:
        environments = build_environments(config, num_envs=evaluation.num_envs, for_acting=True)
    except ValueError as error:
        is_shared = not evaluation.interval and evaluation.num_envs == config.env.num_envs
        if not is_shared or config.env.get("curriculum"):
            raise ValueError(
                f"{error}, beside those of training; evaluation.interval=0 "
                f"evaluation.num_envs={config.env.num_envs} evaluates in them, at the end"
            ) from error
        print(f"notice: {error}; the run is evaluated in the environments of training", flush=True)
        environments = training
    keys = tuple(config.tracking.info)
    return Evaluator(environments, config.seed, evaluation.deterministic, info_keys=keys)


def choose_device(name: str) -> torch.device:
    """Resolve `auto`, and a rank's own GPU; refuse a device that is not available.

    Raises:
        ValueError: there is no such device.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    device, count = torch.device(name), torch.cuda.device_count()
    if name == "cuda" and count and ranks.size() > 1:
        return torch.device("cuda", ranks.on_machine()[0] % count)
    if device.type == "cuda" and (device.index or 0) >= count:
        raise ValueError(f"device={name}: this machine has {count} CUDA devices; use device=cpu")
    return device


def parameter_counts(parts: Mapping[str, Sequence[nn.Parameter]]) -> dict[str, int]:
    """Count parameters by part and in total."""
    counts = {part: sum(p.numel() for p in parameters) for part, parameters in parts.items()}
    return {"total": sum(counts.values()), **counts}
