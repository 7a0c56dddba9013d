"""A session's early end: one line for the user, an exit code for the shell."""


class Refusal(Exception):
    """A run that cannot start (exit code 2), broke (1) or was interrupted (128 + signal)."""

    def __init__(self, message: str, exit_code: int) -> None:
        """Set the line for the user and the exit code."""
        super().__init__(message)
        self.exit_code = exit_code
