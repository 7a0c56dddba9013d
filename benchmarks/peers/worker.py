"""Shared by the peers' workers: a clock around their update, and the command line."""

import argparse
import time
from collections.abc import Callable, Iterable
from functools import wraps
from typing import ParamSpec, TypeVar

import torch

from benchmarks.floor import COUNTED, Operations, products_per_second
from benchmarks.work import (
    PEERS,
    SOLVE,
    THROUGHPUT,
    AnyWork,
    Measurement,
    Solved,
    peak_memory_mib,
    report,
)

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


class Clock:
    """Times a library from outside, around the one function with all its gradient steps.

    An iteration lasts from the end of one update to the end of the next, so it includes
    everything a library does between updates.

    Args:
        counts: also counts the operations of the first updates, of one gradient step each.
    """

    def __init__(self, *, counts: bool = False) -> None:
        self._updates: list[tuple[float, float]] = []  # start and end of each
        self._counts, self._operations = counts, 0

    def around(self, update: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
        """Wrap the function in the clock."""

        @wraps(update)
        def timed(*positional: Arguments.args, **named: Arguments.kwargs) -> Result:
            began = time.perf_counter()
            if self._counts and len(self._updates) < COUNTED:
                with Operations() as operations:
                    result = update(*positional, **named)
                self._operations += operations.get_total_flops()
            else:
                result = update(*positional, **named)
            self._updates.append((began, time.perf_counter()))
            return result

        return timed

    def measurement(
        self,
        work: AnyWork,
        *,
        iterations: int,
        warmup: int,
        parameters: Iterable[torch.nn.Parameter],
    ) -> Measurement:
        """Measure the last `iterations`, from the end of the warm-up's last update.

        Raises:
            RuntimeError: the library made another number of updates than requested.
        """
        if warmup < 1 or len(self._updates) != warmup + iterations:
            raise RuntimeError(
                f"{warmup} + {iterations} iterations were asked for, {len(self._updates)} were made"
            )
        seconds = self._updates[-1][1] - self._updates[warmup - 1][1]
        updating = sum(ended - began for began, ended in self._updates[warmup:])
        return Measurement(
            env_steps=iterations * work.steps_per_iteration,
            seconds=seconds,
            peak_memory_mib=peak_memory_mib(),
            phases={"update": updating, "everything else": seconds - updating},
            parameters=sum(parameter.numel() for parameter in parameters),
            operations=self._operations / COUNTED,
            operations_per_second=products_per_second() if self._counts else 0.0,
        )


def run(
    peer: str,
    measure_throughput: Callable[..., Measurement],
    measure_solve: Callable[..., Solved] | None = None,
) -> None:
    """Run the workload that the command line names, on one thread.

    Args:
        measure_throughput: `(work, *, iterations, warmup, seed)`; times the `iterations` that come
            after `warmup` others.
        measure_solve: `(work, *, seed)`; None if time to solve is not measured.
    """
    parser = argparse.ArgumentParser()
    kinds = parser.add_subparsers(dest="kind", required=True)
    throughput = kinds.add_parser("throughput")
    throughput.add_argument("work", choices=PEERS[peer])
    throughput.add_argument("--iterations", type=int, required=True)
    throughput.add_argument("--warmup", type=int, required=True)
    if measure_solve is not None:
        kinds.add_parser("solve").add_argument("work", choices=SOLVE)
    for kind in kinds.choices.values():
        kind.add_argument("--seed", type=int, required=True)
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.kind == "solve" and measure_solve is not None:
        report(measure_solve(SOLVE[given.work], seed=given.seed))
        return
    work = THROUGHPUT[given.work]
    report(
        measure_throughput(work, iterations=given.iterations, warmup=given.warmup, seed=given.seed)
    )
