"""The report as one HTML page without any outside resource, in light and dark, for phones too.

The verdict comes first, and every figure with its numbers. Text from files is escaped.
"""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from string import Template

from analysis.comparison import Results
from analysis.measures import COSTS, SCORES, Measure
from analysis.report import content
from analysis.report.figures import Drawing, Styles
from analysis.report.markdown import across_table
from analysis.report.panels import CurvePanel, Panel
from analysis.tables import measure_table
from analysis.verdict import Verdict

_HERE = Path(__file__).parent
_TIGHT = "not separable"
"""How the sentence of an open comparison starts."""
_MOST_PAIRS = 8
"""Comparisons above the scores; the others are folded."""


def html_report(
    results: Results, verdict: Verdict, panels: Sequence[Panel], drawings: Mapping[str, Drawing]
) -> str:
    """Write the page.

    Args:
        drawings: by the panel's name.
    """
    styles = Styles(results.names)
    sections = [
        _verdict(results, verdict),
        _section("Scores", _scores(results, verdict, styles)),
        _section("Costs", _tables(results, COSTS, styles)),
        *_figures(panels, drawings),
        _section("Notes", [_list(content.notes(results), "plain")]),
        _section("Commands", _commands(results)),
        _section("Versions", [_versions(results)]),
        _section("Method", [_list(content.method(results), "plain")]),
    ]
    return Template(_read("page.html")).substitute(
        title=escape(content.title(results)),
        name=escape(results.plan.name),
        style=_read("page.css"),
        facts=_list(content.facts(results), "facts"),
        body="\n".join(sections),
        machine=escape(f"Written on {content.machine()}"),
    )


def _read(name: str) -> str:
    return (_HERE / name).read_text(encoding="utf-8")


def _verdict(results: Results, verdict: Verdict) -> str:
    answers = "\n".join(f'<p class="answer">{escape(line)}.</p>' for line in verdict.summary)
    pairs = _pairs(verdict.comparisons[:_MOST_PAIRS])
    if rest := _pairs(verdict.comparisons[_MOST_PAIRS:]):
        more = len(verdict.comparisons) - _MOST_PAIRS
        pairs += f"\n<details><summary>{more} more</summary>\n{rest}\n</details>"
    limits = _list((*verdict.limits, *results.plan.remarks), "limits")
    return f'<section class="verdict">\n<h2>Verdict</h2>\n{answers}\n{pairs}\n{limits}\n</section>'


def _pairs(comparisons: Sequence[str]) -> str:
    items = "\n".join(
        f'<li class="{"open" if line.startswith(_TIGHT) else "told"}">{escape(line)}</li>'
        for line in comparisons
    )
    return f'<ul class="pairs">\n{items}\n</ul>' if items else ""


def _scores(results: Results, verdict: Verdict, styles: Styles) -> Iterable[str]:
    if verdict.across is not None:
        yield _table(across_table(verdict), caption="All tasks, normalized scores", styles=styles)
    yield from _tables(results, SCORES, styles)


def _tables(results: Results, measures: Sequence[Measure], styles: Styles) -> Iterable[str]:
    for task in results.tasks:
        yield _table(measure_table(results.ranked(task), measures), caption=task, styles=styles)


def _figures(panels: Sequence[Panel], drawings: Mapping[str, Drawing]) -> Iterable[str]:
    groups: dict[str, list[str]] = {}
    for panel in panels:
        groups.setdefault(_heading(panel), []).append(_figure(panel, drawings[panel.name].element))
    for heading, figures in groups.items():
        yield _section(heading, ['<div class="figures">', *figures, "</div>"])


def _heading(panel: Panel) -> str:
    if not isinstance(panel, CurvePanel):
        return "Every run"
    if panel.name == "profiles":
        return "Across tasks"
    return "Learning curves" if panel.name.startswith("curves-") else "Representations"


def _figure(panel: Panel, drawing: str) -> str:
    caption = f"<strong>{escape(panel.title)}</strong>{_code(panel.caption)}"
    return (
        f"<figure>\n<figcaption>{caption}</figcaption>\n{drawing}\n"
        f"<details><summary>Numbers</summary>\n{_table(panel.table())}\n</details>\n</figure>"
    )


def _table(
    cells: Sequence[Sequence[str]],
    caption: str = "",
    styles: Styles | None = None,
    kind: str = "numbers",
) -> str:
    """Write a table in a container of its own that scrolls; a swatch shows an arm's colour."""
    heads, *rows = cells
    head = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in heads)
    body = "\n".join(
        f'<tr><th scope="row">{_swatch(first, styles)}{escape(first)}</th>'
        + "".join(f"<td>{escape(cell)}</td>" for cell in rest)
        + "</tr>"
        for first, *rest in rows
    )
    title = f"<caption>{escape(caption)}</caption>\n" if caption else ""
    return (
        f'<div class="scroll" tabindex="0"><table class="{kind}">\n{title}'
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table></div>"
    )


def _swatch(arm: str, styles: Styles | None) -> str:
    if styles is None:
        return ""
    return f'<span class="swatch" style="--colour: var(--{styles.role(arm)})"></span>'


def _commands(results: Results) -> Iterable[str]:
    for arm, command in content.commands(results):
        yield f"<h3>{escape(arm.arm)} on {escape(arm.task)}</h3>"
        yield f'<pre tabindex="0"><code>{escape(command)}</code></pre>'
        yield f"<p>Seeds that count: {escape(content.seeds(arm)) or 'none'}.</p>"


def _versions(results: Results) -> str:
    rows = [list(pair) for pair in content.versions(results)]
    return _table([["package", "version"], *rows], kind="words") if rows else "<p>Unknown.</p>"


def _section(heading: str, blocks: Iterable[str]) -> str:
    body = "\n".join(blocks)
    return f"<section>\n<h2>{escape(heading)}</h2>\n{body}\n</section>" if body else ""


def _list(lines: Sequence[str], kind: str) -> str:
    items = "\n".join(f"<li>{_code(line)}</li>" for line in lines)
    return f'<ul class="{kind}">\n{items}\n</ul>' if items else ""


def _code(text: str) -> str:
    """Escape a text, with what stands between backquotes as code."""
    parts = escape(text).split("`")
    if len(parts) % 2 == 0:  # a lone backquote is an ordinary character
        return escape(text)
    return "".join(
        f"<code>{part}</code>" if index % 2 else part for index, part in enumerate(parts)
    )
