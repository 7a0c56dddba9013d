"""Stop signals: the first asks to finish what is under way, a second one interrupts at once."""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

_PATIENCE = 4.0
"""Seconds after a stop signal in which the iteration or evaluation under way may still end."""


class StopRequest:
    """Whether, by which signal and when the run was asked to stop."""

    def __init__(self) -> None:
        """Begin unasked."""
        self.number: int | None = None
        self._asked_at = 0.0

    def ask(self, number: int) -> None:
        """Take the signal's number."""
        self.number, self._asked_at = number, time.monotonic()

    def __bool__(self) -> bool:
        return self.number is not None

    def is_overdue(self) -> bool:
        """Tell whether what is under way has had its time and must be given up."""
        return self.number is not None and time.monotonic() - self._asked_at > _PATIENCE


@contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """Keep the first SIGINT or SIGTERM for the loop to see; later ones act as usual."""
    request = StopRequest()
    kept: dict[int, Any] = {}

    def restore() -> None:
        for number, handler in kept.items():
            signal.signal(number, handler)

    def receive(number: int, frame: FrameType | None) -> None:
        request.ask(number)
        restore()

    for number in (signal.SIGINT, signal.SIGTERM):
        # Ignored by whoever began the process, or handled by what is not Python: theirs to keep.
        if signal.getsignal(number) in (signal.SIG_IGN, None):
            continue
        try:
            kept[number] = signal.signal(number, receive)
        except ValueError:  # not the main thread: its owner handles signals
            break
    try:
        yield request
    finally:
        restore()
