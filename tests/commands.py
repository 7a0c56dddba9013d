"""Runs commands in processes forked from one that has the large packages loaded already."""

import multiprocessing
import os
import runpy
import sys
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from subprocess import CompletedProcess

LIBRARIES = ["torch", "gymnasium", "hydra", "safetensors.torch", "torch.utils.tensorboard"]


def run(
    script: Path,
    words: Sequence[str],
    *,
    directory: Path,
    environment: Mapping[str, str],
    timeout: float,
) -> CompletedProcess[str]:
    """Run a script as `python script words` does, where warnings are errors."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(LIBRARIES)
    with tempfile.TemporaryDirectory() as place:
        outputs = [Path(place, name) for name in ("stdout", "stderr")]
        process = context.Process(
            target=_become, args=(script, list(words), directory, dict(environment), outputs)
        )
        process.start()
        process.join(timeout)
        if process.exitcode is None:
            process.kill()
            process.join()
        printed, errors = (path.read_text(encoding="utf-8") for path in outputs)
    assert process.exitcode is not None
    return CompletedProcess([str(script), *words], process.exitcode, printed, errors)


def _become(
    script: Path,
    words: list[str],
    directory: Path,
    environment: dict[str, str],
    outputs: list[Path],
) -> None:
    for descriptor, path in enumerate(outputs, start=1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), descriptor)
    os.chdir(directory)
    os.environ.clear()
    os.environ.update(environment)
    paths = [str(script.parent), *environment.get("PYTHONPATH", "").split(os.pathsep)]
    sys.path[:] = [*paths, *(path for path in sys.path if path not in paths)]
    sys.argv = [str(script), *words]
    sys.dont_write_bytecode = True
    warnings.simplefilter("error")
    runpy.run_path(str(script), run_name="__main__")
