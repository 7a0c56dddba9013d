"""Every number of the report can be computed from its two CSV files; here by other means."""

import csv
import math
import statistics
from collections import defaultdict
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from analysis.comparison import compare
from analysis.report.report import write_data, write_report
from tests.analysis.synthetic import TASK, memory_study, run

T_OF_4 = 2.7764451  # Student's t, 97.5%, four degrees of freedom
Z = 1.9599640


def rows_of(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text().splitlines()))


class Tables(HTMLParser):
    """The tables of a page, each a list of rows of text."""

    def __init__(self) -> None:
        super().__init__()
        self.tables: list[list[list[str]]] = []
        self.is_cell = False

    def handle_starttag(self, tag, attrs) -> None:
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
            self.is_cell = True

    def handle_endtag(self, tag) -> None:
        self.is_cell = self.is_cell and tag not in ("td", "th")

    def handle_data(self, data) -> None:
        if self.is_cell:
            self.tables[-1][-1][-1] += data


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("report")
    runs, plan = memory_study()
    write_report(compare(runs, plan), directory)
    return directory


@pytest.fixture(scope="module")
def tables(written: Path) -> list[list[list[str]]]:
    parser = Tables()
    parser.feed((written / "report.html").read_text())
    return parser.tables


@pytest.fixture(scope="module")
def by_arm(written: Path) -> dict[str, list[dict[str, str]]]:
    found = defaultdict(list)
    for row in rows_of(written / "results.csv"):
        assert (row["task"], row["metric"], row["counts"]) == (TASK, "last", "true")
        found[row["arm"]].append(row)
    return found


@pytest.fixture(scope="module")
def points(written: Path) -> dict[tuple[str, str], dict[str, list[tuple[float, float, float]]]]:
    """Points (steps, seconds, value) by tag and arm, then by seed."""
    found: dict = defaultdict(lambda: defaultdict(list))
    for row in rows_of(written / "evaluations.csv"):
        point = (float(row["env_steps"]), float(row["seconds"]), float(row["value"]))
        found[row["tag"], row["arm"]][row["seed"]].append(point)
    return found


def table(tables, *heads: str) -> dict[str, dict[str, str]]:
    """The first table with such headers: its cells by row and column."""
    found = next(each for each in tables if each[0][: len(heads)] == [*heads])
    return {row[0]: dict(zip(found[0], row, strict=True)) for row in found[1:]}


def close(text: str, value: float) -> bool:
    """Whether a number as written is this one, rounded."""
    decimals = len(text.partition(".")[2])
    return abs(float(text.replace(",", "")) - value) <= 0.501 * 10**-decimals


def both(text: str, low: float, high: float) -> bool:
    texts = text.strip("[]").split(", ")
    return close(texts[0], low) and close(texts[1], high)


def of(rows: list[dict[str, str]], name: str) -> list[float]:
    return [float(row[name]) for row in rows]


def test_scores_and_intervals(tables, by_arm) -> None:
    shown = table(tables, "arm", "score")
    assert list(shown) == ["lstm", "gru", "rnn", "none"]
    for arm, rows in by_arm.items():
        scores = of(rows, "score")
        mean, half = statistics.fmean(scores), T_OF_4 * statistics.stdev(scores) / math.sqrt(5)
        assert scores == of(rows, "last")
        assert close(shown[arm]["score"], mean)
        assert both(shown[arm]["95% interval"], mean - half, mean + half)
        assert shown[arm]["runs"] == "5"


def test_success(tables, by_arm) -> None:
    shown = table(tables, "arm", "score")
    for arm, rows in by_arm.items():
        solved = sum(float(row["score"]) >= float(row["solved_at"]) for row in rows)
        assert shown[arm]["solved"] == f"{solved} of 5"
        centre, width = solved + Z * Z / 2, Z * math.sqrt(solved * (5 - solved) / 5 + Z * Z / 4)
        low, high = (100 * (centre + sign * width) / (5 + Z * Z) for sign in (-1, 1))
        texts = shown[arm]["95% of success"].replace("%", "").split(" to ")
        assert close(texts[0], low)
        assert close(texts[1], high)


def test_times_and_areas_come_from_the_evaluations(tables, by_arm, points) -> None:
    shown = table(tables, "arm", "score")
    for arm, rows in by_arm.items():
        firsts, areas = [], []
        for seed, curve in points["evaluation/return", arm].items():
            steps, seconds, values = map(np.array, zip(*curve, strict=True))
            reached = np.flatnonzero(values >= 475)
            firsts.append(
                (steps[reached[0]], seconds[reached[0]]) if reached.size else (math.inf,) * 2
            )
            budget = float(rows[int(seed)]["budget"])
            x, y = [0.0, *steps], [values[0], *values]
            assert x[-1] == budget
            areas.append(
                sum((x[i + 1] - x[i]) * (y[i + 1] + y[i]) / 2 for i in range(len(steps))) / budget
            )
        assert of(rows, "steps_to_solve") == [steps for steps, _ in firsts]
        assert of(rows, "seconds_to_solve") == [seconds for _, seconds in firsts]
        assert of(rows, "area") == pytest.approx(areas)
        assert close(shown[arm]["mean height"], statistics.fmean(areas))
        for name, column in (("steps to solve", 0), ("seconds to solve", 1)):
            median = statistics.median(first[column] for first in firsts)
            text = shown[arm][name]
            assert (
                text.startswith("not reached")
                if math.isinf(median)
                else close(text.split()[0], median)
            )


