"""One session of `compare.py study=...`: runs what is missing of a study and reports."""

import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from analysis.comparison import Plan, Results, Status, compare, with_curves
from analysis.runs import Damaged, RunRecord, read_run
from analysis.showing import show
from analysis.studies.engines import build_engine
from analysis.studies.execution import Pool, driving, run_missing
from analysis.studies.searching import tune_arms
from analysis.studies.study import Arm, Study, refuse_shortened
from conf.composing.sweeps import user_directory
from conf.schema.layout import command
from conf.schema.study import Metric


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
    with driving(directory) as stop, Pool(build, directory) as pool:
        is_tuned = options["protocol"] == "tuned"
        remarks = tune_arms(study, pool, stop) if is_tuned else []
        jobs = study.jobs()
        print(*(f"warning: {line}\n" for line in study.notices), sep="", end="", file=sys.stderr)
        refuse_shortened(jobs)
        failed = run_missing(jobs, pool, stop, options["metric"])
    metric = None if config.metric == "auto" else config.metric
    read = partial(study_results, study, metric=metric, status=config.status, remarks=remarks)
    if config.probe:
        from analysis.probing.showing import probe_missing  # imports torch

        probe_missing(read().runs)
    results = read()
    count = show(results, config, directory)
    if failed:
        print(f"{len(failed)} of {len(jobs)} jobs failed:", *failed, sep="\n  ", file=sys.stderr)
        sys.exit(1)
    return count


def study_results(
    study: Study, *, metric: Metric | None, status: Status, remarks: Sequence[str]
) -> Results:
    """Read the runs of a study; what cannot be read becomes a remark.

    Args:
        metric: instead of the study's; None: the study's.
        remarks: sentences for the report.
    """
    runs: list[RunRecord] = []
    unread: list[str] = []
    for job in study.jobs():
        try:
            record = replace(read_run(job.directory), task=job.task, arm=job.arm)
            runs.append(with_curves(record))
        except Damaged as error:
            if job.directory.is_dir():
                unread.append(f"{job.directory}: {error}")
    options, cells = study.options, {(arm.task, arm.name): arm for arm in study.cells}
    tuned = options["tuning"]["keys"] if options["protocol"] == "tuned" else ()
    plan = Plan(
        **{key: options[key] for key in ("name", "question", "baseline", "protocol")},
        metric=metric or options["metric"],
        status=status,
        words={arm: [*words, *tuned] for arm, words in options["arms"].items()},
        seeds=dict.fromkeys(cells, options["seeds"]),
        commands={place: _command(study, arm) for place, arm in cells.items()},
        remarks=(*remarks, *unread),
    )
    return compare(runs, plan)


def _command(study: Study, arm: Arm) -> str:
    """Write the sweep that makes the runs of an arm."""
    seeds = study.options["seeds"]
    several = ["-m"] if len(seeds) > 1 else []
    words = [*arm.flags, *arm.words, f"seed={','.join(map(str, seeds))}"]
    return command("train", *several, *words)
