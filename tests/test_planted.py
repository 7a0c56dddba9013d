"""The list of planted faults fits the source: or it would rot without a word."""

import ast

import pytest

from tests.planted.fault import ROOT, Fault
from tests.planted.faults import FAULTS
from tests.planted.run import planted, problems


def test_every_fault_can_be_planted_and_its_tests_are_there() -> None:
    assert problems(FAULTS) == []
    assert len(FAULTS) >= 175
    assert len({fault.name for fault in FAULTS}) == len(FAULTS)
    assert len({(fault.file, fault.text, fault.planted) for fault in FAULTS}) == len(FAULTS)
    for fault in FAULTS:
        assert fault.text != fault.planted, fault.name
        for test in fault.tests:
            file, _, name = test.partition("::")
            assert f"def {name}(" in (ROOT / file).read_text(encoding="utf-8") or not name, test


@pytest.mark.parametrize("count", [0, 2])
def test_a_text_that_is_not_there_once_is_told(count: int) -> None:
    fault = Fault(
        "name", "agents/mathematics/returns.py", "a = b", "a = c", ("tests/agents/test_returns.py",)
    )
    problem = fault.problem("a = b\n" * count)
    assert problem == f"agents/mathematics/returns.py: found {count} times, expected once: 'a = b'"
    assert fault.problem("a = b\n") is None


def test_a_fault_is_planted_for_a_while_in_a_copy(tmp_path) -> None:
    file = tmp_path / "one.py"
    file.write_text("a = b\nc = d\n", encoding="utf-8")
    written = file.stat().st_mtime_ns
    with planted(Fault("name", "one.py", "c = d", "c = e", ()), tmp_path):
        assert ast.dump(ast.parse(file.read_text())) == ast.dump(ast.parse("a = b; c = e"))
    assert file.read_text() == "a = b\nc = d\n"
    assert file.stat().st_mtime_ns == written
