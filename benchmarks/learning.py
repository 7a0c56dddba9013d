"""Trains rows of the published scores and prints our scores beside published score and bar.

    make learning ARGS="L1 L14"
    python -m benchmarks.learning L1 L14 --seeds 1 2 3 --jobs 2
    python -m benchmarks.learning --list
    python -m benchmarks.learning all --no-train       # the table of existing runs

Every run is a user's command, on the CPU, where a seed always gives the same run. Finished
runs of the same configuration are not repeated: a later call completes a table.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from statistics import mean
from typing import Any

from omegaconf import OmegaConf

from benchmarks.published import ROWS, Row
from benchmarks.side_by_side import ROOT, machine, table
from conf.composing.command_line import load

SEEDS = (1, 2, 3)


@dataclass(frozen=True)
class Run:
    """A row or its control, with one seed."""

    name: str
    seed: int
    words: tuple[str, ...]  # the command line, without the run's directory
    folder: Path  # of all the row's runs, with any seed and any configuration

    def __str__(self) -> str:
        return f"{self.name} seed {self.seed}"


@dataclass(frozen=True)
class Outcome:
    """The scores of a finished run."""

    final: float  # mean return of the final evaluation
    best: float  # of the best evaluation
    seconds: float  # of training, without evaluations


def planned(name: str, seeds: Sequence[int], folder: Path) -> tuple[list[Run], list[Run]]:
    """List the runs of a row and of its control, if it has one."""
    row = ROWS[name]
    words = (f"experiment={row.experiment}", "device=cpu")
    runs = [Run(name, seed, (*words, f"seed={seed}"), folder / name) for seed in seeds]
    if row.control is None:
        return runs, []
    control = f"{name}-control"
    return runs, [
        Run(control, run.seed, (*run.words, *row.control.split()), folder / control) for run in runs
    ]


def outcome(run: Run) -> Outcome | None:
    """Read the newest finished run of exactly this configuration; None if there is none."""
    wanted = None
    for path in sorted(run.folder.glob(f"*-seed{run.seed}/summary.json"), reverse=True):
        summary = json.loads(path.read_text(encoding="utf-8"))
        if summary["status"] != "finished":
            continue
        wanted = wanted or comparable(load(run.words))
        if comparable(OmegaConf.load(path.parent / "config.yaml")) == wanted:
            return Outcome(
                final=summary["evaluation"]["return_mean"],
                best=summary["best"]["return_mean"],
                seconds=summary["training_seconds"],
            )
    return None


def comparable(config: Any) -> dict[str, Any]:
    """Everything that a run depends on: the configuration without its directory."""
    content: Any = OmegaConf.to_container(config)
    return {key: value for key, value in content.items() if key != "run_dir"}


def train(run: Run) -> bool:
    """Train in a separate process and a new directory; return whether it finished."""
    run.folder.mkdir(parents=True, exist_ok=True)
    directory = run.folder / f"{datetime.now():%Y%m%d-%H%M%S}-seed{run.seed}"
    log = directory.with_suffix(".txt")
    say(f"{run}: training, {log}")
    command = [sys.executable, str(ROOT / "train.py"), *run.words, f"run_dir={directory}"]
    with log.open("w", encoding="utf-8") as output:
        finished = subprocess.run(
            command, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT, check=False
        )
    if finished.returncode != 0:
        last = log.read_text(encoding="utf-8").strip().splitlines()[-1:]
        say(f"{run}: failed with exit code {finished.returncode}: {' '.join(last)}")
        return False
    reached = outcome(run)
    say(f"{run}: " + (f"{score(reached.final)}" if reached else "has no summary"))
    return reached is not None


def train_missing(runs: Sequence[Run], *, jobs: int) -> bool:
    """Train the missing runs, `jobs` at a time; return whether all finished."""
    missing = [run for run in runs if outcome(run) is None]
    with ThreadPoolExecutor(jobs) as pool:
        training = [pool.submit(train, run) for run in missing]
        try:
            ended_well = [one.result() for one in training]
        except KeyboardInterrupt:  # the processes get it too: they save and end
            pool.shutdown(wait=True, cancel_futures=True)
            sys.exit(130)
    return all(ended_well)


def learning_table(rows: dict[str, tuple[list[Outcome | None], list[Outcome | None]]]) -> str:
    """Show a row's scores by seed, and its control's, beside the published score."""
    cells = []
    for name, (outcomes, controls) in rows.items():
        row, done = ROWS[name], [one for one in outcomes if one is not None]
        seconds = f"{mean(one.seconds for one in done):,.0f}" if done else "-"
        ours = scores([one.final for one in done])
        if row.best_bar is not None and done:
            ours += f"; best {', '.join(score(one.best) for one in done)}"
        control = "-"
        if row.control is not None:
            reached = scores([one.final for one in controls if one is not None])
            control = f"<= {row.control_bar:g}: {reached}"
        verdict = judge(row, outcomes, controls)
        cells.append([*described(name), ours, control, seconds, verdict])
    return table([*DESCRIPTION, "ours (by seed)", "control", "training, s", ""], cells)


DESCRIPTION = ["row", "what", "task", "steps", "published", "bar"]


def described(name: str) -> list[str]:
    """Describe a row, in `DESCRIPTION`'s columns."""
    row = ROWS[name]
    bar = f">= {row.bar:g}"
    if row.best_bar is not None:
        bar += f", each seed's best >= {row.best_bar:g}"
    return [name, row.what, row.task, f"{row.budget:,}", row.published, bar]


