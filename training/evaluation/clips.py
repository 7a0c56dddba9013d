"""Video encoders: frames of an episode, encoded as they arrive; `video` records them.

Imports nothing heavy, so that a missing encoder is reported before anything starts.
"""

import importlib.util
import io
import math
import tempfile
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from conf.schema.layout import installing
from training.stream.episodes import shown_return

Kind = Literal["gif", "mp4"]
Frame = npt.NDArray[np.uint8]  # [H, W, 3]

_MAX_GIF_RATE = 30.0
"""Frames per second; browsers slow down GIFs faster than 50, and files grow."""
_MAX_GIF_SIDE = 400
"""Pixels; larger frames are scaled down."""


class Clip(NamedTuple):
    """An encoded video of an episode.

    Attributes:
        size: width and height.
        episode_return: undiscounted and raw, of the recorded steps.
        length: steps of the environment.
        is_cut: whether the video ends before the episode.
    """

    data: bytes
    size: tuple[int, int]
    episode_return: float
    length: int
    is_cut: bool

    def __str__(self) -> str:
        """Describe the video in a line."""
        return outcome(self.episode_return, self.length) + (", cut there" if self.is_cut else "")


def outcome(episode_return: float, length: int) -> str:
    """Describe an episode's outcome."""
    return f"return {shown_return(episode_return)} in {length:,} step{'' if length == 1 else 's'}"


class GifEncoder:
    """Encodes a GIF at the original speed, with limited size and frame rate.

    Attributes:
        stride: of `stride` frames, one is to be added.
        size: width and height.
    """

    def __init__(self, frames_per_second: float) -> None:
        """Take the environment's frame rate."""
        self.stride = max(1, math.ceil(frames_per_second / _MAX_GIF_RATE))
        self._seconds = self.stride / frames_per_second  # that each frame is shown
        self._images: list[Any] = []
        self.size = (0, 0)

    def add(self, frame: Frame) -> None:
        """Append a frame, reduced to 256 colours at once: raw videos may not fit into memory."""
        from PIL import Image

        image = Image.fromarray(frame)
        image.thumbnail((_MAX_GIF_SIDE, _MAX_GIF_SIDE), Image.Resampling.BOX)
        self.size = image.size
        self._images.append(image.quantize(256, dither=Image.Dither.NONE))

    def finish(self) -> bytes:
        """Return the file."""
        # GIF delays are in 1/100 s: rounding the sum keeps the speed, rounding each does not
        ends = [round(100 * self._seconds * number) for number in range(len(self._images) + 1)]
        shown = [10 * (end - begin) for begin, end in pairwise(ends)]
        file = io.BytesIO()
        first, *rest = self._images
        first.save(file, format="GIF", save_all=True, append_images=rest, duration=shown, loop=0)
        return file.getvalue()

    def close(self) -> None:
        """Drop the frames."""
        self._images.clear()


class Mp4Encoder:
    """Encodes H.264 at the original size and rate, with the ffmpeg of the extra `video`."""

    stride = 1

    def __init__(self, frames_per_second: float) -> None:
        """Take the environment's frame rate."""
        self._rate, self._directory = frames_per_second, tempfile.TemporaryDirectory()
        self._path = Path(self._directory.name) / "video.mp4"
        self._writer: Any = None
        self.size = (0, 0)

    def add(self, frame: Frame) -> None:
        """Append a frame."""
        import imageio_ffmpeg

        height, width = (side - side % 2 for side in frame.shape[:2])  # H.264 needs even sides
        if self._writer is None:
            self.size, how = (width, height), {"fps": self._rate, "macro_block_size": 2}
            self._writer = imageio_ffmpeg.write_frames(str(self._path), self.size, **how)
            self._writer.send(None)
        self._writer.send(np.ascontiguousarray(frame[:height, :width]))

    def finish(self) -> bytes:
        """Return the file."""
        self._writer.close()
        return self._path.read_bytes()

    def close(self) -> None:
        """End ffmpeg and remove its file, finished or not."""
        if self._writer is not None:
            self._writer.close()
        self._directory.cleanup()


ENCODERS: dict[Kind, type[GifEncoder | Mp4Encoder]] = {"gif": GifEncoder, "mp4": Mp4Encoder}


def video_kind(video: bool | Kind) -> Kind | None:
    """Read the key `video`; true is a GIF, which needs no extra."""
    return ("gif" if video else None) if isinstance(video, bool) else video


def check_encoder(kind: Kind | None) -> None:
    """Refuse a kind of video without an installed encoder.

    Raises:
        ValueError: the extra is not installed; names the remedy.
    """
    if kind == "mp4" and importlib.util.find_spec("imageio_ffmpeg") is None:
        raise ValueError(
            f"video=mp4: needs imageio-ffmpeg: {installing('video')}; video=gif does without"
        )
