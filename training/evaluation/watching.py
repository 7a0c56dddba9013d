"""Evaluates a finished run: its scores, a video, a window."""

import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import NamedTuple

from omegaconf import DictConfig

from conf.composing.configuration import validated
from envs.interface import Environments
from envs.making.registration import accepted_keywords, find_specification, import_packages
from envs.vector.failures import EnvironmentFailure
from training.building.environments import build_environments
from training.building.instantiation import plain
from training.evaluation.clips import Clip, Kind, outcome, video_kind
from training.evaluation.evaluation import Evaluation, Evaluator, Play, Watch
from training.evaluation.policy import refuse_other_spaces
from training.evaluation.restore import load_agent
from training.evaluation.video import Camera, DrawingFailure, build_drawn, frames_per_second
from training.runs.refusal import refusing
from training.saving.checkpoint import load_checkpoint
from training.saving.files import replace
from training.stream.episodes import InvalidExperience
from training.tracking.tracking import Progress

_FAILURES = (InvalidExperience, EnvironmentFailure, DrawingFailure, OSError)


class Watched(NamedTuple):
    """The evaluation of a run, and its video and path, if there is one."""

    evaluation: Evaluation
    clip: Clip | None = None
    video_path: Path | None = None


def watch_run(config: DictConfig) -> Watched:
    """Evaluate the run in `config.run`, show it and record it, as configured.

    Raises:
        Refusal: there is no such run, or its environment cannot be made, cannot render, or failed.
    """
    kind, where = video_kind(config.video), f"run={config.run}: "
    run, trusted = Path(config.run), config.trusted_packages
    checkpoint, deterministic = config.evaluation.checkpoint, config.evaluation.deterministic
    with ExitStack() as stack:
        with refusing(ValueError, OSError, RuntimeError, exit_code=2, before=where):
            run_config, agent = load_agent(
                run, checkpoint=checkpoint, device=config.device, trusted_packages=trusted
            )
            seed = run_config.seed if config.seed is None else config.seed
            run_config = elsewhere(run_config, config)
            environments, watch = _environments(config, run_config, stack)
            refuse_other_spaces(agent, environments)
            keys = tuple(run_config.tracking.info)
            evaluator = Evaluator(environments, seed, deterministic, info_keys=keys)
            if kind is not None:
                path, key = _video_path(config, kind), f"video={kind}"
                camera = Camera(run_config, seed=seed, deterministic=deterministic, key=key)
                stack.callback(camera.environments.close)
        with refusing(*_FAILURES, exit_code=1, before=where):
            evaluation = evaluator(agent, episodes=config.evaluation.episodes, index=0, watch=watch)
            if kind is None:
                return Watched(evaluation)
            clip = camera.record(agent, index=0, kind=kind)
            path.parent.mkdir(exist_ok=True)
            replace(path, clip.data)
            return Watched(evaluation, clip, path)


class Window:
    """Shows the environment at its own frame rate, and prints a line for each episode."""

    def __init__(self, frames_per_second: float) -> None:
        self._seconds, self._told = 1.0 / frames_per_second, 0
        self._next = time.perf_counter()

    def __call__(self, play: Play) -> None:
        """Wait until the next step is due; many environments wait by themselves."""
        for episode in play.episodes[self._told :]:
            self._told += 1
            seen = outcome(episode.episode_return, episode.length)
            print(f"episode {self._told}: {seen}", flush=True)
        now = time.perf_counter()
        time.sleep(max(0.0, self._next - now))
        self._next = max(now, self._next) + self._seconds


def elsewhere(run_config: DictConfig, config: DictConfig) -> DictConfig:
    """Return a run's configuration with the environment that an evaluation asks for.

    Raises:
        InvalidConfiguration: the run cannot have it.
    """
    own, asked = plain(run_config), plain(config)
    if not asked["env"]["id"] and not asked["env"]["kwargs"] and asked["pomdp"] is None:
        return run_config
    env = own["env"] | {"id": asked["env"]["id"] or own["env"]["id"]}
    import_packages(env["packages"])
    specification = find_specification(env["id"])
    if env["vectorization"] == "native" and specification.entry_point is not None:
        env["vectorization"] = "sync"  # the environment may have no native form
    is_native = env["vectorization"] == "native"
    accepted = accepted_keywords(specification, is_native=is_native)
    kept = {k: v for k, v in env["kwargs"].items() if accepted is None or k in accepted}
    env["kwargs"] = kept | asked["env"]["kwargs"]
    pomdp = own["pomdp"] if asked["pomdp"] is None else asked["pomdp"]
    return validated({**own, "env": env, "pomdp": pomdp})


def _advance(bar: Progress, play: Play) -> None:
    if bar.is_due or play.is_over:
        bar.update(len(play.episodes), None)


def _environments(
    config: DictConfig, run_config: DictConfig, stack: ExitStack
) -> tuple[Environments, Watch]:
    """Make the environments: several in parallel, or one in a window; `stack` closes them."""
    if config.render_mode is None:
        num_envs, episodes = config.evaluation.num_envs, config.evaluation.episodes
        environments = build_environments(run_config, num_envs=num_envs, for_acting=True)
        bar = Progress(episodes, show="auto", unit="episodes")
        stack.callback(bar.close)
        watch: Watch = partial(_advance, bar)
    else:
        environments = build_drawn(run_config, "human", key="render_mode=human")
        watch = Window(frames_per_second(environments))
    stack.callback(environments.close)
    return environments, watch


def _video_path(config: DictConfig, kind: Kind) -> Path:
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
