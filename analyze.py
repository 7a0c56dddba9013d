"""Probes a run's memory: `python analyze.py run=RUN_DIR`; see `--help`."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from neurl_guard import check_imports

check_imports(Path(__file__).parent)

from conf.composing.command_line import launch
from training.process.leaving import leave

if TYPE_CHECKING:
    from omegaconf import DictConfig


def analyze(config: DictConfig) -> None:
    """Measure what a run's networks hold of what its observations hide."""
    from analysis.probing.probe import probe_run
    from analysis.probing.showing import describe, write
    from analysis.runs import PROBE

    found, directory = probe_run(config), Path(config.run) / PROBE
    write(found, directory)
    print(describe(found))
    print(f"{directory / 'probe.png'}, probe.svg, probe.json")


if __name__ == "__main__":
    leave(partial(launch, analyze, config_name="analyze"))
