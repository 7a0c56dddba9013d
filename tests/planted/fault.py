"""A fault that is planted on purpose, and how to name many of one file."""

from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Fault:
    """One statement of the library, made wrong.

    Attributes:
        name: what is wrong then, in a few words; no two faults have the same.
        file: where it is planted.
        text: what stands there, exactly once.
        planted: what is to stand in its place.
        tests: what must notice it, the nearest first, as pytest is given it.
    """

    name: str
    file: str
    text: str
    planted: str
    tests: tuple[str, ...]

    def problem(self, source: str) -> str | None:
        """Say why it cannot be planted in the source of its file; None where it can."""
        count = source.count(self.text)
        if count != 1:
            return f"{self.file}: found {count} times, expected once: {self.text!r}"
        return None


def plant(file: str, tests: str, *faults: tuple[str, ...]) -> list[Fault]:
    """Plant faults in one file: each a name, the text, what replaces it, and perhaps other tests.

    Args:
        tests: below `tests/`, separated by blanks; so are a fault's own.
    """
    return [
        Fault(name, file, text, planted, tuple(f"tests/{word}" for word in _words(tests, own)))
        for name, text, planted, *own in faults
    ]


def _words(tests: str, own: list[str]) -> list[str]:
    return (own[0] if own else tests).split()
