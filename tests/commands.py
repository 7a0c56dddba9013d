"""Runs commands in processes forked from one that has all packages loaded already.

It is none of `multiprocessing`'s: that one is the library's, for environments, and must stay light.
"""

import atexit
import gc
import json
import os
import runpy
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from select import select
from subprocess import CompletedProcess

ROOT = Path(__file__).resolve().parents[1]
CHECKING = ("conf.composing.command_line",)
"""What every command line is checked with, nothing heavy."""
PACKAGES = ("torch.utils.tensorboard", *CHECKING, "training.runs.session")
"""They load the others."""
SERVERS: dict[tuple[str, ...], subprocess.Popen[str]] = {}
"""By what they have loaded."""


def run(
    script: Path,
    words: Sequence[str],
    *,
    directory: Path,
    environment: Mapping[str, str],
    timeout: float,
    packages: tuple[str, ...] = PACKAGES,
) -> CompletedProcess[str]:
    """Run a script as `python script words` does, where warnings are errors.

    Args:
        packages: what is loaded already.
    """
    with tempfile.TemporaryDirectory() as place:
        outputs = [Path(place, name) for name in ("stdout", "stderr")]
        code = _ask([str(script), *words], str(directory), environment, outputs, timeout, packages)
        printed, errors = (path.read_text(encoding="utf-8") for path in outputs)
    return CompletedProcess([str(script), *words], code, printed, errors)


def _ask(
    command: list[str],
    directory: str,
    environment: Mapping[str, str],
    outputs: Sequence[Path],
    timeout: float,
    packages: tuple[str, ...],
) -> int:
    server = _server(packages)
    assert server.stdin is not None
    assert server.stdout is not None
    request = [command, directory, dict(environment), [str(path) for path in outputs]]
    server.stdin.write(json.dumps(request) + "\n")
    if not select([server.stdout], [], [], timeout)[0]:
        _end(packages)
        raise TimeoutError(f"{command}: no end within {timeout} s")
    code = server.stdout.readline()
    if not code:
        _end(packages)
        raise RuntimeError(f"{command}: the server of commands has died")
    return int(code)


def _server(packages: tuple[str, ...]) -> subprocess.Popen[str]:
    if packages not in SERVERS:
        atexit.register(_end, packages)
        SERVERS[packages] = subprocess.Popen(
            [sys.executable, "-B", __file__, *packages],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=1,
            text=True,
            start_new_session=True,
        )
    return SERVERS[packages]


def _end(packages: tuple[str, ...]) -> None:
    """End a server, if it is there, and whatever it started."""
    if packages in SERVERS:
        with SERVERS.pop(packages) as server:
            os.killpg(server.pid, 9)


def _serve() -> None:
    """Fork a process for each request, and answer with its exit code."""
    sys.path[0] = str(ROOT)
    for name in sys.argv[1:]:
        import_module(name)
    import_module("tests.rereading").read_once(setattr)
    import_module("conf.composing.configuration").load([])  # what every command reads
    gc.freeze()  # or each process would look through all of torch when it ends
    while request := sys.stdin.readline():
        if os.fork() == 0:
            _become(*json.loads(request))
            return
        print(os.waitstatus_to_exitcode(os.wait()[1]), flush=True)


def _become(
    command: list[str], directory: str, environment: dict[str, str], outputs: list[str]
) -> None:
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for descriptor, path in enumerate(outputs, start=1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), descriptor)
    os.chdir(directory)
    os.environ.clear()
    os.environ.update(environment)
    paths = [str(Path(command[0]).parent), *environment.get("PYTHONPATH", "").split(os.pathsep)]
    sys.path[:] = [*paths, *(path for path in sys.path[1:] if path not in paths)]
    sys.argv = command
    warnings.simplefilter("error")
    runpy.run_path(command[0], run_name="__main__")


if __name__ == "__main__":
    _serve()
