"""Checkpoints: pickle-free, checksummed, replaced atomically, with older ones as fallback.

A checkpoint is a manifest that lists its files, and has a checksum of its own. `manifest.json` is
the newest; older ones are `manifest-<step>.json`. Every other file has the SHA-256 sum of its
content in its name: whoever reads it can verify it, and new content never overwrites other content.
`manifest.json` is replaced last, in one rename: whenever the process dies, the directory holds a
complete checkpoint. Chunks are files that several checkpoints share.
"""

import json
import os
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from conf.composing.stored import read_bytes
from training.saving.files import replace, sync_directory, to_json

FORMAT = 4
MANIFEST = "manifest.json"
_OLDER = re.compile(r"manifest-(\d+)\.json")
_FILE = re.compile(r"(?:tensors|state|chunk)-[\w-]+-([0-9a-f]{64})\.\w+", re.ASCII)
_UNREADABLE = (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError)
"""Errors of reading content that is not what was written."""

Tensors = Mapping[str, Tensor]
Chunk = Callable[[], Tensors]
Entry = Sequence[Any]
"""A file in a manifest: its name and its number of bytes."""


class DamagedCheckpoint(ValueError):
    """A checkpoint is missing, incomplete, or not what was written."""


class SavedChunks(Mapping[str, dict[str, Tensor]]):
    """The chunks of one checkpoint, each read and verified on access.

    One chunk fits into memory beside the replay buffer; all of them may not.

    Attributes:
        entries: of the manifest, by chunk name.
    """

    def __init__(self, directory: Path, entries: Mapping[str, Entry]) -> None:
        """Take a manifest's entries."""
        self._directory, self.entries = directory, dict(entries)

    def __getitem__(self, name: str) -> dict[str, Tensor]:
        """Read a chunk; raises `DamagedCheckpoint` if it is not as it was written."""
        return safetensors.torch.load(read_verified(self._directory, self.entries[name]))

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names in the order saved."""
        return iter(self.entries)

    def __len__(self) -> int:
        """Count them."""
        return len(self.entries)


@dataclass(frozen=True)
class Checkpoint:
    """A complete checkpoint in a directory; its chunks are still on disk."""

    directory: Path
    tensors: dict[str, Tensor]
    state: dict[str, Any]
    chunks: SavedChunks


def to_safetensors(tensors: Tensors) -> bytes:
    """Encode tensors by name."""
    # copies, because parameters are views of one vector and shared modules appear twice
    form = torch.contiguous_format
    whole = {name: t.detach().cpu().clone(memory_format=form) for name, t in tensors.items()}
    return safetensors.torch.save(whole)


def save_checkpoint(
    directory: Path,
    *,
    tensors: Tensors,
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
    chunks, known = chunks or {}, known or {}
    own = {"tensors": to_safetensors(tensors), "state": json.dumps(state).encode()}
    entries = {name: known[name] for name in chunks if _stands(directory, known.get(name))}
    missing = [name for name in chunks if name not in entries]
    older = older_manifests(directory, before=step)[: keep - 1]
    fresh: list[Path] = []
    try:
        for name in missing:  # one at a time: together they may not fit into memory
            entries[name] = _put(directory, f"chunk-{name}", to_safetensors(chunks[name]()), fresh)
        files = {kind: _put(directory, f"{kind}-{step}", data, fresh) for kind, data in own.items()}
        for manifest in older:  # the newest does not need it
            replace(directory / _older_name(manifest), to_json(manifest), wait=False)
        entries = {name: entries[name] for name in chunks}  # in their order
        newest = {"format": FORMAT, "step": step, "files": files, "chunks": entries}
        replace(directory / MANIFEST, sealed(newest))
    except OSError as error:
        for path in fresh:
            path.unlink(missing_ok=True)
        size = sum(tensor.nbytes for name in missing for tensor in chunks[name]().values())
        size += sum(map(len, own.values()))
        problem = f"checkpoint of {size:,} bytes not saved: {error.strerror}"
        raise OSError(error.errno, problem, str(directory)) from error
    sync_directory(directory)
    kept = {MANIFEST, *map(_older_name, older)}
    kept.update(name for manifest in (newest, *older) for name in files_of(manifest))
    for path in directory.iterdir():
        if path.name not in kept:
            path.unlink()
    return entries


def _stands(directory: Path, entry: Entry | None) -> bool:
    """Tell whether a known file is still there, judged by its size."""
    path = directory / (entry[0] if entry else "")
    return entry is not None and path.is_file() and path.stat().st_size == entry[1]


def _put(directory: Path, label: str, data: bytes, fresh: list[Path]) -> Entry:
    """Write content under its own name, and wait until it is on disk.

    Args:
        label: letters, digits, _ and -.
        fresh: gets the path before anything is written, unless there is such a file.
    """
    suffix = "json" if label.startswith("state") else "safetensors"
    path = directory / f"{label}-{sha256(data).hexdigest()}.{suffix}"
    if not os.path.lexists(path):
        fresh.append(path)
    replace(path, data)
    return path.name, len(data)


def load_checkpoint(directory: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read the newest intact checkpoint's tensors and state; errors as `open_checkpoint`."""
    found = open_checkpoint(directory, with_chunks=False)
    return found.tensors, found.state


