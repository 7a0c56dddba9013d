"""The report as text: one HTML page without any outside resource, and Markdown for a README.

Both are templates of the same content. Text from files is escaped.
"""

import os
import platform
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, select_autoescape
from markupsafe import Markup, escape

from analysis.comparison import ArmResult, Results
from analysis.irregularities import irregularities, version_counts
from analysis.measures import COSTS, SCORES, shown
from analysis.report.figures import Drawing, styles
from analysis.report.panels import Panel
from analysis.runs import RunRecord
from analysis.tables import METRICS, markdown_table, measure_table
from analysis.verdict import Verdict
from analysis.wording import known, listed, plural
from conf.composing.stored import read_yaml
from conf.schema.layout import command

_ACROSS = ("arm", "interquartile mean", "95% interval", "optimality gap", "95% interval")
_OF_ONE_RUN = ("run_dir=", "total_env_steps=")


def html_report(
    results: Results, verdict: Verdict, panels: Sequence[Panel], drawings: Mapping[str, Drawing]
) -> str:
    """Write the page.

    Args:
        drawings: by the panel's name.
    """
    figures = [(head, list(group)) for head, group in groupby(panels, lambda each: each.heading)]
    return _TEMPLATES.get_template("page.html").render(
        _content(results, verdict), figures=figures, drawings=drawings, looks=styles(results.names)
    )


def markdown_report(results: Results, verdict: Verdict, panels: Sequence[Panel]) -> str:
    """Write the same for a README or an issue, with links to the figures."""
    return _TEMPLATES.get_template("page.md").render(_content(results, verdict), panels=panels)


def _content(results: Results, verdict: Verdict) -> dict[str, Any]:
    """Return what both reports say."""
    plan, ranked = results.plan, [(task, results.ranked(task)) for task in results.tasks]
    sizes = {"arm": len(results.names), "task": len(results.tasks), "run": len(results.runs)}
    facts = [plural(count, noun) for noun, count in sizes.items()]
    odd = [*plan.skipped, *irregularities(results)]
    versions = [
        [package, listed([version for version, _ in counts.most_common()])]
        for package, counts in version_counts(results.runs)
    ]
    across = [
        [arm.arm, *known(arm.iqm, arm.iqm_interval), *known(arm.gap, arm.gap_interval)]
        for arm in (verdict.across.arms if verdict.across else ())
    ]
    machine = f"{platform.system()} on {platform.machine()}"
    return {
        "plan": plan,
        "facts": [*facts, f"score: {METRICS[plan.metric]}"],
        "verdict": verdict,
        "across": [_ACROSS, *across] if across else [],
        "scores": [(task, measure_table(arms, SCORES)) for task, arms in ranked],
        "costs": [(task, measure_table(arms, COSTS)) for task, arms in ranked],
        "notes": odd or ["nothing odd: every planned run finished and counts"],
        "commands": list(_commands(results)),
        "versions": [["package", "version"], *versions],
        "machine": f"{machine}, {plural(os.cpu_count() or 1, 'core')}",
        "measures": shown((*SCORES, *COSTS), results.arms),
    }


def _commands(results: Results) -> Iterator[tuple[ArmResult, str, str]]:
    """Yield how each arm is made: the planned command, or that of its first run; and its seeds."""
    for arm in results.arms:
        command = results.plan.commands.get((arm.task, arm.arm))
        if command or arm.runs:
            seeds = listed([f"{run.seed}" for run in arm.runs])
            yield arm, command or _recorded_command(arm.runs[0]), seeds


def _recorded_command(run: RunRecord) -> str:
    """Repeat the command line of a run as Hydra recorded it.

    The budget is the run's: it may have been resumed with a larger one.
    """
    try:
        words = read_yaml(run.directory / ".hydra" / "overrides.yaml")
    except (OSError, ValueError):
        words = None
    if not isinstance(words, list):
        return f"# no command is recorded; {run.directory / 'config.yaml'} holds the configuration"
    others = [word for word in map(str, words) if not word.startswith(_OF_ONE_RUN)]
    budget = f"total_env_steps={run.choices['total_env_steps']}"
    return command("train", *others, budget)


def _code(text: str) -> Markup:
    """Escape a text, with what stands between backquotes as code."""
    return Markup(re.sub("`([^`]+)`", r"<code>\1</code>", str(escape(text))))


def _plain(text: str) -> str:
    """Keep a name from a file on one line, and without HTML."""
    return " ".join(text.split()).replace("<", "&lt;")


_TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).parent),
    autoescape=select_autoescape(["html"]),
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)
_TEMPLATES.filters |= {"code": _code, "plain": _plain, "table": markdown_table}
