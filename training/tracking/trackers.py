"""Trackers beside TensorBoard: MLflow, Weights & Biases, Trackio, or a class of the user's own.

TensorBoard's event files stay: resuming, reports and comparisons read them.
"""

import importlib.util
import time
import uuid
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar, Literal, NamedTuple

from PIL import Image

from conf.composing.choices import Choice
from conf.composing.stored import read_json
from conf.schema.layout import installing
from envs.spaces import one_line
from training.building.instantiation import make_partial
from training.saving.files import replace, to_json

_IDS = "trackers.json"
"""In a run's directory: its id in each tracker, by the tracker's name."""


_MOST_METRICS = 1000
"""In a batch of MLflow's."""
_BETWEEN_BATCHES = 5.0  # seconds


class TrackedRun(NamedTuple):
    """The run that a tracker follows.

    Attributes:
        name: the last three parts of its directory.
        configuration: each value, by its key.
        id: `Tracker.id` of the session that is resumed; None for a new run.
    """

    directory: Path
    name: str
    configuration: Mapping[str, Choice]
    id: str | None


class Tracker:
    """Receives what a run logs. A subclass overrides what it has a place for.

    An error of any method ends the tracker with a warning, and never the run. A resumed run repeats
    the points that were logged after its checkpoint, with the same values.

    Attributes:
        package: that must be installed, by the extra of the same name.
        id: finds the run again when it is resumed.
    """

    package: ClassVar[str | None] = None
    id: str | None = None

    def __init__(self, run: TrackedRun) -> None:
        """Begin a run, or resume `run.id`. Keys beside `_target_` are further arguments."""

    def scalars(self, values: Mapping[str, float], env_steps: int) -> None:
        """Log one value for each TensorBoard tag; none is nan."""

    def text(self, tag: str, markdown: str, env_steps: int) -> None:
        """Log a text."""

    def image(self, tag: str, path: Path, env_steps: int, caption: str) -> None:
        """Log a picture, a PNG file that is deleted afterwards."""

    def video(self, tag: str, path: Path, env_steps: int, caption: str) -> None:
        """Log an animated GIF, a file that is deleted afterwards."""

    def close(self, status: str) -> None:
        """End the session: `finished`, `interrupted` or `failed`."""


class MLflow(Tracker):
    """Logs to `MLFLOW_TRACKING_URI`; by default that is mlflow.db in the working directory."""

    package = "mlflow"

    def __init__(self, run: TrackedRun, experiment: str) -> None:
        """Create the experiment if there is none of that name."""
        from mlflow import MlflowClient
        from mlflow.entities import Metric, Param

        self._client, self._metric = MlflowClient(), Metric
        self._waiting: list[Any] = []
        self._due_at = 0.0
        if run.id is not None:
            self.id = run.id
            self._client.update_run(self.id, status="RUNNING")
            return
        found = self._client.get_experiment_by_name(experiment)
        place = found.experiment_id if found else self._client.create_experiment(experiment)
        self.id = self._client.create_run(place, run_name=run.name).info.run_id
        params = [Param(key, str(value)) for key, value in run.configuration.items()]
        self._client.log_batch(self.id, params=params)

    def scalars(self, values: Mapping[str, float], env_steps: int) -> None:
        """Log a batch every few seconds, as one takes 40 ms."""
        now = time.time()
        self._waiting += [
            self._metric(tag, value, int(1000 * now), env_steps) for tag, value in values.items()
        ]
        if now >= self._due_at:
            self._send()

    def _send(self) -> None:
        for start in range(0, len(self._waiting), _MOST_METRICS):
            chosen = self._waiting[start : start + _MOST_METRICS]
            self._client.log_batch(self.id, metrics=chosen)
        self._waiting.clear()
        self._due_at = time.time() + _BETWEEN_BATCHES

    def text(self, tag: str, markdown: str, env_steps: int) -> None:
        """Log an artifact."""
        self._client.log_text(self.id, markdown, f"{tag}.md")

    def image(self, tag: str, path: Path, env_steps: int, caption: str) -> None:
        """Log a picture; there is no place for its caption."""
        self._client.log_image(self.id, Image.open(path), key=tag, step=env_steps)

    def video(self, tag: str, path: Path, env_steps: int, caption: str) -> None:
        """Log an artifact."""
        self._client.log_artifact(self.id, str(path), tag)

    def close(self, status: str) -> None:
        """Log the last batch, and say how the session ended."""
        self._send()
        ends = {"finished": "FINISHED", "interrupted": "KILLED"}
        self._client.set_terminated(self.id, ends.get(status, "FAILED"))


