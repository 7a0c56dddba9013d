"""Draws panels with matplotlib: SVG for the page, SVG and PNG files beside it.

No state of pyplot is used or left. Every colour has a role: in the page's SVG it is replaced by a
variable of the style sheet, so that the page's theme applies.
"""

import io
import math
import re
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from textwrap import fill
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.comparison import ArmResult
from analysis.report.panels import Line, Panel

_LOOK = matplotlib.rc_params_from_file(
    Path(__file__).with_name("figures.mplstyle"), use_default_template=False
)
_COLOURS: list[str] = _LOOK["axes.prop_cycle"].by_key()["color"]
_INK, _MUTED, _RULE = _LOOK["text.color"], _LOOK["axes.labelcolor"], _LOOK["grid.color"]
_ROLES = {
    **{f"arm-{number}": colour for number, colour in enumerate(_COLOURS, 1)},
    **{"ink": _INK, "muted": _MUTED, "rule": _RULE},
}
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "h")
_DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1.2, 1.5)), (0, (5, 2, 1.2, 2)))
_THRESHOLD: dict[str, Any] = {"color": _MUTED, "linewidth": 0.8, "dashes": (2, 2)}
_LEGEND_WIDTH = 66  # characters
_WRAP = 24


class Style(NamedTuple):
    """How an arm looks, the same in all figures; `role` names its colour in the style sheet."""

    role: str
    colour: str
    marker: str
    dashes: Any


Styles = Mapping[str, Style]


def styles(arms: Sequence[str]) -> Styles:
    """Assign styles in the order of the arms; colours repeat with other dashes."""
    looks = {}
    for index, arm in enumerate(arms):
        again, number = divmod(index, len(_COLOURS))
        dashes = _DASHES[(index + again) % len(_DASHES)]
        looks[arm] = Style(f"arm-{number + 1}", _COLOURS[number], _MARKERS[number], dashes)
    return looks


class Drawing(NamedTuple):
    """A panel as files, and as an SVG element whose colours are variables: `var(--arm-1)`."""

    element: str
    svg: str
    png: bytes


def draw(panel: Panel, looks: Styles) -> Drawing:
    """Draw a panel."""
    svg, png = io.StringIO(), io.BytesIO()
    with matplotlib.rc_context({**_LOOK, "svg.hashsalt": panel.name}):
        figure = _figure(panel, looks)
        figure.savefig(svg, format="svg", metadata={"Date": None})
        figure.savefig(png, format="png")
    return Drawing(_embeddable(svg.getvalue(), panel), svg.getvalue(), png.getvalue())


def _embeddable(svg: str, panel: Panel) -> str:
    """Leave the element alone, without names that other figures of the page have too."""
    svg = svg[svg.index("<svg ") :].replace("#ffffff", "none")  # the page's ground
    for role, colour in _ROLES.items():
        svg = svg.replace(colour, f"var(--{role})")
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r' id="(?:[a-zA-Z]+[0-9]*[a-z]*_)+[0-9]+"', "", svg)
    svg = re.sub(r"font: ([0-9.]+px) [^;\"]+", r"font: \1 var(--font, sans-serif)", svg)
    return svg.replace("<svg ", f'<svg role="img" aria-label="{escape(panel.title)}" ', 1)


def _figure(panel: Panel, looks: Styles) -> Figure:
    figure = Figure()
    axes = figure.add_subplot()
    axes.set_xlabel(panel.x_label)
    axes.xaxis.set_major_formatter(_short)
    axes.locator_params(axis="x", nbins=6)
    if panel.groups:
        figure.set_figheight(0.8 + 0.42 * len(panel.groups))
        _draw_dots(axes, panel, looks)
    else:
        _draw_curves(axes, panel, looks)
        _add_legend(figure, axes)
    return figure


def _draw_curves(axes: Axes, panel: Panel, looks: Styles) -> None:
    for line in panel.lines:
        _draw_line(axes, line, looks[line.arm])
    if panel.threshold is not None:
        axes.axhline(panel.threshold, **_THRESHOLD)
    axes.grid(axis="y")
    axes.set_ylabel(panel.y_label)
    axes.set_xlim(left=0)


def _draw_line(axes: Axes, line: Line, look: Style) -> None:
    known = np.isfinite(line.middle)
    x, middle, low, high = (part[known] for part in (line.x, line.middle, line.low, line.high))
    if (high > low).any():
        axes.fill_between(x, low, high, color=look.colour, alpha=0.16, linewidth=0)
    line_style = {"color": look.colour, "linestyle": look.dashes, "marker": look.marker}
    axes.plot(x, middle, label=line.arm, markevery=max(1, len(x) // 6), **line_style)


def _add_legend(figure: Figure, axes: Axes) -> None:
    handles, labels = axes.get_legend_handles_labels()
    if labels:
        columns = _LEGEND_WIDTH // (8 + max(map(len, labels)))
        columns = min(len(labels), max(1, columns))
        figure.legend(handles, labels, loc="outside lower center", ncols=columns)


def _draw_dots(axes: Axes, panel: Panel, looks: Styles) -> None:
    for height, group in enumerate(panel.groups):
        _draw_group(axes, group, height, looks[group.arm])
    if panel.threshold is not None:
        axes.axvline(panel.threshold, **_THRESHOLD)
    axes.set_yticks(range(len(panel.groups)), [fill(group.arm, _WRAP) for group in panel.groups])
    axes.tick_params(axis="y", length=0, labelcolor=_INK)
    axes.set_ylim(len(panel.groups) - 0.4, -0.6)
    axes.spines["left"].set_visible(False)
    axes.grid(axis="x")


def _draw_group(axes: Axes, group: ArmResult, height: int, look: Style) -> None:
    # Lifted alternately, so that equal scores stay visible; the same in every drawing.
    heights = height + 0.12 + 0.07 * (np.arange(group.n) % 3 - 1)
    dots: dict[str, Any] = {"color": look.colour, "marker": look.marker, "s": 26, "linewidths": 0}
    axes.scatter(group.scores, heights, alpha=0.55, **dots)
    low, high = group.interval
    if not math.isnan(low):
        axes.plot([low, high], [height - 0.16] * 2, color=look.colour, linewidth=2.2)
    axes.plot([group.mean], [height - 0.16], color=look.colour, marker="|", markersize=9, mew=2.2)


def _short(value: float, _: float = 0) -> str:
    """Write a tick: 20000 as 20k, 1500000 as 1.5M."""
    for size, unit in ((1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:g}{unit}"
    return f"{value:g}"
