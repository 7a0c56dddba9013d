"""What an agent starts from: weights that exist, and what is pre-trained for it."""

from dataclasses import dataclass, field
from pathlib import Path

from omegaconf import DictConfig

from agents.agent import Agent
from training.pretraining.stages import Files, SavedPretraining
from training.warm_start import warm_start
from training.weight_files import frames_behind
from training.weights import load_weights


@dataclass
class Start:
    """How an agent came to its first weights.

    Attributes:
        notices: lines to print.
        env_steps: of the pre-training behind the weights, to be counted where runs are compared.
    """

    notices: list[str] = field(default_factory=list)
    env_steps: int = 0


def take_weights(config: DictConfig, agent: Agent) -> Start:
    """Give a new agent the weights that its configuration names.

    Raises:
        ValueError: in one line, why they cannot be taken.
    """
    start = Start()
    if config.init_from is not None:
        start.notices.append(warm_start(agent, Path(config.init_from)))
        start.env_steps += frames_behind(Path(config.init_from))
    notices, env_steps = load_weights(config, agent)
    start.notices += notices
    start.env_steps += env_steps
    return start


def begun_pretraining(config: DictConfig, directory: Path) -> SavedPretraining | None:
    """Read the pre-training that a run goes on with; None where there is none.

    Raises:
        DamagedCheckpoint: it is over, and its weights are damaged.
    """
    return None if config.resume is None else Files(directory).saved()
