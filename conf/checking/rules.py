"""Rules across several parts; those of one part are with its options dataclass."""

from collections.abc import Callable, Iterator
from typing import Any

from conf.checking.pretraining import pretraining_problems
from conf.checking.steps import Config
from conf.schema.registry import OTHER_TARGETS, TARGETS, options_of
from conf.schema.types import show

# Gymnasium's names of settings that have their own key here.
_KEYWORDS_WITH_A_KEY = {
    "id": "env.id",
    "max_episode_steps": "env.time_limit",
    "num_envs": "env.num_envs",
    "vectorization_mode": "env.vectorization",
}


def combination_problems(config: Config) -> list[str]:
    """List the rules that a typed configuration breaks, one line each."""
    rules: tuple[Callable[[Config], Iterator[str]], ...] = (
        *(_options(config, part).problems for part in ("agent", "value_head", "optimizer")),
        _sharing,
        _freezing,
        _gradients,
        _native_environments,
        _rewards,
        _environment_keywords,
        _evaluation,
        _policy_head,
        _value_head,
        pretraining_problems,
    )
    return [problem for rule in rules for problem in rule(config)]


def _options(config: Config, part: str) -> Any:
    """Return a part's options dataclass, with the keys that all of its kind have."""
    known: Any = OTHER_TARGETS[part]
    own = options_of(config[part]["_target_"], config["trusted_packages"]) or known
    return own if issubclass(own, known) else type(own.__name__, (own, known), {})


def _sharing(config: Config) -> Iterator[str]:
    for part in ("extractor", "memory"):
        if config["share_backbone"] and config["critic"][part] is not None:
            yield (
                f"critic.{part}: expected null, because share_backbone=true gives the critic "
                "the actor's"
            )


def _freezing(config: Config) -> Iterator[str]:
    """The optimizer's part `extractor` is unfrozen as a whole."""
    own, freeze = config["critic"]["extractor"], config["extractor"].get("freeze", False)
    own_freeze = freeze if own is None else own.get("freeze", False)
    is_timed = not (isinstance(own_freeze, bool) and isinstance(freeze, bool))
    if own_freeze != freeze and is_timed:
        yield (
            f"critic.extractor.freeze: expected {show(freeze)} as in extractor.freeze, because all "
            f"extractors thaw together; got {show(own_freeze)}"
        )


def _gradients(config: Config) -> Iterator[str]:
    """Refuse a loss that trains nothing."""
    if not config["auxiliary"]:
        return
    losses = config["gradients"]["extractor"]
    if losses is not None and "auxiliary" not in losses:
        yield (
            "gradients.extractor: expected auxiliary among them, because auxiliary losses would "
            f"train nothing else that acts; got {show(losses)}"
        )
    if config["extractor"].get("freeze") is True:
        yield "auxiliary: expected none, because extractor.freeze=true leaves them nothing to train"


def _native_environments(config: Config) -> Iterator[str]:
    """Refuse changes to the single environments inside a native vector environment."""
    env = config["env"]
    if env["vectorization"] != "native":
        return
    used = {
        "env.wrappers": bool(env["wrappers"]),
        "pomdp": bool(config["pomdp"]),
        "env.previous_action": env["previous_action"],
        "env.previous_reward": env["previous_reward"],
        "env.on_failure": env["on_failure"] != "stop",
    }
    for key in (key for key, is_used in used.items() if is_used):
        yield f"{key}: not possible with env.vectorization=native; use env.vectorization=sync"


def _rewards(config: Config) -> Iterator[str]:
    if config["normalize_rewards"] and config["clip_rewards"] is not None:
        yield (
            "clip_rewards: expected null, because normalize_rewards=true brings rewards to one "
            "scale already"
        )


def _environment_keywords(config: Config) -> Iterator[str]:
    for keyword in sorted(_KEYWORDS_WITH_A_KEY.keys() & config["env"]["kwargs"].keys()):
        ours = _KEYWORDS_WITH_A_KEY[keyword]
        yield f"env.kwargs.{keyword}: unknown key; in this project it is {ours}"


def _evaluation(config: Config) -> Iterator[str]:
    evaluation = config["evaluation"]
    if evaluation["checkpoint"] == "best" and evaluation["interval"] == 0:
        yield (
            "evaluation.checkpoint: expected last, because evaluation.interval=0 finds no best "
            "during training; got 'best'"
        )
    if evaluation["video"] and not config["tracking"]["tensorboard"]:
        yield (
            "evaluation.video: expected false, because tracking.tensorboard=false leaves no place "
            "to show films; python evaluate.py run=... video=true makes one afterwards"
        )


def _policy_head(config: Config) -> Iterator[str]:
    needs = _options(config, "agent").needs_log_probs
    if needs and not _options(config, "policy_head").has_log_probs:
        name = config["agent"]["_target_"].rpartition(".")[2].lower()
        yield (
            "policy_head: expected auto, categorical, gaussian or squashed_gaussian, because "
            f"agent={name} learns from log-probabilities of actions, which "
            f"{_shortened(config, 'policy_head')} has not"
        )


def _value_head(config: Config) -> Iterator[str]:
    agent, head = _options(config, "agent"), _options(config, "value_head")
    clip_range = config["agent"].get("value_clip_range")
    if clip_range is not None and not head.is_scalar:
        yield (
            "agent.value_clip_range: expected null, because value_head fits a histogram, which has "
            f"no number to clip; got {clip_range}"
        )
    if agent.learns_from == "rollout" and not head.fits_returns:
        name = config["agent"]["_target_"].rpartition(".")[2]
        yield (
            f"value_head: expected mse, huber, two_hot or hl_gauss, because agent={name.lower()} "
            "fits values to returns, which are numbers; got "
            f"{_shortened(config, 'value_head')}, which is fitted to distributions"
        )


def _shortened(config: Config, part: str) -> str:
    """Name the class of a head; ours as they are chosen."""
    name: str = config[part]["_target_"].rpartition(".")[2]
    short = name.removesuffix("ValueHead").removesuffix("Head")
    return short.lower() if config[part]["_target_"] in TARGETS[part] else name
