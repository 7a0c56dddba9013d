"""Tables in a terminal."""

import pytest

from analysis.comparison import Plan, compare
from analysis.tables import write
from tests.analysis.synthetic import record, run

TEXT = """\
cartpole_no_velocity   score: mean return of the final evaluation, with the last weights
  arm   score   95% interval   runs   solved   steps/s   parameters   peak MiB
  b      15.0    [7.5, 22.5]      3   0 of 3     3,000       20,000        410
  a         7              -      1   0 of 1     3,000       20,000        410"""


def varied(count: int = 9):
    """Arms that differ in everything."""
    keys = {f"part.key_{index}": index for index in range(count)}
    runs = [
        run(
            f"arm{arm}",
            seed,
            10.0 * arm + seed,
            choices={
                **record().choices,
                "memory": name,
                **{key: value * arm for key, value in keys.items()},
            },
        )
        for arm, name in enumerate(["NoMemory", "GRU", "LSTM"])
        for seed in range(3)
    ]
    return compare(runs, Plan())


def test_text_is_aligned_and_the_best_arm_comes_first() -> None:
    runs = [run("a", 0, 7.0), *(run("b", seed, score) for seed, score in enumerate([12, 15, 18]))]
    assert write(compare(runs, Plan(words={"a": [], "b": []}))) == TEXT


@pytest.mark.parametrize("width", [60, 80, 100, 200])
def test_text_fits_the_terminal_and_says_what_is_folded(width: int) -> None:
    lines = write(varied(), width=width).splitlines()
    assert max(map(len, lines)) <= width
    heads = next(line for line in lines if "score " in line and "95%" in line).split()
    assert heads[0] == "memory"
    assert "score" in heads
    shown = sum(head.startswith("part.") for head in heads)
    # The key that is 0 in every arm does not differ.
    folded = 8 - shown
    assert (f"  and {folded} more keys differ: columns=all shows them" in lines) == (folded > 0)


def test_columns_are_chosen() -> None:
    every = write(varied(), "all", width=60)
    assert all(f"part.key_{index}" in every for index in range(1, 9))
    assert "columns=all" not in every
    chosen = write(varied(), ["part.key_3"], width=60)
    assert next(line for line in chosen.splitlines() if "95%" in line).split()[0] == "part.key_3"
    assert "memory" not in chosen


def test_unfinished_runs_have_rows_if_asked_for() -> None:
    runs = [
        *(run("a", seed, 7.0) for seed in range(2)),
        run("a", 2, None, status="interrupted"),
        run("b", 0, None, status="running"),
    ]
    assert " b " not in write(compare(runs, Plan()))
    text = write(compare(runs, Plan(status="all")), width=200)
    assert "2 finished, 1 interrupted" in text
    assert "1 running" in text.splitlines()[3]
