"""One session of `pretrain.py`: builds the network, pre-trains it, and reports."""

import shlex
from contextlib import ExitStack
from pathlib import Path

from omegaconf import DictConfig

from conf.checking.trust import trust_words
from training.pretraining.fitting import HELD_OUT_LOSS
from training.pretraining.pretraining import Pretraining, described
from training.runs.opening import Session, beginning
from training.stream.episodes import Environments


def pretrain_alone(config: DictConfig, environments: Environments) -> float:
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
            pretraining = Pretraining(session, environments)
            where = f"{config.env.id}, {session.agent.device}, seed {config.seed}"
            session.open_records(f"{config.objective} on {where}", stack)
            facts = pretraining.run()
    key = "extractor.weights" if config.objective == "reconstruction" else "init_from"
    trust = trust_words(config.env.packages, config.trusted_packages)
    rows = {
        "learnt": f"from {described(facts)}",
        "steps": f"{facts['env_steps']:,}, which count where runs are compared",
        "weights": str(directory),
        "curves": f"tensorboard --logdir {shlex.quote(str(directory))}",
        "use": shlex.join(["python", "train.py", "...", f"{key}={directory}", *trust]),
    }
    print("\n".join(f"  {name:<11}{value}" for name, value in rows.items()), flush=True)
    return float(facts["measures"][HELD_OUT_LOSS])
