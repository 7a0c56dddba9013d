"""What the page and the Markdown report both say beside numbers: heading, method, commands."""

import os
import platform
import shlex
from collections import Counter
from collections.abc import Iterator

from analysis.comparison import ArmResult, Results
from analysis.irregularities import irregularities
from analysis.measures import MEASURES, known
from analysis.tables import METRICS
from analysis.wording import listed, plural
from conf.composing.stored import read_yaml


def title(results: Results) -> str:
    """Return the question, or the name of what is compared."""
    return results.plan.question or f"Comparison of {results.plan.name}"


def facts(results: Results) -> list[str]:
    """Say what is compared, in a few words each."""
    plan, runs = results.plan, results.runs
    told = [
        plural(len(results.names), "arm"),
        plural(len(results.tasks), "task"),
        plural(len(runs), "run"),
        f"score: {METRICS[plan.metric]}",
    ]
    if plan.protocol:
        told.append(_PROTOCOLS.get(plan.protocol, plan.protocol))
    return told


_PROTOCOLS = {
    "fixed": "every arm with the same hyper-parameters",
    "tuned": "every arm tuned with equally many trials, scored on fresh seeds",
}


def method(results: Results) -> list[str]:
    """Say what each column is, and how intervals and comparisons are made."""
    columns = [f"{each.title}: {each.meaning}" for each in known(MEASURES, results.arms)]
    return [
        *columns,
        "Runs are the sample, never evaluation episodes.",
        "Differences of scores: Welch's interval and test. Where some runs solve a task and others "
        "fail, success rates with Newcombe's interval, and Mann and Whitney's exact rank test.",
        "Several comparisons: p-values corrected by Holm's method, at 5%.",
    ]


def notes(results: Results) -> list[str]:
    """List what was skipped and irregularities, or say that there are none."""
    odd = [*results.plan.skipped, *irregularities(results)]
    return odd or ["nothing odd: every planned run finished and counts"]


def commands(results: Results) -> Iterator[tuple[ArmResult, str]]:
    """Yield how each arm is made: the planned commands, or that of its first run."""
    for arm in results.arms:
        told = results.plan.commands.get((arm.task, arm.arm))
        if told:
            yield arm, "\n".join(told)
        elif arm.runs:
            yield arm, _recorded_command(arm)


def seeds(arm: ArmResult) -> str:
    """List the seeds of the runs that count."""
    return listed([f"{run.record.seed}" for run in arm.runs])


def versions(results: Results) -> list[tuple[str, str]]:
    """Return packages and their versions in the runs."""
    records = [run.record for run in results.runs]
    packages = dict.fromkeys(name for record in records for name in record.versions)
    found = {}
    for package in packages:
        counts = Counter(record.versions.get(package, "unknown") for record in records)
        found[package] = listed([version for version, _ in counts.most_common()])
    return list(found.items())


def machine() -> str:
    """Describe the machine that writes the report."""
    return f"{platform.system()} on {platform.machine()}, {plural(os.cpu_count() or 1, 'core')}"


def _recorded_command(arm: ArmResult) -> str:
    """Repeat the command line of an arm's first run as Hydra recorded it.

    The budget is the run's: it may have been resumed with a larger one.
    """
    record, left_out = arm.runs[0].record, ("run_dir=", "total_env_steps=")
    directory = record.directory
    try:
        words = read_yaml(directory / ".hydra" / "overrides.yaml")
    except (OSError, ValueError):
        words = None
    if not isinstance(words, list):
        return f"# no command is recorded; {directory / 'config.yaml'} holds the configuration"
    kept = [str(word) for word in words if not str(word).startswith(left_out)]
    budget = f"total_env_steps={record.choices['total_env_steps']}"
    return shlex.join(["python", "train.py", *kept, budget])
