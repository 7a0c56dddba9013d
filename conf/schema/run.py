"""The schema of a composed configuration: type, range and choices of every leaf.

Defaults are only in the YAML files. A key that is not a field is refused. `problems` of any options
in it lists the broken rules across several keys.
"""

import re
from dataclasses import field
from itertools import pairwise
from typing import Annotated, Any, ClassVar, Literal

from conf.checking.pretraining import frames_wanted, pretraining_problems
from conf.schema.layout import command
from conf.schema.parts import Options
from conf.schema.registry import KNOWN, TARGETS, options_for
from conf.schema.study import EngineOptions, SearchOptions
from conf.schema.types import (
    ABSENT,
    Config,
    Copies,
    Count,
    Device,
    EnvironmentId,
    FrameStack,
    Free,
    ImageLayout,
    InfoKey,
    LossName,
    Module,
    Parts,
    Path,
    Positive,
    PositiveCount,
    Rules,
    Target,
    at,
)

# Gymnasium's names of settings that have their own key here.
_OTHER_NAMES = {"max_episode_steps": "time_limit", "vectorization_mode": "vectorization"}
_KEYWORDS = {"id", "num_envs", *_OTHER_NAMES}
_OF_SINGLE_ENVIRONMENTS = (
    *("pomdp", "env.wrappers", "env.copy_argument", "env.on_failure", "env.curriculum"),
    *("env.previous_action", "env.previous_reward"),
)


class StageOptions(Options):
    """A stage of `env.curriculum`: how training's environments differ from the configured one."""

    until: PositiveCount
    kwargs: Free


class EnvironmentOptions(Options):
    """conf/env/*.yaml."""

    id: EnvironmentId
    kwargs: Free
    packages: list[Module]
    num_envs: Copies
    vectorization: Literal["sync", "async", "native"]
    on_failure: Literal["stop", "restart"]
    step_timeout: Positive | None
    time_limit: PositiveCount | None
    life_loss: bool
    frame_stack: FrameStack
    image_layout: ImageLayout
    previous_action: bool
    previous_reward: bool
    wrappers: list[Annotated[Free, Target("wrapper")]]
    copy_argument: str | None = None
    action_mask: bool = False
    curriculum: list[StageOptions] = field(default_factory=list)

    @staticmethod
    def problems(config: Config) -> Rules:
        """Refuse keywords with a key of their own, and single environments in a native vector."""
        env, copied = config["env"], config["env"].get("copy_argument")
        stages = env.get("curriculum", [])
        given = {f"env.curriculum[{i}].kwargs": stage["kwargs"] for i, stage in enumerate(stages)}
        for key, kwargs in {"env.kwargs": env["kwargs"], **given}.items():
            for keyword in sorted(_KEYWORDS & kwargs.keys()):
                ours = f"env.{_OTHER_NAMES.get(keyword, keyword)}"
                yield f"{key}.{keyword}: unknown key; in this project it is {ours}"
            if copied in kwargs:
                yield f"{key}.{copied}: env.copy_argument gives it a number; leave one of them out"
        for before, after in pairwise(stage["until"] for stage in stages):
            if after <= before:
                yield f"env.curriculum: expected later stages to end later, got {before}, {after}"
        unused: list[Any] = [ABSENT, None, False, [], {}, "stop"]
        for key in _OF_SINGLE_ENVIRONMENTS if env["vectorization"] == "native" else ():
            if at(config, key) not in unused:
                native = "not possible with env.vectorization=native"
                yield f"{key}: {native}; use env.vectorization=sync"


class CriticOptions(Options):
    """`critic` of conf/config.yaml."""

    extractor: Annotated[Free, Target("extractor")] | None
    memory: Annotated[Free, Target("memory")] | None
    observation: Literal["same", "full"] = "same"

    @staticmethod
    def problems(config: Config) -> Rules:
        """Refuse to show what is hidden to a network that acts."""
        if config["critic"].get("observation") != "full":
            return
        expected = "critic.observation: expected same, because"
        if not options_for(config, "agent").box_heads:
            name = config["agent"]["_target_"].rpartition(".")[2]
            yield f"{expected} {name} has one network, which acts"
        elif config["share_backbone"]:
            yield f"{expected} the critic has the network that acts; set share_backbone=false"
        if frames_wanted(config) is not None:
            remedy = "pre-train with agent=autoencoding, then set extractor.weights=RUN_DIR"
            yield f"{expected} pre-training reads what the policy sees; {remedy}"


class EvaluationOptions(Options):
    """`evaluation` of conf/evaluate.yaml."""

    episodes: PositiveCount
    num_envs: PositiveCount
    deterministic: bool
    checkpoint: Literal["last", "best"]


class PeriodicEvaluationOptions(EvaluationOptions):
    """`evaluation` of conf/config.yaml."""

    interval: Count
    final_episodes: PositiveCount
    video: bool
    stop_at: float | Literal["solved"] | None = None

    @staticmethod
    def problems(config: Config) -> Rules:
        """Refuse what never happens without evaluations, or cannot be shown."""
        if config["evaluation"]["interval"] == 0:
            yield "evaluation.checkpoint", "last", "evaluation.interval=0 finds no best weights"
            yield "evaluation.stop_at", None, "evaluation.interval=0 never evaluates"
        elif at(config, "evaluation.stop_at") == "solved" and config["task"]["solved_at"] is None:
            yield "evaluation.stop_at: expected a number, because task.solved_at is null"
        if not config["tracking"]["tensorboard"]:
            made = command("evaluate", "video=true")
            why = f"tracking.tensorboard=false has no place for it; {made} makes one"
            yield "evaluation.video", False, why


