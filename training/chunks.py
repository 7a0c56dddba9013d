"""Chunks: what a checkpoint holds that never changes, written once and named from then on.

A manifest lists chunks by name, each with its file. Only what this process wrote itself, or went on
from, is named again: after a return to an older checkpoint, a file of the right name may be of the
course that was left.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor

from training.manifests import DamagedCheckpoint, Entry, read_verified, verify

Chunk = Callable[[], Mapping[str, Tensor]]
_FILE = re.compile(r"chunk-[\w-]+\.safetensors")


class SavedChunks(Mapping[str, dict[str, Tensor]]):
    """The chunks of one checkpoint, read and verified whenever one is looked up.

    One of them fits into memory beside what is made of them; all of them may not.

    Attributes:
        entries: of the files, by the chunks' names.
    """

    def __init__(self, directory: Path, entries: Mapping[str, Entry]) -> None:
        """Take what a manifest says of them.

        Raises:
            DamagedCheckpoint: a file would lie elsewhere.
        """
        for entry in entries.values():
            if not _FILE.fullmatch(entry["file"]):
                raise DamagedCheckpoint(f"{directory}: no name of a chunk: {entry['file']!r}")
        self._directory, self.entries = directory, dict(entries)

    def __getitem__(self, name: str) -> dict[str, Tensor]:
        """Read one; raises `DamagedCheckpoint` where it has changed since `verify`."""
        entry = self.entries[name]
        return safetensors.torch.load(read_verified(self._directory / entry["file"], entry))

    def __iter__(self) -> Iterator[str]:
        """Go through the names as they were saved."""
        return iter(self.entries)

    def __len__(self) -> int:
        """Count them."""
        return len(self.entries)

    def verify(self) -> None:
        """Read every byte of all of them, and keep none.

        Raises:
            DamagedCheckpoint: one is not what was written.
            OSError: one cannot be read.
        """
        for entry in self.entries.values():
            verify(self._directory / entry["file"], entry)


def file_of(name: str) -> str:
    """Name the file of a chunk, as far as no other has that name.

    Raises:
        ValueError: the chunk's own name cannot be part of one.
    """
    file = f"chunk-{name}.safetensors"
    if not _FILE.fullmatch(file):
        raise ValueError(f"a chunk's name has letters, digits, _ and -; got {name!r}")
    return file


def still_there(
    directory: Path, chunks: Mapping[str, Chunk], known: Mapping[str, Entry]
) -> dict[str, Entry]:
    """Return those of the known files that hold one of these chunks, as far as sizes tell."""
    found = {}
    for name in chunks.keys() & known.keys():
        with suppress(OSError):
            if (directory / known[name]["file"]).stat().st_size == known[name]["bytes"]:
                found[name] = known[name]
    return found


def to_safetensors(tensors: Mapping[str, Tensor]) -> bytes:
    """Encode tensors by name."""
    # copies, because parameters are views of one vector and shared modules appear twice
    whole = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in tensors.items()
    }
    return safetensors.torch.save(whole)


def bytes_of(chunk: Chunk) -> int:
    """Tell how many bytes of numbers a chunk has, without encoding it."""
    return sum(tensor.numel() * tensor.element_size() for tensor in chunk().values())
