"""Exports a run's policy: `python export.py run=RUN_DIR [format=torch]`; see `--help`."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from neurl_guard import check_imports

check_imports(Path(__file__).parent)

from conf.composing.command_line import launch
from training.process.leaving import leave
from training.runs.refusal import refusing

if TYPE_CHECKING:
    from omegaconf import DictConfig


def export(config: DictConfig) -> None:
    """Write the policy and its contract, and print how exactly it acts."""
    from training.exporting.export import export_run

    with refusing(ValueError, OSError, RuntimeError, exit_code=2):
        made = export_run(config)
    print(f"{made.path}, contract.json")
    print(f"acts as the run's policy to within {made.difference:.1g}")


if __name__ == "__main__":
    leave(partial(launch, export, config_name="export"))
