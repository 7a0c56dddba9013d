"""Rules that tie several keys together. Each key alone is checked by `conf.checking.validation`."""

import math
from collections.abc import Callable, Iterator

from conf.checking.pretraining import pretraining_problems
from conf.checking.steps import (
    NO_MEMORY,
    Config,
    replay_stride,
    replayed_steps,
    sequence_lengths,
    steps_per_iteration,
    training_sequence_length,
    window_length,
)
from conf.schema.registry import by_path
from conf.schema.types import show

REPLAYING = ("agents.dqn.DQN",)
"""Agents that learn from a replay."""
ACTION_VALUES = (*REPLAYING, "agents.pqn.PQN")


def action_value_problems(config: Config) -> Iterator[str]:
    """List the rules that an agent with action values breaks, one line each."""
    agent = config["agent"]
    if agent["_target_"] not in ACTION_VALUES:
        return
    yield from _one_network(config)
    if agent["final_epsilon"] > agent["epsilon"]:
        yield (
            "agent.final_epsilon: expected at most agent.epsilon, from which it falls: "
            f"{agent['final_epsilon']:g} > {agent['epsilon']:g}"
        )
    if config.get("objective") == "behaviour_cloning":
        yield (
            "agent: expected one with a policy to be taught (agent=ppo), as "
            f"{agent['_target_'].rpartition('.')[2]} has values of actions"
        )


def _one_network(config: Config) -> Iterator[str]:
    """Actor and critic are the same network."""
    name = config["agent"]["_target_"].rpartition(".")[2]
    if config["policy_head"]["hidden_sizes"]:
        yield (
            f"policy_head.hidden_sizes: expected [], because {name} acts by its values; layers of "
            f"theirs are value_head.hidden_sizes, got {show(config['policy_head']['hidden_sizes'])}"
        )
    for part, losses in by_path(config["gradients"]).items():
        if losses == ["actor"]:
            yield (
                f"gradients.{part}: expected critic among them, because {name} has no policy loss "
                f"that could train it; [] trains nothing, got {show(losses)}"
            )
    if config["share_backbone"]:
        yield f"share_backbone: expected false, because {name} has one network, nothing to share"
    for part in ("extractor", "memory"):
        own = config["critic"][part]
        if own is not None:
            yield (
                f"critic.{part}: expected null, because {name} has one network, which acts and is "
                f"fitted; {part}=... chooses its {part}, got {show(own['_target_'])}"
            )


DIVIDES_NOT = " does not divide "


def fitting(config: Config) -> dict[str, int]:
    """Return the largest lengths of sequences and number of minibatches that fit what is chosen."""
    agent, lengths = config["agent"], sequence_lengths(config)
    rollout_length = agent["rollout_length"]
    fit = {key: _largest_divisor(length, rollout_length) for key, length in lengths.items()}
    sequences = rollout_length // max(fit.values()) * config["env"]["num_envs"]
    return fit | {
        "agent.num_minibatches": _largest_divisor(agent.get("num_minibatches", 1), sequences)
    }


def _largest_divisor(number: int, whole: int) -> int:
    return next(n for n in range(min(number, whole), 0, -1) if whole % n == 0)


def rollout_problems(config: Config) -> Iterator[str]:
    """List the rules broken: minibatches are of whole sequences, sequences of whole rollouts."""
    agent = config["agent"]
    if "rollout_length" not in agent:
        return  # another way of learning
    rollout_length, lengths = agent["rollout_length"], sequence_lengths(config)
    uneven = [key for key, length in lengths.items() if rollout_length % length]
    for key in uneven:
        yield (
            f"{key}: {lengths[key]}{DIVIDES_NOT}agent.rollout_length {rollout_length}; "
            f"choose {divisors_near(lengths[key], rollout_length)}, or 0 for the whole rollout"
        )
    if len({length for length in lengths.values() if length > 1}) > 1:
        actor, critic = lengths.values()
        yield (
            f"critic.memory.sequence_length: expected {actor} as in memory.sequence_length, "
            f"got {critic}"
        )
    if not uneven and "num_minibatches" in agent:
        yield from _minibatches(config, max(lengths.values()))


def _minibatches(config: Config, sequence_length: int) -> Iterator[str]:
    agent, num_envs = config["agent"], config["env"]["num_envs"]
    rollout_length, num_minibatches = agent["rollout_length"], agent["num_minibatches"]
    num_sequences = rollout_length // sequence_length * num_envs
    if num_sequences % num_minibatches:
        yield (
            f"agent.num_minibatches: {num_minibatches}{DIVIDES_NOT}{num_sequences} sequences "
            f"(agent.rollout_length {rollout_length} / sequence_length {sequence_length} x "
            f"env.num_envs {num_envs}); choose {divisors_near(num_minibatches, num_sequences)}"
        )


