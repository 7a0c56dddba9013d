"""Published scores: the rows are what the presets train, and are judged as they say."""

from pathlib import Path

import pytest

from benchmarks import learning
from benchmarks.learning import Outcome, Run, judge, learning_table, outcome, planned, train_missing
from benchmarks.published import ROWS
from conf.checking.pretraining import frames_wanted
from conf.composing.command_line import load

PRESETS = Path(__file__).resolve().parents[1] / "conf" / "experiment"
PRESENT = [name for name, row in ROWS.items() if (PRESETS / f"{row.experiment}.yaml").exists()]
TINY = ("experiment=cartpole", "total_env_steps=256", "evaluation.final_episodes=2", "device=cpu")


def reached(*finals: float, best: float = 500.0) -> list[Outcome]:
    return [Outcome(final=final, best=best, seconds=2.0) for final in finals]


@pytest.mark.filterwarnings("ignore:experiment=.*left out memory")  # in controls
@pytest.mark.parametrize("name", PRESENT)
def test_presets_stay_within_the_row_s_terms(name: str, tmp_path: Path) -> None:
    """No more steps than the published score had, and the episodes that it is judged by."""
    runs, controls = planned(name, [1], tmp_path)
    for run in (*runs, *controls):
        config = load(run.words)
        before = frames_wanted(config)
        assert config.total_env_steps + (before["frames"] if before else 0) <= ROWS[name].budget
        assert config.evaluation.final_episodes == ROWS[name].episodes
        assert config.evaluation.deterministic
        assert config.seed == 1


def test_a_control_differs_from_its_row_in_one_word(tmp_path: Path) -> None:
    runs, controls = planned("L14", [1, 2], tmp_path)
    assert [run.seed for run in controls] == [1, 2]
    assert {control.folder for control in controls}.isdisjoint(run.folder for run in runs)
    for run, control in zip(runs, controls, strict=True):
        assert set(control.words) - set(run.words) == {"memory=none"}
    assert planned("L1", [1], tmp_path)[1] == []


def test_what_is_missing_is_trained_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = Run("broken", 1, ("agent.no_such_key=1",), tmp_path / "broken")
    run = Run("tiny", 7, (*TINY, "seed=7"), tmp_path / "tiny")
    assert outcome(run) is None
    assert not train_missing([broken, run], jobs=2)
    assert "broken seed 1: failed with exit code 2: agent.no_such_key" in capsys.readouterr().err
    trained = outcome(run)
    assert trained is not None
    assert 5 < trained.final < 500
    monkeypatch.setattr(learning, "train", None)  # whatever would be trained now breaks
    assert train_missing([run], jobs=1)
    assert outcome(Run("tiny", 7, (*run.words, "agent.discount=0.9"), run.folder)) is None
    assert outcome(Run("tiny", 8, (*TINY, "seed=8"), run.folder)) is None
    (summary,) = run.folder.glob("*/summary.json")
    summary.write_text(summary.read_text().replace('"finished"', '"interrupted"'))
    assert outcome(run) is None


def test_a_row_is_judged_by_the_mean_of_its_seeds() -> None:
    row = ROWS["L1"]
    assert judge(row, reached(500, 500, 425), []) == "pass"
    assert judge(row, reached(500, 500, 424), []) == "**fail**"
    assert judge(row, [*reached(500), None, None], []) == "1 of 3 seeds"
    assert judge(row, [None, None], []) == "not run"


def test_a_row_with_a_control_needs_that_to_stay_low() -> None:
    row = ROWS["L14"]
    good = reached(450, 450)
    assert judge(row, good, reached(200, 200)) == "pass"
    assert judge(row, good, reached(200, 201)).startswith("**fail**")
    assert judge(row, good, [*reached(40), None]) == "pass, control not run"
    assert judge(row, good, []) == "pass, control not run"
    assert judge(row, reached(500, 500, best=474.9), reached(40, 40)) == "**fail**"


def test_the_table_shows_every_seed_beside_the_bar() -> None:
    row, not_run = learning_table(
        {"L14": (reached(472, 500), reached(41, 43.5)), "L4": ([None], [])}
    ).splitlines()[2:]
    assert "| >= 450, each seed's best >= 475 | **486** (472, 500); best 500, 500 |" in row
    assert row.endswith("| <= 200: **42.25** (41, 43.5) | 2 | pass |")
    assert not_run.endswith("| >= -200 | not run | - | - | not run |")
