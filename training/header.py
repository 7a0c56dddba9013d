"""What a run says of itself before it begins: what is trained, where, how large, and by what."""

import math
from collections.abc import Mapping

import torch
from omegaconf import DictConfig

from agents.agent import Agent
from agents.networks import trained_by
from networks.backbone import Backbone
from networks.memory import Memory
from training.outline import outline

_LARGE = 1_500_000
"""Parameters from which the fused optimizer beats compiled code (NatureCNN, 1.7 million)."""


def header(config: DictConfig, agent: Agent, parameters: Mapping[str, int]) -> str:
    """Say what is trained and where, layer by layer, how large it is, and which losses train it."""
    parts = ", ".join(f"{part} {count:,}" for part, count in parameters.items() if count)
    return (
        f"{type(agent).__name__} on {config.env.id}, {config.total_env_steps:,} steps, "
        f"{agent.device}, {torch.get_num_threads()} thread(s), seed {config.seed}\n"
        f"{outline(agent)}\n"
        f"parameters: {parts}\n"
        f"gradients: {_gradients(agent)}"
        + (_compilation(agent, parameters["total"]) if config.compile else "")
    )


def _compilation(agent: Agent, size: int) -> str:
    """Say what compiling costs, and where it was measured not to pay."""
    slow = []
    if any(isinstance(module, Memory) and not module.compilable for module in agent.modules()):
        slow.append("a recurrent memory")
    if size > _LARGE:
        slow.append("more than 1.5 million parameters")
    is_slower = slow and agent.device.type == "cpu"
    return (
        "\nnotice: compile=true: the first gradient step waits for the compiler, half a minute or "
        "so; a few seconds once this machine has compiled the same before"
        + (f". With {' and '.join(slow)} compile=false was measured faster" if is_slower else "")
    )


def _gradients(agent: Agent) -> str:
    """Write `extractor <- actor, critic; ...`: every module and the losses that train it."""
    networks = agent.networks
    frozen = {
        ("extractor" if networks.shares_backbone else f"{name}.extractor"): _frozen(backbone)
        for name, backbone in networks.backbones.items()
    }
    return "; ".join(
        f"{module} <- {', '.join(losses) or 'nothing'}{frozen.get(module, '')}"
        for module, losses in trained_by(networks, agent.optimizer.routes).items()
    )


def _frozen(backbone: Backbone) -> str:
    if math.isinf(backbone.frozen_until):
        return " (frozen)"
    return f" (frozen until {backbone.frozen_until:,.0f} steps)" if backbone.frozen_until else ""
