"""What is legal is built, what is not is refused in one line, and the documentation says so."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.grid import Combination, is_legal, pairs, refusal, refused_pairs, registered
from tests.support import EXTRACTORS, OBSERVED, OF_AGENTS, TRAINED, answer, cells, page

PAGE = Path(__file__).resolve().parents[1] / "docs" / "support.md"
# Those of the other table that are legal, pairs of choices, `tests/test_grid.py` trains.
CELLS = dict(cells(OBSERVED)) | {
    name: combination for name, combination in cells(TRAINED) if not is_legal(combination)
}


@pytest.fixture(scope="module", autouse=True)
def environment() -> Iterator[None]:
    with registered():
        yield


@pytest.mark.parametrize("extractor", EXTRACTORS)
def test_cells_are_built_or_refused_as_the_grid_says(extractor: str) -> None:
    own = {name: one for name, one in CELLS.items() if f"`{one['extractor']}`" == extractor}
    assert {is_legal(one) for one in own.values()} == {True, False}
    for name, combination in own.items():
        assert_as_the_grid_says(name, combination)


def assert_as_the_grid_says(name: str, combination: Combination) -> None:
    expected, line = refusal(combination), answer(combination)
    assert (line is None) == (expected is None), f"{name}: {line}"
    if line is not None and expected is not None:
        assert re.search(expected, line), f"{name}: {line}"
        assert "\n" not in line


def test_what_agents_lack_is_refused_and_none_of_it_is_left_out() -> None:
    refused = {name: one for name, one in cells(OF_AGENTS) if not is_legal(one)}
    shown = set().union(*(pairs(one) for one in refused.values()))
    assert refused_pairs("agent") | refused_pairs("memory") <= shown
    for name, combination in refused.items():
        assert_as_the_grid_says(name, combination)


def test_the_page_is_current() -> None:
    assert page() == PAGE.read_text(), "python -m tests.support > docs/support.md"
