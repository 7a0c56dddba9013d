"""Runs train.py and kills this process at its n-th call to the disk: `dying.py N [words]`."""

import os
import pathlib
import runpy
import signal
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


def die_at(call: int) -> None:
    """Count the calls that make a checkpoint and, at the given one, die as by `kill -9`."""
    calls = 0

    def counted(original: Any) -> Any:
        def count(*arguments: Any, **options: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == call:
                os.kill(os.getpid(), signal.SIGKILL)
            return original(*arguments, **options)

        return count

    names = [(os, "fsync"), (os, "replace"), (os, "truncate"), (pathlib.Path, "unlink")]
    for module, name in names:
        setattr(module, name, counted(getattr(module, name)))


if __name__ == "__main__":
    die_at(int(sys.argv[1]))
    sys.path.insert(0, str(ROOT))
    sys.argv = [str(ROOT / "train.py"), *sys.argv[2:]]
    runpy.run_path(sys.argv[0], run_name="__main__")