class WandB(Tracker):
    """Logs to Weights & Biases; `mode=offline` needs no account, and `wandb sync` uploads later."""

    package = "wandb"

    def __init__(self, run: TrackedRun, project: str, mode: str) -> None:
        """Give a new run an id."""
        import wandb

        self._kinds, self.id = wandb, run.id or uuid.uuid4().hex
        self._run: Any = wandb.init(
            id=self.id,
            resume="allow",
            name=run.name,
            config=dict(run.configuration),
            project=project,
            mode=mode,
            settings=wandb.Settings(console="off"),  # standard output is not copied
        )
        # The steps of W&B itself cannot go back to a checkpoint.
        self._run.define_metric("*", step_metric="env_steps")

    def scalars(self, values: Mapping[str, float], env_steps: int) -> None:
        """Log a row."""
        self._run.log({**values, "env_steps": env_steps})

    def image(self, tag: str, path: Path, env_steps: int, caption: str) -> None:
        """Log a row with a picture."""
        picture = self._kinds.Image(str(path), caption=caption)
        self._run.log({tag: picture, "env_steps": env_steps})

    def video(self, tag: str, path: Path, env_steps: int, caption: str) -> None:
        """Log a row with a video."""
        video = self._kinds.Video(str(path), caption=caption, format="gif")
        self._run.log({tag: video, "env_steps": env_steps})

    def close(self, status: str) -> None:
        """Upload what is left, unless offline."""
        self._run.finish(exit_code=int(status != "finished"))


class Trackio(Tracker):
    """Logs to `TRACKIO_DIR` on this machine, or to the Hugging Face Space `TRACKIO_SPACE_ID`."""

    package = "trackio"

    def __init__(self, run: TrackedRun, project: str) -> None:
        """Begin a run under its name, which is its id."""
        import trackio

        self._kinds, self.id = trackio, run.id or run.name
        how = {"resume": "must" if run.id else "never", "embed": False}
        self._run = trackio.init(project, self.id, config=dict(run.configuration), **how)

    def scalars(self, values: Mapping[str, float], env_steps: int) -> None:
        """Log a row."""
        self._run.log(dict(values), step=env_steps)

    def image(self, tag: str, path: Path, env_steps: int, caption: str) -> None:
        """Log a row with a picture."""
        self._run.log({tag: self._kinds.Image(path, caption=caption)}, step=env_steps)

    def video(self, tag: str, path: Path, env_steps: int, caption: str) -> None:
        """Log a row with a video."""
        self._run.log({tag: self._kinds.Video(path, caption=caption, format="gif")}, step=env_steps)

    def close(self, status: str) -> None:
        """Write what is left."""
        self._run.finish()


class Trackers:
    """The trackers of a session. One that fails is left out from then on."""

    def __init__(self, nodes: Mapping[str, Any]) -> None:
        """Find their classes; `open` begins the run in them.

        Args:
            nodes: `tracking.also`.

        Raises:
            ValueError: there is no such class, or its package is not installed.
        """
        self._factories: dict[str, Callable[..., Tracker]] = {}
        self._open: dict[str, Tracker] = {}
        for name, node in nodes.items():
            factory = make_partial(f"tracking.also.{name}", node, Tracker)
            package = factory.func.package
            if package and importlib.util.find_spec(package) is None:
                remedy = installing(package, is_pinned=False)  # constraints.txt pins newer parts
                raise ValueError(f"tracking.also.{name}: {package} is not installed; {remedy}")
            self._factories[name] = factory

    def open(self, run: TrackedRun, *, is_resumed: bool) -> None:
        """Begin a run in each tracker, or resume it, and note its ids."""
        if not self._factories:
            return
        known: Any = {}
        with suppress(OSError, ValueError):
            known = read_json(run.directory / _IDS) if is_resumed else {}
        for name, factory in self._factories.items():
            with self._until_it_fails(name):
                self._open[name] = factory(run._replace(id=known.get(name)))
        ids = {name: tracker.id for name, tracker in self._open.items()}
        with suppress(OSError):
            replace(run.directory / _IDS, to_json({**known, **ids}))

    def tell(self, method: str, *arguments: Any) -> None:
        """Call a method of each."""
        for name, tracker in list(self._open.items()):
            with self._until_it_fails(name):
                getattr(tracker, method)(*arguments)

    def show(
        self, kind: Literal["image", "video"], tag: str, data: bytes, env_steps: int, caption: str
    ) -> None:
        """Log an encoded picture, or an animated GIF, in each."""
        if not self._open:
            return
        with TemporaryDirectory() as folder:
            path = Path(folder, f"{env_steps}.{'png' if kind == 'image' else 'gif'}")
            path.write_bytes(data)
            self.tell(kind, tag, path, env_steps, caption)

    def close(self, status: str) -> None:
        """End the session in each."""
        self.tell("close", status)
        self._open.clear()

    @contextmanager
    def _until_it_fails(self, name: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # of the network, the disk, or the user's own
            self._open.pop(name, None)
            message = f"tracking.also.{name} stopped: {type(error).__name__}: {one_line(error)}"
            warnings.warn(message, RuntimeWarning, stacklevel=4)
