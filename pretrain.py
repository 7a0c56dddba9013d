"""Pre-trains an extractor or an actor: `python pretrain.py [group=option] [key=value] ...`."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from neurl_guard import check_imports

check_imports(Path(__file__).parent)

from conf.composing.command_line import launch
from training.process.leaving import leave
from training.runs.refusal import Refusal, refusals_end

if TYPE_CHECKING:
    from omegaconf import DictConfig


@refusals_end
def pretrain(config: DictConfig) -> float:
    """Pre-train into a new directory; return the smallest held-out loss."""
    from training.building.environments import build_environments
    from training.runs.directory import discard

    try:
        try:
            environments = build_environments(config, num_envs=1)
        except ValueError as error:  # reported before torch is imported
            raise Refusal(str(error), 2) from error

        from training.pretraining.pretraining import pretrain_alone

        return pretrain_alone(config, environments)
    except BaseException:
        discard(Path(config.run_dir))
        raise


if __name__ == "__main__":
    leave(partial(launch, pretrain, config_name="pretrain"))
