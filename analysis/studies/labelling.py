"""Results of a study: its runs on disk, labelled by task and arm, and its plan."""

import shlex
from collections.abc import Sequence
from typing import Literal

from analysis.comparison import LabelledRun, Plan, Results, compare, labelled_run
from analysis.runs import Damaged, read_run
from analysis.studies.study import Arm, Study
from conf.schema.study import Metric


def study_results(
    study: Study,
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
    for job in study.jobs():
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
        seeds={(arm.task, arm.name): study.seeds for arm in study.cells},
        commands={(arm.task, arm.name): _command(study, arm) for arm in study.cells},
        remarks=(*remarks, *unread),
    )
    return compare(runs, plan)


def _command(study: Study, arm: Arm) -> str:
    """Write the sweep that makes the runs of an arm."""
    several = ["-m"] if len(study.seeds) > 1 else []
    words = [*study.flags, *arm.words, f"seed={','.join(map(str, study.seeds))}"]
    return shlex.join(["python", "train.py", *several, *words])
