"""The guard table has a row for each of its configurations, and each is a run."""

import json

import pytest

from conf.composing.command_line import load
from tests.guard import IN_RUNS, NAMES, ON_IDS, ON_SPACES, TABLE


def test_table_has_every_row_once() -> None:
    assert len(NAMES) == len(set(NAMES))
    assert list(json.loads(TABLE.read_text())["rows"]) == NAMES


@pytest.mark.slow  # make guard trains them
@pytest.mark.parametrize("name", NAMES)
def test_row_composes(name: str) -> None:
    words = {**ON_IDS, **IN_RUNS}.get(name) or ON_SPACES[name][2]
    load(words)
