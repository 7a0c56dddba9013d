"""Keeps what was collected on disk: named tensors in pieces, each with its sums, the last one last.

A recording is whole or not there: what is damaged or cut is collected again.
"""

import shutil
from collections.abc import Mapping
from math import ceil
from pathlib import Path
from typing import Any

from torch import Tensor

from training.checkpoint import DamagedCheckpoint, load_checkpoint, save_checkpoint

_PIECE = 64 * 2**20
"""Bytes of one piece, about: as much is held twice while it is written or read."""


def save_recording(
    directory: Path, tensors: Mapping[str, Tensor], state: Mapping[str, Any]
) -> None:
    """Write tensors, along their first dimension in pieces.

    Args:
        state: plain numbers and text, kept beside them.

    Raises:
        OSError: it could not be written; nothing of it is left.
    """
    size = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    count = max(1, ceil(size / _PIECE))
    rows = {name: len(tensor) for name, tensor in tensors.items()}
    cut = {name: tensor.tensor_split(count) for name, tensor in tensors.items()}
    try:
        for index in range(count):
            save_checkpoint(
                _piece(directory, index),
                tensors={name: pieces[index] for name, pieces in cut.items()},
                state={"pieces": count, "rows": rows, "state": dict(state)},
                step=index,
            )
    except OSError:
        shutil.rmtree(directory, ignore_errors=True)
        raise


def load_recording(directory: Path) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """Read a recording; None where there is no whole one."""
    try:
        piece, state = load_checkpoint(_piece(directory, 0))
        whole = {
            name: tensor.new_empty(state["rows"][name], *tensor.shape[1:])
            for name, tensor in piece.items()
        }
        filled = dict.fromkeys(whole, 0)
        for index in range(state["pieces"]):
            if index > 0:
                piece, _ = load_checkpoint(_piece(directory, index))
            for name, tensor in piece.items():
                whole[name][filled[name] : filled[name] + len(tensor)] = tensor
                filled[name] += len(tensor)
    except DamagedCheckpoint:
        return None
    return whole, state["state"]


def _piece(directory: Path, index: int) -> Path:
    return directory / f"{index:05d}"
