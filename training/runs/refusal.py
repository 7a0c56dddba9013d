"""A session's early end: one line for the user, an exit code for the shell."""

from collections.abc import Iterator
from contextlib import contextmanager

from conf.checking.refusals import Ending


class Refusal(Ending):
    """A run that cannot start (exit code 2), broke (1) or was interrupted (128 + signal)."""

    def __init__(self, message: str, exit_code: int) -> None:
        """Set the line for the user and the exit code."""
        super().__init__(message)
        self.exit_code = exit_code


@contextmanager
def refusing(
    *errors: type[BaseException], exit_code: int, before: str = "", after: str = ""
) -> Iterator[None]:
    """Turn errors into a `Refusal`, with words before and after what they say."""
    try:
        yield
    except errors as error:
        raise Refusal(f"{before}{error}{after}", exit_code) from error
