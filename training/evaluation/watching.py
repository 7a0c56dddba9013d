"""Evaluates a finished run: its scores, a video, a window."""

import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from gymnasium.vector import VectorEnv
from omegaconf import DictConfig

from envs.vector.base import EnvironmentFailure
from training.building.environments import build_environments
from training.evaluation.evaluation import Evaluation, Evaluator, Play, Watch
from training.evaluation.film import Film, Kind, film_kind, outcome
from training.evaluation.restore import load_agent
from training.evaluation.video import Camera, DrawingFailure, build_drawn, frames_per_second
from training.process.threads import set_num_threads
from training.runs.refusal import Refusal
from training.saving.checkpoint import load_checkpoint
from training.saving.files import replace
from training.stream.episodes import InvalidExperience


@dataclass(frozen=True)
class Watched:
    """The evaluation of a run, and its video and path, if there is one."""

    evaluation: Evaluation
    film: Film | None
    film_path: Path | None


def watch_run(config: DictConfig) -> Watched:
    """Evaluate the run in `config.run`, show it and record it, as configured.

    Raises:
        Refusal: there is no such run, or its environment cannot be made, cannot render, or failed.
    """
    kind = film_kind(config.video)
    with ExitStack() as stack:
        try:
            run_config, agent = load_agent(
                Path(config.run),
                checkpoint=config.evaluation.checkpoint,
                device=config.device,
                trusted_packages=config.trusted_packages,
            )
            film_path = None if kind is None else _film_path(config, kind)
            seed = run_config.seed if config.seed is None else config.seed
            environments, watch = _environments(config, run_config)
            stack.callback(environments.close)
            deterministic = config.evaluation.deterministic
            evaluator = Evaluator(environments, seed=seed, deterministic=deterministic)
            camera = None
            if kind is not None:
                camera = Camera(
                    run_config, seed=seed, deterministic=deterministic, key=f"video={kind}"
                )
                stack.callback(camera.environments.close)
            set_num_threads(run_config.num_threads, agent)
        except (ValueError, OSError, RuntimeError) as error:
            raise Refusal(f"run={config.run}: {error}", 2) from error
        try:
            evaluation = evaluator(agent, episodes=config.evaluation.episodes, index=0, watch=watch)
            if camera is None or kind is None or film_path is None:
                return Watched(evaluation, None, None)
            film = camera.film(agent, index=0, kind=kind)
            film_path.parent.mkdir(exist_ok=True)
            replace(film_path, film.data)
            return Watched(evaluation, film, film_path)
        except (InvalidExperience, EnvironmentFailure, DrawingFailure, OSError) as error:
            raise Refusal(f"run={config.run}: {error}", 1) from error


class Window:
    """Shows the environment at its own frame rate, and prints a line for each episode."""

    def __init__(self, frames_per_second: float) -> None:
        self._seconds = 1.0 / frames_per_second
        self._next = time.perf_counter()
        self._told = 0

    def __call__(self, play: Play) -> None:
        """Wait until the next step is due; many environments wait by themselves."""
        for episode in play.episodes[self._told :]:
            self._told += 1
            seen = outcome(episode.episode_return, episode.length)
            print(f"episode {self._told}: {seen}", flush=True)
        now = time.perf_counter()
        time.sleep(max(0.0, self._next - now))
        self._next = max(now, self._next) + self._seconds


def _environments(config: DictConfig, run_config: DictConfig) -> tuple[VectorEnv, Watch]:
    """Make the environments: several in parallel, or one in a window."""
    if config.render_mode is None:
        environments = build_environments(
            run_config, num_envs=config.evaluation.num_envs, for_acting=True
        )
        return environments, lambda play: None
    environments = build_drawn(run_config, "human", key="render_mode=human")
    return environments, Window(frames_per_second(environments))


def _film_path(config: DictConfig, kind: Kind) -> Path:
    """Name the file of a video, always inside the run's own directory.

    Raises:
        ValueError: there is no such place.
    """
    name, videos = config.evaluation.checkpoint, Path(config.run) / "videos"
    _, state = load_checkpoint(Path(config.run) / "checkpoints" / name)
    steps = state.get("env_steps")
    if type(steps) is not int or videos.is_symlink():
        raise ValueError(f"{videos} is a link, or the checkpoint does not tell its step")
    other = "" if config.seed is None else f"-seed{config.seed}"
    return videos / f"{name}-{steps}{other}.{kind}"
