"""Logging of a run: TensorBoard event files and a progress bar."""

import csv
import math
import sys
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from PIL import Image
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.custom_scalar import metadata as custom_scalar
from tensorboard.plugins.hparams.summary_v2 import hparams_pb
from tensorboard.plugins.text.summary_v2 import text_pb
from tensorboard.util.tensor_util import make_tensor_proto
from tqdm import tqdm

from conf.composing.choices import Choice
from conf.schema.types import show
from training.evaluation.clips import Clip
from training.stream.episodes import Episode, shown_return
from training.tracking.event_files import EPISODES, EventFile, Position, position
from training.tracking.trackers import Trackers

if TYPE_CHECKING:
    from torch import Tensor

    from training.evaluation.evaluation import Play

START_PAGE = {
    "return": ["episode/return", "evaluation/return"],
    "success rate": ["episode/success_rate", "evaluation/success_rate"],
    "losses": ["loss/.*"],
    "steps per second": ["time/steps_per_second"],
}
"""Charts of the Custom Scalars tab, with the patterns of their tags."""
DESCRIPTIONS = {
    "episode/return": "mean raw return of the training episodes since the last point",
    "episode/length": "mean steps of the training episodes since the last point",
    "evaluation/return": "mean raw return of separate evaluation episodes",
    "policy/entropy": "randomness of the policy, in nats; falls as it becomes sure",
    "policy/approximate_kl": "how far an update moved the policy; above 0.02 or so is far",
    "policy/clip_fraction": "share of samples whose policy ratio was clipped",
    "value/explained_variance": "1: values predict returns exactly; 0 or less: not at all",
    "time/steps_per_second": "environment steps per second of collecting and learning",
}
"""Shown by TensorBoard beside a curve; docs/watching.md has the others."""

_LEAST_LEFT = 1e-4
"""Share of the gradient that clipping must leave, or Adam's eps dominates the denominator: at 3e-5
PPO learns at half its speed; CartPole keeps 1e-2, Pendulum 1e-3 (all measured)."""
_CLIPPED_IN_A_ROW = 3


class TensorBoard:
    """Writes one event file, and tells other trackers the same; the x-axis is environment steps.

    A full or failing disk must not end training: the first error is reported as a warning, and
    nothing more is written.
    """

    def __init__(self, directory: Path | None, trackers: Trackers | None = None) -> None:
        """Open an event file beside those of earlier sessions; None: write none."""
        self._directory, self._untold = directory, dict(DESCRIPTIONS)
        self._trackers = trackers or Trackers({})
        self._file: EventFile | None = None
        if directory is not None:
            with self._until_it_fails():
                self._file = EventFile(directory)

    def scalars(self, values: Mapping[str, float], env_steps: int) -> None:
        """Log one value per tag, all in one record."""
        known = {tag: value for tag, value in values.items() if not math.isnan(value)}
        points = [Summary.Value(tag=tag, simple_value=value) for tag, value in known.items()]
        for point in points:
            if text := self._untold.pop(point.tag, ""):  # TensorBoard keeps the first one
                point.metadata.summary_description = text
        self._add(points, env_steps)
        self._trackers.tell("scalars", known, env_steps)

    def start_page(self) -> None:
        """Lay out the Custom Scalars tab: what to look at first, over all runs."""
        charts = {
            title: layout_pb2.Chart(title=title, multiline={"tag": tags})
            for title, tags in START_PAGE.items()
        }
        category = layout_pb2.Category(title="start here", chart=charts.values())
        layout = layout_pb2.Layout(category=[category]).SerializeToString()
        tensor, metadata = make_tensor_proto(layout), custom_scalar.create_summary_metadata()
        tag = custom_scalar.CONFIG_SUMMARY_TAG
        self._add([Summary.Value(tag=tag, tensor=tensor, metadata=metadata)], 0)

    def text(self, tag: str, markdown: str, env_steps: int) -> None:
        """Log a text, shown as Markdown."""
        self._add(text_pb(tag, markdown).value, env_steps)
        self._trackers.tell("text", tag, markdown, env_steps)

    def video(self, tag: str, clip: Clip, env_steps: int) -> None:
        """Log an animated GIF; browsers play it in the Images tab."""
        self._image(tag, clip.data, clip.size, env_steps, str(clip))
        self._trackers.show("video", tag, clip.data, env_steps, str(clip))

    def picture(self, tag: str, pixels: "Tensor", env_steps: int, caption: str) -> None:
        """Log an image, `uint8 [H, W, 3]`."""
        encoded, image = BytesIO(), Image.fromarray(pixels.detach().cpu().numpy())
        image.save(encoded, "PNG")
        self._image(tag, encoded.getvalue(), image.size, env_steps, caption)
        self._trackers.show("image", tag, encoded.getvalue(), env_steps, caption)

    def _image(self, tag: str, data: bytes, size: tuple[int, int], step: int, text: str) -> None:
        file = Summary.Image(encoded_image_string=data, width=size[0], height=size[1], colorspace=3)
        metadata = SummaryMetadata(summary_description=text)
        self._add([Summary.Value(tag=tag, metadata=metadata, image=file)], step)

    def hyperparameters(self, values: Mapping[str, Choice]) -> None:
        """Log the configuration: the run's row in the HParams tab.

        No experiment is declared: with several runs TensorBoard would use the columns of the first.
        Without it, TensorBoard finds the columns of all, which of them differ, and the metrics.
        Integers are texts, as TensorBoard shows a number 8 as 8.0000.
        """
        cells = {
            key: value if type(value) in (bool, float, str) else show(value)
            for key, value in values.items()
        }
        self._add(hparams_pb(cells, trial_id=str(self._directory)).value, 0)

    def position(self) -> Position | None:
        """Flush everything to disk, and return the size of every event file of the run.

        Store it in a checkpoint: `rewind` goes back to it. After a failure the sizes are
        those on disk. None if they cannot be read, or nothing is written.
        """
        with self._until_it_fails():
            if self._file is not None:
                self._file.synchronize()
        with suppress(OSError):
            return None if self._directory is None else position(self._directory)
        return None

    def close(self, status: str = "failed") -> None:
        """Close the file, and the trackers with the run's status; nothing more is written."""
        self._trackers.close(status)
        with self._until_it_fails():
            if self._file is not None:
                self._file.close()
        self._file = None

    def _add(self, values: Sequence[Any], env_steps: int) -> None:
        with self._until_it_fails():
            if self._file is not None:
                summary = Summary(value=values)
                self._file.add(Event(wall_time=time.time(), step=env_steps, summary=summary))

    @contextmanager
    def _until_it_fails(self) -> Iterator[None]:
        """Give up the file at an error, with a warning."""
        try:
            yield
        except OSError as error:
            with suppress(OSError):  # buffered events cannot be written now
                if self._file is not None:
                    self._file.close()
            self._file = None
            message = f"TensorBoard logging stopped: {error}"
            warnings.warn(message, RuntimeWarning, stacklevel=5)


