"""One session of `compare.py study=...`: runs what is missing of a study and reports."""

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from analysis.studies.engines import build_engine
from analysis.studies.execution import driving, opened, run_missing
from analysis.studies.labelling import study_results
from analysis.studies.searching import tune_arms
from analysis.studies.study import Job, Study, shortened
from analysis.tables import show
from conf.checking.refusals import InvalidConfiguration
from conf.composing.sweeps import user_directory


def compare_study(config: DictConfig) -> int:
    """Run the missing jobs of a study and report; return the number of runs that count.

    The process ends with exit code 1 if any job failed.

    Raises:
        InvalidConfiguration: an arm is invalid, or a run has a larger budget.
        Refusal: the engine is not installed, or a signal stopped it all.
    """
    directory = Path(config.directory)
    own = user_directory(HydraConfig.get()) if HydraConfig.initialized() else None
    options: Any = OmegaConf.to_container(config.study)
    study = Study(options, directory, user_directory=own)
    build = partial(build_engine, config.engine, directory)
    with driving(directory) as stop, opened(build) as engine:
        remarks = tune_arms(study, engine, stop) if study.protocol == "tuned" else []
        jobs = study.jobs()
        _tell(study, jobs)
        failed = run_missing(jobs, directory, engine, stop, metric=study.metric)
    metric = None if config.metric == "auto" else config.metric
    results = study_results(study, metric=metric, status=config.status, remarks=remarks)
    count = show(results, config, directory)
    if failed:
        print(f"{len(failed)} of {len(jobs)} jobs failed:", *failed, sep="\n  ", file=sys.stderr)
        sys.exit(1)
    return count


def _tell(study: Study, jobs: Sequence[Job]) -> None:
    """Say what presets left out and which runs are no longer the study's; refuse smaller budgets.

    Raises:
        InvalidConfiguration: a run has a larger budget.
    """
    for notice in study.notices:
        print(f"warning: {notice}", file=sys.stderr)
    for folder in study.others():
        print(f"{folder}: not of this study as it is now; left alone", file=sys.stderr)
    problems = shortened(jobs)
    if problems:
        raise InvalidConfiguration(problems)
