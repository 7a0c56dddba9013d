"""Checks for displays, without importing torch or an environment."""

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


def _has_display() -> bool:
    return sys.platform != "linux" or any(os.environ.get(name) for name in _DISPLAYS)
