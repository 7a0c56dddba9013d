"""What a reader must know beside the numbers: runs that do not count, arms that are not equal."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence

from analysis.caveats import mean_caveat
from analysis.comparison import ArmResult, LabelledRun, LeftOut, Results
from analysis.grouping import distinct, is_choice
from analysis.runs import RunRecord
from analysis.wording import listed, plural

_MOST_CAVEATS = 8
_BUDGET = "total_env_steps"
_PRESETS = ("experiment", "task")
"""Words that may set any key."""


def irregularities(results: Results) -> list[str]:
    """List everything odd, one line each: the arms' runs first, then what they do not share."""
    return [
        *_unfinished_note(results),
        *(line for result in results.arms for line in _runs_notes(result, results)),
        *_interval_notes(results),
        *(line for run in results.runs for line in run.notes),
        *(line for task in results.tasks for line in _task_notes(results, task)),
        *_version_notes([run.record for run in results.runs]),
    ]


def _unfinished_note(results: Results) -> Iterator[str]:
    """Count the unfinished runs where nobody planned them; `results.csv` names each."""
    count = sum(_is_folded(out, results) for arm in results.arms for out in arm.left_out)
    if count:
        are = "run is" if count == 1 else "runs are"
        yield f"{count:,} unfinished {are} left out; status=all shows them"


def _interval_notes(results: Results) -> Iterator[str]:
    """Name the arms whose intervals are not to be trusted, with the reason."""
    found = []
    for arm in results.arms:
        caveat = mean_caveat(arm.scores, arm.solved_at if arm.is_bimodal else None)
        if arm.n and caveat is not None:
            found.append(f"{arm.arm} on {arm.task}: {caveat}")
    yield from found[:_MOST_CAVEATS]
    if len(found) > _MOST_CAVEATS:
        yield f"{len(found) - _MOST_CAVEATS:,} more arms whose intervals have such a caveat"


def _is_folded(out: LeftOut, results: Results) -> bool:
    """Whether a run is only counted: it is unfinished, and neither planned nor asked for."""
    plan = results.plan
    return out.run.record.status != "finished" and plan.status != "all" and not plan.seeds


def _runs_notes(result: ArmResult, results: Results) -> Iterator[str]:
    where = f"{result.arm} on {result.task}"
    for out in result.left_out:
        if not _is_folded(out, results):
            yield f"{where}: seed {out.run.record.seed} does not count: {out.reason}"
    if 0 < len(result.measured) < result.n:
        missing = plural(result.n - len(result.measured), "run")
        yield f"{where}: {missing} without evaluations in event files: curves are of the others"
    yield from _missing_seeds(result, results, where)
    yield from _inner_differences(result, where)


def _missing_seeds(result: ArmResult, results: Results, where: str) -> Iterator[str]:
    begun = {run.record.seed for run in (*result.runs, *(out.run for out in result.left_out))}
    planned = results.plan.seeds.get((result.task, result.arm), ())
    absent = [str(seed) for seed in planned if seed not in begun]
    if absent:
        seeds = "seed" if len(absent) == 1 else "seeds"
        yield f"{where}: {seeds} {listed(absent)} not begun"


def _inner_differences(result: ArmResult, where: str) -> Iterator[str]:
    """Name keys in which the runs of one arm differ: then its name says too little."""
    records = [run.record for run in result.runs]
    for key, values in _differences(records).items():
        yield f"{where}: its runs differ in {key}: {listed(values, 'or')}"


def _task_notes(results: Results, task: str) -> Iterator[str]:
    runs = [run for result in results.of_task(task) for run in result.runs]
    records = [run.record for run in runs]
    yield from (f"{task}: {line}" for line in (*_budget_notes(records), *_pretraining(records)))
    if results.plan.words:
        yield from _undeclared(task, runs, results.plan.words)


def _budget_notes(records: Sequence[RunRecord]) -> Iterator[str]:
    budgets = sorted({record.budget for record in records})
    if len(budgets) > 1:
        what = "total_env_steps"
        if any(record.pretraining_env_steps for record in records):
            what += " with pre-training"
        sizes = listed([f"{budget:,}" for budget in budgets], "or")
        yield f"budgets differ: {what} is {sizes}; compare scores of equal budgets"


def _pretraining(records: Sequence[RunRecord]) -> Iterator[str]:
    counts = sorted({record.pretraining_env_steps for record in records} - {0})
    if counts:
        sizes = listed([f"{count:,}" for count in counts], "or")
        yield f"env steps and budgets count those of pre-training, where there was any: {sizes}"


def _undeclared(
    task: str, runs: Sequence[LabelledRun], words: Mapping[str, Sequence[str]]
) -> Iterator[str]:
    """Name keys in which arms differ beyond the words that the study gives them."""
    declared = {_key(word) for arm_words in words.values() for word in arm_words}
    if declared & {*_PRESETS}:
        return
    records = [run.record for run in runs]
    for key, values in _differences(records).items():
        if key != _BUDGET and not any(_lies_under(key, name) for name in declared):
            arms = defaultdict(list)
            for run in runs:
                for value in distinct([run.record.choices], key):
                    arms[value].append(run.arm)
            told = [f"{value} ({listed([*dict.fromkeys(arms[value])])})" for value in values]
            yield f"{task}: arms differ in more than they say: {key} is {listed(told, 'or')}"


def _differences(records: Sequence[RunRecord]) -> dict[str, list[str]]:
    """Return the keys that all runs have and in which they differ, with their values in words."""
    configurations = [record.choices for record in records]
    shared = [
        key
        for key in (configurations[0] if configurations else ())
        if is_choice(key) and all(key in choices for choices in configurations)
    ]
    values = {key: distinct(configurations, key) for key in shared}
    return {key: found for key, found in values.items() if len(found) > 1}


def _key(word: str) -> str:
    """Return the key of an override; a group placed elsewhere counts as that place."""
    name = word.partition("=")[0].lstrip("+~")
    return name.rpartition("@")[2]


def _lies_under(key: str, name: str) -> bool:
    return key == name or key.startswith(f"{name}.")


def _version_notes(records: Sequence[RunRecord]) -> Iterator[str]:
    for package in dict.fromkeys(name for record in records for name in record.versions):
        counts = Counter(record.versions.get(package, "unknown") for record in records)
        if len(counts) > 1:
            told = [f"{version} ({plural(count, 'run')})" for version, count in counts.items()]
            yield f"runs were made with {package} {listed(told)}"
