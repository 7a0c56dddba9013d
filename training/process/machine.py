"""Displays, and how threads wait, without importing torch or an environment."""

import os
import sys

_DISPLAYS = ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER")


def check_display(render_mode: str | None) -> None:
    """Refuse a window on a Linux machine without a display; elsewhere assume one.

    Raises:
        ValueError: there is none; names the remedy.
    """
    if render_mode == "human" and not _has_display():
        raise ValueError(
            "render_mode=human: there is no display (DISPLAY is not set); record an episode "
            "instead with video=true"
        )


def draw_in_memory() -> None:
    """Keep SDL from opening a display or sound device when only frames are needed.

    It prints errors on servers without them. Call before an environment is made.
    """
    os.environ.setdefault("SDL_AUDIODRIVER", "dummy")
    if not _has_display():
        os.environ["SDL_VIDEODRIVER"] = "dummy"


def configure_torch() -> None:
    """Set how PyTorch waits and takes memory; call before it is loaded. A user's values win.

    GNU OpenMP's threads wait in a loop of some milliseconds. On cores that other processes use too,
    this takes the time that the awaited thread needs: beside a busy process, PPO with a NatureCNN
    ran on two threads at .54 of the speed of one, and at .83 with short loops, which are no slower
    on idle cores.

    Blocks of more than 2 MiB lie in pages of 2 MiB where Linux has these on request.
    """
    os.environ.setdefault("GOMP_SPINCOUNT", "2000")
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")


def _has_display() -> bool:
    return sys.platform != "linux" or any(os.environ.get(name) for name in _DISPLAYS)
