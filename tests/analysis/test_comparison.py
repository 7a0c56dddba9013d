"""Tables: a row for runs that differ in their seed only, a column for each differing choice."""

import pytest

from analysis.comparison import compare
from analysis.runs import read_run
from analysis.tables import write
from conf.composing.choices import choices


@pytest.fixture
def table(leave):
    """Compares runs, each a list of words and a score; expects them in one environment."""
    left = []

    def make(*runs):
        for words, score in runs:
            left.append(leave(str(len(left)), *words, score=score))
        (made,) = compare(read_run(directory) for directory in left)
        return made

    return make


def scores(table) -> dict[tuple, tuple]:
    return {
        tuple(row.configuration.get(key) for key in table.choices): (
            row.score,
            row.score_deviation,
            row.seeds,
        )
        for row in table.rows
    }


def test_seeds_are_averaged_and_choices_are_columns(table) -> None:
    found = table(
        (["memory=gru", "seed=0"], 10.0),
        (["memory=gru", "seed=1"], 20.0),
        (["memory=none", "seed=0"], 1.0),
        (["memory=none", "agent.clip_range=0.1"], 2.0),
    )
    assert found.choices == ("agent.clip_range", "memory")  # in the configuration's order
    assert scores(found) == {
        (0.2, "GRU"): (15.0, pytest.approx(50**0.5), 2),
        (0.2, "NoMemory"): (1.0, None, 1),
        (0.1, "NoMemory"): (2.0, None, 1),
    }
    assert [row.score for row in found.rows] == [15.0, 2.0, 1.0]  # the best first
    assert found.notes == ()


def test_keys_of_one_class_alone_are_hidden(table) -> None:
    found = table((["memory=none"], 1.0), (["memory=lstm"], 2.0), (["memory=rnn"], 3.0))
    assert found.choices == ("memory",)


def test_keys_that_differ_within_a_class_are_shown(table) -> None:
    found = table(
        (["memory=none"], 1.0),
        (["memory=lstm"], 2.0),
        (["memory=lstm", "memory.hidden_size=32"], 3.0),
    )
    assert found.choices == ("memory", "memory.hidden_size")
    assert set(scores(found)) == {("NoMemory", None), ("LSTM", 64), ("LSTM", 32)}


def test_a_critics_own_memory_is_a_choice(table) -> None:
    found = table(([], 1.0), (["memory@critic.memory=none"], 2.0))
    assert found.choices == ("critic.memory",)
    assert set(scores(found)) == {(None,), ("NoMemory",)}


def test_keys_of_the_users_own_are_choices_where_they_are_missing_too(table) -> None:
    found = table(([], 1.0), (["+optimizer.groups.memory.learning_rate=1e-5"], 2.0))
    assert found.choices == ("optimizer.groups.memory.learning_rate",)
    assert len(found.rows) == 2
    assert "| - |" in write([found], "markdown")


def test_how_a_run_was_watched_is_no_choice(table) -> None:
    found = table(
        (["seed=1"], 1.0),
        (["seed=2", "tracking=none"], 3.0),
        (["seed=3", "checkpoint.interval=7", "evaluation.video=true"], 5.0),
    )
    assert scores(found) == {("PPO", "MLP", "NoMemory"): (3.0, 2.0, 3)}


def test_the_same_seed_twice_is_no_second_sample(table) -> None:
    found = table((["seed=1"], 1.0), (["seed=1"], 9.0), (["seed=2"], 4.0))
    assert scores(found) == {("PPO", "MLP", "NoMemory"): (6.5, pytest.approx(12.5**0.5), 2)}
    (note,) = found.notes
    assert note.startswith("seed 1 was run more than once")
    assert note.endswith("/1 counts")  # the later directory


def test_a_finished_run_counts_before_an_unfinished_one_of_its_seed(leave) -> None:
    runs = [leave("a", "seed=1", score=4.0), leave("b", "seed=1", status="failed", env_steps=9999)]
    (found,) = compare(map(read_run, runs))
    assert (found.rows[0].score, found.rows[0].status) == (4.0, "1 finished")


def test_unfinished_runs_are_told_and_have_no_score(leave) -> None:
    runs = [
        leave("a", "seed=1", score=4.0, env_steps=100),
        leave("b", "seed=2", score=8.0, env_steps=50, status="interrupted"),
        leave("c", "memory=gru", score=None, status="running", env_steps=7),
    ]
    (found,) = compare(map(read_run, runs))
    finished, running = found.rows
    assert (finished.score, finished.seeds, finished.env_steps) == (4.0, 1, 100)
    assert finished.status == "1 finished, 1 interrupted"
    assert (running.score, running.seeds, running.env_steps) == (None, 0, 7)
    text = write([found], "text")
    assert text.splitlines()[1].endswith("status")
    assert text.splitlines()[2].endswith("1 finished, 1 interrupted")
    assert " - " in text.splitlines()[3]


