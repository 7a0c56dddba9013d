"""Watching a run: TensorBoard event files and a progress bar."""

import math
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from tqdm import tqdm


class TensorBoard:
    """Writes scalars, one record for all tags of a step; the x-axis is environment steps.

    A full or failing disk must not end training: the first error is reported as a warning and
    nothing more is written.
    """

    def __init__(self, directory: Path) -> None:
        """Open an event file in `directory`."""
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        self._event, self._summary = Event, Summary
        self._writer: EventFileWriter | None = None
        try:
            self._writer = EventFileWriter(str(directory))
        except OSError as error:
            self._give_up(error)

    def scalars(self, values: Mapping[str, float], env_steps: int, wall_time: float) -> None:
        """Log one value per tag."""
        points = [
            self._summary.Value(tag=tag, simple_value=value)
            for tag, value in values.items()
            if not math.isnan(value)
        ]
        event = self._event(
            wall_time=wall_time, step=env_steps, summary=self._summary(value=points)
        )
        self._guarded("add_event", event)

    def flush(self) -> None:
        """Put everything logged so far on disk."""
        self._guarded("flush")

    def close(self) -> None:
        """Flush and close the file."""
        self._guarded("close")

    def _guarded(self, method: str, *arguments: object) -> None:
        if self._writer is None:
            return
        try:
            getattr(self._writer, method)(*arguments)
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        self._writer = None
        warnings.warn(f"TensorBoard logging stopped: {error}", RuntimeWarning, stacklevel=4)


class NoTensorBoard:
    """Writes nothing."""

    def scalars(self, values: Mapping[str, float], env_steps: int, wall_time: float) -> None:
        """Ignore the values."""

    def flush(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


class Progress:
    """A bar with rate, remaining time and return; off a terminal, only if asked for."""

    def __init__(self, total: int, *, show: bool | Literal["auto"]) -> None:
        """Start at zero of `total` environment steps."""
        hidden = not (sys.stderr.isatty() if show == "auto" else show)
        self._bar = tqdm(
            total=total, unit=" steps", unit_scale=True, disable=hidden, dynamic_ncols=True
        )

    def update(self, env_steps: int, return_mean: float | None) -> None:
        """Move to `env_steps` and show the mean return of recent episodes."""
        if return_mean is not None:
            self._bar.set_postfix_str(f"return {return_mean:.1f}", refresh=False)
        self._bar.update(env_steps - self._bar.n)

    def write(self, line: str) -> None:
        """Print a line above the bar."""
        self._bar.write(line, file=sys.stdout)

    def close(self) -> None:
        """Leave the bar as it stands."""
        self._bar.close()
