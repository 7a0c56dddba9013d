"""Builds and trains policies in the caller's process: the two doors of `neurl`."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium
from gymnasium.vector import VectorEnv
from omegaconf import DictConfig
from torch import nn

from conf.checking.pretraining import frames_wanted
from conf.checking.refusals import InvalidConfiguration
from conf.composing.configuration import has_key, load, read_only
from conf.composing.presets import written
from envs.interface import Environments
from training.building.build import build_agent_for, build_collector, refuse_large_replay
from training.building.environments import Source, open_environments, with_values
from training.building.extractors import Own, with_extractor
from training.building.instantiation import plain
from training.evaluation.evaluation import Evaluator
from training.evaluation.policy import Policy, refuse_other_spaces, whole
from training.evaluation.restore import load_source
from training.process.threads import set_num_threads
from training.runs.callbacks import Callback, TrainingProgress
from training.runs.progression import Due, Progression
from training.runs.refusal import Refusal
from training.runs.session import Prepared, tell_masks, train_run
from training.saving.weights import take_weights
from training.stream.collect import Collector
from training.stream.episodes import EpisodeHistory, shown_return
from training.stream.loop import iterations
from training.tracking.tracking import Progress

Callbacks = Sequence[Callback]

_OF_MAKING = (
    *("env.id", "env.kwargs", "env.packages", "env.time_limit"),
    *("env.copy_argument", "env.curriculum"),
)
"""Keys without a meaning for the caller's environments."""


# ---- building


def build(
    *overrides: str,
    env: Source = None,
    extractor: str | Mapping[str, Any] | nn.Module | None = None,
    **choices: Any,
) -> Policy:
    """Build an untrained policy from overrides, for the configured environment or for `env`.

    `memory="gru"` is the override `"memory=gru"`. A single environment means
    `agent.num_minibatches=1` (for agents with minibatches), unless overridden.

    Args:
        env: an environment; a vector environment that resets in the step after an episode's end;
            a function that makes each of `env.num_envs`; or an id.
        extractor: an option of the group, or a module of your own that maps observations
            `[N, *O]` to features `[N, F]`. It is copied, for the actor and for the critic.

    Raises:
        ValueError: with every problem of the overrides, one per line.
    """
    if not all(isinstance(override, str) for override in overrides):
        raise ValueError(f"expected words such as 'memory=gru', got {overrides!r}")
    own = extractor if isinstance(extractor, nn.Module) else None
    if not isinstance(extractor, str | Mapping | nn.Module | None):
        raise ValueError(f"extractor: expected an option's name or an nn.Module; got {extractor}")
    if extractor is not own:
        choices["extractor"] = extractor
    if isinstance(env, str):
        choices["env" if env.isidentifier() else "env.id"], env = env, None
    words = [*overrides, *_said(choices)]
    if any(word.startswith("resume=") for word in words):
        raise ValueError("resume: neurl.build makes an untrained policy; use neurl.load(DIRECTORY)")
    config = load(words if env is None else [*words, *_words_of(env, words)])
    if own is not None:
        if void := [w for w in words if re.match(r"\W*extractor\b(?!\.freeze=)", w)]:
            raise InvalidConfiguration(f"{w}: leave it out, a module is handed in" for w in void)
        config = read_only(with_extractor(plain(config), own))
    return build_policy(config, env, own)


def _said(choices: Mapping[str, Any]) -> Iterator[str]:
    """Write choices as overrides; a dict has one for each of its keys."""
    for key, value in choices.items():
        if isinstance(value, Mapping):
            yield from (written(f"{key}.{name}", each) for name, each in value.items())
        else:
            yield f"{key}={value}" if isinstance(value, str) else written(key, value)