def test_environments_are_compared_apart(leave) -> None:
    runs = [
        leave("a"),
        leave("b", "pomdp=mask_velocity"),
        leave("c", "env=pendulum", score=-7.0),
        leave("d", "env=pendulum", "+env.kwargs.g=9.0", score=-5.0),
    ]
    tables = compare(map(read_run, runs))
    assert [table.environment for table in tables] == [
        "CartPole-v1",
        "CartPole-v1-mask_velocity",
        "Pendulum-v1",
    ]
    assert tables[2].choices == ("env.kwargs.g",)
    assert [row.score for row in tables[2].rows] == [-5.0, -7.0]


def test_budgets_that_differ_are_told(table) -> None:
    found = table(([], 1.0), (["total_env_steps=5000"], 2.0))
    assert found.choices == ("total_env_steps",)
    assert found.notes == (
        "budgets differ: total_env_steps is 5,000 or 100,000; compare scores of equal budgets",
    )


def test_steps_of_pretraining_count(leave) -> None:
    runs = [leave("a", score=1.0), leave("b", "seed=1", score=2.0, pretraining_env_steps=500)]
    records = [read_run(directory) for directory in runs]
    assert [record.env_steps for record in records] == [1000, 1500]
    assert [record.budget for record in records] == [100_000, 100_500]
    (found,) = compare(records)
    assert found.rows[0].env_steps == 1250
    assert found.notes == (
        "budgets differ: total_env_steps with pre-training is 100,000 or 100,500; "
        "compare scores of equal budgets",
        "env steps and budgets count those of pre-training, where there was any: 500",
    )


def test_true_and_one_are_different_values(leave) -> None:
    runs = [leave("a", "num_threads=1"), leave("b", "num_threads=auto")]
    (found,) = compare(map(read_run, runs))
    assert found.choices == ("num_threads",)


def test_classes_are_short_but_for_those_of_users() -> None:
    config = {
        "memory": {"_target_": "networks.memory.LSTM", "hidden_size": 3},
        "extractor": {"_target_": "my_package.networks.MLP"},
        "optimizer": {"_target_": "torch.optim.Adam", "betas": [0.9, 0.99]},
        "env": {"kwargs": {}, "id": "ALE/Pong-v5"},
        "critic": None,
    }
    assert choices(config) == {
        "memory": "LSTM",
        "memory.hidden_size": 3,
        "extractor": "my_package.networks.MLP",
        "optimizer": "Adam",
        "optimizer.betas": "[0.9, 0.99]",
        "env.id": "ALE/Pong-v5",
        "critic": None,
    }


TEXT = """\
CartPole-v1
  compile   memory                 score   seeds   env steps   training s   steps/s   parameters
  false     LSTM       1234.50 +-   6.36       2       1,000          2.0       500           77
  true      GRU          10.00 +- 141.42       2       1,000          2.0       500           77
  false     NoMemory     -3.25                 1   1,234,567          2.0       500           77"""

MARKDOWN = """\
## CartPole-v1

| memory | score | seeds | env steps | training s | steps/s | parameters |
| --- | ---: | ---: | ---: | ---: | ---: | ---: |
| NoMemory | 2.00 | 1 | 1,000 | 2.0 | 500 | 77 |
| LSTM | 1.00 | 1 | 1,000 | 2.0 | 500 | 77 |"""

CSV = """\
environment,memory,total_env_steps,score_mean,score_std,seeds,env_steps,training_seconds,\
steps_per_second,parameters,status
CartPole-v1,NoMemory,100000,2.0,,1,1000.0,2.0,500.0,77.0,1 finished
CartPole-v1,LSTM,100000,1.0,,1,1000.0,2.0,500.0,77.0,1 finished
Pendulum-v1,NoMemory,100000,3.5,,1,1000.0,2.0,500.0,77.0,1 finished
Pendulum-v1,NoMemory,7000,-4.0,,1,1000.0,2.0,500.0,77.0,1 finished"""


def test_text_is_aligned(leave) -> None:
    runs = [
        leave("a", "memory=lstm", "seed=0", score=1230.0),
        leave("b", "memory=lstm", "seed=1", score=1239.0),
        leave("c", "memory=gru", "compile=true", "seed=0", score=110.0),
        leave("d", "memory=gru", "compile=true", "seed=1", score=-90.0),
        leave("e", "memory=none", score=-3.25, env_steps=1_234_567),
    ]
    assert write(compare(map(read_run, runs)), "text") == TEXT


def test_markdown(leave) -> None:
    runs = [leave("a", "memory=lstm", score=1.0), leave("b", score=2.0)]
    assert write(compare(map(read_run, runs)), "markdown") == MARKDOWN


def test_csv_is_one_table_of_numbers(leave) -> None:
    runs = [
        leave("a", "memory=lstm", score=1.0),
        leave("b", score=2.0),
        leave("c", "env=pendulum", score=3.5),
        leave("d", "env=pendulum", "total_env_steps=7000", score=-4.0),
    ]
    assert write(compare(map(read_run, runs)), "csv") == CSV
