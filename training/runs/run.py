"""The life of a run: train, log, evaluate, save, resume, summarise."""

from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Literal, get_args

from envs.vector.failures import EnvironmentFailure
from networks import ranks
from training.building.build import parameter_counts
from training.evaluation.evaluation import Evaluation, Evaluator, describe_score
from training.evaluation.video import Camera
from training.process.signals import StopRequest, stop_requests
from training.runs.callbacks import Callback, TrainingProgress
from training.runs.opening import Session
from training.runs.progression import Due, Occasion, Progression, goal_of
from training.runs.ranks import END, GO, save_parts, share_stop
from training.runs.resume import part_state, restore_part
from training.saving.archive import Archive
from training.saving.checkpoint import Checkpoint
from training.saving.files import costs_a_warning, replace, to_json
from training.stream.collect import Collector
from training.stream.episodes import Abandoned, Episode, EpisodeHistory, InvalidExperience
from training.stream.loop import Iteration, iterations
from training.tracking.telemetry import CAPTION, Look, look_at
from training.tracking.tracking import ClippingWatch, Progress, append_episodes

Status = Literal["running", "finished", "interrupted", "failed"]
_RETURN_WINDOW = 100
"""Episodes in the running average of the training return."""
_TELLING_EPISODES = 20
"""Episodes after which a number of `info` that none of them told is reported as missing."""


