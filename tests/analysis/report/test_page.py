"""The page: in a real browser without an error, with nothing that overflows; and hostile text."""

import html
import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from analysis.comparison import Plan, compare
from analysis.grouping import labelled_by_choices
from analysis.report.figures import draw, styles
from analysis.report.pages import html_report, markdown_report
from analysis.report.panels import learning_panels, profile_panel, score_panels, telemetry_panels
from analysis.report.report import write_report
from analysis.runs import EVALUATIONS, Curve, RunRecord, read_run
from analysis.verdict import judge
from tests.analysis.synthetic import memory_study, record, run

BROWSER = next(filter(None, map(shutil.which, ("chromium", "google-chrome", "chrome"))), None)
LONG = "a_very_long_name_of_an_arm_without_any_space_that_no_phone_has_room_for_" * 2
FRAMES = """<!doctype html><title>-</title><body>
<script>
const page = PAGE;
const cases = [[380, "light"], [380, "dark"], [1400, "light"], [1400, "dark"]];
const measured = cases.map(([width, theme]) => new Promise(done => {
  const frame = document.createElement("iframe");
  frame.style = `width: ${width}px; height: 900px; border: 0`;
  frame.srcdoc = page;
  frame.onload = () => {
    const root = frame.contentDocument.documentElement, view = frame.contentWindow;
    const button = frame.contentDocument.getElementById("theme");
    if (view.getComputedStyle(root).colorScheme !== theme) button.click();
    frame.contentDocument.querySelectorAll("details").forEach(each => each.open = true);
    const style = view.getComputedStyle(frame.contentDocument.body);
    const outside = [...frame.contentDocument.querySelectorAll("body *")].filter(each =>
      !each.closest(".scroll, pre, svg") && each.getBoundingClientRect().right > width + 0.5);
    const line = frame.contentDocument.querySelector("svg path[style*=arm]");
    done({
      width, theme, scroll: root.scrollWidth, view: root.clientWidth, ink: style.color,
      ground: style.backgroundColor, stroke: view.getComputedStyle(line).stroke,
      outside: outside.map(each => each.outerHTML.slice(0, 80)),
    });
  };
  document.body.append(frame);
}));
Promise.all(measured).then(found => document.title = JSON.stringify(found));
</script>"""


def page(runs: list[RunRecord], plan: Plan) -> str:
    results = compare(runs, plan)
    verdict = judge(results)
    panels = [*score_panels(results), *learning_panels(results)]
    drawings = {panel.name: draw(panel, styles(results.names)) for panel in panels}
    return html_report(results, verdict, panels, drawings)


@pytest.fixture(scope="module")
def study_page() -> str:
    return page(*memory_study(range(3)))


