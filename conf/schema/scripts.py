"""The schemas of what each script composes; those that train are in `conf.schema.run`."""

from typing import Annotated, Any, ClassVar, Literal

from conf.schema.parts import Options
from conf.schema.run import OF_STUDIES, EvaluationOptions, SearchRun, TrainingRun
from conf.schema.study import EngineOptions, StudyOptions
from conf.schema.types import (
    Count,
    Device,
    EnvironmentId,
    Free,
    Module,
    NonNegative,
    Path,
    PositiveCount,
    RunPath,
    Target,
)


class FinishedRun(Options):
    """What scripts ask of a run that they open.

    Attributes:
        groups: that have a choice.
    """

    groups: ClassVar[tuple[str, ...]] = ()

    run: RunPath
    trusted_packages: list[Module]


class ExportedRun(FinishedRun):
    """conf/export.yaml, composed."""

    format: Literal["onnx", "torch"]
    checkpoint: Literal["last", "best"]
    tolerance: NonNegative
    directory: Path | None


class OtherEnvironment(Options):
    """`env` of conf/evaluate.yaml; null and {} leave the run's own."""

    id: EnvironmentId | None
    kwargs: Free


class EvaluationRun(FinishedRun):
    """conf/evaluate.yaml, composed."""

    groups: ClassVar[tuple[str, ...]] = ("pomdp",)

    seed: Count | None
    device: Device
    env: OtherEnvironment
    pomdp: dict[str, Annotated[Free, Target("pomdp")]] | None
    video: bool | Literal["gif", "mp4"]
    render_mode: Literal["human"] | None
    evaluation: EvaluationOptions


class ProbingRun(FinishedRun):
    """conf/analyze.yaml, composed."""

    seed: Count | None
    device: Device
    steps: PositiveCount
    num_envs: PositiveCount
    deterministic: bool
    checkpoint: Literal["last", "best"]
    reach: PositiveCount
    noise: NonNegative


class Comparison(Options):
    """conf/compare.yaml, composed."""

    groups: ClassVar[tuple[str, ...]] = OF_STUDIES

    runs: Path | list[Path]
    study: StudyOptions
    directory: Path
    engine: EngineOptions
    report: Path | None
    metric: Literal["auto", "last", "best", "mean"]
    status: Literal["finished", "all"]
    probe: bool
    columns: Literal["auto", "all"] | list[str]


# The primary configuration of each entry point.
ROOTS: dict[str, Any] = {
    "config": TrainingRun,
    "tune": SearchRun,
    "doctor": TrainingRun,
    "evaluate": EvaluationRun,
    "analyze": ProbingRun,
    "export": ExportedRun,
    "compare": Comparison,
}