class Run:
    """One training run and its directory.

    Leaves `checkpoints/last` and `checkpoints/best`, event files and `summary.json`, which is
    rewritten at each evaluation and at the end. `checkpoints/last` holds everything that the run
    depends on: `restore` resumes it bit for bit.

    Attributes:
        at: the run's progress.
        callbacks: look at the run, and may end it.
        plays_best: whether the agent's weights are those of `checkpoints/best`.
        stopped_by: the number of the signal that ended `train`; None if it ended by itself.
    """

    def __init__(
        self, session: Session, collector: Collector, evaluator: Evaluator, camera: Camera | None
    ) -> None:
        """Take the parts; the session's records are open, a camera shows each evaluation."""
        config, agent = session.config, session.agent
        self._session, self._config, self._agent = session, config, agent
        self._collector, self._evaluator, self._camera = collector, evaluator, camera
        self._total, self._goal = config.total_env_steps, goal_of(config)
        self._tensorboard = session.tensorboard
        self._progress = Progress(self._total, show=config.tracking.progress)
        self._archive = Archive(session.directory, agent, keep_last=config.checkpoint.keep_last)
        self._archive.before_last = save_parts
        self._history = EpisodeHistory(_RETURN_WINDOW)
        begun = collector.env_steps
        self._due = Due({what: config[what].interval for what in get_args(Occasion)}, begun)
        self._unlogged: Iteration | None = None  # the latest, until it is logged
        self._look = Look()  # until it is shown
        self._clipping = ClippingWatch(agent.optimizer.max_grad_norm)
        self._untold = {*config.tracking.info} - {"is_success"}  # which most have not
        self._episodes_heard = 0
        self.at, self.plays_best = Progression(env_steps=begun, begun_at=begun), False
        self.stopped_by: int | None = None
        self.callbacks: Sequence[Callback] = ()
        self._ends = False  # because a callback says so

    @property
    def saved_env_steps(self) -> int | None:
        """Environment steps of `checkpoints/last`; None before there is one."""
        return self._archive.env_steps

    # ---- training

    def train(self) -> Status:
        """Train to the end or until asked to stop; return the outcome.

        The first SIGINT or SIGTERM finishes the iteration, saves and returns. If that takes too
        long, the iteration is abandoned and the last checkpoint stands. A second signal interrupts
        at once.
        """
        status: Status = "failed"
        self._write_summary("running")
        try:
            with stop_requests() as stop:
                if ranks.size() == 1:  # several end after the same iteration
                    self._collector.should_abandon = stop.is_overdue
                self._evaluator.should_abandon = stop.is_overdue
                status = self._train(stop)
                ranks.of_first(END)
                self.stopped_by = stop.number if status == "interrupted" else None
        except KeyboardInterrupt:
            status = "interrupted"
            raise
        except (InvalidExperience, EnvironmentFailure):
            # The weights are consistent: none of these interrupts a gradient step.
            is_newer = self.at.env_steps > (self.saved_env_steps or 0)
            if is_newer and not self.plays_best and ranks.size() == 1:  # others wait elsewhere
                with suppress(EnvironmentFailure, OSError):  # the first error is reported
                    self._save_last()
            raise
        finally:
            self._progress.update(self.at.env_steps, self._history.return_mean)
            self._progress.close()
            self._write_summary(status)
            self._tensorboard.close(status)
        return status

    def _train(self, stop: StopRequest) -> Status:
        try:
            if self.saved_env_steps is None:
                self._save_last()  # from now on the run can be resumed
            self._look_around()  # what was due when the run was interrupted
            if stop:
                return "interrupted"
            rounds = iterations(
                self._agent,
                self._collector,
                total_env_steps=self._total,
                is_watched=self._is_logged,
            )
            while self.at.env_steps < self._total and not self._is_stopped:
                ranks.of_first(GO)
                iteration = next(rounds)
                share_stop(stop)
                self._after(iteration)
                if stop:
                    self._save_last()
                    return "interrupted"
            self._finish()
        except Abandoned:
            return "interrupted"
        return "finished"

    @property
    def _is_stopped(self) -> bool:
        return self._ends or (self._goal is not None and self.at.stopped_at == self._goal)

    def _told(self, iteration: Iteration | None = None) -> TrainingProgress:
        at, mean = self.at, self._history.return_mean
        return TrainingProgress(at.env_steps, mean, iteration, at.evaluation)

    def _is_logged(self, env_steps: int) -> bool:
        is_due = env_steps >= self._total or self._due("tracking", env_steps)
        return bool(ranks.of_first(bool(self.callbacks) or is_due))

    def _after(self, iteration: Iteration) -> None:
        at = self.at
        at.count(iteration)
        self._history.extend(iteration.episodes)
        self._append(iteration.episodes)
        self._miss_numbers(iteration.episodes)
        self._unlogged = iteration
        if self._progress.is_due:
            self._progress.update(at.env_steps, self._history.return_mean)
        self._ends |= False in [each.on_iteration(self._told(iteration)) for each in self.callbacks]
        if at.env_steps < self._due.next and at.env_steps < self._total:
            return
        # An iteration without a gradient step has no losses: the next one with losses is logged.
        if self._due("tracking", at.env_steps) and (any(iteration.counts) or not at.updates):
            self._due.mark("tracking", at.env_steps)
            self._log()
        self._look_inside()
        self._look_around()

    def _append(self, episodes: Sequence[Episode]) -> None:
        """Write finished episodes into the run's table, if it has one."""
        if not episodes or not self._config.tracking.episodes:
            return
        at, keys = self.at, self._config.tracking.info
        now: dict[str, Any] = {"env_steps": at.env_steps, "seconds": at.training_seconds}
        with costs_a_warning("episodes.csv not written: {}"):
            append_episodes(self._session.directory, episodes, keys, **now)

    def _miss_numbers(self, episodes: Sequence[Episode], least: int = _TELLING_EPISODES) -> None:
        """Report, once, keys of `tracking.info` that no episode told: they may be misspelt."""
        if not self._untold:
            return
        self._untold.difference_update(*(episode.info for episode in episodes))
        self._episodes_heard += len(episodes)
        if self._untold and self._episodes_heard >= least:
            keys, count = ", ".join(sorted(self._untold)), self._episodes_heard
            told = f"no episode of {count} ended with a number of that name in its info"
            self._progress.write(f"notice: tracking.info={keys}: {told}")
            self._untold.clear()

    def _look_around(self) -> None:
        """Evaluate and save if due; the end of the run is handled separately."""
        at, steps, is_best = self.at, self.at.env_steps, False
        if steps >= self._total:
            return
        if self._due("evaluation", steps):
            try:
                is_best = self._evaluate(self._config.evaluation.episodes)
            except Abandoned:
                self._save_last()  # with the evaluation still due
                raise
            self._due.mark("evaluation", steps)
            if self._goal is not None and at.evaluation is not None:
                goal = self._goal if self._agent.minimizes is None else -self._goal
                at.stopped_at = self._goal if self.score(at.evaluation) >= goal else None
        # With a new best, so that at most one of them can be newer than the last checkpoint.
        if (is_best or self._due("checkpoint", steps)) and not at.lost_iterations:
            self._due.mark("checkpoint", steps)
            self._save_last()

    # ---- evaluation

    def _log(self) -> None:
        if self._unlogged is None:
            return
        seconds = self._unlogged.seconds
        values = self._unlogged.numbers() | self._history.report()
        total = sum(seconds.values())
        values |= {f"time/{phase}": spent / total for phase, spent in seconds.items()}
        values["time/steps_per_second"] = self.at.steps_per_second
        if self._collector.curriculum is not None:
            values["schedule/stage"] = float(self._collector.curriculum.stage or 0)
        if self._collector.restarts:
            values["environment/restarts"] = float(self._collector.restarts)
        self._tensorboard.scalars(values, self.at.env_steps)
        self._clipping.look(values)
        self._unlogged = None

    def _look_inside(self) -> None:
        """Log diagnostics of the networks with each evaluation, from the latest trajectory.

        At the end they are logged after the run is saved: a run resumed from there with more
        steps must not have them on its curves.
        """
        is_last = self.at.env_steps >= self._total
        trajectory, tracking = self._collector.trajectory, self._config.tracking
        is_due = is_last or self._due("evaluation", self.at.env_steps)
        if trajectory is not None and is_due and tracking.representation and tracking.tensorboard:
            self._look = look_at(self._agent, trajectory)
            if not is_last:
                self._show()

    def _show(self) -> None:
        if self._look.scalars:
            self._tensorboard.scalars(self._look.scalars, self.at.env_steps)
        for tag, picture in self._look.pictures.items():
            self._tensorboard.picture(tag, picture, self.at.env_steps, CAPTION)
        self._look = Look()

    def _evaluate(self, episodes: int) -> bool:
        """Evaluate, report, and save the weights if they are the best; tell whether they are."""
        at = self.at
        found = at.evaluation = self._played(episodes=episodes)
        steps = at.best_env_steps if self.plays_best else at.env_steps
        if not self.plays_best:  # earlier weights have their point already
            # Beside each score, so that curves over seconds are exact.
            seconds = {"time/training_seconds": at.pretraining_seconds + at.training_seconds}
            self._tensorboard.scalars({**found.scalars(), **seconds}, steps)
        if self._camera is not None:
            self._camera.show(self._agent, self._tensorboard, steps)
        rate = "best weights" if self.plays_best else f"{at.steps_per_second:,.0f} steps/s"
        line = f"{steps:>12,} steps   evaluation {describe_score(found)}   {rate}"
        self._progress.write(line)
        self._ends |= False in [each.on_evaluation(self._told()) for each in self.callbacks]
        is_best = not self.plays_best and self._keep_if_best(found)
        self._write_summary("running")
        return is_best

    def score(self, found: Evaluation) -> float:
        """Return what is best when it is largest: the mean return, or minus a loss."""
        name = self._agent.minimizes
        return found.return_mean if name is None else -found.measures[name]

    def _played(self, *, episodes: int) -> Evaluation:
        index, watch = self.at.env_steps, self._progress.watch
        return self._evaluator(self._agent, episodes=episodes, index=index, watch=watch)

    def _keep_if_best(self, found: Evaluation) -> bool:
        at = self.at
        is_best = at.best is None or self.score(found) >= self.score(at.best)
        if is_best := is_best and not at.lost_iterations:
            at.best, at.best_env_steps = found, at.env_steps
            self._archive.save_best(at, found)
        return is_best

    def _finish(self) -> None:
        if self._session.saved is None and self._agent.minimizes is None:
            self._miss_numbers([], least=1)  # of all its episodes, and of the agent's own
        self._save_last()
        self._log()
        self._show()
        at, options = self.at, self._config.evaluation
        # The best checkpoint is chosen before the long evaluation, which then measures it.
        if options.checkpoint == "best" and at.best is not None:
            self.plays_best = self._archive.load_best()
        self._evaluate(options.final_episodes)
        if self.plays_best:
            at.best = at.evaluation
        elif at.evaluation and at.best not in (None, at.evaluation):  # chosen by luck too
            evaluate = partial(self._played, episodes=options.final_episodes)
            at.best = self._archive.evaluate_best(evaluate) or at.best
            self._keep_if_best(at.evaluation)

    def _write_summary(self, status: Status) -> None:
        self.at.environment_restarts = self._collector.restarts
        content = {
            "status": status,
            **self.at.summary(),
            "evaluation_checkpoint": "best" if self.plays_best else "last",
            "train_return_mean": self._history.return_mean,
            "seed": self._config.seed,
            "num_threads": self._session.identity["threads"],
            "parameters": parameter_counts(self._agent.parts()),
            "versions": self._session.identity["versions"],
        }
        path = self._session.directory / "summary.json"
        with costs_a_warning("summary.json not written: {}"):
            replace(path, to_json(content), wait=status != "running")

    # ---- saving and resuming

    def _save_last(self) -> None:
        """Save everything that the run depends on."""
        self.at.environment_restarts = self._collector.restarts
        tensors, part = part_state(self._agent, self._collector)
        state = {
            **part,
            "progression": self.at.state_dict(),
            "due": self._due.state_dict(),
            "history": self._history.state_dict(),
            "unlogged": self._unlogged and self._unlogged.state_dict(),
            "look": dict(self._look.scalars),
            "tensorboard": self._tensorboard.position(),
            "total_env_steps": self._total,
            "device": str(self._agent.device),
            "identity": self._session.identity,
        }
        is_over = self._is_stopped or self.at.env_steps >= self._total
        must_succeed = self.saved_env_steps is None or is_over
        self._archive.save_last(self.at, tensors, state, must_succeed)

    def restore(self, saved: Checkpoint) -> list[bool]:
        """Resume from `checkpoints/last`; tell which environments are restored exactly.

        Raises:
            DamagedCheckpoint: a chunk has changed since it was opened.
        """
        seed, state = self._config.seed, saved.state
        exact = restore_part(self._agent, self._collector, saved, seed=seed)
        self.at = Progression.from_state_dict(state["progression"])
        self._due.load_state_dict(state["due"], self.at.env_steps)
        self._history.load_state_dict(state["history"])
        unlogged = state["unlogged"]
        self._unlogged = unlogged and Iteration(episodes=[], **unlogged)  # they are counted
        self._look = Look(state["look"])  # images are not saved
        self._archive.go_back(self.at, saved)
        self._progress.update(self.at.env_steps, self._history.return_mean)
        return exact