def append_episodes(
    directory: Path,
    episodes: Sequence[Episode],
    keys: Sequence[str],
    *,
    env_steps: int,
    seconds: float,
) -> None:
    """Append a line for each episode to a run's table.

    Args:
        keys: of the episodes' `info`, one column each; empty where an episode has none.
        env_steps: of the run, at the end of the rollout that finished them.
        seconds: of collecting and learning up to there.

    Raises:
        OSError: it cannot be written.
    """
    with (directory / EPISODES).open("a", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        if file.tell() == 0:
            table.writerow(["env_steps", "seconds", "environment", "return", "length", *keys])
        for index, episode_return, length, info in episodes:
            told = (info.get(key, "") for key in keys)
            table.writerow([env_steps, f"{seconds:.3f}", index, episode_return, length, *told])


class ClippingWatch:
    """Warns once if clipping leaves almost nothing of the gradient, as with large rewards.

    Args:
        limit: `optimizer.max_grad_norm`, the global norm.
    """

    def __init__(self, limit: float) -> None:
        self._limit, self._in_a_row, self._has_told = limit, 0, False

    def look(self, values: Mapping[str, float]) -> None:
        """Check the logged values of an update."""
        norm = math.hypot(*(v for tag, v in values.items() if tag.startswith("gradient_norm/")))
        self._in_a_row = self._in_a_row + 1 if norm * _LEAST_LEFT > self._limit else 0
        if self._in_a_row == _CLIPPED_IN_A_ROW and not self._has_told:
            self._has_told = True
            warnings.warn(
                f"optimizer.max_grad_norm={self._limit:g} scales a gradient of norm {norm:.1e} "
                "down, the policy's part with the values': next to nothing is learnt; rewards of "
                "this size want normalize_rewards=true",
                RuntimeWarning,
                stacklevel=2,
            )


_BETWEEN_BARS = 0.2  # seconds


class Progress:
    """A bar with rate, remaining time and return; by default only on a terminal."""

    def __init__(self, total: int, *, show: bool | Literal["auto"], unit: str = "steps") -> None:
        """Start at zero of `total` environment steps, or of another unit."""
        hidden = None if show == "auto" else not show  # None: hidden if stderr is no terminal
        # In thousands where they are many: `20.2k` steps, but `17` episodes.
        how: Any = {"disable": hidden, "dynamic_ncols": True, "unit_scale": unit == "steps"}
        self._bar = tqdm(total=total, unit=f" {unit}", **how)
        self._due_at = math.inf if self._bar.disable else 0.0

    @property
    def is_due(self) -> bool:
        """Whether to redraw: five times a second, never if hidden."""
        return time.monotonic() >= self._due_at

    def update(self, env_steps: int, return_mean: float | None) -> None:
        """Advance to `env_steps` and show the mean return of recent episodes."""
        if return_mean is not None:
            self._bar.set_postfix_str(f"return {shown_return(return_mean)}", refresh=False)
        # Rollouts end beyond the total, where the bar would vanish.
        self._bar.total = max(self._bar.total or 0, env_steps)
        self._bar.update(env_steps - self._bar.n)
        self._wait()

    def watch(self, play: "Play") -> None:
        """Show how many episodes an evaluation has played."""
        if self.is_due:
            played = len(play.episodes)
            self._bar.set_postfix_str(f"evaluating: {played} of {play.wanted} episodes")
            self._wait()

    def _wait(self) -> None:
        if not self._bar.disable:
            self._due_at = time.monotonic() + _BETWEEN_BARS

    def write(self, line: str) -> None:
        """Print a line above the bar."""
        self._bar.write(line, file=sys.stdout)

    def close(self) -> None:
        """Close the bar; it stays visible."""
        self._bar.close()