def _words_of(env: Source, words: Sequence[str]) -> list[str]:
    """Return the overrides that an environment means; refuse those that do not apply to it."""
    is_made = isinstance(env, gymnasium.Env | VectorEnv)
    void = (*_OF_MAKING, "env.num_envs", "env.vectorization") if is_made else _OF_MAKING
    given = {word.lstrip("+~").partition("=")[0] for word in words}
    if unused := [key for key in sorted(given) if key.startswith(void)]:
        why = "does not apply to an environment that is handed in; leave it out"
        raise InvalidConfiguration(f"{key}: {why}" for key in unused)
    if isinstance(env, VectorEnv):
        return [f"env.num_envs={env.num_envs}"]
    single = {"env.num_envs", "agent.num_minibatches"} - given if is_made else ()
    return [f"{key}=1" for key in sorted(single) if has_key(words, key)]


def build_policy(config: DictConfig, env: Source, extractor: Own = None) -> Policy:
    """Build a policy for the configured environment, or for the caller's.

    It is untrained, except for weights that the configuration names or the caller's extractor has.
    """
    with open_environments(config, env) as (config, environments):
        agent = build_agent_for(config, environments, extractor)
        refuse_large_replay(agent)
        load_source(config, agent, environments)
    set_num_threads(config.num_threads, agent)
    take_weights(config, agent)
    return Policy(config, agent, extractor)


# ---- training


def fit(
    policy: Policy,
    env: Source = None,
    env_steps: int | None = None,
    *,
    total_env_steps: int | None = None,
    run_dir: str | Path | None = None,
    progress: bool | None = None,
    callbacks: Callback | Sequence[Callback] = (),
) -> float | None:
    """Train a policy for at least `env_steps` more steps, in this process.

    A further call plays other episodes.

    Args:
        env: as `neurl.build` takes it. There may be another number of environments than the policy
            was built for: its agent is built anew, with the same weights.
        env_steps: of this call; None: the configured `total_env_steps`.
        total_env_steps: of all calls together, at which schedules and epsilon end; None: they end
            with this call, as they do in a run.
        run_dir: a new directory. The call is then a run as those of `train.py`, with evaluations,
            TensorBoard, checkpoints and `summary.json`. None: nothing is written.
        progress: whether to print how it goes; None: as `tracking.progress` says.
        callbacks: called as training goes on; they may end it.

    Returns:
        Mean return of the last 100 episodes, None if none ended; with `run_dir`, that of the final
        evaluation.

    Raises:
        ValueError: the policy was built for other spaces, its extractor is to be pre-trained
            first, or there is a run in `run_dir`.
        RuntimeError: no gradient was finite any more.
    """
    if not isinstance(policy, Policy):
        raise ValueError(f"policy: expected what neurl.build or neurl.load returns, got {policy!r}")
    called = tuple(callbacks) if isinstance(callbacks, Sequence) else (callbacks,)
    if wrong := [each for each in called if not isinstance(each, Callback)]:
        raise ValueError(f"callbacks: expected instances of neurl.Callback, got {wrong[0]!r}")
    steps = policy.config.total_env_steps if env_steps is None else whole("env_steps", env_steps)
    if run_dir is not None and total_env_steps is not None:
        raise ValueError("total_env_steps: a run's schedules end with it; leave out one of them")
    with open_environments(policy.config, env) as (config, environments):
        refuse_other_spaces(policy.agent, environments)
        is_other = policy.config.env.num_envs != config.env.num_envs
        _refuse_ends(config, 0 if is_other else policy.env_steps, steps, total_env_steps)
        if is_other:
            _rebuild(policy, config, environments)
        load_source(config, policy.agent, environments)
        set_num_threads(config.num_threads, policy.agent)  # another may have been built
        collector = build_collector(config, environments, index=policy.env_steps)
        collector.env_steps, total = policy.env_steps, policy.env_steps + steps
        tracking = {} if progress is None else {"progress": progress}
        config = with_values(config, total_env_steps=total, run_dir=str(run_dir), tracking=tracking)
        try:
            if run_dir is None:
                return _train(policy, collector, called, config, total_env_steps)
            return _train_run(policy, collector, called, config, env)
        finally:
            policy.env_steps = collector.env_steps  # also if it was interrupted
            policy.reset()


