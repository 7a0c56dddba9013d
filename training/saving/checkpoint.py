"""Checkpoints: pickle-free, checksummed, replaced atomically, with older ones as fallback.

A checkpoint is a manifest that lists its files with sizes and SHA-256 sums, and has a checksum of
its own. `manifest.json` is the newest; older ones are `manifest-<step>.json`. New
files never overwrite those that a manifest names, and `manifest.json` is replaced last, in one
rename: whenever the process dies, the directory holds a complete checkpoint. Chunks are files that
several checkpoints share.
"""

import hashlib
import json
import os
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from training.saving.files import (
    FORMAT,
    MANIFEST,
    UNREADABLE,
    DamagedCheckpoint,
    Entry,
    files_of,
    manifests,
    older_manifests,
    older_name,
    read_manifest,
    read_verified,
    replace,
    sealed,
    sync_directory,
    verify,
    write,
)

Chunk = Callable[[], Mapping[str, Tensor]]
_FILE = re.compile(r"chunk-[\w-]+\.safetensors")


class SavedChunks(Mapping[str, dict[str, Tensor]]):
    """The chunks of one checkpoint, each read and verified on access.

    One chunk fits into memory beside the replay buffer; all of them may not.

    Attributes:
        entries: manifest entries of the files, by chunk name.
    """

    def __init__(self, directory: Path, entries: Mapping[str, Entry]) -> None:
        """Read a manifest's entries.

        Raises:
            DamagedCheckpoint: a file would be outside the directory.
        """
        for entry in entries.values():
            if not _FILE.fullmatch(entry["file"]):
                raise DamagedCheckpoint(f"{directory}: no name of a chunk: {entry['file']!r}")
        self._directory, self.entries = directory, dict(entries)

    def __getitem__(self, name: str) -> dict[str, Tensor]:
        """Read a chunk; raises `DamagedCheckpoint` if it has changed since `verify`."""
        entry = self.entries[name]
        return safetensors.torch.load(read_verified(self._directory / entry["file"], entry))

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names in the order saved."""
        return iter(self.entries)

    def __len__(self) -> int:
        """Count them."""
        return len(self.entries)

    def verify(self) -> None:
        """Read and check every byte, without keeping any.

        Raises:
            DamagedCheckpoint: a chunk is not as it was written.
            OSError: a chunk cannot be read.
        """
        for entry in self.entries.values():
            verify(self._directory / entry["file"], entry)


def file_of(name: str) -> str:
    """Name the file of a chunk, before making the name unique.

    Raises:
        ValueError: the chunk's name cannot be part of a file name.
    """
    file = f"chunk-{name}.safetensors"
    if not _FILE.fullmatch(file):
        raise ValueError(f"a chunk's name has letters, digits, _ and -; got {name!r}")
    return file


def to_safetensors(tensors: Mapping[str, Tensor]) -> bytes:
    """Encode tensors by name."""
    # copies, because parameters are views of one vector and shared modules appear twice
    whole = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in tensors.items()
    }
    return safetensors.torch.save(whole)


@dataclass(frozen=True)
class Checkpoint:
    """A complete checkpoint in a directory; its chunks are still on disk."""

    directory: Path
    tensors: dict[str, Tensor]
    state: dict[str, Any]
    chunks: SavedChunks


def save_checkpoint(
    directory: Path,
    *,
    tensors: Mapping[str, Tensor],
    state: Mapping[str, Any],
    step: int,
    keep: int = 1,
    chunks: Mapping[str, Chunk] | None = None,
    known: Mapping[str, Entry] | None = None,
) -> dict[str, Entry]:
    """Publish a checkpoint in `directory` as the newest one.

    Args:
        tensors: by name; saved as safetensors.
        state: plain numbers, strings, lists and dicts; saved as JSON.
        step: environment steps, part of the file names.
        keep: how many checkpoints to keep, this one included. Those of later steps are removed:
            the run has gone back before them.
        chunks: by name; read and written unless known.
        known: the chunks that this process wrote, or resumed from: the result of the last call, or
            the `entries` of the checkpoint it opened.

    Returns:
        The chunks of this checkpoint, to pass as `known` next.

    Raises:
        OSError: it could not be written; the previous checkpoint stands.
    """
    directory.mkdir(parents=True, exist_ok=True)
    own = {
        f"tensors-{step}.safetensors": to_safetensors(tensors),
        f"state-{step}.json": json.dumps(state).encode(),
    }
    chunks, known = chunks or {}, known or {}
    there = {name: known[name] for name in chunks if _is_there(directory, known.get(name))}
    missing = {name: file_of(name) for name in chunks if name not in there}
    older = older_manifests(directory, before=step)[: keep - 1]
    written: list[Path] = []
    try:
        for name, file in missing.items():  # one at a time: together they may not fit into memory
            there[name] = _write_new(directory / file, to_safetensors(chunks[name]()), written)
        entries = [_write_new(directory / name, data, written) for name, data in own.items()]
        for manifest, data in older:  # the newest does not need it
            replace(directory / older_name(manifest), data, wait=False)
        files = {entry.pop("file"): entry for entry in entries}
        newest: dict[str, Any] = {"format": FORMAT, "step": step, "files": files}
        if chunks:
            newest["chunks"] = {name: there[name] for name in chunks}
        replace(directory / MANIFEST, sealed(newest))
    except OSError as error:
        for path in written:
            path.unlink(missing_ok=True)
        size = sum(map(len, own.values()))
        size += sum(tensor.nbytes for name in missing for tensor in chunks[name]().values())
        raise OSError(
            error.errno, f"checkpoint of {size:,} bytes not saved: {error.strerror}", str(directory)
        ) from error
    sync_directory(directory)
    _prune(directory, newest, [manifest for manifest, _ in older])
    return there


def _is_there(directory: Path, entry: Entry | None) -> bool:
    """Tell whether a known file still stands, judged by its size."""
    if entry is None:
        return False
    path = directory / entry["file"]
    return path.is_file() and path.stat().st_size == int(entry["bytes"])


def _write_new(path: Path, data: bytes, written: list[Path]) -> dict[str, Any]:
    """Write a file under a free name, wait until it is on disk, and describe it.

    Args:
        written: gets its path before anything is written.
    """
    free, attempt = path, 0
    while os.path.lexists(free):
        attempt += 1
        free = path.with_stem(f"{path.stem}-{attempt}")
    written.append(free)
    write(free, data)
    return {"file": free.name, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def load_checkpoint(directory: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read the newest intact checkpoint's tensors and state, after verifying every byte.

    Warns if a newer one is damaged. Chunks are not read.

    Raises:
        DamagedCheckpoint: none is whole.
    """
    found = open_checkpoint(directory, with_chunks=False)
    return found.tensors, found.state


