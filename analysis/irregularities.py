"""What a reader must know beside the numbers: runs that do not count, arms that are not equal."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

from analysis.caveats import mean_caveat
from analysis.comparison import ArmResult, Reasoned, Results
from analysis.grouping import differing_choices, distinct
from analysis.runs import RunRecord
from analysis.wording import listed, plural
from conf.composing.resumption import lies_under
from conf.composing.sweeps import key_of
from conf.schema.run import PRESETS

_SAME_BUDGET = 1.002  # pre-training ends with a whole step of all environments
_MOST_CAVEATS = 8
_BUDGET = "total_env_steps"


def irregularities(results: Results) -> list[str]:
    """List everything odd, one line each: the arms' runs first, then what they do not share."""
    return [
        *_unfinished_note(results),
        *(line for result in results.arms for line in _runs_notes(result, results)),
        *_interval_notes(results),
        *(line for run in results.runs for line in run.notes),
        *(line for task in results.tasks for line in _task_notes(results, task)),
        *_version_notes(results.runs),
    ]


def version_counts(runs: Sequence[RunRecord]) -> Iterator[tuple[str, Counter[str]]]:
    """Yield every package with the number of runs of each of its versions."""
    for package in dict.fromkeys(name for run in runs for name in run.versions):
        yield package, Counter(run.versions.get(package, "unknown") for run in runs)


def _unfinished_note(results: Results) -> Iterator[str]:
    """Count the unfinished runs where nobody planned them; `results.csv` names each."""
    count = sum(_is_folded(out, results) for arm in results.arms for out in arm.left_out)
    if count:
        are = "run is" if count == 1 else "runs are"
        yield f"{count:,} unfinished {are} left out; status=all shows them"


def _is_folded(out: Reasoned, results: Results) -> bool:
    """Whether a run is only counted: it is unfinished, and neither planned nor asked for."""
    plan = results.plan
    return out[0].status != "finished" and plan.status != "all" and not plan.seeds


def _runs_notes(result: ArmResult, results: Results) -> Iterator[str]:
    """Name an arm's runs that do not count, are missing, or differ in what its name hides."""
    where = f"{result.arm} on {result.task}"
    for run, reason in result.left_out:
        if not _is_folded((run, reason), results):
            yield f"{where}: seed {run.seed} does not count: {reason}"
    if 0 < len(result.measured) < result.n:
        missing = plural(result.n - len(result.measured), "run")
        yield f"{where}: {missing} without evaluations in event files: curves are of the others"
    begun = {run.seed for run, _ in result.every_run}
    planned = results.plan.seeds.get((result.task, result.arm), ())
    absent = [str(seed) for seed in planned if seed not in begun]
    if absent:
        yield f"{where}: {'seed' if len(absent) == 1 else 'seeds'} {listed(absent)} not begun"
    for key, values in _differences(result.runs).items():
        yield f"{where}: its runs differ in {key}: {listed(values, 'or')}"


def _interval_notes(results: Results) -> Iterator[str]:
    """Name the arms whose intervals are not to be trusted, with the reason."""
    found = []
    for arm in results.arms:
        caveat = mean_caveat(arm.scores, arm.solved if arm.is_bimodal else "")
        if arm.n and caveat is not None:
            found.append(f"{arm.arm} on {arm.task}: {caveat}")
    yield from found[:_MOST_CAVEATS]
    if len(found) > _MOST_CAVEATS:
        yield f"{len(found) - _MOST_CAVEATS:,} more arms whose intervals have such a caveat"


def _task_notes(results: Results, task: str) -> Iterator[str]:
    """Name what the arms of a task do not share: budgets, pre-training, undeclared keys."""
    runs = [run for result in results.of_task(task) for run in result.runs]
    budgets = sorted({run.budget for run in runs})
    frames = sorted({run.pretraining_env_steps for run in runs} - {0})
    if budgets and budgets[-1] > _SAME_BUDGET * budgets[0]:
        sizes = listed([f"{budget:,}" for budget in budgets], "or")
        what = f"{_BUDGET} with pre-training" if frames else _BUDGET
        yield f"{task}: budgets differ: {what} is {sizes}; compare scores of equal budgets"
    if frames:
        before = listed([f"{count:,}" for count in frames], "or")
        counted = "env steps and budgets count those of pre-training, where there was any"
        yield f"{task}: {counted}: {before}"
    words = [word for own in results.plan.words.values() for word in own]
    declared = {key_of(word).rpartition("@")[2] for word in words}
    if results.plan.words and not declared & {*PRESETS}:  # which may set any key
        yield from _undeclared(task, runs, {*declared, _BUDGET})


def _undeclared(task: str, runs: Sequence[RunRecord], declared: set[str]) -> Iterator[str]:
    """Name keys in which arms differ beyond those that the study gives them."""
    for key, values in _differences(runs).items():
        if not lies_under(key, declared):
            arms = defaultdict[str, list[str]](list)
            for run in runs:
                arms[distinct([run.choices], key)[0]].append(run.arm)
            told = [f"{value} ({listed([*dict.fromkeys(arms[value])])})" for value in values]
            yield f"{task}: arms differ in more than they say: {key} is {listed(told, 'or')}"


def _differences(runs: Sequence[RunRecord]) -> dict[str, list[str]]:
    """Return the keys that all runs have and in which they differ, with their values in words."""
    configurations = [run.choices for run in runs]
    shared = set[str]().union(*configurations[:1]).intersection(*configurations)
    return {key: distinct(configurations, key) for key in differing_choices(runs) if key in shared}


def _version_notes(runs: Sequence[RunRecord]) -> Iterator[str]:
    for package, counts in version_counts(runs):
        if len(counts) > 1:
            told = [f"{version} ({plural(count, 'run')})" for version, count in counts.items()]
            yield f"runs were made with {package} {listed(told)}"
