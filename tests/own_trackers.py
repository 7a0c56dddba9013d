"""Trackers as a user writes them."""

from collections import defaultdict
from typing import Any, ClassVar

import neurl


class Noting(neurl.Tracker):
    """Keeps all that it is told, by run."""

    notes: ClassVar[dict[str, list[Any]]] = defaultdict(list)

    def __init__(self, run: Any, greeting: str = "hello") -> None:
        self.id = run.id or f"{run.name} {len(Noting.notes)}"
        self.notes[self.id].append(("begin", greeting, run))

    def scalars(self, values: Any, env_steps: int) -> None:
        self.notes[self.id].append(("scalars", dict(values), env_steps))

    def video(self, tag: str, path: Any, env_steps: int, caption: str) -> None:
        self.notes[self.id].append(("video", tag, path.read_bytes()[:4], path.suffix, caption))

    def image(self, tag: str, path: Any, env_steps: int, caption: str) -> None:
        self.notes[self.id].append(("image", tag, path.read_bytes()[:4], path.suffix, caption))

    def close(self, status: str) -> None:
        self.notes[self.id].append(("close", status))


class Failing(neurl.Tracker):
    """Loses its connection."""

    def __init__(self, run: Any, where: str) -> None:
        self._where = where
        self._fail("__init__")

    def scalars(self, values: Any, env_steps: int) -> None:
        self._fail("scalars")

    def close(self, status: str) -> None:
        self._fail("close")

    def _fail(self, where: str) -> None:
        if where == self._where:
            raise ConnectionError("no route to host")