def open_checkpoint(directory: Path, *, with_chunks: bool = True) -> Checkpoint:
    """Open the newest checkpoint that is intact with its chunks, after verifying every byte.

    Warns if a newer one is damaged.

    Raises:
        DamagedCheckpoint: none is whole.
    """
    damage: list[DamagedCheckpoint] = []
    for path in manifests(directory):
        try:
            found = _read(path, with_chunks=with_chunks)
        except DamagedCheckpoint as error:
            damage.append(error)
            continue
        if damage:
            message = f"{damage[0]}; the one before it is used ({path.name})"
            warnings.warn(message, RuntimeWarning, stacklevel=3)
        return found
    rest = f"; none of the {len(damage)} checkpoints there is whole" if damage[1:] else ""
    raise DamagedCheckpoint(f"{damage[0]}{rest}") from damage[0]


def _read(path: Path, *, with_chunks: bool) -> Checkpoint:
    """Read and verify what a manifest lists; any error means damage."""
    try:
        manifest = read_manifest(path)
        tensors, state = (
            _verified(path.parent, manifest["files"], k) for k in ("tensors", "state")
        )
        chunks = SavedChunks(path.parent, manifest.get("chunks", {}) if with_chunks else {})
        chunks.verify()
        return Checkpoint(path.parent, safetensors.torch.load(tensors), json.loads(state), chunks)
    except DamagedCheckpoint:
        raise
    except FileNotFoundError as error:
        missing = Path(error.filename).name
        raise DamagedCheckpoint(f"no checkpoint in {path.parent}: {missing} is missing") from error
    except (*UNREADABLE, SafetensorError) as error:
        raise DamagedCheckpoint(f"{path} is damaged: {error}") from error


def _verified(directory: Path, files: Mapping[str, Entry], kind: str) -> bytes:
    """Read the one file of a kind that the manifest lists, only inside `directory`."""
    (name,) = (name for name in files if re.fullmatch(rf"{kind}-[\w-]+\.\w+", name))
    return read_verified(directory / name, files[name])


def prefixed(part: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Prefix tensor names with their part's name; `part_of` removes it."""
    return {f"{part}.{name}": tensor for name, tensor in tensors.items()}


def part_of(tensors: Mapping[str, Tensor], part: str) -> dict[str, Tensor]:
    """Select one part's tensors, without the part's prefix."""
    prefix = f"{part}."
    return {key[len(prefix) :]: value for key, value in tensors.items() if key.startswith(prefix)}


def roll_back(directory: Path, step: int) -> bool:
    """Make the checkpoint of `step` the newest, dropping later ones; False if it is gone."""
    for manifest, data in older_manifests(directory, before=step + 1):
        if manifest["step"] == step:
            replace(directory / MANIFEST, data)
            sync_directory(directory)
            return True
    return False


def _prune(directory: Path, newest: Mapping[str, Any], older: Sequence[Mapping[str, Any]]) -> None:
    """Remove files that no manifest lists any more."""
    kept = {MANIFEST, *map(older_name, older)}
    kept.update(file for manifest in (newest, *older) for file in files_of(manifest))
    for path in directory.iterdir():
        if path.name not in kept:
            path.unlink()
