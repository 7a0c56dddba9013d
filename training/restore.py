"""Brings an agent back from a run directory, executing nothing that is stored there."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from agents.agent import Agent
from conf.resolution import frozen
from training.build import build_agent
from training.checkpoint import load_checkpoint
from training.environments import build_environments
from training.policy import Policy
from training.threads import set_num_threads

_KNOWN_PACKAGES = ("ale_py", "gymnasium_robotics", "minatar", "minigrid", "popgym")
"""Packages of environments that anybody's run may import."""


def load_agent(
    run: Path,
    *,
    checkpoint: Literal["last", "best"],
    device: str,
    trusted_packages: Sequence[str],
) -> tuple[DictConfig, Agent]:
    """Build the agent of a run and load its weights.

    The run's configuration is validated like one that was typed, and it cannot declare packages
    trusted: the caller does.

    Raises:
        ValueError: the configuration is missing or wrong, or its environment cannot be made.
        DamagedCheckpoint: the weights are missing or damaged.
    """
    path = run / "config.yaml"
    try:
        config = OmegaConf.load(path)
    except FileNotFoundError as error:
        raise ValueError(f"no run in {run}: {path.name} is missing") from error
    except (YAMLError, OmegaConfBaseException, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is damaged: {str(error).splitlines()[0]}") from error
    if not isinstance(config, DictConfig):
        raise ValueError(f"{path} is damaged: it holds no configuration")
    config.trusted_packages = list(trusted_packages)
    config.device, config.compile = device, False
    config = frozen(config)
    _refuse_unknown_packages(config.env.packages, trusted_packages)
    tensors, _ = load_checkpoint(run / "checkpoints" / checkpoint)
    environments = build_environments(config, num_envs=1)
    try:
        agent = build_agent(
            config,
            environments.single_observation_space,
            environments.single_action_space,
            num_envs=config.env.num_envs,
        )
    finally:
        environments.close()
    try:
        agent.load_state_dict(tensors)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"the weights in {run} are of another network: {reason}") from error
    return config, agent


def _refuse_unknown_packages(packages: Sequence[str], trusted_packages: Sequence[str]) -> None:
    """Keep a run's configuration from importing whatever it names: importing executes."""
    for package in packages:
        name = package.partition(".")[0]
        if name not in (*_KNOWN_PACKAGES, *trusted_packages):
            raise ValueError(
                f"env.packages: the run imports {package}; if you trust it: "
                f"trusted_packages=[{name}]"
            )


def load_policy(
    run: Path,
    *,
    checkpoint: Literal["last", "best"],
    device: str,
    trusted_packages: Sequence[str],
) -> Policy:
    """Load the policy of a run, ready to be called; errors as `load_agent`."""
    config, agent = load_agent(
        run, checkpoint=checkpoint, device=device, trusted_packages=trusted_packages
    )
    set_num_threads(config.num_threads, agent)
    return Policy(config, agent)
