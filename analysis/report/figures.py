"""Draws panels with matplotlib: SVG for the page, SVG and PNG files beside it.

No state of pyplot is used or left. Every colour has a role: in the page's SVG it is replaced by a
variable of the style sheet, so that the page's theme applies.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Sequence
from textwrap import fill
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from analysis.comparison import ArmResult
from analysis.report.panels import CurvePanel, DotPanel, Line, Panel

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ARM_COLOURS = (
    "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#767676", "#b8a800",
)  # fmt: skip
"""Okabe and Ito's palette for colour-blind readers; grey for its black, and a darker yellow."""
_INK, _MUTED, _RULE = "#24292f", "#656d76", "#d8dee4"
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "h")
_DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1.2, 1.5)), (0, (5, 2, 1.2, 2)))
_ROLES = {
    **{f"arm-{index + 1}": colour for index, colour in enumerate(ARM_COLOURS)},
    "ink": _INK,
    "muted": _MUTED,
    "rule": _RULE,
}
_SIZE = (4.4, 3.0)  # inches: legible when it is shrunk to a phone's width
_SETTINGS: dict[str, Any] = {
    "svg.fonttype": "none",  # text stays text
    "text.parse_math": False,  # a dollar in an arm's name is a dollar
    "font.size": 9,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "text.color": _INK,
    "axes.labelcolor": _MUTED,
    "axes.edgecolor": _RULE,
    "xtick.color": _RULE,
    "ytick.color": _RULE,
    "xtick.labelcolor": _MUTED,
    "ytick.labelcolor": _MUTED,
    "grid.color": _RULE,
}
_THRESHOLD: dict[str, Any] = {"color": _MUTED, "linewidth": 0.8, "dashes": (2, 2)}
_LEGEND_WIDTH = 66  # characters
_WRAP = 24


class Styles:
    """Gives every arm its colour, marker and dashes, the same in all figures."""

    def __init__(self, arms: Sequence[str]) -> None:
        """Assign styles in the order of the arms; colours repeat with other dashes."""
        self._index = {arm: index for index, arm in enumerate(arms)}

    def role(self, arm: str) -> str:
        """Return the name of the arm's colour."""
        return f"arm-{self._index[arm] % len(ARM_COLOURS) + 1}"

    def colour(self, arm: str) -> str:
        """Return the arm's colour on white."""
        return _ROLES[self.role(arm)]

    def marker(self, arm: str) -> str:
        """Return the arm's marker."""
        return _MARKERS[self._index[arm] % len(_MARKERS)]

    def dashes(self, arm: str) -> Any:
        """Return the arm's line style."""
        turn = self._index[arm] + self._index[arm] // len(ARM_COLOURS)
        return _DASHES[turn % len(_DASHES)]


class Drawing(NamedTuple):
    """A panel as files, and as an SVG element whose colours are variables: `var(--arm-1)`."""

    element: str
    svg: str
    png: bytes


def draw(panel: Panel, styles: Styles) -> Drawing:
    """Draw a panel."""
    import matplotlib

    settings: Any = {**_SETTINGS, "svg.hashsalt": panel.name}
    svg, png = io.StringIO(), io.BytesIO()
    with matplotlib.rc_context(settings):
        figure = _figure(panel, styles)
        figure.savefig(svg, format="svg", metadata={"Date": None})
        figure.savefig(png, format="png", dpi=150)
    return Drawing(_embeddable(svg.getvalue(), panel), svg.getvalue(), png.getvalue())


def _embeddable(svg: str, panel: Panel) -> str:
    """Leave the element alone, without names that other figures of the page have too."""
    svg = svg[svg.index("<svg ") :].replace("#ffffff", "none")  # the page's ground
    for role, colour in _ROLES.items():
        svg = svg.replace(colour, f"var(--{role})")
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r' id="(?:[a-zA-Z]+[0-9]*[a-z]*_)+[0-9]+"', "", svg)
    svg = re.sub(r"font: ([0-9.]+px) [^;\"]+", r"font: \1 var(--font, sans-serif)", svg)
    label = panel.title.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
    return svg.replace("<svg ", f'<svg role="img" aria-label="{label}" ', 1)


