"""Arms of runs found on disk: runs that differ in their seed only share one."""

import pytest

from analysis.comparison import Plan, compare
from analysis.grouping import differing_choices, labelled_by_choices
from analysis.runs import find_runs
from conf.composing.choices import choices


@pytest.fixture
def found(leave, tmp_path):
    """Leaves runs, each a list of words and a score, and compares them."""

    def find(*runs):
        for number, (words, score) in enumerate(runs):
            leave(f"{number:02}", *words, score=score)
        records, skipped = find_runs([str(tmp_path)])
        assert not skipped
        results = compare(labelled_by_choices(records), Plan())
        return results, records

    return find


def scores(results) -> dict[str, list[float]]:
    return {arm.arm: list(arm.scores) for arm in results.arms}


def test_seeds_share_an_arm_and_choices_name_it(found) -> None:
    results, records = found(
        (["memory=gru", "seed=0"], 10.0),
        (["memory=gru", "seed=1"], 20.0),
        (["memory=none", "seed=0"], 1.0),
        (["memory=none", "agent.clip_range=0.1"], 2.0),
    )
    assert differing_choices(records) == ("memory", "agent.clip_range")  # the parts first
    assert scores(results) == {
        "GRU agent.clip_range=0.2": [10.0, 20.0],
        "NoMemory agent.clip_range=0.2": [1.0],
        "NoMemory agent.clip_range=0.1": [2.0],
    }


def test_keys_of_one_class_alone_are_hidden(found) -> None:
    _, records = found((["memory=none"], 1.0), (["memory=lstm"], 2.0), (["memory=rnn"], 3.0))
    assert differing_choices(records) == ("memory",)


def test_keys_that_differ_within_a_class_are_shown(found) -> None:
    results, records = found(
        (["memory=none"], 1.0),
        (["memory=lstm"], 2.0),
        (["memory=lstm", "memory.hidden_size=32"], 3.0),
    )
    assert differing_choices(records) == ("memory", "memory.hidden_size")
    assert len(results.arms) == 3


def test_keys_with_most_values_come_first(found) -> None:
    _, records = found(
        ([], 1.0),
        (["agent.clip_range=0.1"], 1.0),
        (["total_env_steps=5"], 1.0),
        (["total_env_steps=6", "agent=a2c"], 1.0),
    )
    assert differing_choices(records)[:2] == ("agent", "total_env_steps")


def test_a_critics_own_memory_is_a_choice(found) -> None:
    results, records = found(([], 1.0), (["memory@critic.memory=none"], 2.0))
    assert differing_choices(records) == ("critic.memory",)
    assert scores(results) == {"critic.memory=null": [1.0], "critic.memory=NoMemory": [2.0]}


def test_keys_of_the_users_own_are_choices_where_they_are_missing_too(found) -> None:
    results, records = found(([], 1.0), (["+optimizer.groups.memory.learning_rate=1e-5"], 2.0))
    assert differing_choices(records) == ("optimizer.groups.memory.learning_rate",)
    assert len(results.arms) == 2


def test_how_a_run_was_watched_is_no_choice(found) -> None:
    results, _ = found(
        (["seed=1"], 1.0),
        (["seed=2", "tracking=none"], 3.0),
        (["seed=3", "checkpoint.interval=7", "evaluation.video=true"], 5.0),
    )
    assert scores(results) == {"PPO MLP NoMemory": [1.0, 3.0, 5.0]}


def test_true_and_one_are_different_values(found) -> None:
    _, records = found((["num_threads=1"], 1.0), (["num_threads=auto"], 1.0))
    assert differing_choices(records) == ("num_threads",)


def test_environments_are_compared_apart(found) -> None:
    results, _ = found(
        ([], 1.0),
        (["pomdp=mask_velocity"], 1.0),
        (["env=pendulum"], -7.0),
        (["env=pendulum", "+env.kwargs.g=9.0"], -5.0),
    )
    assert results.tasks == ["CartPole-v1", "CartPole-v1-mask_velocity", "Pendulum-v1"]
    assert [arm.mean for arm in results.ranked("Pendulum-v1")] == [-5.0, -7.0]
    assert {arm.arm for arm in results.of_task("Pendulum-v1")} == {
        "env.kwargs.g=-",
        "env.kwargs.g=9",
    }


def test_long_names_of_arms_are_cut_and_stay_apart(found) -> None:
    words = ["agent.clip_range=0.1", "agent.discount=0.9", "agent.gae_lambda=0.9"]
    results, _ = found(([], 1.0), (words, 2.0), ([*words[:2], "agent.gae_lambda=0.8"], 3.0))
    assert len(set(results.names)) == 3
    assert all(len(name) < 60 for name in results.names)


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
