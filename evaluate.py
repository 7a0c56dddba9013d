"""Evaluates a run: `python evaluate.py run=RUN_DIR [evaluation.episodes=100]`; see `--help`."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from neurl_guard import check_imports

check_imports(Path(__file__).parent)

from conf.composing.command_line import launch
from conf.composing.resumption import stored_configuration
from training.process.leaving import leave
from training.runs.refusal import refusing

if TYPE_CHECKING:
    from omegaconf import DictConfig


def evaluate(config: DictConfig) -> float:
    """Evaluate one run in new environments, print its scores, return the mean return."""
    from training.evaluation.clips import check_encoder, video_kind
    from training.process.machine import check_display

    with refusing(ValueError, exit_code=2):  # before torch is imported
        stored_configuration(Path(config.run))
        check_encoder(video_kind(config.video))
        check_display(config.render_mode)

    from training.evaluation.evaluation import describe_spread
    from training.evaluation.watching import watch_run

    watched = watch_run(config)
    print(watched.evaluation)
    print(describe_spread(watched.evaluation))
    if watched.clip is not None:
        print(f"{watched.video_path} ({watched.clip})")
    return watched.evaluation.return_mean


if __name__ == "__main__":
    leave(partial(launch, evaluate, config_name="evaluate"))
