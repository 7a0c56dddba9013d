"""Checkpoints: pickle-free, checksummed, and replaced atomically.

A checkpoint is a directory whose `manifest.json` names its files with sizes and SHA-256 sums. New
files never overwrite those that the current manifest names; the manifest is replaced last, in one
rename. Whenever the process dies, the directory therefore holds one complete checkpoint.
"""

import hashlib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

MANIFEST = "manifest.json"


class DamagedCheckpoint(ValueError):
    """A checkpoint is missing, incomplete, or not what was written."""


def save_checkpoint(
    directory: Path, *, tensors: Mapping[str, Tensor], state: Mapping[str, Any], step: int
) -> None:
    """Publish a checkpoint in `directory`, replacing the one that is there.

    Args:
        tensors: by name; saved as safetensors.
        state: plain numbers, strings, lists and dicts; saved as JSON.
        step: environment steps, part of the file names.

    Raises:
        OSError: it could not be written; the previous checkpoint stands.
    """
    directory.mkdir(parents=True, exist_ok=True)
    contents = {
        f"tensors-{step}.safetensors": safetensors.torch.save(
            # copies, because parameters are views of one vector and shared modules appear twice
            {
                name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
                for name, tensor in tensors.items()
            }
        ),
        f"state-{step}.json": _to_json(state),
    }
    contents = {_free_name(directory, name): data for name, data in contents.items()}
    try:
        for name, data in contents.items():
            _write(directory / name, data)
        manifest = {
            "format": 1,
            "step": step,
            "files": {
                name: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
                for name, data in contents.items()
            },
        }
        _write(directory / f"{MANIFEST}.new", _to_json(manifest))
        os.replace(directory / f"{MANIFEST}.new", directory / MANIFEST)
    except OSError:
        for name in (*contents, f"{MANIFEST}.new"):
            (directory / name).unlink(missing_ok=True)
        raise
    _sync_directory(directory)
    for path in directory.iterdir():
        if path.name not in (*contents, MANIFEST):
            path.unlink()


def load_checkpoint(directory: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a checkpoint's tensors and state, after verifying every byte.

    Raises:
        DamagedCheckpoint: something is missing or differs from what was written.
    """
    try:
        manifest = json.loads((directory / MANIFEST).read_bytes())
        tensors, state = (
            _verified(directory, manifest["files"], kind) for kind in ("tensors", "state")
        )
        return safetensors.torch.load(tensors), json.loads(state)
    except DamagedCheckpoint:
        raise
    except FileNotFoundError as error:
        missing = Path(error.filename).name
        raise DamagedCheckpoint(f"no checkpoint in {directory}: {missing} is missing") from error
    except (OSError, ValueError, LookupError, TypeError, AttributeError, SafetensorError) as error:
        raise DamagedCheckpoint(f"{directory} is damaged: {error}") from error


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Replace a JSON file in one rename."""
    temporary = path.with_name(f"{path.name}.new")
    _write(temporary, _to_json(content))
    os.replace(temporary, path)


def _verified(directory: Path, files: Mapping[str, Mapping[str, Any]], kind: str) -> bytes:
    """Read the one file of a kind that the manifest names; nothing outside of `directory`."""
    (name,) = (name for name in files if re.fullmatch(rf"{kind}-[\w-]+\.\w+", name))
    data = (directory / name).read_bytes()
    if hashlib.sha256(data).hexdigest() != files[name]["sha256"]:
        raise DamagedCheckpoint(
            f"{directory / name} is damaged: its SHA-256 is not the one in {MANIFEST}"
        )
    return data


def _free_name(directory: Path, name: str) -> str:
    """Return `name`, or a variant of it that no file has yet."""
    stem, suffix = os.path.splitext(name)
    candidate, attempt = name, 1
    while (directory / candidate).exists():
        candidate, attempt = f"{stem}-{attempt}{suffix}", attempt + 1
    return candidate


def _to_json(content: Mapping[str, Any]) -> bytes:
    return json.dumps(content, indent=2).encode()


def _write(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync_directory(directory: Path) -> None:
    if os.name != "posix":  # Windows cannot open directories
        return
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
