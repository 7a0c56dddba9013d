"""Devices that this machine cannot have, told without importing torch."""

import sys
from pathlib import Path

_DRIVERS = ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd")  # NVIDIA, Windows' Linux, AMD


def refuse_missing_device(name: str) -> None:
    """Refuse a GPU on a Linux machine without any GPU driver; torch has the last word elsewhere.

    Raises:
        ValueError: there is no such device.
    """
    has_driver = any(Path(driver).exists() for driver in _DRIVERS)
    if name.startswith("cuda") and sys.platform == "linux" and not has_driver:
        raise ValueError(f"device={name}: this machine has no CUDA device; use device=cpu")
