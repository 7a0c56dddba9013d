"""Evaluates a run: `python evaluate.py run=RUN_DIR [evaluation.episodes=100]`; see `--help`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from neurl_guard import check_imports

check_imports(Path(__file__).parent)

from conf.compose import launch

if TYPE_CHECKING:
    from omegaconf import DictConfig


def evaluate(config: DictConfig) -> float:
    """Evaluate one run on fresh environments, print its scores, return the mean return."""
    from training.refusal import Refusal

    if not (Path(config.run) / "config.yaml").is_file():  # told before torch is imported
        print(f"run={config.run}: no run there, as it has no config.yaml", file=sys.stderr)
        sys.exit(2)

    from training.session import describe, evaluate_run

    try:
        evaluation = evaluate_run(config)
    except Refusal as refusal:
        print(refusal, file=sys.stderr)
        sys.exit(refusal.exit_code)
    print(describe(evaluation))
    return evaluation.return_mean


if __name__ == "__main__":
    launch(evaluate, config_name="evaluate")
