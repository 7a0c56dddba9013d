"""Reads tensors by name from what runs, pre-training and others leave; runs nothing of it."""

import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from training.checkpoint import load_checkpoint

_PLACES = ("checkpoints/last", "pretraining/weights", "weights", "")
"""Where a directory may keep its checkpoint: a run, what was pre-trained, a checkpoint itself."""
_PICKLED = b"\x80"
"""The first byte of a pickle, as torch wrote files before it used archives."""


def read_tensors(key: str, source: Path) -> dict[str, Tensor]:
    """Read every tensor under `source` by its name.

    Args:
        key: of the configuration that names `source`, for messages.
        source: a run (its last checkpoint), what `pretrain.py` wrote, a checkpoint's directory, a
            safetensors file, or a file of `torch.save` that holds tensors only.

    Raises:
        ValueError: nothing is there, or it is damaged, or it would have to be executed.
    """
    if source.is_dir():
        return _read_directory(key, source)[0]
    if not source.is_file():
        raise ValueError(
            f"{key}={source}: nothing is there; expected a run, a checkpoint or a .safetensors file"
        )
    try:
        is_of_torch = zipfile.is_zipfile(source) or _starts_with(source, _PICKLED)
        return _read_torch(key, source) if is_of_torch else safetensors.torch.load_file(source)
    except (OSError, SafetensorError) as error:
        raise ValueError(
            f"{key}={source}: cannot be read as a run or a safetensors file: {error}"
        ) from error


def frames_behind(source: Path) -> int:
    """Tell how many environment steps pre-training took for the weights there; 0 for all else."""
    try:
        _, state = _read_directory("", source)
        if "progression" in state:  # a run
            return int(state["progression"]["pretraining_env_steps"])
        return int(state["pretraining"]["env_steps"]) + int(state.get("earlier_env_steps", 0))
    except (ValueError, KeyError, TypeError, OverflowError):
        return 0


def _read_directory(key: str, source: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    for place in _PLACES:
        if any((source / place).glob("manifest*.json")):
            return load_checkpoint(source / place)
    raise ValueError(f"{key}={source}: neither a run nor a checkpoint is there")


def _starts_with(path: Path, beginning: bytes) -> bool:
    with path.open("rb") as file:
        return file.read(len(beginning)) == beginning


def _read_torch(key: str, source: Path) -> dict[str, Tensor]:
    try:
        return dict(_tensors(torch.load(source, map_location="cpu", weights_only=True)))
    except Exception as error:  # whatever the file makes the restricted loader stumble over
        raise ValueError(
            f"{key}={source}: not loaded, as it holds more than tensors (or is damaged), and "
            "reading that would run code from it; save the state_dict() alone, best as safetensors"
        ) from error


def _tensors(node: Any, name: str = "") -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors of nested mappings, their names joined by dots."""
    if isinstance(node, Mapping):
        for key, value in node.items():
            yield from _tensors(value, f"{name}.{key}" if name else str(key))
    elif isinstance(node, Tensor):
        yield name, node
