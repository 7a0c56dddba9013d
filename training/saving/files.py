"""Manifests: the files of a checkpoint with sizes and checksums, and a checksum of its own."""

import hashlib
import json
import os
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from conf.composing.stored import read_bytes


def to_json(content: Mapping[str, Any]) -> bytes:
    """Encode numbers, strings, lists and dicts, readably; equal content gives equal bytes."""
    return json.dumps(content, indent=1).encode()


def write(path: Path, data: bytes, *, wait: bool = True) -> None:
    """Write a new file, never through a link of that name; wait until it is on disk."""
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


MANIFEST = "manifest.json"
FORMAT = 2
_OLDER = re.compile(r"manifest-(\d+)\.json")
UNREADABLE = (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError)
"""Errors of reading content that is not what was written."""

Entry = Mapping[str, Any]
"""A manifest's entry of a file: `bytes` and `sha256`; for a chunk, also `file`."""


class DamagedCheckpoint(ValueError):
    """A checkpoint is missing, incomplete, or not what was written."""


def older_name(manifest: Mapping[str, Any]) -> str:
    """Name a manifest that is no longer the newest."""
    return f"manifest-{manifest['step']}.json"


def sealed(content: Mapping[str, Any]) -> bytes:
    """Encode a manifest with its own checksum."""
    return to_json({**content, "sha256": hashlib.sha256(to_json(content)).hexdigest()})


def read_manifest(path: Path) -> dict[str, Any]:
    """Read a manifest and verify its checksum.

    Raises:
        DamagedCheckpoint: it is damaged or of another format.
    """
    data = read_bytes(path)
    manifest: dict[str, Any] = json.loads(data)
    content = {key: value for key, value in manifest.items() if key != "sha256"}
    if sealed(content) != data:
        raise DamagedCheckpoint(f"{path} is damaged: its SHA-256 is not the one it names")
    if manifest["format"] != FORMAT:
        raise DamagedCheckpoint(
            f"{path} has format {manifest['format']}, this version reads format {FORMAT}"
        )
    if type(manifest["step"]) is not int:  # it becomes part of names
        raise DamagedCheckpoint(f"{path} is damaged: its step is {manifest['step']!r}")
    return manifest


def has_checkpoint(directory: Path) -> bool:
    """Tell whether a directory holds a checkpoint, intact or not."""
    return any(directory.glob("manifest*.json"))


def manifests(directory: Path) -> list[Path]:
    """List the paths of manifests, newest first; the newest may be missing."""
    older = (path for path in directory.glob("manifest-*.json") if _OLDER.fullmatch(path.name))
    return [
        directory / MANIFEST,
        *sorted(older, key=lambda path: -int(path.stem.partition("-")[2])),
    ]


def older_manifests(directory: Path, *, before: int) -> list[tuple[dict[str, Any], bytes]]:
    """List readable manifests of earlier steps with their bytes, latest first, once each."""
    found: dict[int, tuple[dict[str, Any], bytes]] = {}
    for path in (*directory.glob("manifest-*.json"), directory / MANIFEST):
        try:
            manifest, data = read_manifest(path), path.read_bytes()
        except UNREADABLE:
            continue
        if manifest["step"] < before:
            found[manifest["step"]] = manifest, data
    return [found[step] for step in sorted(found, reverse=True)]


def files_of(manifest: Mapping[str, Any]) -> list[str]:
    """Name the files of a checkpoint, chunks included."""
    return [*manifest["files"], *(entry["file"] for entry in manifest.get("chunks", {}).values())]


_BLOCK = 1 << 20


def read_verified(path: Path, entry: Entry) -> bytes:
    """Read a file and verify its checksum.

    Raises:
        DamagedCheckpoint: it is not as it was written.
        OSError: it cannot be read.
    """
    _check_size(path, entry)
    data = path.read_bytes()
    _check_sum(path, entry, hashlib.sha256(data).hexdigest())
    return data


def verify(path: Path, entry: Entry) -> None:
    """Verify a file block by block without keeping it; errors as `read_verified`."""
    _check_size(path, entry)
    total = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            total.update(block)
    _check_sum(path, entry, total.hexdigest())


def _check_size(path: Path, entry: Entry) -> None:
    # before reading: a pipe or a device may never end
    if path.stat().st_size != entry["bytes"] or not path.is_file():
        raise DamagedCheckpoint(f"{path} is damaged: its size is not the one in {MANIFEST}")


def _check_sum(path: Path, entry: Entry, found: str) -> None:
    if found != entry["sha256"]:
        raise DamagedCheckpoint(f"{path} is damaged: its SHA-256 is not the one in {MANIFEST}")
