"""Writes everything that a comparison leaves in its directory."""

import re
from collections.abc import Iterator
from pathlib import Path

from analysis.comparison import Results
from analysis.report.boards import write_boards
from analysis.report.data import write_data
from analysis.report.figures import Styles, draw
from analysis.report.markdown import markdown_report
from analysis.report.page import html_report
from analysis.report.panels import (
    Panel,
    learning_panels,
    profile_panel,
    score_panels,
    telemetry_panels,
)
from analysis.verdict import Verdict, judge

PAGE, MARKDOWN, FIGURES = "report.html", "report.md", "figures"


def write_report(results: Results, directory: Path) -> Path:
    """Write `report.html`, `report.md`, CSV files, figures and TensorBoard's overlay of the arms.

    Returns:
        The page.

    Raises:
        OSError: the directory cannot be written.
    """
    verdict = judge(results)
    panels = list(_panels(results, verdict))
    styles = Styles(results.names)
    figures = directory / FIGURES
    figures.mkdir(parents=True, exist_ok=True)
    for path in _earlier(directory / MARKDOWN, figures):
        path.unlink(missing_ok=True)
    drawings = {panel.name: draw(panel, styles) for panel in panels}
    for name, drawing in drawings.items():
        (figures / f"{name}.svg").write_text(drawing.svg, "utf-8")
        (figures / f"{name}.png").write_bytes(drawing.png)
    write_data(results, directory)
    write_boards(results, directory)
    markdown = markdown_report(results, verdict, panels)
    (directory / MARKDOWN).write_text(markdown, "utf-8")
    page = directory / PAGE
    page.write_text(html_report(results, verdict, panels, drawings), "utf-8")
    return page


def _earlier(markdown: Path, figures: Path) -> Iterator[Path]:
    """Yield the figures of an earlier report: those that it names."""
    text = markdown.read_text("utf-8", errors="replace") if markdown.is_file() else ""
    for name in re.findall(rf"]\({FIGURES}/([^/()]+)\.svg\)", text):
        yield from (figures / f"{name}.svg", figures / f"{name}.png")


def _panels(results: Results, verdict: Verdict) -> Iterator[Panel]:
    yield from score_panels(results)
    yield from learning_panels(results)
    if verdict.across is not None:
        yield profile_panel(verdict.across)
    yield from telemetry_panels(results)
