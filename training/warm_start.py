"""Starts training from weights that exist: of a run, of behaviour cloning, of a file."""

from pathlib import Path

from agents.agent import Agent
from training.checkpoint import part_of
from training.weight_files import read_tensors

_OF_A_RUN = ("optimizer", "preparation", "clock", "target", "reward_scaling")
"""What an agent keeps of its own course; a warm start takes networks and their normalisation."""


def warm_start(agent: Agent, source: Path) -> str:
    """Give an agent the weights found under `source` by their names; say which there were.

    Args:
        source: as `training.weight_files.read_tensors` takes it.

    Raises:
        ValueError: no weights are there, none has a name of the agent's, or one has another shape.
    """
    tensors = read_tensors("init_from", source)
    found = part_of(tensors, "agent") or tensors
    own = {k: v for k, v in agent.state_dict().items() if k.partition(".")[0] not in _OF_A_RUN}
    common = {name: tensor for name, tensor in found.items() if name in own}
    if not common:
        raise ValueError(
            f"init_from={source}: none of its {len(found)} tensors has a name of this agent's, "
            f"such as {next(iter(own))}"
        )
    for name, tensor in common.items():
        if tensor.shape != own[name].shape:
            raise ValueError(
                f"init_from={source}: {name} has shape {tuple(tensor.shape)} there and "
                f"{tuple(own[name].shape)} here; choose the network that the weights are of"
            )
    agent.load_state_dict(common, strict=False)
    missing = sorted({_part(name) for name in own.keys() - common.keys()})
    rest = f"; as drawn: {', '.join(missing)}" if missing else ""
    return f"started from {source}: {len(common)} of {len(own)} tensors{rest}"


def _part(name: str) -> str:
    """Name the part that a tensor belongs to: `actor.memory`, `value_head`."""
    first, second, *_ = [*name.split("."), ""]
    return f"{first}.{second}" if first in ("actor", "critic") else first