@pytest.mark.skipif(BROWSER is None, reason="there is no Chromium")
def test_in_a_browser_nothing_fails_or_overflows_in_either_theme(tmp_path: Path) -> None:
    runs, plan = memory_study(range(3))
    runs += [run(LONG, seed, 100.0 + seed) for seed in range(3)]
    content = json.dumps(page(runs, plan)).replace("</", "<\\/")
    (tmp_path / "frames.html").write_text(FRAMES.replace("PAGE", content))
    finished = subprocess.run(
        [
            str(BROWSER), "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-extensions",
            "--enable-logging=stderr", f"--user-data-dir={tmp_path / 'profile'}",
            "--virtual-time-budget=20000", "--dump-dom", (tmp_path / "frames.html").as_uri(),
        ],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    assert "CONSOLE" not in finished.stderr
    title = re.search("<title>(.*?)</title>", finished.stdout)
    assert title is not None
    cases = json.loads(html.unescape(title[1]))
    assert [(case["width"], case["theme"]) for case in cases] == [
        (380, "light"), (380, "dark"), (1400, "light"), (1400, "dark"),
    ]  # fmt: skip
    for case in cases:
        assert case["outside"] == []
        assert case["scroll"] <= case["view"] <= case["width"]
    light, dark = cases[0], cases[1]
    for part in ("ground", "ink", "stroke"):  # figures take the theme's colours too
        assert light[part] != dark[part]


def test_the_page_needs_nothing_from_elsewhere(study_page: str) -> None:
    text = study_page
    assert not re.findall(r"""(?:src|href)\s*=\s*["'](?!#)""", text)
    assert not re.findall(r"url\((?!#)|@import", text)
    assert "prefers-color-scheme: dark" in text
    assert not set(re.findall(r' id="([^"]+)"', text)) & {"figure_1", "axes_1", "patch_1"}


def test_the_verdict_comes_first_and_every_figure_has_its_numbers(study_page: str) -> None:
    text = study_page
    headings = re.findall(r"<h2>(.*?)</h2>", text)
    assert headings == [
        "Verdict", "Scores", "Costs", "Every run", "Learning curves", "Notes", "Commands",
        "Versions", "Method",
    ]  # fmt: skip
    assert text.count("<figure>") == text.count("<details>") == 3
    assert text.count("<caption>") == 2
    assert "python train.py -m experiment=cartpole_no_velocity" in text
    assert "solved: runs whose score reaches the task&#39;s <code>solved_at</code>" in text
    assert "torch" in text


HOSTILE = '<script>alert("x")</script> & $x_1$'


def test_text_from_files_is_escaped() -> None:
    runs = [
        record(
            *(HOSTILE, HOSTILE, seed, 1.0),
            versions={HOSTILE: HOSTILE},
            curves={EVALUATIONS: Curve(*np.array([[1.0, 2.0]] * 3))},
            notes=(HOSTILE,),
        )
        for seed in range(2)
    ]
    plan = Plan(name=HOSTILE, question=HOSTILE, remarks=(HOSTILE,))
    assert "<script>alert" not in page(runs, plan)
    results = compare(runs, plan)
    markdown = markdown_report(results, judge(results), [])
    code = [line for line in markdown.splitlines() if "<script>" in line]
    assert all(line.startswith("    ") for line in code)  # as it stands, and inert


def test_figures_name_their_colours_and_keep_text_as_text() -> None:
    results = compare(*memory_study(range(2)))
    panel = next(learning_panels(results))
    drawing = draw(panel, styles(results.names))
    assert ">environment steps</text>" in drawing.element
    assert {"--arm-1", "--arm-4", "--ink", "--muted", "--rule"} <= {
        *re.findall(r"var\((--[\w-]+)\)", drawing.element)
    }
    assert drawing.png.startswith(b"\x89PNG")
    assert drawing == draw(panel, styles(results.names))  # nothing random, no date


def test_profiles_are_drawn_from_eight_tasks_on() -> None:
    results = compare(*memory_study(range(3), tasks=[f"task{index}" for index in range(8)]))
    across = judge(results).across
    assert across is not None
    panel = profile_panel(across)
    assert panel.lines[0].middle[0] <= 1
    assert all((line.low <= line.middle).all() for line in panel.lines)
    assert len(panel.table()) == 12


def test_many_comparisons_are_folded() -> None:
    runs = [run(f"a{arm}", seed, float(arm + seed)) for arm in range(6) for seed in range(2)]
    verdict, folded = page(runs, Plan()).split("<details><summary>7 more</summary>")
    assert verdict.count('<li class="') == 8
    assert folded.partition("</details>")[0].count('<li class="') == 7


def test_profiles_of_many_arms_show_the_best() -> None:
    runs = [
        run(f"a{arm}", seed, float(arm + seed), task=f"task{task}")
        for arm in range(10) for task in range(8) for seed in range(2)
    ]  # fmt: skip
    across = judge(compare(runs, Plan())).across
    assert across is not None
    panel = profile_panel(across)
    assert [line.arm for line in panel.lines] == [f"a{arm}" for arm in range(9, 1, -1)]
    assert panel.caption.endswith("The 8 best of 10 arms.")


def test_scores_below_one_keep_their_decimals() -> None:
    """Of MiniGrid, for example."""
    (panel,) = score_panels(compare([run("a", 0, 0.955), run("a", 1, 0.43)], Plan()))
    assert panel.table()[1:] == [["a", "0", "0.955"], ["a", "1", "0.430"]]


def test_recorded_commands_have_the_budget_that_a_run_was_resumed_with(leave) -> None:
    directory = leave("run", "total_env_steps=900", "memory=gru")
    (directory / ".hydra").mkdir()
    words = ["memory=gru", "total_env_steps=400", f"run_dir={directory}", "agent.discount=0.9"]
    (directory / ".hydra" / "overrides.yaml").write_text(json.dumps(words))
    runs = labelled_by_choices([read_run(directory)])
    assert (
        "<code>python train.py memory=gru agent.discount=0.9 total_env_steps=900</code>"
    ) in page(runs, Plan())


def test_telemetry_is_shown_where_there_is_any() -> None:
    results = compare(*memory_study(range(2)))
    assert [panel.name for panel in telemetry_panels(results)] == [
        "representation-actor-dormant_units-cartpole_no_velocity",
        "representation-actor-effective_rank-cartpole_no_velocity",
    ]


def test_without_any_run_that_counts_there_is_a_report_all_the_same(tmp_path: Path) -> None:
    lost = run("gru", 0, None, status="failed", problem="failed at 5 of 9 steps")
    path = write_report(compare([lost], Plan(seeds={(lost.task, "gru"): [0, 1]})), tmp_path)
    assert "failed at 5 of 9 steps" in path.read_text()
    assert "seed 1 not begun" in (tmp_path / "report.md").read_text()
