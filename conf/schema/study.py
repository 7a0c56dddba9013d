"""Studies: tasks, arms and seeds to compare, and the engine that runs their jobs."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import field
from typing import Annotated, Literal

from conf.checking.suggestions import did_you_mean
from conf.schema.parts import Options
from conf.schema.types import Config, Count, Free, NonNegative, PositiveCount, Text

Word = Annotated[str, Text(r"\S.*", "a word such as memory=gru", "words such as memory=gru")]
_RANGES = r"(choice|interval|range|tag|int)\(.*\)"
RangeText = Annotated[str, Text(_RANGES, "a range such as interval(1e-4,1e-2) or choice(0.1,0.2)")]
Metric = Literal["last", "best", "mean"]
_RANGE = "optimizer.learning_rate='tag(log, interval(1e-4, 1e-2))'"
_NAME = re.compile(r"[A-Za-z0-9_][\w.+-]*")
OF_JOBS = ("seed", "run_dir", "resume", "tracking.progress")
"""Keys that a job gets from its study or search."""


class TuningOptions(Options):
    """`study.tuning` of conf/compare.yaml."""

    trials: PositiveCount
    seeds: list[Count]
    keys: dict[str, RangeText]


class SearchOptions(TuningOptions):
    """`tuning` of conf/tune.yaml."""

    metric: Literal["last", "best"]

    @staticmethod
    def problems(config: Config) -> Iterator[str]:
        """Refuse nothing to search, and what the search sets for each run."""
        if not config["tuning"]["keys"]:
            yield f"tuning.keys: expected at least one range, such as {_RANGE}"
        yield from _seed_problems("tuning.seeds", config["tuning"]["seeds"])
        if config["resume"] is not None:
            yield "resume: a search resumes when the same command is typed again"


class StudyOptions(Options):
    """conf/study/*.yaml, with the defaults of conf/compare.yaml."""

    name: str | None
    question: str
    tasks: dict[str, list[Word]]
    arms: dict[str, list[Word]]
    seeds: list[Count]
    baseline: str | None
    total_env_steps: PositiveCount | None
    metric: Metric
    protocol: Literal["fixed", "tuned"]
    tuning: TuningOptions

    @staticmethod
    def problems(config: Config) -> Iterator[str]:
        """List the rules that a study breaks, one line each."""
        study, baseline = config["study"], config["study"]["baseline"]
        if study["name"] is None:
            return
        yield from _name_problems("study.name", [study["name"]])
        for key, example in (("tasks", "{cartpole: [task=cartpole]}"), ("arms", "{gru: [...]}")):
            yield from _name_problems(f"study.{key}", study[key])
            if not study[key]:
                yield f"study.{key}: expected at least one, such as {example}"
            for name, words in study[key].items():
                yield from _word_problems(f"study.{key}.{name}", words)
        yield from _seed_problems("study.seeds", study["seeds"])
        if baseline not in (None, *study["arms"]):
            hint = did_you_mean(baseline, study["arms"])
            yield f"study.baseline: there is no arm {baseline!r}{hint}"
        if study["protocol"] == "tuned":
            yield from _tuning_problems(study)


def _name_problems(key: str, names: Iterable[str]) -> Iterator[str]:
    """Refuse names that cannot be part of a path."""
    for name in names:
        if name in ("True", "False"):
            yield f"{key}: YAML reads on, off, yes and no as {name}: write the name in quotes"
        if not _NAME.fullmatch(name):
            yield f"{key}: {name!r} names a folder: expected letters, digits, and any of _ . + -"


def _seed_problems(key: str, seeds: Sequence[int]) -> Iterator[str]:
    """Refuse no seeds, and seeds that are given twice."""
    if not seeds:
        yield f"{key}: expected at least one seed"
    for seed, count in Counter(seeds).items():
        if count > 1:
            yield f"{key}: {seed} is given {count} times; a repeated run is no second sample"


def _keys(words: Sequence[str]) -> list[str]:
    return [word.partition("=")[0].lstrip("+~") for word in words]


def _word_problems(place: str, words: Sequence[str]) -> Iterator[str]:
    """Refuse words of a task or an arm that set what the study sets."""
    for key in _keys(words):
        if key in OF_JOBS or key.startswith("hydra"):
            yield f"{place}: {key} {set_by('study', key)}"
        if key == "total_env_steps" and place.startswith("study.arms."):
            unequal = "total_env_steps would give arms unequal budgets"
            yield f"{place}: {unequal}; use study.total_env_steps, or set it in a task"


def set_by(what: Literal["study", "search"], key: str) -> str:
    """Say that a study or a search sets a key of its jobs, and by which key of its own."""
    seeds = "study.seeds" if what == "study" else "tuning.seeds"
    remedy = {"seed": seeds, "run_dir": "directory", "resume": "directory"}.get(key)
    return f"is set by the {what}" + (f"; use {remedy}" if remedy else "")


def _tuning_problems(study: Config) -> Iterator[str]:
    """Refuse keys that a study sets or an arm has, and seeds that are tuned on and tested on."""
    keys, seeds = study["tuning"]["keys"], study["tuning"]["seeds"]
    for key in sorted({*OF_JOBS, "total_env_steps"} & keys.keys()):
        yield f"study.tuning.keys: {key} {set_by('study', key)}"
    if not keys:
        yield f"study.tuning.keys: expected at least one to tune, such as {_RANGE}"
    for name, words in study["arms"].items():
        for key in sorted({*_keys(words)} & keys.keys()):
            yield f"study.arms.{name}: {key} is one of study.tuning.keys, which would replace it"
    yield from _seed_problems("study.tuning.seeds", seeds)
    for seed in sorted({*seeds} & {*study["seeds"]}):
        told = "scores of seeds that were tuned on are too good"
        yield f"study.tuning.seeds: {seed} is one of study.seeds; {told}"


class EngineOptions(Options):
    """conf/engine/*.yaml; keys with a default belong to some engines only."""

    name: Literal["local", "ray", "slurm"]
    jobs: Literal["auto"] | PositiveCount
    cpus_per_job: PositiveCount = 1
    gpus_per_job: NonNegative = 0.0
    retries: Count = 0
    address: str | None = None
    cluster: Literal["slurm", "local"] = "slurm"
    parameters: Free = field(default_factory=dict)