def test_costs(tables, by_arm) -> None:
    shown = table(tables, "arm", "seconds")
    names = {
        "seconds": "training_seconds",
        "steps/s": "steps_per_second",
        "parameters": "parameters",
        "peak MiB": "peak_memory_mib",
    }
    for arm, rows in by_arm.items():
        for title, name in names.items():
            assert close(shown[arm][title], statistics.fmean(of(rows, name)))


def test_every_run_is_below_its_figure(tables, by_arm) -> None:
    rows = next(each for each in tables if each[0] == ["arm", "seed", "score"])[1:]
    kept = {(arm, row["seed"]): float(row["score"]) for arm, rows in by_arm.items() for row in rows}
    assert len(rows) == len(kept) == 20
    assert all(close(score, kept[arm, seed]) for arm, seed, score in rows)


def test_what_memories_hold_is_a_column_where_runs_were_probed(tables, tmp_path: Path) -> None:
    assert not any("hidden state" in each[0] for each in tables)
    runs = [
        run(arm, seed, 1.0, probe_score=score)
        for arm, scores in {"gru": (0.9, 0.7, None), "none": (None, None, None)}.items()
        for seed, score in enumerate(scores)
    ]
    write_report(compare(runs, memory_study()[1]), tmp_path)
    parser = Tables()
    parser.feed((tmp_path / "report.html").read_text())
    shown = table(parser.tables, "arm", "score")
    assert (shown["gru"]["hidden state"], shown["none"]["hidden state"]) == ("0.80", "-")
    assert "| hidden state |" in (tmp_path / "report.md").read_text()
    scores = [row["probe_score"] for row in rows_of(tmp_path / "results.csv")]
    assert sorted(filter(None, scores)) == ["0.7", "0.9"]


@pytest.mark.parametrize("axis", ["environment steps", "seconds of training"])
def test_curves(tables, points, axis: str) -> None:
    shown = next(each for each in tables if each[0] == [axis, "none", "rnn", "gru", "lstm"])
    column = 0 if axis == "environment steps" else 1
    end = max(
        min(c[-1][column] for c in points["evaluation/return", arm].values())
        for arm in shown[0][1:]
    )
    assert len(shown) == 12
    for index, row in enumerate(shown[1:]):
        at = end * index / 10
        assert close(row[0], at)
        for arm, text in zip(shown[0][1:], row[1:], strict=True):
            curves = [list(zip(*c, strict=True)) for c in points["evaluation/return", arm].values()]
            known = all(c[column][0] <= at <= c[column][-1] for c in curves)
            assert bool(text) == known
            if known:
                values = [float(np.interp(at, c[column], c[2])) for c in curves]
                mean, half = (
                    statistics.fmean(values),
                    T_OF_4 * statistics.stdev(values) / math.sqrt(5),
                )
                first, _, interval = text.partition(" ")
                assert close(first, mean)
                assert both(interval, mean - half, mean + half)


def test_telemetry(tables, points) -> None:
    rows = [each for each in tables if each[0][0] == "environment steps"]
    assert len(rows) == 3  # evaluations, and two of telemetry
    for tag, shown in zip(("dormant_units", "effective_rank"), rows[1:], strict=True):
        for index, arm in enumerate(shown[0][1:], 1):
            curves = points[f"representation/actor/{tag}", arm].values()
            last = statistics.fmean(curve[-1][2] for curve in curves)
            assert close(shown[-1][index].partition(" ")[0], last)


def test_the_verdict_s_numbers(written: Path, by_arm) -> None:
    text = (written / "report.md").read_text()
    none, lstm = (of(by_arm[arm], "score") for arm in ("none", "lstm"))
    difference = statistics.fmean(lstm) - statistics.fmean(none)
    (line,) = (
        line
        for line in text.splitlines()
        if "lstm is better than none" in line and "against" in line
    )
    assert close(line.partition("difference ")[2].split()[0], difference)


def test_runs_that_do_not_count_are_in_the_file_with_their_reason(tmp_path: Path) -> None:
    runs, plan = memory_study(range(3))
    lost = run("gru", 7, None, status="failed", problem="failed at 5 of 9 steps")
    write_data(compare([*runs, lost], plan), tmp_path)
    (row,) = (row for row in rows_of(tmp_path / "results.csv") if row["counts"] == "false")
    assert (row["arm"], row["seed"], row["reason"]) == ("gru", "7", "failed at 5 of 9 steps")
