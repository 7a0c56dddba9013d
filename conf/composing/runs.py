"""Runs as a command line names them: `run=last`, a directory without its key, a folder of runs."""

from collections.abc import Sequence
from pathlib import Path

from conf.checking.refusals import InvalidConfiguration
from conf.schema.scripts import ROOTS, FinishedRun

_SHOWN = 10


def runs_in(folder: Path) -> list[Path]:
    """List the runs under a folder, newest first."""
    inner = (".hydra", "pretraining")  # of a run
    found = [p for p in folder.rglob("config.yaml") if p.is_file() and p.parent.name not in inner]
    newest_first = sorted(found, key=lambda path: path.stat().st_mtime, reverse=True)
    return [path.parent for path in newest_first]


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
        elif opens_a_run and "=" not in word and Path(word).is_dir():
            key, value = "run", word
        else:
            spelled.append(word)
            continue
        spelled.append(key + "='" + value.replace("'", "\\'") + "'")
    return spelled
