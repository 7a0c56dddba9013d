"""Free and peak memory of this process, and glibc's settings for keeping what it frees."""

import ctypes
import mmap
import sys
from pathlib import Path

# Of glibc's <malloc.h>.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3
_MIB = 2**20


def keep_freed_memory() -> None:
    """Reuse freed blocks of up to 32 MiB, and keep up to 256 MiB of them; on glibc only.

    By default glibc maps blocks of more than 128 KiB one by one and unmaps them when they are
    freed. Every tensor of some megabytes, such as a minibatch of images or its feature maps, then
    costs a page fault for each 4 KiB: 11-17% of the time of a gradient step on images (measured:
    130,000 faults in two epochs of PPO with NatureCNN on Pong, 2 with these settings).

    The memory for them is asked for at once, in pages of 2 MiB where Linux has these on request: a
    gradient step on images looks up many addresses, and with pages of 4 KiB the processor waits for
    the lookups. Larger blocks get such pages from PyTorch (`configure_torch`).

    Larger blocks are still mapped and returned one by one, and what is free at the end of the heap
    beyond 256 MiB is returned, so that a process never keeps much more than it needs.
    """
    if not sys.platform.startswith("linux"):
        return
    library = ctypes.CDLL(None)
    if hasattr(library, "gnu_get_libc_version"):
        library.mallopt(_MMAP_THRESHOLD, 32 * _MIB)  # the largest value that glibc takes
        library.mallopt(_TRIM_THRESHOLD, 256 * _MIB)
        library.mallopt(_TOP_PAD, 256 * _MIB)
        library.sbrk.restype = library.malloc.restype = ctypes.c_void_p
        library.madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
        library.free.argtypes = (ctypes.c_void_p,)
        begin = library.sbrk(0)
        library.free(library.malloc(31 * _MIB))  # moves the heap's end
        library.madvise(begin, library.sbrk(0) - begin, mmap.MADV_HUGEPAGE)


_STATUS = Path("/proc/self/status")


def peak_memory() -> float | None:
    """Return the largest resident memory of this process so far, in MiB; None if unknown.

    Linux's own count comes first: `getrusage` gives a process the peak of the one that started it.
    """
    peak = _kibibytes(_STATUS, "VmHWM:")
    if peak is not None:
        return peak / 1024
    try:
        import resource
    except ImportError:  # Windows
        return None
    unit = 1 if sys.platform == "darwin" else 1024  # bytes per unit
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / _MIB


_CGROUP = Path("/sys/fs/cgroup")
_MEMINFO = Path("/proc/meminfo")


def free_memory() -> int | None:
    """Return how many bytes this process can still allocate; None if unknown.

    A container's limit counts if it is lower.
    """
    available = _kibibytes(_MEMINFO, "MemAvailable:")
    found = [available and available * 1024, _free_in_container()]
    return min((size for size in found if size is not None), default=None)


def _kibibytes(file: Path, field: str) -> int | None:
    """Read a line `field size kB` of a file of Linux's; None if there is none."""
    try:
        lines = file.read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) for line in lines if line.startswith(field)), None)


def _free_in_container() -> int | None:
    """Read the limit of the control group."""
    try:
        most = (_CGROUP / "memory.max").read_text().strip()
        taken = int((_CGROUP / "memory.current").read_text())
        counts = dict(map(str.split, (_CGROUP / "memory.stat").read_text().splitlines()))
    except (OSError, ValueError):
        return None
    # The kernel reclaims the page cache first.
    return None if most == "max" else max(0, int(most) - taken + int(counts["inactive_file"]))