def _refuse_ends(config: DictConfig, env_steps: int, steps: int, end: int | None) -> None:
    """Refuse a call that cannot learn, after `env_steps` in the replay buffer."""
    # Earlier calls may have gone on to the end of a round.
    if end is not None and whole("total_env_steps", end) < steps:
        raise ValueError(f"total_env_steps={end}: expected at least env_steps={steps}")
    if frames_wanted(plain(config)) is not None:
        raise ValueError(
            "extractor.pretrain.frames: neurl.fit has no directory to pre-train in; "
            "agent=autoencoding makes weights, for extractor.weights=RUN_DIR"
        )
    starts = config.agent.get("learning_starts", 0)
    if env_steps + steps <= starts:
        raise ValueError(
            f"env_steps={steps}: expected more than agent.learning_starts={starts}, before "
            "which nothing is learnt; neurl.build(..., 'agent.learning_starts=100') begins earlier"
        )


def _rebuild(policy: Policy, config: DictConfig, environments: Environments) -> None:
    """Build the agent for another number of environments.

    Weights, normalisation and the optimizer's state carry over; what there is one of for each
    environment begins anew, as does a replay buffer.
    """
    agent = build_agent_for(config, environments, policy.extractor)
    own, known = agent.state_dict(), policy.agent.state_dict()
    kept = {name: t for name, t in known.items() if name in own and t.shape == own[name].shape}
    agent.load_state_dict(kept, strict=False)
    agent.learner.begin_anew()
    policy.config, policy.agent = config, agent


def _train(
    policy: Policy, collector: Collector, called: Callbacks, config: DictConfig, end: int | None
) -> float | None:
    """Train without a directory; print how it goes; return the mean return of 100 episodes."""
    history, begun = EpisodeHistory(window=100), collector.env_steps
    at = Progression(env_steps=begun, begun_at=begun, lost_since=begun)
    total, show = config.total_env_steps, config.tracking.progress
    due = Due({"tracking": max(1, (total - begun) // 10)}, begun)  # ten lines
    rounds = partial(iterations, total_env_steps=total, schedule_end=end)
    if show:
        tell_masks(config, collector)
    with closing(Progress(total, show=show)) as bar:
        for iteration in rounds(policy.agent, collector, is_watched=lambda steps: bool(called)):
            at.count(iteration)
            history.extend(iteration.episodes)
            steps, mean = iteration.env_steps, history.return_mean
            if bar.is_due:
                bar.update(steps, mean)
            if show and due("tracking", steps):
                due.mark("tracking", steps)
                score, rate = "-" if mean is None else shown_return(mean), at.steps_per_second
                bar.write(f"{steps:>12,} steps   return {score:>9}   {rate:,.0f} steps/s")
            told = TrainingProgress(steps, mean, iteration)
            if False in [callback.on_iteration(told) for callback in called]:
                break
        bar.update(collector.env_steps, history.return_mean)
    return history.return_mean


def _train_run(
    policy: Policy, collector: Collector, called: Callbacks, config: DictConfig, env: Source
) -> float:
    """Train as a run; its errors are those of a call, not of a command.

    An environment that is made already cannot be evaluated amid training's episodes.
    """
    if config.evaluation.video and config.env.id not in gymnasium.registry:
        raise ValueError(f"evaluation.video=true: {config.env.id} is not registered; leave it out")
    if isinstance(env, gymnasium.Env | VectorEnv):
        print("notice: evaluated at the end alone; more needs a function that makes environments")
        alone = {"interval": 0, "checkpoint": "last", "stop_at": None}
        config = with_values(config, evaluation={**alone, "num_envs": config.env.num_envs})
    with open_environments(config, env, num_envs=config.evaluation.num_envs) as (_, environments):
        evaluator = Evaluator(environments, config.seed, config.evaluation.deterministic)
        prepared = Prepared(policy.agent, collector, evaluator, called)
        try:
            return train_run(config, collector.environments, prepared)
        except Refusal as refusal:
            raise (refusal.__cause__ or KeyboardInterrupt(str(refusal))) from None
