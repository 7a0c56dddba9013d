"""Memory stays bounded: nothing that a step makes outlives it."""

import gc
import os
import sys
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.soaking import ALL, FEW, Work, alive, resident, words
from training.building.environments import build_environments
from training.process.memory import keep_freed_memory

SECONDS = float(os.environ.get("SOAK_SECONDS", "16"))
"""How long resident memory is watched, for each combination."""
WINDOWS = 4


@pytest.fixture
def work(build_run: Callable[..., SimpleNamespace], request: Any) -> Iterator[Work]:
    run = build_run(words(*request.param))
    others = build_environments(run.config, num_envs=2)
    gc.collect()
    gc.freeze()  # what lives already needs no counting, again and again, nor in the next test
    yield Work(run, others)
    others.close()


def name(combination: tuple[str, str, str]) -> str:
    return "-".join(combination)


@pytest.mark.parametrize("work", FEW, ids=name, indirect=True)
def test_nothing_that_a_step_makes_outlives_it(work: Work) -> None:
    """Caches may fill once more in the first windows; what a step keeps grows in all of them."""
    for phase, repeat, times in work.phases():
        repeat(times)
        for _ in range(WINDOWS):
            before = alive()
            repeat(times)
            after = alive()
            grown = {kind: after[kind] - before[kind] for kind in after}
            if not keeps_something(grown):
                break
        assert not keeps_something(grown), (phase, grown)


def keeps_something(grown: dict[str, int]) -> bool:
    """Tell whether 400 acts keep a tensor and its array each: 800 blocks, 128,000 bytes.

    Less comes and goes: the log of actions from which environments are restored has at most one row
    of 100 bytes an act.
    """
    has_more_objects = abs(grown["tensors"]) > 8 or grown["blocks"] >= 700
    return has_more_objects or grown.get("bytes", 0) >= 64_000


@pytest.mark.soak
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize("work", ALL, ids=name, indirect=True)
def test_resident_memory_rises_by_less_than_a_megabyte_a_minute(work: Work) -> None:
    """What is still warming up levels off, a leak does not: more is looked at before it fails."""
    keep_freed_memory()  # as runs do
    spend(work, SECONDS / 2)
    before, samples = alive(), []
    for _ in range(WINDOWS):
        samples += spend(work, SECONDS)
        moments, sizes = np.array(samples).T
        slope = np.polyfit(moments, sizes, 1)[0] * 60
        if slope < 1.0:
            break
    assert slope < 1.0, f"{slope:.2f} MB a minute over {moments[-1] - moments[0]:.0f} s"
    assert abs(alive()["tensors"] - before["tensors"]) <= 8


def spend(work: Work, seconds: float) -> list[tuple[float, float]]:
    """Work for a while; return the moment and the resident memory in MB, again and again."""
    end, samples = time.monotonic() + seconds, []
    while time.monotonic() < end:
        for _, repeat, times in work.phases():
            repeat(max(1, times // 4))
        samples.append((time.monotonic(), resident()))
    return samples
