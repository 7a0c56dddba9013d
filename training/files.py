"""Files that survive a crash: on disk before they are named, replaced in one rename."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def to_json(content: Mapping[str, Any]) -> bytes:
    """Encode plain numbers, strings, lists and dicts; equal content gives equal bytes."""
    return json.dumps(content, indent=1).encode()


def write(path: Path, data: bytes) -> None:
    """Write a new file, through no link that has its name, and wait until it is on disk."""
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def replace(path: Path, data: bytes) -> None:
    """Put new content under a name in one rename; readers see the old or the new, never a part."""
    temporary = path.with_name(f"{path.name}.new")
    try:
        if os.path.lexists(temporary):  # of a process that died, or a link to elsewhere
            temporary.unlink()
        write(temporary, data)
        os.replace(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def sync_directory(directory: Path) -> None:
    """Wait until the names in a directory are on disk."""
    if os.name != "posix":  # Windows cannot open directories
        return
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