def _figure(panel: Panel, styles: Styles) -> Figure:
    from matplotlib.figure import Figure

    width, height = _SIZE
    if isinstance(panel, DotPanel):
        height = 0.8 + 0.42 * len(panel.groups)
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.add_subplot()
    axes.set_xlabel(panel.x_label)
    axes.xaxis.set_major_formatter(_short)
    axes.locator_params(axis="x", nbins=6)
    if isinstance(panel, DotPanel):
        _draw_dots(axes, panel, styles)
    else:
        _draw_curves(axes, panel, styles)
        _add_legend(figure, axes)
    return figure


def _draw_curves(axes: Axes, panel: CurvePanel, styles: Styles) -> None:
    for line in panel.lines:
        _draw_line(axes, line, styles, styles.colour(line.arm))
    if panel.threshold is not None:
        axes.axhline(panel.threshold, **_THRESHOLD)
    axes.grid(axis="y", linewidth=0.6)
    axes.set_ylabel(panel.y_label)
    axes.set_xlim(left=0)


def _draw_line(axes: Axes, line: Line, styles: Styles, colour: str) -> None:
    known = np.isfinite(line.middle)
    x, middle = line.x[known], line.middle[known]
    if (line.high > line.low).any():
        axes.fill_between(
            x, line.low[known], line.high[known], color=colour, alpha=0.16, linewidth=0
        )
    axes.plot(
        x,
        middle,
        color=colour,
        linestyle=styles.dashes(line.arm),
        linewidth=1.7,
        marker=styles.marker(line.arm),
        markevery=max(1, len(x) // 6),
        markersize=4,
        label=line.arm,
    )


def _add_legend(figure: Figure, axes: Axes) -> None:
    handles, labels = axes.get_legend_handles_labels()
    if labels:
        figure.legend(
            handles,
            labels,
            loc="outside lower center",
            ncols=min(len(labels), max(1, _LEGEND_WIDTH // (8 + max(map(len, labels))))),
            fontsize=8.5,
            handlelength=2.6,
        )


def _draw_dots(axes: Axes, panel: DotPanel, styles: Styles) -> None:
    for height, group in enumerate(panel.groups):
        _draw_group(axes, group, height, styles)
    if panel.threshold is not None:
        axes.axvline(panel.threshold, **_THRESHOLD)
    axes.set_yticks(range(len(panel.groups)), [fill(group.arm, _WRAP) for group in panel.groups])
    axes.tick_params(axis="y", length=0, labelcolor=_INK)
    axes.set_ylim(len(panel.groups) - 0.4, -0.6)
    axes.spines["left"].set_visible(False)
    axes.grid(axis="x", linewidth=0.6)


def _draw_group(axes: Axes, group: ArmResult, height: int, styles: Styles) -> None:
    colour = styles.colour(group.arm)
    # Lifted alternately, so that equal scores stay visible; the same in every drawing.
    lifts = 0.07 * (np.arange(group.n) % 3 - 1)
    axes.scatter(
        group.scores,
        height + 0.12 + lifts,
        s=26,
        color=colour,
        alpha=0.55,
        linewidths=0,
        marker=styles.marker(group.arm),
    )
    low, high = group.interval
    if not math.isnan(low):
        axes.plot([low, high], [height - 0.16] * 2, color=colour, linewidth=2.2)
    axes.plot([group.mean], [height - 0.16], color=colour, marker="|", markersize=9, mew=2.2)


def _short(value: float, _: float = 0) -> str:
    """Write a tick: 20000 as 20k, 1500000 as 1.5M."""
    for size, unit in ((1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:g}{unit}"
    return f"{value:g}"
