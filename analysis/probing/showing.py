"""Shows a probe: a table, figures, plain numbers, and TensorBoard."""

import json
import math
import sys
import time
from collections.abc import Iterable
from pathlib import Path

from omegaconf import DictConfig, OmegaConf
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary

from analysis.probing.probe import Probe, probe_run
from analysis.runs import PROBE, RunRecord
from conf.composing.command_line import load
from training.runs.refusal import Refusal
from training.saving.files import replace
from training.tracking.event_files import EventFile, event_files

_MOST = 24
"""Targets in the table; figures and files have all."""
_LOOK = Path(__file__).parent.parent / "report" / "figures.mplstyle"


def describe(found: Probe) -> str:
    """Return the table: a row for each target, `ridge / mlp` for each source."""
    sources = list(found.scores["ridge"])
    rows = [["held-out score, ridge / mlp", "chance", *sources]]
    for index, target in enumerate(found.targets[:_MOST]):
        cells = (
            " / ".join(f"{found.scores[kind][source][index]:.2f}" for kind in found.scores)
            for source in sources
        )
        kind = "accuracy" if target.classes else "R2"
        rows.append([f"{target.name} ({kind})", f"{found.chance[index]:.2f}", *cells])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "   ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows
    ]
    if len(found.targets) > _MOST:
        lines.append(f"and {len(found.targets) - _MOST:,} more, which probe.json has")
    looks = found.sensitivity
    shown = [k for k in (0, 1, 2, 4, 8, 16, 32, 64, 128) if k < len(looks)]
    norms = "   ".join(f"{k}: {looks[k]:.3g}" for k in shown if not math.isnan(looks[k]))
    return "\n".join([*lines, "", f"gradient of the policy k steps into the past:   {norms}"])


def write(found: Probe, directory: Path) -> None:
    """Write `probe.json`, `probe.svg`, `probe.png` and an event file, instead of earlier ones."""
    directory.mkdir(parents=True, exist_ok=True)
    replace(directory / "probe.json", json.dumps(found.summary(), indent=1).encode())
    for path in event_files(directory):
        path.unlink()
    events = EventFile(directory)
    for kind, of_sources in found.scores.items():
        for source, values in of_sources.items():
            for target, value in zip(found.targets, values, strict=True):
                _log(events, f"probe/{target.name}/{source}/{kind}", 0, value)
    for k, norm in enumerate(found.sensitivity):
        _log(events, "probe/gradient_of_past_observation", k, norm)
    events.close()
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


def _log(events: EventFile, tag: str, step: int, value: float) -> None:
    if not math.isnan(value):
        values = [Summary.Value(tag=tag, simple_value=value)]
        events.add(Event(wall_time=time.time(), step=step, summary=Summary(value=values)))


def _draw(found: Probe, directory: Path) -> None:
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(fname=_LOOK):
        figure = Figure(figsize=(9, 3.2), layout="constrained")
        bars, curve = figure.subplots(1, 2)
        of_sources = found.scores["mlp"]
        width = 0.8 / len(of_sources)
        for index, (source, values) in enumerate(of_sources.items()):
            places = [target + index * width for target in range(len(values))]
            bars.bar(places, [max(value, 0.0) for value in values], width, label=source)
        bars.set_xticks([t + 0.4 for t in range(len(found.targets))][:_MOST])
        bars.set_xticklabels([t.name for t in found.targets][:_MOST], rotation=30, ha="right")
        bars.set_ylabel("held-out score (MLP)")
        bars.set_ylim(0, 1)
        bars.legend()
        curve.plot(found.sensitivity)
        curve.set_xlabel("steps into the past")
        curve.set_ylabel("norm of the policy's gradient")
        for kind in ("svg", "png"):
            figure.savefig(directory / f"probe.{kind}")
