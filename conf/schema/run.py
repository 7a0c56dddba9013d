"""The schema of a composed configuration: type, range and choices of every leaf.

Defaults are only in the YAML files, rules across several keys in `conf.checking.rules`. A key that
is not a field is refused.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

from conf.schema.extractors import CloningOptions
from conf.schema.registry import TARGETS
from conf.schema.types import (
    Count,
    Device,
    EnvironmentId,
    Free,
    ImageLayout,
    LossName,
    Module,
    Path,
    Positive,
    PositiveCount,
    Target,
)


@dataclass
class EnvironmentOptions:
    """conf/env/*.yaml."""

    id: EnvironmentId
    kwargs: Free
    packages: list[Module]
    num_envs: PositiveCount
    vectorization: Literal["sync", "async", "native"]
    on_failure: Literal["stop", "restart"]
    step_timeout: Positive | None
    time_limit: PositiveCount | None
    life_loss: bool
    frame_stack: PositiveCount
    image_layout: ImageLayout
    previous_action: bool
    previous_reward: bool
    wrappers: list[Annotated[Free, Target("wrapper")]]


@dataclass
class CriticOptions:
    """`critic` of conf/config.yaml; null is built like the actor's."""

    extractor: Annotated[Free, Target("extractor")] | None
    memory: Annotated[Free, Target("memory")] | None


@dataclass
class EvaluationOptions:
    """`evaluation` of conf/evaluate.yaml."""

    episodes: PositiveCount
    num_envs: PositiveCount
    deterministic: bool
    checkpoint: Literal["last", "best"]


@dataclass
class BackboneGradientsOptions:
    """`gradients.actor` and `gradients.critic`; null: the agent's default."""

    extractor: list[LossName] | None = None
    memory: list[LossName] | None = None


@dataclass
class GradientsOptions(BackboneGradientsOptions):
    """`gradients` of conf/config.yaml: the losses that train a part, by path."""

    policy_head: list[LossName] | None = None
    value_head: list[LossName] | None = None
    actor: BackboneGradientsOptions | None = None
    critic: BackboneGradientsOptions | None = None


@dataclass
class PeriodicEvaluationOptions(EvaluationOptions):
    """`evaluation` of conf/config.yaml."""

    interval: Count
    final_episodes: PositiveCount
    video: bool


@dataclass
class TaskOptions:
    """`task` of conf/config.yaml and conf/task/*.yaml, which set other keys too."""

    name: str | None
    solved_at: float | None


@dataclass
class CheckpointOptions:
    """`checkpoint` of conf/config.yaml."""

    interval: Count
    keep_last: PositiveCount


@dataclass
class TrackingOptions:
    """conf/tracking/*.yaml."""

    tensorboard: bool
    progress: Literal["auto"] | bool
    representation: bool
    interval: PositiveCount


@dataclass(kw_only=True)
class TrainingRun:
    """conf/config.yaml, composed; older runs have no `task`."""

    task: TaskOptions | None = None
    seed: Count
    total_env_steps: PositiveCount
    device: Device
    precision: Literal["float32", "bf16"]
    compile: bool
    num_threads: Literal["auto"] | PositiveCount
    run_dir: Path
    resume: Path | None
    init_from: Path | None
    trusted_packages: list[Module]
    share_backbone: bool
    normalize_observations: bool
    normalize_rewards: bool
    auxiliary: dict[str, Annotated[Free, Target("auxiliary")]]
    gradients: GradientsOptions
    clip_rewards: Positive | None
    critic: CriticOptions
    policy_head: Annotated[Free, Target("policy_head", usual="auto")]
    evaluation: PeriodicEvaluationOptions
    checkpoint: CheckpointOptions
    env: EnvironmentOptions
    pomdp: dict[str, Annotated[Free, Target("pomdp")]]
    agent: Annotated[Free, Target("agent")]
    extractor: Annotated[Free, Target("extractor")]
    memory: Annotated[Free, Target("memory")]
    value_head: Annotated[Free, Target("value_head")]
    optimizer: Annotated[Free, Target("optimizer")]
    tracking: TrackingOptions


@dataclass(kw_only=True)
class PretrainingRun(TrainingRun):
    """conf/pretrain.yaml, composed."""

    objective: Literal["reconstruction", "behaviour_cloning"]
    source: Path | None
    cloning: CloningOptions


@dataclass
class EvaluationRun:
    """conf/evaluate.yaml, composed."""

    run: Path
    seed: Count | None
    video: bool | Literal["gif", "mp4"]
    render_mode: Literal["human"] | None
    evaluation: EvaluationOptions
    device: Device
    trusted_packages: list[Module]


@dataclass
class Comparison:
    """conf/compare.yaml, composed."""

    runs: Path | list[Path]
    format: Literal["text", "markdown", "csv"]


PRESETS = ("experiment", "task")
"""Groups that set the keys of others; the first chooses an option of the second."""

# The primary configuration of each entry point.
ROOTS: dict[str, type] = {
    "config": TrainingRun,
    "pretrain": PretrainingRun,
    "evaluate": EvaluationRun,
    "compare": Comparison,
}

# The folders of conf/, one choice each (pomdp, auxiliary: several).
GROUPS = ("env", *(group for group in TARGETS if group != "wrapper"), "tracking", *PRESETS)