def judge(row: Row, outcomes: Sequence[Outcome | None], controls: Sequence[Outcome | None]) -> str:
    """Say whether a row passes; its control, if any, must stay low as well."""
    done = [one for one in outcomes if one is not None]
    if not done:
        return "not run"
    if len(done) < len(outcomes):
        return f"{len(done)} of {len(outcomes)} seeds"
    low = row.best_bar is not None and min(one.best for one in done) < row.best_bar
    if low or mean(one.final for one in done) < row.bar:
        return "**fail**"
    if row.control_bar is None:
        return "pass"
    done = [one for one in controls if one is not None]
    if not controls or len(done) < len(controls):
        return "pass, control not run"
    if mean(one.final for one in done) > row.control_bar:
        return "**fail**: so does the control"
    return "pass"


def scores(values: Sequence[float]) -> str:
    """Show the mean, then every seed's."""
    if not values:
        return "not run"
    return f"**{score(mean(values))}** ({', '.join(score(value) for value in values)})"


def score(value: float) -> str:
    """Show four digits: returns have any scale."""
    return f"{value:.4g}"


def say(line: str) -> None:
    """Print progress, separate from the table."""
    print(f"  {line}", file=sys.stderr, flush=True)


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("rows", nargs="*", help=f"{', '.join(ROWS)}, or all", metavar="ROW")
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS))
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time (default 1)")
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "learning")
    parser.add_argument("--no-controls", action="store_true", help="leave the controls out")
    parser.add_argument("--no-train", action="store_true", help="show what is there")
    parser.add_argument("--list", action="store_true", help="show the rows")
    given = parser.parse_args()
    if unknown := [name for name in given.rows if name not in (*ROWS, "all")]:
        parser.error(f"no such row: {', '.join(unknown)}; there are {', '.join(ROWS)}, and all")
    if not (given.rows or given.list):
        parser.error("name the rows to train, or all; --list shows them")
    if given.jobs < 1:
        parser.error("--jobs must be at least 1")
    return given


def main() -> None:
    """Train the missing runs and print Markdown."""
    given = arguments()
    if given.list:
        rows = [
            [*described(name), row.control or "-", f"experiment={row.experiment}"]
            for name, row in ROWS.items()
        ]
        print(table([*DESCRIPTION, "control", "preset"], rows))
        return
    names = list(ROWS) if "all" in given.rows else list(dict.fromkeys(given.rows))
    plans = {name: planned(name, given.seeds, given.runs.resolve()) for name in names}
    if given.no_controls:
        plans = {name: (runs, []) for name, (runs, _) in plans.items()}
    complete = True
    if not given.no_train:
        every = [run for runs, controls in plans.values() for run in (*runs, *controls)]
        complete = train_missing(every, jobs=given.jobs)
    shown = learning_table(
        {
            name: ([outcome(run) for run in runs], [outcome(run) for run in controls])
            for name, (runs, controls) in plans.items()
        }
    )
    print(f"{machine()}; final evaluation, mean return\n\n{shown}")
    if not complete or "**fail**" in shown:
        sys.exit(1)


if __name__ == "__main__":
    main()
