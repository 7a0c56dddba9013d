"""Loads an agent from a run directory without executing stored code."""

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Literal

from omegaconf import DictConfig, OmegaConf

from agents.agent import Agent
from conf.checking.refusals import InvalidConfiguration
from conf.checking.trust import package_problems
from conf.checking.validation import checked
from conf.composing.configuration import read_only
from conf.composing.resumption import stored_configuration
from conf.composing.stored import nodes
from envs.spaces import one_line
from training.building.build import build_agent_for
from training.building.environments import build_environments
from training.evaluation.policy import Policy
from training.process.threads import set_num_threads
from training.saving.checkpoint import load_checkpoint, part_of

Which = Literal["last", "best"]


def load_agent(
    run: Path, *, trusted_packages: Sequence[str], checkpoint: Which = "last", device: str = "cpu"
) -> tuple[DictConfig, Agent]:
    """Build the agent of a run and load its weights.

    The run's configuration is validated like a command line. It cannot declare packages
    trusted: only the caller can.

    Raises:
        ValueError: the configuration is missing or wrong, or its environment cannot be made.
        DamagedCheckpoint: the weights are missing or damaged.
    """
    own = {"trusted_packages": list(trusted_packages), "device": device, "compile": False}
    typed, problems = checked({**stored_configuration(run), **own})
    problems = problems or package_problems(typed["env"]["packages"], trusted_packages)
    if problems:
        raise InvalidConfiguration(problems)
    for _, node in nodes([typed["extractor"], typed["critic"]["extractor"]]):
        if isinstance(node, dict) and node.get("weights"):
            node["weights"] = None  # they are in the checkpoint
        if isinstance(node, dict) and isinstance(node.get("pretrain"), dict):
            node["pretrain"]["frames"] = 0
    config = read_only({**typed, "init_from": None})
    tensors, _ = load_checkpoint(run / "checkpoints" / checkpoint)
    # For its spaces alone, without processes.
    is_async = config.env.vectorization == "async"
    single = with_env(config, vectorization="sync") if is_async else config
    with closing(build_environments(single, num_envs=1)) as environments:
        agent = build_agent_for(config, environments)
    try:
        agent.load_state_dict(part_of(tensors, "agent"))
    except RuntimeError as error:
        reason = one_line(error)
        raise ValueError(f"the weights in {run} are of another network: {reason}") from error
    return config, agent


def with_env(config: DictConfig, **env: Any) -> DictConfig:
    """Return a run's configuration with other values in the group `env`."""
    changed = OmegaConf.merge(config, {"env": env})
    assert isinstance(changed, DictConfig)
    return changed


def load_policy(
    run: Path, *, trusted_packages: Sequence[str], checkpoint: Which = "last", device: str = "cpu"
) -> Policy:
    """Load a run's policy; errors as of `load_agent`."""
    config, agent = load_agent(
        run, trusted_packages=trusted_packages, checkpoint=checkpoint, device=device
    )
    set_num_threads(config.num_threads, agent)
    return Policy(config, agent)
