"""A session's early end: one line for the user, an exit code for the shell."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from conf.checking.refusals import InvalidConfiguration


class Refusal(Exception):
    """A run that cannot start (exit code 2), broke (1) or was interrupted (128 + signal)."""

    def __init__(self, message: str, exit_code: int) -> None:
        """Set the line for the user and the exit code."""
        super().__init__(message)
        self.exit_code = exit_code


@contextmanager
def refusals_end() -> Iterator[None]:
    """End the process with a refusal's line and exit code; every entry point runs in it."""
    try:
        yield
    except (InvalidConfiguration, Refusal) as refusal:
        print(refusal, file=sys.stderr)
        sys.exit(refusal.exit_code if isinstance(refusal, Refusal) else 2)
