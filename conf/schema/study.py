"""Studies: tasks, arms and seeds to compare, and the engine that runs their jobs."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Literal

from conf.checking.steps import Config
from conf.checking.suggestions import did_you_mean
from conf.schema.types import Count, Free, NonNegative, PositiveCount, Text

Word = Annotated[str, Text(r"\S.*", "a word such as memory=gru", "words such as memory=gru")]
RangeText = Annotated[
    str,
    Text(
        r"(choice|interval|range|tag|int)\(.*\)",
        "a range such as interval(1e-4,1e-2), tag(log,interval(1e-4,1e-2)) or choice(0.1,0.2)",
    ),
]
Metric = Literal["last", "best", "mean"]
_NAME = re.compile(r"[A-Za-z0-9_][\w.+-]*")
OF_JOBS = ("seed", "run_dir", "resume", "tracking.progress")
"""Keys that a job gets from its study or search."""


@dataclass
class TuningOptions:
    """`study.tuning` of conf/compare.yaml."""

    trials: PositiveCount
    seeds: list[Count]
    keys: dict[str, RangeText]


@dataclass
class SearchOptions(TuningOptions):
    """`tuning` of conf/tune.yaml."""

    metric: Literal["last", "best"]

    @classmethod
    def problems(cls, config: Config) -> Iterator[str]:
        """Refuse nothing to search, and what the search sets for each run."""
        example = "optimizer.learning_rate='tag(log, interval(1e-4, 1e-2))'"
        if not config["tuning"]["keys"]:
            yield f"tuning.keys: expected at least one range, such as {example}"
        yield from _seed_problems("tuning.seeds", config["tuning"]["seeds"])
        if config["resume"] is not None:
            yield "resume: a search goes on when the same command is typed again"


@dataclass
class StudyOptions:
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

    @classmethod
    def problems(cls, config: Config) -> Iterator[str]:
        """List the rules that a study breaks, one line each."""
        study = config["study"]
        if study["name"] is None:
            return
        yield from _name_problems("study.name", [study["name"]])
        for key, example in (("tasks", "{cartpole: [task=cartpole]}"), ("arms", "{gru: [...]}")):
            yield from _name_problems(f"study.{key}", study[key])
            if not study[key]:
                yield f"study.{key}: expected at least one, such as {example}"
        yield from _seed_problems("study.seeds", study["seeds"])
        if study["baseline"] is not None and study["baseline"] not in study["arms"]:
            hint = did_you_mean(study["baseline"], study["arms"])
            yield f"study.baseline: there is no arm {study['baseline']!r}{hint}"
        yield from _word_problems(study)
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


def _word_problems(study: Config) -> Iterator[str]:
    """Refuse words that set what the study sets."""
    groups = (("tasks", study["tasks"]), ("arms", study["arms"]))
    places = [(f"study.{group}.{name}", _keys(of[name])) for group, of in groups for name in of]
    for place, keys in places:
        for key in keys:
            if key in OF_JOBS or key.startswith("hydra"):
                yield f"{place}: {key} {set_by('study', key)}"
            if key == "total_env_steps" and place.startswith("study.arms."):
                yield (
                    f"{place}: total_env_steps would give arms unequal budgets; use "
                    "study.total_env_steps, or set it in a task"
                )


def set_by(what: Literal["study", "search"], key: str) -> str:
    """Say that a study or a search sets a key of its jobs, and by which key of its own."""
    seeds = "study.seeds" if what == "study" else "tuning.seeds"
    remedy = {"seed": seeds, "run_dir": "directory", "resume": "directory"}.get(key)
    return f"is set by the {what}" + (f"; use {remedy}" if remedy else "")


def _tuning_problems(study: Config) -> Iterator[str]:
    """Refuse keys that a study sets or an arm has, and seeds that are tuned on and tested on."""
    keys, seeds = study["tuning"]["keys"], study["tuning"]["seeds"]
    for key in keys:
        if key in (*OF_JOBS, "total_env_steps"):
            yield f"study.tuning.keys: {key} {set_by('study', key)}"
    if not keys:
        yield (
            "study.tuning.keys: expected at least one with study.protocol=tuned, such as "
            "{optimizer.learning_rate: 'tag(log, interval(1e-4, 1e-2))'}"
        )
    for name, words in study["arms"].items():
        for key in {*_keys(words)} & {*keys}:
            yield f"study.arms.{name}: {key} is one of study.tuning.keys, which would replace it"
    yield from _seed_problems("study.tuning.seeds", seeds)
    for seed in sorted({*seeds} & {*study["seeds"]}):
        told = "scores of seeds that were tuned on are too good"
        yield f"study.tuning.seeds: {seed} is one of study.seeds; {told}"


@dataclass
class EngineOptions:
    """conf/engine/*.yaml; keys with a default belong to some engines only."""

    name: Literal["local", "ray", "slurm"]
    jobs: Literal["auto"] | PositiveCount
    cpus_per_job: PositiveCount = 1
    gpus_per_job: NonNegative = 0.0
    retries: Count = 0
    address: str | None = None
    cluster: Literal["slurm", "local"] = "slurm"
    parameters: Free = field(default_factory=dict)
