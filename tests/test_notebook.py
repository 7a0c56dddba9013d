"""The notebook's cells run, one after the other, as in a kernel that has the package."""

import json
import re
from pathlib import Path

import pytest

import neurl

NOTEBOOK = Path(neurl.__file__).parent / "docs" / "neurl.ipynb"
CELLS = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]


def code() -> list[str]:
    return ["".join(cell["source"]) for cell in CELLS if cell["cell_type"] == "code"]


@pytest.mark.filterwarnings("ignore:experiment=memory. left out")
def test_the_cells_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.chdir(NOTEBOOK.parent)
    monkeypatch.setattr("training.evaluation.evaluation.MAX_EPISODE_STEPS", 50)  # the untrained
    names: dict[str, object] = {}
    for source in code():
        small = re.sub(r"^%.*", "", source, flags=re.MULTILINE)
        small = small.replace("100_000", "5_000").replace("episodes=200", "episodes=2")
        small = small.replace('FOLDER / "runs"', f"Path({str(tmp_path)!r})")
        small = small.replace("seed=1)", 'seed=1, **{"evaluation.final_episodes": 2})')
        exec(small, names)
    axes = names["axes"]
    assert [line.get_label() for line in axes.lines][:2] == ["none", "gru"]  # type: ignore[attr-defined]
    assert len(axes.lines[0].get_xdata()) >= 1  # type: ignore[attr-defined]
    assert "distance of the memory" in capsys.readouterr().out


def test_it_shows_what_it_printed_and_nothing_of_the_machine() -> None:
    outputs = [output for cell in CELLS for output in cell.get("outputs", [])]
    assert any("image/png" in output.get("data", {}) for output in outputs)
    assert not [output for output in outputs if output["output_type"] == "error"]
    text = json.dumps([{**output, "data": {}} for output in outputs])
    assert "/home/" not in text and "/tmp/" not in text and "/root/" not in text
    assert NOTEBOOK.stat().st_size < 150_000
