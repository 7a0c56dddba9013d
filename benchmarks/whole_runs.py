"""Total time of `python train.py`, and the part that is not training.

    python -m benchmarks.whole_runs
    python -m benchmarks.whole_runs --words experiment=cartpole_dqn --rounds 5

Only ours, on one thread. The same run is trained in full and with parts left out, in turn. Seconds
beside training are total minus training seconds of `summary.json`, so that the variation of
training time does not hide a part's cost.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from benchmarks.side_by_side import ONE_THREAD, ROOT, in_turn, machine, table

NO_EVALUATIONS, NO_CHECKPOINTS = "evaluation.interval=0", "checkpoint.interval=0"
NO_CURVES = "tracking=none"
RUNS = {
    "everything": [],
    "evaluations": [NO_CHECKPOINTS, NO_CURVES],
    "checkpoints": [NO_EVALUATIONS, NO_CURVES],
    "curves": [NO_EVALUATIONS, NO_CHECKPOINTS],
    "nothing": [NO_EVALUATIONS, NO_CHECKPOINTS, NO_CURVES],
}
"""The parts that run beside training and the final evaluation, which all have."""

Seconds = dict[str, float]


def train(words: Sequence[str]) -> Seconds:
    """Train in a separate process; return seconds in total, of training, and beside it."""
    with tempfile.TemporaryDirectory() as directory:
        run = Path(directory) / "run"
        command = [sys.executable, "train.py", *words, f"run_dir={run}", "device=cpu"]
        started = time.perf_counter()
        subprocess.run(
            command, cwd=ROOT, env=os.environ | ONE_THREAD, stdout=subprocess.DEVNULL, check=True
        )
        process = time.perf_counter() - started
        summary = json.loads((run / "summary.json").read_text())
    training, wall = summary["training_seconds"], summary["wall_seconds"]
    return {"process": process, "training": training, "beside": wall - training}


def measure(words: Sequence[str], rounds: int) -> dict[str, list[Seconds]]:
    """Train every kind of run in turn, in rounds."""
    measured: dict[str, list[Seconds]] = {kind: [] for kind in RUNS}
    for number in range(rounds):
        for kind in in_turn(list(RUNS), number):
            print(f"  {kind}", file=sys.stderr, flush=True)
            measured[kind].append(train([*words, *RUNS[kind], f"seed={number}"]))
    return measured


def costs_table(measured: dict[str, list[Seconds]]) -> str:
    """Show each part's cost beside training; medians over rounds, each with one seed."""
    bare = measured["nothing"]
    rows = []
    for kind, runs in measured.items():
        extra = [run["beside"] - least["beside"] for run, least in zip(runs, bare, strict=True)]
        share = [spent / run["training"] for spent, run in zip(extra, runs, strict=True)]
        cells = [f"{median(run[name] for run in runs):.2f}" for name in runs[0]]
        rows.append([kind, *cells, f"{median(extra):.2f}", f"{median(share):.1%}"])
    header = ["s", "the process", "training", "beside it", "more than with nothing"]
    return table([*header, "of training"], rows)


def main() -> None:
    """Run the requested measurements and print Markdown."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--words", nargs="*", default=[], help="what train.py is told")
    parser.add_argument("--rounds", type=int, default=3, help="medians are over these (default 3)")
    given = parser.parse_args()
    print(f"{machine()}; one thread, medians of {given.rounds} rounds\n")
    print(costs_table(measure(given.words, given.rounds)))


if __name__ == "__main__":
    main()