def divisors_near(number: int, whole: int) -> str:
    """Name the divisors of `whole` on both sides of a number."""
    divisors = [divisor for divisor in range(1, whole + 1) if whole % divisor == 0]
    below = [divisor for divisor in divisors if divisor < number][-1:]
    above = [divisor for divisor in divisors if divisor > number][:1]
    return " or ".join(str(divisor) for divisor in below + above)


def replay_problems(config: Config) -> Iterator[str]:
    """List the rules broken, one line each."""
    if config["agent"]["_target_"] not in REPLAYING:
        return
    before = [*_memory(config), *_stride(config)]
    yield from before or _capacity(config)
    yield from _beginning(config)


def _memory(config: Config) -> Iterator[str]:
    burn_in = config["agent"]["burn_in"]
    if burn_in and config["memory"]["_target_"] == NO_MEMORY:
        yield (
            "agent.burn_in: expected 0, because memory=none leaves nothing to bring up to date; "
            f"got {burn_in}"
        )


def _stride(config: Config) -> Iterator[str]:
    """The memory's state is known where collecting paused; inside it is computed again."""
    stride, frequency = replay_stride(config), steps_per_iteration(config)
    if stride % frequency and frequency % stride:
        near = divisors_near(stride, frequency)
        if stride > frequency:
            below = stride // frequency * frequency
            near = f"{below} or {below + frequency}"
        yield (
            f"agent.sequence_stride: {stride} neither divides agent.train_frequency {frequency} "
            f"nor is a multiple of it; choose {near}"
        )


def _capacity(config: Config) -> Iterator[str]:
    """Some window must lie within the ring wherever its newest step is."""
    agent, num_envs = config["agent"], config["env"]["num_envs"]
    stride, held = replay_stride(config), replayed_steps(config)
    needed = window_length(config) + stride - 1
    holds = f"{agent['buffer_size']} / env.num_envs {num_envs} holds {held} steps of each"
    least = math.ceil(max(needed, steps_per_iteration(config)) / stride) * stride * num_envs
    if held < needed:
        rest = f" + {stride - 1} up to a start" if stride > 1 else ""
        yield (
            f"agent.buffer_size: {holds} environment, fewer than a window needs: "
            f"{_window(config)}{rest} = {needed}; choose at least {least}"
        )
    elif held < steps_per_iteration(config):
        yield (
            f"agent.buffer_size: {holds} environment, fewer than agent.train_frequency "
            f"{steps_per_iteration(config)} brings at once; choose at least {least}"
        )
    elif agent["batch_size"] > (windows := held // stride * num_envs):
        what = "steps" if stride == 1 else f"sequences, {stride} steps apart"
        yield (
            f"agent.batch_size: {agent['batch_size']} is more than agent.buffer_size "
            f"{agent['buffer_size']} holds: {windows} {what}"
        )


def _window(config: Config) -> str:
    agent, length = config["agent"], training_sequence_length(config)
    burn_in, n_step = agent["burn_in"], agent["n_step"]
    return f"agent.burn_in {burn_in} + sequence {length} + agent.n_step {n_step} - 1"


def _beginning(config: Config) -> Iterator[str]:
    """Learning begins while the run lasts, with a window to draw."""
    agent, num_envs = config["agent"], config["env"]["num_envs"]
    starts = agent["learning_starts"]
    size, total = agent["buffer_size"], config["total_env_steps"]
    if starts > size:
        yield f"agent.learning_starts: expected at most agent.buffer_size {size}, got {starts}"
    if starts >= total:
        yield (
            f"agent.learning_starts: expected less than total_env_steps {total}, or nothing is "
            f"learnt, got {starts}"
        )
    frequency, window = steps_per_iteration(config), window_length(config)
    first = math.ceil(max(starts, 1) / (frequency * num_envs)) * frequency
    if first < window:
        yield (
            f"agent.learning_starts: {starts} leaves {first} steps of each of env.num_envs "
            f"{num_envs} at the first update, fewer than a window: {_window(config)} = {window}; "
            f"choose at least {window * num_envs}"
        )


_HISTOGRAM_HEADS = {
    "networks.heads.TwoHotValueHead",
    "networks.heads.HLGaussValueHead",
}
# Their targets are distributions, moved from one later output.
_DISTRIBUTIONAL_HEADS = {
    "networks.heads.C51ValueHead": "c51",
    "networks.heads.QuantileValueHead": "quantile",
}
_WITH_A_SUPPORT = {*_HISTOGRAM_HEADS, "networks.heads.C51ValueHead"}
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
    losses = config["gradients"]["extractor"]
    if losses is not None and "auxiliary" not in losses:
        yield (
            "gradients.extractor: expected auxiliary among them, because auxiliary losses would "
            f"train nothing else that acts; got {show(losses)}"
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
    for part, own in by_path(optimizer["groups"] or {}).items():
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
