"""Stop signals: the first asks to finish the current work, a second interrupts at once."""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

_PATIENCE = 4.0
"""Seconds after a stop signal in which the current iteration or evaluation may finish."""


class StopRequest:
    """Whether, by which signal and when the run was asked to stop."""

    def __init__(self) -> None:
        self.number: int | None = None
        self._asked_at = 0.0

    def ask(self, number: int) -> None:
        """Record the signal's number."""
        self.number, self._asked_at = number, time.monotonic()

    def __bool__(self) -> bool:
        return self.number is not None

    def is_overdue(self) -> bool:
        """Tell whether the current work has exceeded its time and must be abandoned."""
        return self.number is not None and time.monotonic() - self._asked_at > _PATIENCE


@contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """Record the first SIGINT or SIGTERM for the loop; later ones act as usual."""
    request = StopRequest()
    with received(request.ask, signal.SIGINT, signal.SIGTERM, once=True):
        yield request


@contextmanager
def received(receive: Callable[[int], object], *numbers: int, once: bool = False) -> Iterator[None]:
    """Call a function with the number of a signal that comes.

    Args:
        once: only the first time; later signals act as usual.
    """
    kept: dict[int, Any] = {}

    def restore() -> None:
        for number, handler in kept.items():
            signal.signal(number, handler)

    def handle(number: int, frame: FrameType | None) -> None:
        receive(number)
        if once:
            restore()

    with suppress(ValueError):  # not the main thread: its owner handles signals
        for number in numbers:
            # Ignored by the parent process, or handled outside Python: leave it.
            if signal.getsignal(number) not in (signal.SIG_IGN, None):
                kept[number] = signal.signal(number, handle)
    try:
        yield
    finally:
        restore()