def open_checkpoint(directory: Path, *, with_chunks: bool = True) -> Checkpoint:
    """Open the newest checkpoint that is intact with its chunks, after verifying every byte.

    Warns if a newer one is damaged.

    Raises:
        DamagedCheckpoint: none is whole.
    """
    damage: list[DamagedCheckpoint] = []
    for path in (directory / MANIFEST, *older_paths(directory)):
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
    directory = path.parent
    try:
        manifest = read_manifest(path)
        files = manifest["files"]
        tensors, state = (read_verified(directory, files[kind]) for kind in ("tensors", "state"))
        chunks = SavedChunks(directory, manifest["chunks"] if with_chunks else {})
        for entry in chunks.entries.values():  # none is kept
            read_verified(directory, entry)
        return Checkpoint(directory, safetensors.torch.load(tensors), json.loads(state), chunks)
    except DamagedCheckpoint:
        raise
    except FileNotFoundError as error:
        missing = Path(error.filename).name
        raise DamagedCheckpoint(f"no checkpoint in {directory}: {missing} is missing") from error
    except (*_UNREADABLE, SafetensorError) as error:
        raise DamagedCheckpoint(f"{path} is damaged: {error}") from error


def read_verified(directory: Path, entry: Entry) -> bytes:
    """Read a file that a manifest lists, only inside `directory`.

    Raises:
        DamagedCheckpoint: it is not as it was written.
        OSError: it cannot be read.
    """
    (name, size), path = entry, directory / entry[0]
    told = _FILE.fullmatch(name)
    if told is None:
        raise DamagedCheckpoint(f"{directory / MANIFEST} is damaged: {name!r} names no file of one")
    # before reading: a pipe or a device may never end
    if path.stat().st_size != size or not path.is_file():
        raise DamagedCheckpoint(f"{path} is damaged: its size is not the one in {MANIFEST}")
    data = path.read_bytes()
    if sha256(data).hexdigest() != told[1]:
        raise DamagedCheckpoint(f"{path} is damaged: its SHA-256 is not the one in its name")
    return data


def sealed(content: Mapping[str, Any]) -> bytes:
    """Encode a manifest with its own checksum."""
    return to_json({**content, "sha256": sha256(to_json(content)).hexdigest()})


def read_manifest(path: Path) -> dict[str, Any]:
    """Read a manifest and verify its checksum.

    Raises:
        DamagedCheckpoint: it is damaged or of another format.
    """
    data = read_bytes(path)
    manifest: dict[str, Any] = json.loads(data)
    if sealed({key: value for key, value in manifest.items() if key != "sha256"}) != data:
        raise DamagedCheckpoint(f"{path} is damaged: its SHA-256 is not the one it names")
    if manifest["format"] != FORMAT:
        reads = f"this version reads format {FORMAT}: use the version that wrote it, or train again"
        raise DamagedCheckpoint(f"{path} has format {manifest['format']}, {reads}")
    if type(manifest["step"]) is not int:  # it becomes part of names
        raise DamagedCheckpoint(f"{path} is damaged: its step is {manifest['step']!r}")
    return manifest


def older_paths(directory: Path) -> list[Path]:
    """List the paths of older manifests, latest first."""
    steps = {int(m[1]): p for p in directory.glob("*") if (m := _OLDER.fullmatch(p.name))}
    return [steps[step] for step in sorted(steps, reverse=True)]


def older_manifests(directory: Path, *, before: int) -> list[dict[str, Any]]:
    """List readable manifests of earlier steps, latest first, once each."""
    found: dict[int, dict[str, Any]] = {}
    for path in (*older_paths(directory), directory / MANIFEST):
        with suppress(*_UNREADABLE):
            manifest = read_manifest(path)
            found[manifest["step"]] = manifest
    return [found[step] for step in sorted(found, reverse=True) if step < before]


def _older_name(manifest: Mapping[str, Any]) -> str:
    return f"manifest-{manifest['step']}.json"


def files_of(manifest: Mapping[str, Any]) -> list[str]:
    """Name the files of a checkpoint, chunks included."""
    return [name for group in ("files", "chunks") for name, _ in manifest[group].values()]


def roll_back(directory: Path, step: int) -> bool:
    """Make the checkpoint of `step` the newest, dropping later ones; False if it is gone."""
    for manifest in older_manifests(directory, before=step + 1)[:1]:
        if manifest["step"] == step:
            replace(directory / MANIFEST, to_json(manifest))
            sync_directory(directory)
            return True
    return False


def prefixed(part: str, tensors: Tensors) -> dict[str, Tensor]:
    """Prefix tensor names with their part's name; `part_of` removes it."""
    return {f"{part}.{name}": tensor for name, tensor in tensors.items()}


def part_of(tensors: Tensors, part: str) -> dict[str, Tensor]:
    """Select one part's tensors, without the part's prefix."""
    prefix = f"{part}."
    return {key[len(prefix) :]: value for key, value in tensors.items() if key.startswith(prefix)}
