"""Shows a probe: a table, figures, plain numbers, and TensorBoard."""

import json
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from omegaconf import DictConfig, OmegaConf

from analysis.probing.probe import Probe, probe_run
from analysis.runs import PROBE, RunRecord
from analysis.tables import text_table
from conf.composing.command_line import load
from training.runs.refusal import Refusal
from training.saving.files import replace
from training.tracking.event_files import event_files
from training.tracking.tracking import TensorBoard

_MOST = 24
"""Targets in the table; figures and files have all."""
_SHOWN = (0, 1, 2, 4, 8, 16, 32, 64, 128)
"""Steps into the past of the last line."""
_LOOK = Path(__file__).parent.parent / "report" / "figures.mplstyle"


def describe(found: Probe) -> str:
    """Return the table: a row for each target, `ridge / mlp` for each source."""
    sources = list(found.scores["ridge"])
    rows = [["held-out score, ridge / mlp", "chance", *sources]]
    for index, (target, kind) in enumerate(zip(found.targets, found.kinds, strict=True)):
        of_source = [[each[name][index] for each in found.scores.values()] for name in sources]
        cells = (" / ".join(f"{score:.2f}" for score in of_one) for of_one in of_source)
        rows.append([f"{target} ({kind})", f"{found.chance[index]:.2f}", *cells])
    lines = text_table(rows[: _MOST + 1])
    if len(found.targets) > _MOST:
        lines.append(f"and {len(found.targets) - _MOST:,} more, which probe.json has")
    looks = {k: n for k, n in enumerate(found.sensitivity) if k in _SHOWN and n is not None}
    norms = [f"{k}: {norm:.3g}" for k, norm in looks.items()]
    head = "gradient of the policy k steps into the past:"
    return "\n".join([*lines, "", "   ".join([head, *norms])])


def write(found: Probe, directory: Path) -> None:
    """Write `probe.json`, `probe.svg`, `probe.png` and an event file, instead of earlier ones."""
    directory.mkdir(parents=True, exist_ok=True)
    replace(directory / "probe.json", json.dumps(vars(found), indent=1).encode())
    for path in event_files(directory):
        path.unlink()
    board = TensorBoard(directory)
    for kind, of_sources in found.scores.items():
        for source, values in of_sources.items():
            tags = [f"probe/{target}/{source}/{kind}" for target in found.targets]
            board.scalars(dict(zip(tags, values, strict=True)), 0)
    for k, norm in enumerate(found.sensitivity):
        board.scalars({} if norm is None else {"probe/gradient_of_past_observation": norm}, k)
    board.close()
    _draw(found, directory)


def probe_missing(runs: Iterable[RunRecord]) -> None:
    """Probe every finished run that was not probed yet, or say why it cannot be."""
    config = load(["run=."], "analyze")
    for run in runs:
        if run.probe_score is None and run.problem is None:
            own = DictConfig(OmegaConf.merge(config, {"run": str(run.directory)}))
            try:
                write(probe_run(own), run.directory / PROBE)
            except Refusal as refusal:
                print(f"not probed: {refusal}", file=sys.stderr)


def _draw(found: Probe, directory: Path) -> None:
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(fname=_LOOK):
        figure = Figure(figsize=(9, 3.2), layout="constrained")
        bars, curve = figure.subplots(1, 2)
        of_sources, targets = found.scores["mlp"], np.arange(len(found.targets))
        width = 0.8 / len(of_sources)
        for index, (source, values) in enumerate(of_sources.items()):
            bars.bar(targets + index * width, np.maximum(values, 0.0), width, label=source)
        bars.set_xticks(targets[:_MOST] + 0.4, found.targets[:_MOST], rotation=30, ha="right")
        bars.set(ylabel="held-out score (MLP)", ylim=(0, 1))
        bars.legend()
        curve.plot(np.array(found.sensitivity, np.float64))
        curve.set(xlabel="steps into the past", ylabel="norm of the policy's gradient")
        for kind in ("svg", "png"):
            figure.savefig(directory / f"probe.{kind}")
