"""Runs studies and compares runs: `python compare.py study=NAME`; see `--help`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neurl_guard import check_imports

check_imports(Path(__file__).parent)

from conf.composing.command_line import launch

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from analysis.studies.study import Job, Study


def compare(config: DictConfig) -> int:
    """Run what a study misses, if there is one, and report; return the number of runs."""
    from conf.checking.refusals import InvalidConfiguration
    from training.runs.refusal import Refusal

    try:
        if config.study.name is not None:
            return compare_study(config)
        places = [config.runs] if isinstance(config.runs, str) else list(config.runs)
        return report(places, config)
    except InvalidConfiguration as refusal:
        print(refusal, file=sys.stderr)
        sys.exit(2)
    except Refusal as refusal:
        print(refusal, file=sys.stderr)
        sys.exit(refusal.exit_code)


def compare_study(config: DictConfig) -> int:
    """Run the missing jobs of a study and report; the exit code is 1 if any of them failed."""
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import OmegaConf

    from analysis.studies.engines import build_engine
    from analysis.studies.execution import driving, opened, run_missing
    from analysis.studies.searching import tune_arms
    from analysis.studies.study import Study
    from conf.composing.sweeps import user_directory

    directory = Path(config.directory)
    own = user_directory(HydraConfig.get()) if HydraConfig.initialized() else None
    flags = [] if own is None else [f"--config-dir={own}"]
    options: Any = OmegaConf.to_container(config.study)
    study = Study(options, directory, flags=flags)
    build = partial(build_engine, config.engine, directory)
    with driving(directory) as stop, opened(build) as engine:
        remarks = tune_arms(study, engine, stop) if study.protocol == "tuned" else []
        jobs = study.jobs()
        tell(study, jobs)
        failed = run_missing(jobs, directory, engine, stop, metric=study.metric)
    count = report_study(jobs, remarks, config)
    if failed:
        print(f"{len(failed)} of {len(jobs)} jobs failed:", *failed, sep="\n  ", file=sys.stderr)
        sys.exit(1)
    return count


def tell(study: Study, jobs: Sequence[Job]) -> None:
    """Say what presets left out and which runs are no longer the study's; refuse smaller budgets.

    Raises:
        InvalidConfiguration: a run has a larger budget.
    """
    from analysis.studies.study import shortened
    from conf.checking.refusals import InvalidConfiguration

    for notice in study.notices:
        print(f"warning: {notice}", file=sys.stderr)
    for folder in study.others():
        print(f"{folder}: of another form of this study; left alone", file=sys.stderr)
    problems = shortened(jobs)
    if problems:
        raise InvalidConfiguration(problems)


def report_study(jobs: Sequence[Job], remarks: Sequence[str], config: DictConfig) -> int:
    """Compare the runs of a study; return their number."""
    places = [str(job.directory) for job in jobs if job.directory.is_dir()]
    count = report(places, config) if places else 0
    print(*(f"  {remark}" for remark in remarks), sep="\n", end="\n" if remarks else "")
    return count


def report(places: Sequence[str], config: DictConfig) -> int:
    """Print one table per environment; return the number of runs."""
    from analysis.comparison import compare as compared
    from analysis.runs import find_runs
    from analysis.tables import write

    runs, skipped = find_runs(places)
    for line in skipped:
        print(line, file=sys.stderr)
    if not runs:
        print(
            f"runs={config.runs}: no runs there; a run is a directory with config.yaml and "
            "summary.json",
            file=sys.stderr,
        )
        sys.exit(2)
    tables = compared(runs)
    print(write(tables, config.format))
    if config.format == "csv":
        for table in tables:
            for note in table.notes:
                print(f"{table.environment}: {note}", file=sys.stderr)
    return len(runs)


if __name__ == "__main__":
    launch(compare, config_name="compare")
