"""What a replay that does not fit into memory is told."""

_UNITS = ("bytes", "kB", "MB", "GB", "TB", "PB", "EB")


def refuse_too_large(
    *, buffer_size: int, needed: int, step_bytes: int, available: int | None
) -> None:
    """Refuse a replay that does not fit.

    Args:
        buffer_size: environment steps, over all environments.
        needed: bytes that they take, once all are there.
        step_bytes: of one.
        available: bytes of memory that are free; None where that is not known.

    Raises:
        ValueError: it takes more than that; with the largest `buffer_size` that fits.
    """
    if available is None or needed <= available:
        return
    fits = available * buffer_size // needed
    fits -= fits % 10 ** max(0, len(str(fits)) - 2)  # two figures
    raise ValueError(
        f"agent.buffer_size={buffer_size} takes {in_words(needed)} ({step_bytes:,} bytes for each "
        f"step), and {in_words(available)} of memory are free; use agent.buffer_size={fits} or less"
    )


def in_words(size: int) -> str:
    """Write a number of bytes with three figures."""
    power = min((len(str(size)) - 1) // 3, len(_UNITS) - 1)
    return f"{size / 1000**power:.3g} {_UNITS[power]}"
