"""The guard table has a row for each of its configurations, and each is a run."""

import json
import sys

import pytest

from conf.composing.command_line import load
from tests import guard
from tests.guard import IN_RUNS, NAMES, ON_IDS, ON_SPACES, TABLE


def test_table_has_every_row_once() -> None:
    assert len(NAMES) == len(set(NAMES))
    assert list(json.loads(TABLE.read_text())["rows"]) == NAMES


@pytest.mark.slow  # make guard trains them
@pytest.mark.parametrize("name", NAMES)
def test_row_composes(name: str) -> None:
    words = {**ON_IDS, **IN_RUNS}.get(name) or ON_SPACES[name][2]
    load(words)


def test_another_commit_computes_some_rows_alone(monkeypatch) -> None:
    def run(command: list[str], **_: object) -> None:
        if "tests.guard" in command:  # in the other commit's checkout
            monkeypatch.setattr(sys, "argv", command[command.index("tests.guard") :])
            guard.main()

    monkeypatch.setattr(guard, "machine", dict)  # asks another process
    monkeypatch.setattr(guard.subprocess, "run", run)
    monkeypatch.setattr(guard, "computed", lambda name: {"weights": name, "return": "0"})
    assert guard.of_commit("HEAD", ["sac"]) == {"sac": {"weights": "sac", "return": "0"}}
