"""Films an agent in an environment of its own, without touching anything that training uses."""

import time
import warnings
from contextlib import closing
from typing import TYPE_CHECKING, Any

import numpy as np
from gymnasium.vector import VectorEnv
from omegaconf import DictConfig

from agents.agent import Agent
from envs.seeding import environment_seeds
from envs.vector import EnvironmentFailure
from training.episodes import InvalidExperience
from training.evaluation import Evaluation, Play, evaluate
from training.film import Encoder, Film, Kind, make_encoder
from training.rendering import DrawingFailure, build_drawn, frame_of, frames_per_second

if TYPE_CHECKING:
    from training.tracking import NoTensorBoard, TensorBoard

MAX_STEPS = 1_000
"""Steps after which a film is cut."""


class Camera:
    """Owns an environment that is drawn and its seeds, apart from training's and evaluation's."""

    def __init__(
        self, environments: VectorEnv[Any, Any, Any], *, seed: int, deterministic: bool
    ) -> None:
        """Take the environment, one that gives frames; `seed` is the run's."""
        self._environments = environments
        self._seed, self._deterministic = seed, deterministic

    def film(self, agent: Agent, *, index: int, kind: Kind) -> Film:
        """Film one episode; each `index` has seeds of its own, so equal calls give equal films.

        Raises:
            DrawingFailure: the environment could not be drawn.
        """
        rate = frames_per_second(self._environments)
        with closing(make_encoder(kind, frames_per_second=rate)) as encoder:
            evaluation = self._play(agent, encoder, index)
            return Film(
                kind=kind,
                data=encoder.finish(),
                width=encoder.size[0],
                height=encoder.size[1],
                episode_return=evaluation.returns[0],
                length=evaluation.lengths[0],
                is_cut=evaluation.unfinished > 0,
            )

    def _play(self, agent: Agent, encoder: Encoder, index: int) -> Evaluation:
        steps = 0

        def watch(play: Play) -> None:
            nonlocal steps
            if steps % encoder.stride == 0 or play.is_over:  # the end is always seen
                encoder.add(frame_of(self._environments))
            steps += 1

        policy_seeds = environment_seeds(self._seed, 2, purpose="video policy", index=index)
        return evaluate(
            agent,
            self._environments,
            episodes=1,
            seeds=environment_seeds(self._seed, 1, purpose="video", index=index),
            generator=np.random.default_rng(policy_seeds),
            deterministic=self._deterministic,
            watch=watch,
            max_episode_steps=MAX_STEPS,
        )

    def close(self) -> None:
        """Close the environment."""
        self._environments.close()


def build_camera(config: DictConfig, *, seed: int, deterministic: bool, key: str) -> Camera:
    """Build what films the configured environment.

    Args:
        config: of a run.
        key: the setting that asked for it, for messages: `evaluation.video=true`.

    Raises:
        ValueError: the environment cannot be drawn; one line that names the key and the remedy.
    """
    environments = build_drawn(config, "rgb_array", key=key)
    return Camera(environments, seed=seed, deterministic=deterministic)


class EvaluationFilms:
    """Shows one episode in TensorBoard at each evaluation of a run.

    What goes wrong with a film must not end training: it is reported as a warning.
    """

    def __init__(self, camera: Camera) -> None:
        """Take what films."""
        self._camera = camera

    def record(
        self, agent: Agent, tensorboard: "TensorBoard | NoTensorBoard", env_steps: int
    ) -> None:
        """Film an episode of the agent as it is after `env_steps`."""
        try:
            film = self._camera.film(agent, index=env_steps, kind="gif")
        except (DrawingFailure, EnvironmentFailure, InvalidExperience, ValueError) as error:
            warnings.warn(f"no film at {env_steps:,} steps: {error}", RuntimeWarning, stacklevel=2)
            return
        tensorboard.film("video/evaluation", film, env_steps, time.time())

    def close(self) -> None:
        """Close the camera."""
        self._camera.close()


class NoFilms:
    """Films nothing."""

    def record(
        self, agent: Agent, tensorboard: "TensorBoard | NoTensorBoard", env_steps: int
    ) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


def build_films(config: DictConfig) -> EvaluationFilms | NoFilms:
    """Build what films the evaluations of a run, where `evaluation.video` asks for it.

    Raises:
        ValueError: the environment cannot be drawn; one line that names the key and the remedy.
    """
    if not config.evaluation.video:
        return NoFilms()
    return EvaluationFilms(
        build_camera(
            config,
            seed=config.seed,
            deterministic=config.evaluation.deterministic,
            key="evaluation.video=true",
        )
    )
