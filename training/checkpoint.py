"""Checkpoints: pickle-free, checksummed, replaced atomically, with older ones to fall back on.

A checkpoint is a manifest that names its files with sizes and SHA-256 sums, and carries a sum of
its own. `manifest.json` is the newest; older ones stand beside it as `manifest-<step>.json`. New
files never overwrite those that a manifest names, and `manifest.json` is replaced last, in one
rename: whenever the process dies, the directory holds a complete checkpoint.
"""

import hashlib
import json
import os
import re
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from training.files import replace, sync_directory, to_json, write

MANIFEST = "manifest.json"
_FORMAT = 2
_OLDER = re.compile(r"manifest-(\d+)\.json")


class DamagedCheckpoint(ValueError):
    """A checkpoint is missing, incomplete, or not what was written."""


def save_checkpoint(
    directory: Path,
    *,
    tensors: Mapping[str, Tensor],
    state: Mapping[str, Any],
    step: int,
    keep: int = 1,
) -> None:
    """Publish a checkpoint in `directory` as the newest one.

    Args:
        tensors: by name; saved as safetensors.
        state: plain numbers, strings, lists and dicts; saved as JSON.
        step: environment steps, part of the file names.
        keep: how many checkpoints stay, this one included. Those of later steps go: they are of a
            course that the run has left.

    Raises:
        OSError: it could not be written; the previous checkpoint stands.
    """
    directory.mkdir(parents=True, exist_ok=True)
    contents = {
        _free_name(directory, f"tensors-{step}.safetensors"): _to_safetensors(tensors),
        _free_name(directory, f"state-{step}.json"): to_json(state),
    }
    files = {
        name: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        for name, data in contents.items()
    }
    manifest = _sealed({"format": _FORMAT, "step": step, "files": files})
    kept = _older(directory, before=step)[: keep - 1]
    try:
        for name, data in contents.items():
            write(directory / name, data)
        for older, data in kept:
            replace(directory / f"manifest-{older['step']}.json", data)
        replace(directory / MANIFEST, manifest)
    except OSError as error:
        for name in contents:
            (directory / name).unlink(missing_ok=True)
        size = sum(map(len, contents.values()))
        raise OSError(
            error.errno, f"checkpoint of {size:,} bytes not saved: {error.strerror}", str(directory)
        ) from error
    sync_directory(directory)
    _prune(directory, kept=[MANIFEST, *contents, *_names(older for older, _ in kept)])


def _to_safetensors(tensors: Mapping[str, Tensor]) -> bytes:
    # copies, because parameters are views of one vector and shared modules appear twice
    whole = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in tensors.items()
    }
    return safetensors.torch.save(whole)


def load_checkpoint(directory: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read the newest whole checkpoint's tensors and state, after verifying every byte.

    Warns where a newer one is damaged.

    Raises:
        DamagedCheckpoint: none is whole.
    """
    older = sorted(
        (path for path in directory.glob("manifest-*.json") if _OLDER.fullmatch(path.name)),
        key=lambda path: -int(path.stem.partition("-")[2]),
    )
    damage: list[DamagedCheckpoint] = []
    for path in (directory / MANIFEST, *older):
        try:
            loaded = _load(path)
        except DamagedCheckpoint as error:
            damage.append(error)
            continue
        if damage:
            warnings.warn(
                f"{damage[0]}; the one before it is used ({path.name})",
                RuntimeWarning,
                stacklevel=2,
            )
        return loaded
    raise damage[0]


def part_of(tensors: Mapping[str, Tensor], part: str) -> dict[str, Tensor]:
    """Select one part's tensors, under the names that it gave them."""
    prefix = f"{part}."
    return {key[len(prefix) :]: value for key, value in tensors.items() if key.startswith(prefix)}


def roll_back(directory: Path, step: int) -> bool:
    """Make the checkpoint of `step` the newest, dropping later ones; False where it is gone."""
    for manifest, data in _older(directory, before=step + 1):
        if manifest["step"] == step:
            replace(directory / MANIFEST, data)
            sync_directory(directory)
            return True
    return False


def _load(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read the checkpoint of one manifest."""
    directory = path.parent
    try:
        manifest = _manifest(path)
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
        raise DamagedCheckpoint(f"{path} is damaged: {error}") from error


def _sealed(content: Mapping[str, Any]) -> bytes:
    """Encode a manifest together with its own sum."""
    return to_json({**content, "sha256": hashlib.sha256(to_json(content)).hexdigest()})


def _manifest(path: Path) -> dict[str, Any]:
    """Read a manifest, every byte of which must be as it was written."""
    data = path.read_bytes()
    manifest: dict[str, Any] = json.loads(data)
    content = {key: value for key, value in manifest.items() if key != "sha256"}
    if _sealed(content) != data:
        raise DamagedCheckpoint(f"{path} is damaged: its SHA-256 is not the one it names")
    if manifest["format"] != _FORMAT:
        raise DamagedCheckpoint(
            f"{path} has format {manifest['format']}, this version reads format {_FORMAT}"
        )
    return manifest


def _verified(directory: Path, files: Mapping[str, Mapping[str, Any]], kind: str) -> bytes:
    """Read the one file of a kind that the manifest names; nothing outside of `directory`."""
    (name,) = (name for name in files if re.fullmatch(rf"{kind}-[\w-]+\.\w+", name))
    path = directory / name
    if path.stat().st_size != files[name]["bytes"]:  # before it is read
        raise DamagedCheckpoint(f"{path} is damaged: its size is not the one in {MANIFEST}")
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != files[name]["sha256"]:
        raise DamagedCheckpoint(f"{path} is damaged: its SHA-256 is not the one in {MANIFEST}")
    return data


def _older(directory: Path, *, before: int) -> list[tuple[dict[str, Any], bytes]]:
    """List readable manifests of earlier steps, latest first, once each."""
    found: dict[int, tuple[dict[str, Any], bytes]] = {}
    for path in (*directory.glob("manifest-*.json"), directory / MANIFEST):
        try:
            manifest, data = _manifest(path), path.read_bytes()
        except (OSError, ValueError, LookupError, TypeError, AttributeError):
            continue
        if manifest["step"] < before:
            found[manifest["step"]] = manifest, data
    return [found[step] for step in sorted(found, reverse=True)]


def _names(manifests: Iterable[Mapping[str, Any]]) -> list[str]:
    """Name the manifests kept beside the newest, and their files."""
    return [
        name
        for manifest in manifests
        for name in (f"manifest-{manifest['step']}.json", *manifest["files"])
    ]


def _prune(directory: Path, *, kept: Iterable[str]) -> None:
    """Remove what no manifest names any more."""
    names = set(kept)
    for path in directory.iterdir():
        if path.name not in names:
            path.unlink()


def _free_name(directory: Path, name: str) -> str:
    """Return `name`, or a variant of it that no file has yet."""
    stem, suffix = os.path.splitext(name)
    candidate, attempt = name, 1
    while (directory / candidate).exists():
        candidate, attempt = f"{stem}-{attempt}{suffix}", attempt + 1
    return candidate
