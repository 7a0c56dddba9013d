"""One session of `pretrain.py`: builds the network, pre-trains it, and reports."""

import shlex
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from gymnasium.vector import VectorEnv
from omegaconf import DictConfig

from conf.checking.trust import trust_words
from training.pretraining.cloning import Cloning
from training.pretraining.fitting import HELD_OUT_LOSS
from training.pretraining.reconstruction import Reconstruction
from training.pretraining.stages import Pretrained, Pretraining
from training.runs.opening import Session, beginning


def pretrain_alone(config: DictConfig, environments: VectorEnv[Any, Any, Any]) -> float:
    """Pre-train into `config.run_dir`; return the smallest held-out loss.

    Args:
        environments: used for their spaces alone; closed at the end.

    Raises:
        Refusal: it could not start, failed, or was interrupted.
    """
    directory = Path(config.run_dir)
    with ExitStack() as stack:
        stack.callback(environments.close)
        with beginning(directory, stack):
            session = Session(config, environments)
            kind = Reconstruction if config.objective == "reconstruction" else Cloning
            task = kind(config, session.agent)
            if session.saved is None:
                task.check(environments)
            device = session.agent.device
            header = f"{config.objective} on {config.env.id}, {device}, seed {config.seed}"
            session.open_records(header, stack)
            pretrained = Pretraining(task, session).run()
    print(_report(config, pretrained, directory), flush=True)
    return float(pretrained.facts["measures"][HELD_OUT_LOSS])


def _report(config: DictConfig, pretrained: Pretrained, directory: Path) -> str:
    """Write the closing table: the result, and the next command."""
    key = "extractor.weights" if config.objective == "reconstruction" else "init_from"
    trust = trust_words(config.env.packages, config.trusted_packages)
    rows = {
        "learnt": f"from {pretrained}",
        "steps": f"{pretrained.env_steps:,}, which count where runs are compared",
        "weights": str(directory),
        "curves": f"tensorboard --logdir {shlex.quote(str(directory))}",
        "use": shlex.join(["python", "train.py", "...", f"{key}={directory}", *trust]),
    }
    return "\n".join(f"  {name:<11}{value}" for name, value in rows.items())
