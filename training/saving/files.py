"""Writing files: whole or not at all, and without ending training."""

import json
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from training.building.instantiation import plain


def to_json(content: Mapping[str, Any]) -> bytes:
    """Encode numbers, strings, lists and dicts, readably; equal content gives equal bytes."""
    return json.dumps(content, indent=1).encode()


def write(path: Path, data: bytes, *, wait: bool) -> None:
    """Write a new file, never through a link of that name."""
    with path.open("xb") as file:
        file.write(data)
        if wait:
            file.flush()
            os.fsync(file.fileno())


def replace(path: Path, data: bytes, *, wait: bool = True) -> None:
    """Replace a file's content in one rename; readers see the old or the new, never a part.

    Args:
        wait: until it is on disk. Otherwise it survives this process, but may be lost if the
            machine fails within seconds.
    """
    temporary = path.with_name(f"{path.name}.new")
    try:
        if os.path.lexists(temporary):  # left by a process that died, or a link
            temporary.unlink()
        write(temporary, data, wait=wait)
        os.replace(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def write_configuration(directory: Path, config: DictConfig) -> tuple[dict[str, Any], str]:
    """Write a checked configuration as `config.yaml` of a run's directory.

    Returns:
        Its values, and the text of the file.
    """
    stored = {**plain(config), "resume": None, "run_dir": str(directory)}
    text = OmegaConf.to_yaml(stored)
    replace(directory / "config.yaml", text.encode())
    return stored, text


def sync_directory(directory: Path) -> None:
    """Wait until a directory's entries are on disk."""
    if os.name != "posix":  # Windows cannot open directories
        return
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def costs_a_warning(message: str) -> Iterator[None]:
    """Turn a failure to write into a warning: a full disk must not end training.

    Args:
        message: with braces for the error.
    """
    try:
        yield
    except OSError as error:
        warnings.warn(message.format(error), RuntimeWarning, stacklevel=3)


def has_checkpoint(directory: Path) -> bool:
    """Tell whether a directory holds a checkpoint, intact or not."""
    return any(directory.glob("manifest*.json"))
