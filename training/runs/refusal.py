"""How a session ends early: one line for the user, an exit code for the shell."""


class Refusal(Exception):
    """A run that cannot start (exit code 2), broke (1) or was interrupted (128 + signal)."""

    def __init__(self, message: str, exit_code: int) -> None:
        """Take the line for the user and the code for the shell."""
        super().__init__(message)
        self.exit_code = exit_code

    @property
    def is_interrupt(self) -> bool:
        """Whether the user asked for the end."""
        return self.exit_code > 128
