"""Trains a policy in the caller's process: no run directory, no evaluation, just the loop."""

from contextlib import AbstractContextManager, closing, nullcontext
from typing import Any

import gymnasium
from omegaconf import DictConfig

from conf.checking.pretraining import frames_wanted
from envs.interface import Environments
from training.building.build import build_agent_for, build_collector, refuse_large_replay
from training.building.environments import Make, build_environments
from training.building.instantiation import plain
from training.evaluation.policy import Policy, refuse_other_spaces
from training.process.threads import set_num_threads
from training.saving.weights import take_weights
from training.stream.episodes import EpisodeHistory
from training.stream.loop import iterations

Source = gymnasium.Env[Any, Any] | Make | None


def build_policy(config: DictConfig, env: Source) -> Policy:
    """Build a policy for the configured environment, or for the caller's.

    It is untrained, except for weights that the configuration names.
    """
    with _environments(config, env) as environments:
        agent = build_agent_for(config, environments)
        refuse_large_replay(agent, environments.single_observation_space)
    set_num_threads(config.num_threads, agent)
    take_weights(config, agent)
    return Policy(config, agent)


def teach(policy: Policy, env: Source, *, env_steps: int, end: int | None = None) -> float | None:
    """Train for at least `env_steps` more steps; return the mean return of the last 100 episodes.

    A further call plays other episodes.

    Args:
        end: steps at which schedules and epsilon end; None: with this call.

    Raises:
        ValueError: the policy was built for other environments or another number of them, or its
            extractor is to be pre-trained first.
    """
    if frames_wanted(plain(policy.config)) is not None:
        raise ValueError(
            "extractor.pretrain.frames: neurl.fit has no directory to pre-train in; python "
            "pretrain.py makes weights, for extractor.weights=DIRECTORY"
        )
    config, starts = policy.config, policy.config.agent.get("learning_starts", 0)
    if policy.env_steps + env_steps <= starts:
        raise ValueError(
            f"env_steps={env_steps}: expected more than agent.learning_starts={starts}, before "
            "which nothing is learnt; neurl.build(..., 'agent.learning_starts=100') begins earlier"
        )
    history = EpisodeHistory(window=100)
    with _environments(config, env) as environments:
        built, given = config.env.num_envs, environments.num_envs
        if given != built:
            got = f"got {given} environment(s)"
            raise ValueError(f"the policy was built for env.num_envs={built}, {got}")
        refuse_other_spaces(policy.agent, environments)
        set_num_threads(config.num_threads, policy.agent)  # another may have been built
        collector = build_collector(config, environments, index=policy.env_steps)
        collector.env_steps = policy.env_steps
        for iteration in iterations(
            policy.agent,
            collector,
            total_env_steps=policy.env_steps + env_steps,
            schedule_end=end,
            is_watched=lambda steps: False,
        ):
            history.extend(iteration.episodes)
            policy.env_steps = collector.env_steps  # also if the next round is interrupted
    policy.reset()
    return history.return_mean


def _environments(config: DictConfig, env: Source) -> AbstractContextManager[Environments]:
    """Make the environments, or wrap the caller's: a single one stays open."""
    if isinstance(env, gymnasium.Env):
        return nullcontext(build_environments(config, num_envs=1, make=lambda: env))
    if env is not None and (not callable(env) or isinstance(env, type)):
        raise ValueError(
            f"env: expected a gymnasium.Env, or a function that makes one, got {env!r}; "
            "a registered id is written env.id=..."
        )
    return closing(build_environments(config, num_envs=config.env.num_envs, make=env))
