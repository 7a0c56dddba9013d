"""The report in Markdown, for a README or an issue."""

from collections.abc import Iterator, Sequence

from analysis.comparison import Results
from analysis.measures import COSTS, SCORES
from analysis.report import content
from analysis.report.panels import Panel
from analysis.tables import markdown_table, measure_table
from analysis.verdict import Verdict
from analysis.wording import known


def markdown_report(results: Results, verdict: Verdict, panels: Sequence[Panel]) -> str:
    """Write the verdict, a table for each task, figures as links, and the commands."""
    blocks = [
        f"# {_plain(content.title(results))}",
        _plain("; ".join(content.facts(results))) + ".",
        "## Verdict",
        *(f"**{_plain(line)}.**" for line in verdict.summary),
        _items(verdict.comparisons),
        _items((*verdict.limits, *results.plan.remarks)),
        *_tables(results, verdict),
        "## Figures",
        *(f"![{_plain(panel.title)}](figures/{panel.name}.svg)" for panel in panels),
        "## Notes",
        _items(content.notes(results)),
        "## Commands",
        *_commands(results),
        "## Versions",
        markdown_table([["package", "version"], *map(list, content.versions(results))], 2),
        f"Report written on {content.machine()}.",
        "## Method",
        _items(content.method(results)),
    ]
    return "\n\n".join(block for block in blocks if block) + "\n"


def across_table(verdict: Verdict) -> list[list[str]]:
    """Return the arms over all tasks, headers first."""
    if verdict.across is None:
        return []
    heads = ["arm", "interquartile mean", "95% interval", "optimality gap", "95% interval"]
    return [
        heads,
        *(
            [arm.arm, *known(arm.iqm, arm.iqm_interval), *known(arm.gap, arm.gap_interval)]
            for arm in verdict.across.arms
        ),
    ]


def _tables(results: Results, verdict: Verdict) -> Iterator[str]:
    if verdict.across is not None:
        yield "## Across tasks"
        yield markdown_table(across_table(verdict))
    for task in results.tasks:
        yield f"## {_plain(task)}"
        yield markdown_table(measure_table(results.ranked(task), SCORES))
        yield markdown_table(measure_table(results.ranked(task), COSTS))


def _commands(results: Results) -> Iterator[str]:
    for arm, command in content.commands(results):
        yield f"{_plain(arm.arm)} on {_plain(arm.task)}, seeds {content.seeds(arm)}:"
        yield "\n".join(f"    {line}" for line in command.splitlines())


def _items(lines: Sequence[str]) -> str:
    return "\n".join(f"- {_plain(line)}" for line in lines)


def _plain(text: str) -> str:
    """Keep a name from a file on one line, and without HTML."""
    return " ".join(text.split()).replace("<", "&lt;")
