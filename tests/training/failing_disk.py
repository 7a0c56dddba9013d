"""A disk that fails, or a process that dies, at any of the moments when something reaches it."""

import os
import pathlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import training.saving.files


class Crash(BaseException):
    """The process dies here."""


class Disk:
    """Counts what reaches the disk and, at one of those moments, fails.

    A write that fails has written half. Calls are told by name, for their order matters too.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[str] = []
        self.failure: BaseException | None = None
        self.fails_at = -1
        for module, name in ((os, "fsync"), (os, "replace"), (pathlib.Path, "unlink")):
            monkeypatch.setattr(module, name, self._watched(name, getattr(module, name)))
        writing = self._writing(training.saving.files.write)
        monkeypatch.setattr(training.saving.files, "write", writing)

    def fail_at(self, moment: int, failure: BaseException) -> None:
        self.calls.clear()
        self.fails_at, self.failure = moment, failure

    def _reach(self, call: str) -> None:
        self.calls.append(call)
        if len(self.calls) - 1 == self.fails_at and self.failure is not None:
            raise self.failure

    def _watched(self, name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def watched(*arguments: Any, **options: Any) -> Any:
            self._reach(name)
            return original(*arguments, **options)

        return watched

    def _writing(self, original: Callable[..., None]) -> Callable[..., None]:
        def write(path: Path, data: bytes, **options: Any) -> None:
            try:
                self._reach(
                    "write " + re.sub(r"-[0-9a-f]{64}\..*", "", path.name)
                )  # without its sum
            except BaseException:
                path.write_bytes(data[: len(data) // 2])
                raise
            original(path, data, **options)

        return write
