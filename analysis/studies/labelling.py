"""Results of a study: its runs on disk, labelled by task and arm, and its plan."""

import shlex
from collections.abc import Mapping, Sequence
from typing import Literal

from analysis.comparison import LabelledRun, Place, Plan, Results, compare, labelled_run
from analysis.runs import Damaged, Metric, read_run
from analysis.studies.study import Job, Study
from conf.composing.sweeps import key_of


def study_results(
    study: Study,
    jobs: Sequence[Job],
    *,
    metric: Metric | None,
    status: Literal["finished", "all"],
    remarks: Sequence[str],
) -> Results:
    """Read the runs of a study; what cannot be read becomes a remark.

    Args:
        metric: instead of the study's; None: the study's.
        remarks: sentences for the report.
    """
    runs: list[LabelledRun] = []
    unread: list[str] = []
    for job in jobs:
        try:
            runs.append(labelled_run(job.task, job.arm, read_run(job.directory)))
        except Damaged as error:
            if job.directory.is_dir():
                unread.append(f"{job.directory}: {error}")
    tuned = study.options["tuning"]["keys"] if study.protocol == "tuned" else ()
    plan = Plan(
        name=study.name,
        question=study.question,
        metric=metric or study.metric,
        status=status,
        baseline=study.baseline,
        protocol=study.protocol,
        words={arm: [*words, *tuned] for arm, words in study.options["arms"].items()},
        seeds=_seeds(jobs),
        commands=_commands(jobs),
        remarks=(*remarks, *unread),
    )
    return compare(runs, plan)


def _seeds(jobs: Sequence[Job]) -> Mapping[Place, Sequence[int]]:
    seeds: dict[Place, list[int]] = {}
    for job in jobs:
        seeds.setdefault((job.task, job.arm), []).append(job.seed)
    return seeds


def _commands(jobs: Sequence[Job]) -> Mapping[Place, Sequence[str]]:
    """Write the sweep that makes the runs of each arm."""
    found: dict[Place, Sequence[str]] = {}
    for (task, arm), seeds in _seeds(jobs).items():
        job = next(job for job in jobs if (job.task, job.arm) == (task, arm))
        words = [word for word in job.words if key_of(word) != "seed"]
        several = ["-m"] if len(seeds) > 1 else []
        line = ["python", "train.py", *several, *words, f"seed={','.join(map(str, seeds))}"]
        found[task, arm] = [shlex.join(line)]
    return found
