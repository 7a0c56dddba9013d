"""Runs as a command line names them: `run=last`, a directory without its key, a folder of runs."""

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from conf.checking.refusals import InvalidConfiguration
from conf.schema.scripts import ROOTS, FinishedRun

_SHOWN = 10


def runs_in(folder: Path) -> list[Path]:
    """List the runs under a folder, newest first."""
    written: dict[Path, float] = {}
    for place, folders, files in os.walk(folder):
        if "config.yaml" in files:
            with suppress(FileNotFoundError):  # another process removed the run
                written[Path(place)] = Path(place, "config.yaml").stat().st_mtime
        folders[:] = [name for name in folders if name not in (".hydra", "pretraining")]  # of a run
    return sorted(written, key=written.__getitem__, reverse=True)


def listed_runs(folder: Path) -> str:
    """Return the end of a message: the newest runs under a folder; empty if there are none."""
    found = list(map(str, runs_in(folder)))
    if not found:
        return ""
    return "\n  ".join(["; the newest runs there:", *found[:_SHOWN]])


def spelled_out(words: Sequence[str], config_name: str) -> list[str]:
    """Write `run=last` and `resume=last` as the newest run, and a directory alone as `run=`."""
    opens_a_run = issubclass(ROOTS.get(config_name, object), FinishedRun)
    spelled = []
    for word in words:
        key, _, value = word.partition("=")
        if word in ("run=last", "resume=last"):
            newest = runs_in(Path("runs"))
            if not newest:
                raise InvalidConfiguration([f"{word}: there is no run under runs/"])
            value = str(newest[0])
        elif opens_a_run and "=" not in word and os.path.isdir(word):
            key, value = "run", word
        else:
            spelled.append(word)
            continue
        spelled.append(key + "='" + value.replace("'", "\\'") + "'")
    return spelled
