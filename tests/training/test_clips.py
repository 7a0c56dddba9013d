"""Videos play at the speed of the original, whatever its rate, and are of a sane size."""

import gc
import importlib.util
import io
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageSequence

from training.evaluation.clips import ENCODERS, Clip, GifEncoder, check_encoder, video_kind


def pictures(data: bytes) -> list[np.ndarray]:
    with Image.open(io.BytesIO(data)) as clip:
        return [np.array(frame.convert("RGB")) for frame in ImageSequence.Iterator(clip)]


def milliseconds(data: bytes) -> float:
    with Image.open(io.BytesIO(data)) as clip:
        return sum(frame.info["duration"] for frame in ImageSequence.Iterator(clip))


def flat(brightness: int, height: int = 6, width: int = 10) -> np.ndarray:
    return np.full((height, width, 3), brightness, np.uint8)


def gif(brightnesses: list[int], rate: float) -> bytes:
    encoder = GifEncoder(frames_per_second=rate)
    for brightness in brightnesses:
        encoder.add(flat(brightness))
    return encoder.finish()


@pytest.mark.parametrize(
    ("rate", "stride"), [(4, 1), (15, 1), (30, 1), (50, 2), (60, 2), (125, 5), (7.5, 1)]
)
def test_a_gif_plays_at_the_speed_of_the_original(rate: float, stride: int) -> None:
    encoder = GifEncoder(frames_per_second=rate)
    assert encoder.stride == stride
    assert rate / stride <= 30  # what browsers show as fast as it is
    count = 40
    data = gif([5 * number for number in range(count)], rate)
    assert len(pictures(data)) == count
    assert milliseconds(data) == pytest.approx(1000 * count * stride / rate, abs=10)


def test_a_gif_shows_the_frames_in_order() -> None:
    shown = [int(picture[0, 0, 0]) for picture in pictures(gif([0, 100, 200, 50], 10))]
    assert shown == [0, 100, 200, 50]


def test_frames_that_stand_still_take_their_time() -> None:
    assert milliseconds(gif([0, 0, 0, 9, 9], 10)) == 500


def test_a_gif_repeats_for_ever() -> None:
    with Image.open(io.BytesIO(gif([0, 9], 10))) as clip:
        assert clip.info["loop"] == 0


@pytest.mark.parametrize(
    ("size", "expected"), [((900, 600), (400, 267)), ((84, 84), (84, 84)), ((1, 2000), (1, 400))]
)
def test_large_frames_are_scaled_and_small_ones_are_not(size, expected) -> None:
    encoder = GifEncoder(frames_per_second=10)
    encoder.add(flat(7, height=size[1], width=size[0]))
    assert encoder.size == expected
    assert pictures(encoder.finish())[0].shape[:2] == expected[::-1]


def test_colours_survive() -> None:
    frame = flat(0)
    frame[0, 0], frame[0, 1], frame[1, 0] = (255, 0, 0), (1, 200, 30), (7, 7, 250)
    encoder = GifEncoder(frames_per_second=10)
    encoder.add(frame)
    np.testing.assert_array_equal(pictures(encoder.finish())[0], frame)


@pytest.mark.parametrize(("height", "width"), [(32, 64), (33, 65)])
def test_an_mp4_holds_every_frame(tmp_path: Path, height: int, width: int) -> None:
    ffmpeg = pytest.importorskip("imageio_ffmpeg").get_ffmpeg_exe()
    encoder = ENCODERS["mp4"](frames_per_second=50)
    for brightness in range(0, 200, 10):
        encoder.add(flat(brightness, height, width))
    path = tmp_path / "video.mp4"
    path.write_bytes(encoder.finish())
    encoder.close()
    gc.collect()  # a pipe that is left open is a warning, which is an error
    assert encoder.size == (64, 32)  # H.264 has no odd sides
    words = ["-i", str(path), "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    decoded = subprocess.run([ffmpeg, *words], capture_output=True, check=True)
    assert b"50 fps" in decoded.stderr
    frames = np.frombuffer(decoded.stdout, np.uint8).reshape(-1, 32, 64, 3)
    np.testing.assert_allclose(frames.mean((1, 2, 3)), range(0, 200, 10), atol=5)  # lossy


def test_an_mp4_that_is_given_up_leaves_nothing(tmp_path: Path, monkeypatch) -> None:
    pytest.importorskip("imageio_ffmpeg")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    encoder = ENCODERS["mp4"](frames_per_second=50)
    encoder.add(flat(1, 32, 32))
    encoder.close()
    ENCODERS["mp4"](frames_per_second=50).close()  # not even begun
    gc.collect()
    assert not list(tmp_path.iterdir())


def test_what_is_missing_is_named_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"video=mp4: .*pip install .*\[video\]") as caught:
        check_encoder("mp4")
    assert "\n" not in str(caught.value)
    check_encoder("gif")
    check_encoder(None)


def test_true_is_a_gif() -> None:
    assert [video_kind(video) for video in (True, False, "gif", "mp4")] == [
        "gif",
        None,
        "gif",
        "mp4",
    ]


def test_a_video_says_what_is_seen() -> None:
    clip = Clip(b"", (1, 1), episode_return=2.5, length=1000, is_cut=True)
    assert str(clip) == "return 2.50 in 1,000 steps, cut there"
    assert str(clip._replace(length=1, is_cut=False)) == "return 2.50 in 1 step"
