"""Rules that tie several keys together. Each key alone is the work of `conf.validation`."""

from collections.abc import Callable, Iterator

from conf.action_values import action_value_problems
from conf.constraints import show
from conf.pretraining import pretraining_problems
from conf.replay import replay_problems
from conf.rollouts import rollout_problems
from conf.steps import Config

_HISTOGRAM_HEADS = {
    "networks.value_heads.TwoHotValueHead",
    "networks.value_heads.HLGaussValueHead",
}
# Their targets are distributions, moved from one later output.
_DISTRIBUTIONAL_HEADS = {
    "networks.distributional.C51ValueHead": "c51",
    "networks.distributional.QuantileValueHead": "quantile",
}
_WITH_A_SUPPORT = {*_HISTOGRAM_HEADS, "networks.distributional.C51ValueHead"}
# Their targets are returns, single numbers, summed up over many steps.
_AGENTS_OF_RETURNS = {"agents.a2c.A2C": "a2c", "agents.pqn.PQN": "pqn", "agents.ppo.PPO": "ppo"}

# What Gymnasium calls some settings that have a key of their own here.
_KEYWORDS_WITH_A_KEY = {
    "id": "env.id",
    "max_episode_steps": "env.time_limit",
    "num_envs": "env.num_envs",
    "vectorization_mode": "env.vectorization",
}


def combination_problems(config: Config) -> list[str]:
    """List the rules that a typed configuration breaks, one line each."""
    rules: tuple[Callable[[Config], Iterator[str]], ...] = (
        rollout_problems,
        action_value_problems,
        replay_problems,
        _sharing,
        _freezing,
        _gradients,
        _native_environments,
        _rewards,
        _environment_keywords,
        _evaluation,
        _optimizer,
        _value_head,
        _distributional_head,
        pretraining_problems,
    )
    return [problem for rule in rules for problem in rule(config)]


def _sharing(config: Config) -> Iterator[str]:
    for part in ("extractor", "memory"):
        if config["share_backbone"] and config["critic"][part] is not None:
            yield (
                f"critic.{part}: expected null, because share_backbone=true gives the critic "
                "the actor's"
            )


def _freezing(config: Config) -> Iterator[str]:
    """Extractors are one part of the optimizer, which thaws as a whole."""
    own, freeze = config["critic"]["extractor"], config["extractor"].get("freeze", False)
    own_freeze = freeze if own is None else own.get("freeze", False)
    if own_freeze != freeze:
        times = [value for value in (own_freeze, freeze) if not isinstance(value, bool)]
        if times:
            yield (
                f"critic.extractor.freeze: expected {show(freeze)} as in extractor.freeze, because "
                f"all extractors thaw together; got {show(own_freeze)}"
            )


def _gradients(config: Config) -> Iterator[str]:
    """A loss that trains nothing was not meant."""
    if not config["auxiliary"]:
        return
    if "auxiliary" not in config["gradients"]["extractor"]:
        yield (
            "gradients.extractor: expected auxiliary among them, because auxiliary losses would "
            f"train nothing else that acts; got {show(config['gradients']['extractor'])}"
        )
    if config["extractor"].get("freeze") is True:
        yield "auxiliary: expected none, because extractor.freeze=true leaves them nothing to train"


def _native_environments(config: Config) -> Iterator[str]:
    """A native vector environment cannot be changed from the inside, environment by environment."""
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


def _optimizer(config: Config) -> Iterator[str]:
    optimizer = config["optimizer"]
    if optimizer["schedule"] == "constant" and optimizer["final_learning_rate"] > 0:
        yield "optimizer.final_learning_rate: has no effect without optimizer.schedule=linear"
    for part, own in (optimizer["groups"] or {}).items():
        kind = own.get("schedule", optimizer["schedule"])
        if kind == "constant" and own.get("final_learning_rate", 0) > 0:
            yield (
                f"optimizer.groups.{part}.final_learning_rate: has no effect without "
                f"optimizer.groups.{part}.schedule=linear"
            )
    if optimizer.get("nesterov") is True and optimizer.get("momentum") == 0:
        yield "optimizer.nesterov: expected optimizer.momentum > 0 with it, got 0"


def _value_head(config: Config) -> Iterator[str]:
    """A histogram of values has a support, and no single number to clip."""
    head = config["value_head"]
    if head["_target_"] not in _WITH_A_SUPPORT:
        return
    if head["_target_"] in _HISTOGRAM_HEADS and config["agent"].get("value_clip_range") is not None:
        yield (
            "agent.value_clip_range: expected null, because value_head fits a histogram, which has "
            f"no number to clip; got {config['agent']['value_clip_range']}"
        )
    if head["support"] != "auto" and head["support"][0] >= head["support"][1]:
        yield (
            "value_head.support: expected the lowest and the highest value, in this order, got "
            f"{head['support']}"
        )


def _distributional_head(config: Config) -> Iterator[str]:
    """A distribution is fitted to another one, not to a return."""
    agent = _AGENTS_OF_RETURNS.get(config["agent"]["_target_"])
    head = _DISTRIBUTIONAL_HEADS.get(config["value_head"]["_target_"])
    if agent is not None and head is not None:
        yield (
            f"value_head: expected mse, huber, two_hot or hl_gauss, because agent={agent} fits "
            f"values to returns, which are numbers; got {head}, which is fitted to distributions"
        )