class TaskOptions(Options):
    """`task` of conf/config.yaml and conf/task/*.yaml, which set other keys too."""

    name: str | None
    solved_at: float | None


class CheckpointOptions(Options):
    """`checkpoint` of conf/config.yaml."""

    interval: Count
    keep_last: PositiveCount


_OF_EPISODES = ("env_steps", "seconds", "environment", "return", "length", "success_rate")
"""Columns of episodes.csv, and the curve of `is_success`."""


class TrackingOptions(Options):
    """conf/tracking/*.yaml."""

    tensorboard: bool
    progress: Literal["auto"] | bool
    representation: bool
    interval: PositiveCount
    info: list[InfoKey]
    episodes: bool
    also: dict[str, Annotated[Free, Target("tracker")]] = field(default_factory=dict)

    @staticmethod
    def problems(config: Config) -> Rules:
        """Refuse names that are taken, and a table that a resumed run could not continue."""
        names = [*_OF_EPISODES, *config["tracking"]["info"]]
        for name in sorted({name for name in names if names.count(name) > 1}):
            yield f"tracking.info: {name} names a number of episodes already; leave it out"
        if not config["tracking"]["tensorboard"]:
            why = "tracking.tensorboard=false keeps no place at which a resumed run continues it"
            yield "tracking.episodes", False, why


PRESETS = ("experiment", "task")
"""Groups that set the keys of others; the first chooses an option of the second."""

_IN_GROUPS = ("wrapper", "tracker")
"""Classes that a group's options name in a list or a mapping."""
OF_RUNS = ("env", *(group for group in TARGETS if group not in _IN_GROUPS), "tracking", *PRESETS)
OF_STUDIES = ("study", "engine")

# The folders of conf/, one choice each (pomdp, auxiliary: several).
GROUPS = (*OF_RUNS, *OF_STUDIES)


class TrainingRun(Options):
    """conf/config.yaml, composed.

    Attributes:
        groups: that have a choice.
    """

    groups: ClassVar[tuple[str, ...]] = tuple(group for group in OF_RUNS if group != "decoder")

    task: TaskOptions | None = None
    seed: Count
    total_env_steps: PositiveCount
    device: Device
    precision: Literal["float32", "bf16"]
    compile: bool | Literal["force"]
    num_threads: Literal["auto"] | PositiveCount
    run_dir: Path
    resume: Path | None
    init_from: Path | None
    trusted_packages: list[Module]
    share_backbone: bool
    normalize_observations: bool
    normalize_rewards: bool
    auxiliary: dict[str, Annotated[Free, Target("auxiliary")]]
    gradients: Annotated[Free, Parts(list[LossName], "temperature")]
    clip_rewards: Positive | None
    critic: CriticOptions
    policy_head: Annotated[Free, Target("policy_head")]
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

    @staticmethod
    def problems(config: Config) -> Rules:
        """List the rules between parts that a typed configuration breaks, one line each."""
        yield from _head_problems(config)
        if config["share_backbone"]:
            yield "critic.extractor critic.memory", None, "share_backbone=true gives it the actor's"
        if config["normalize_rewards"]:
            yield "clip_rewards", None, "normalize_rewards=true brings rewards to one scale already"
        if config["auxiliary"]:
            yield from _auxiliary_problems(config)
        yield from pretraining_problems(config)


def _head_problems(config: Config) -> Rules:
    """Refuse heads without what the agent learns from."""
    parts = ("agent", "policy_head", "value_head")
    agent, policy_head, value_head = (options_for(config, part) for part in parts)
    name, acting, valuing = (_option(config[part]["_target_"]) for part in parts)
    name, own = name.lower(), [_option(head) for head in agent.box_heads]
    if agent.needs_log_probs and not policy_head.has_log_probs:
        yield (
            "policy_head: expected auto, categorical, gaussian or squashed_gaussian, because agent="
            f"{name} learns from log-probabilities of actions, which {acting} has not"
        )
    elif own and acting not in own and acting in _BOX_HEADS:
        fitting = f"expected auto or {' or '.join(own)}"
        yield f"policy_head: {fitting}, with which agent={name} acts; got {acting}"
    if not value_head.is_scalar:
        yield "agent.value_clip_range", None, "value_head fits a histogram, with no number to clip"
    if agent.learns_from == "rollout" and not value_head.fits_returns:
        heads = "expected mse, huber, two_hot or hl_gauss"
        why = f"agent={name} fits values to returns, which are numbers"
        yield f"value_head: {heads}, because {why}; got {valuing}, which is fitted to distributions"


_BOX_HEADS = ("gaussian", "squashed_gaussian", "deterministic")


def _option(target: str) -> str:
    """Name the class of a head; ours as they are chosen."""
    name = target.rpartition(".")[2]
    short = name.removesuffix("ValueHead").removesuffix("Head")
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", short).lower() if target in KNOWN else name


def _auxiliary_problems(config: Config) -> Rules:
    """Refuse auxiliary losses that train nothing."""
    own = (TARGETS["auxiliary"].get(loss["_target_"]) for loss in config["auxiliary"].values())
    if all(getattr(options, "trains_memory", False) for options in own):
        return
    losses = config["gradients"].get("extractor")
    if losses is not None and "auxiliary" not in losses:
        why = "auxiliary losses would train nothing else that acts"
        yield f"gradients.extractor: expected auxiliary among them, because {why}"
    if config["extractor"].get("freeze") is True:
        yield "auxiliary: expected none, because extractor.freeze=true leaves them nothing to train"


class SearchRun(TrainingRun):
    """conf/tune.yaml, composed."""

    groups: ClassVar[tuple[str, ...]] = (*TrainingRun.groups, "engine")

    tuning: SearchOptions
    directory: Path
    engine: EngineOptions
