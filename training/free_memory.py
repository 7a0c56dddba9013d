"""How much memory there is to take."""

from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")
_MEMINFO = Path("/proc/meminfo")


def free_memory() -> int | None:
    """Say how many bytes this process can still take; None where the system does not tell.

    What a container may take counts, where its limit is the narrower one.
    """
    found = [_free_in_machine(), _free_in_container()]
    return min((size for size in found if size is not None), default=None)


def _free_in_machine() -> int | None:
    try:
        lines = _MEMINFO.read_text().splitlines()
    except OSError:
        return None
    sizes = [line.split()[1] for line in lines if line.startswith("MemAvailable:")]
    return int(sizes[0]) * 1024 if sizes else None


def _free_in_container() -> int | None:
    """Read the limit of the control group, version 2 or 1."""
    for limit, used, statistics, cache in (
        ("memory.max", "memory.current", "memory.stat", "inactive_file"),
        (
            "memory/memory.limit_in_bytes",
            "memory/memory.usage_in_bytes",
            "memory/memory.stat",
            "total_inactive_file",
        ),
    ):
        try:
            most = (_CGROUP / limit).read_text().strip()
            taken = int((_CGROUP / used).read_text())
            counts = dict(line.split() for line in (_CGROUP / statistics).read_text().splitlines())
        except (OSError, ValueError):
            continue
        # The page cache is given up before anything else.
        return None if most == "max" else max(0, int(most) - taken + int(counts.get(cache, 0)))
    return None
