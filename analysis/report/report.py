"""Writes everything that a comparison leaves in its directory."""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from analysis.comparison import Results
from analysis.report.boards import write_boards
from analysis.report.figures import draw, styles
from analysis.report.pages import html_report, markdown_report
from analysis.report.panels import learning_panels, profile_panel, score_panels, telemetry_panels
from analysis.verdict import judge

PAGE, MARKDOWN, FIGURES = "report.html", "report.md", "figures"
_RESULT_COLUMNS = (
    "task", "arm", "seed", "counts", "reason", "metric", "score", "last", "best", "solved_at",
    "steps_to_solve", "seconds_to_solve", "area", "budget", "env_steps", "training_seconds",
    "steps_per_second", "parameters", "peak_memory_mib", "probe_score", "status", "directory",
)  # fmt: skip


def write_report(results: Results, directory: Path) -> Path:
    """Write `report.html`, `report.md`, CSV files, figures and TensorBoard's overlay of the arms.

    Returns:
        The page.

    Raises:
        OSError: the directory cannot be written.
    """
    verdict = judge(results)
    panels = [*score_panels(results), *learning_panels(results)]
    panels += [] if verdict.across is None else [profile_panel(verdict.across)]
    panels += telemetry_panels(results)
    figures, looks = directory / FIGURES, styles(results.names)
    figures.mkdir(parents=True, exist_ok=True)
    drawings = {panel.name: draw(panel, looks) for panel in panels}
    for name, drawing in drawings.items():
        (figures / f"{name}.svg").write_text(drawing.svg, "utf-8")
        (figures / f"{name}.png").write_bytes(drawing.png)
    write_data(results, directory)
    write_boards(results, directory)
    (directory / MARKDOWN).write_text(markdown_report(results, verdict, panels), "utf-8")
    page = directory / PAGE
    page.write_text(html_report(results, verdict, panels, drawings), "utf-8")
    return page


def write_data(results: Results, directory: Path) -> None:
    """Write the numbers, by which every other one of the report can be computed.

    `results.csv` has a row for each run, `evaluations.csv` one for each point of its evaluations,
    and of the telemetry that the report shows. Runs that do not count are in the first alone.
    """
    rows = list(_result_rows(results))
    versions = sorted({name for row in rows for name in row if name.startswith("version_")})
    with (directory / "results.csv").open("w", newline="", encoding="utf-8") as file:
        columns = (*_RESULT_COLUMNS, *versions)
        table = csv.DictWriter(file, columns, extrasaction="ignore", lineterminator="\n")
        table.writeheader()
        table.writerows(rows)
    with (directory / "evaluations.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("task", "arm", "seed", "tag", "env_steps", "seconds", "value"))
        for run, tag, curve in ((r, tag, c) for r in results.runs for tag, c in r.curves.items()):
            points = zip(*(column.tolist() for column in curve), strict=True)
            writer.writerows((run.task, run.arm, run.seed, tag, *point) for point in points)


def _result_rows(results: Results) -> Iterator[dict[str, Any]]:
    metric = results.plan.metric
    for run, reason in (each for arm in results.arms for each in arm.every_run):
        yield {
            **vars(run),
            **{f"version_{name}": version for name, version in run.versions.items()},
            "reason": reason,
            "metric": metric,
            "counts": str(not reason).lower(),
            "score": run.score(metric),
            "steps_to_solve": run.solved_after("env_steps"),
            "seconds_to_solve": run.solved_after("seconds"),
            "area": run.area,
        }
