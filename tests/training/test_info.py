"""Numbers of an episode's last info: on the curves, in summaries, in the table of episodes."""

import csv
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.envs.registration import register, registry

from conf.composing.command_line import InvalidConfiguration, load
from tests.training.endings import Killed
from training.evaluation.watching import watch_run
from training.stream.episodes import EpisodeCounter

ENV_ID = "test/Task-v0"
WORDS = [
    *(f"env.id={ENV_ID}", "env.num_envs=2", "total_env_steps=320", "evaluation.interval=0"),
    *("tracking.interval=32", "tracking.episodes=true"),
]


class Task(gymnasium.Env[Any, Any]):
    """Every third episode of an environment fails, and tells its energy; seven steps each."""

    observation_space = spaces.Box(-1, 1, (2,), np.float32)
    action_space = spaces.Discrete(2)
    episodes = 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps, self.episodes = 0, self.episodes + 1
        return np.zeros(2, np.float32), {"is_success": True, "energy": 100.0}

    def step(self, action):
        self.steps += 1
        fails = self.episodes % 3 == 0
        info = {"is_success": not fails, "label": "a word"}
        if fails and self.steps == 7:
            info["energy"] = 0.5
        return np.zeros(2, np.float32), 1.0, self.steps == 7, False, info


@pytest.fixture(scope="module")
def task():
    register(ENV_ID, entry_point=Task)
    yield
    del registry[ENV_ID]


@pytest.fixture(scope="module")
def run(task, train):
    return train(*WORDS, "tracking.info=[is_success,energy,label,none]")


def rows(directory: Path) -> list[dict[str, str]]:
    with (directory / "episodes.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_table_has_a_line_for_each_episode(run) -> None:
    table = rows(run.directory)
    keys = ["is_success", "energy", "label", "none"]
    assert list(table[0]) == ["env_steps", "seconds", "environment", "return", "length", *keys]
    assert len(table) == run.summary["env_steps"] // 7
    for number, row in enumerate(table):
        fails = number // 2 % 3 == 2
        assert (row["environment"], row["return"], row["length"]) == (str(number % 2), "7.0", "7")
        assert [row[key] for key in keys] == (
            ["0.0", "0.5", "", ""] if fails else ["1.0", "", "", ""]
        )
    steps = [int(row["env_steps"]) for row in table]
    assert steps == sorted(steps)
    assert steps[-1] <= run.summary["env_steps"]


def test_what_another_environment_told_is_not_an_episodes_own(vectorized) -> None:
    counter = EpisodeCounter(vectorized(Task(), Task()))
    counter.info_keys = ("energy",)
    infos = {"energy": np.array([0.5, 0.0]), "_energy": np.array([True, False])}
    first, second = counter.add(np.ones(2), np.ones(2, dtype=bool), infos)
    assert (first.info, second.info) == ({"energy": 0.5}, {})


class Cut(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Truncates after five steps: the environment below does not know."""

    def step(self, action):
        observation, reward, terminated, _, info = self.env.step(action)
        return observation, reward, terminated, self.env.unwrapped.steps == 5, info


def test_a_wrapper_that_ends_an_episode_keeps_what_its_last_step_told(task, train) -> None:
    wrapper = "{_target_: tests.training.test_info.Cut}"
    run = train(*WORDS, f"env.wrappers=[{wrapper}]", "trusted_packages=[tests]")
    assert {row["length"] for row in rows(run.directory)} == {"5"}
    assert {row["is_success"] for row in rows(run.directory)} == {"0.0", "1.0"}


@pytest.mark.parametrize("keys", ["return", "is_success,success_rate", "energy,energy"])
def test_a_name_that_is_taken_is_refused(keys: str) -> None:
    with pytest.raises(InvalidConfiguration, match="names a number of episodes already"):
        load([f"tracking.info=[{keys}]"])


def test_curves_and_evaluations_average_what_episodes_told(run) -> None:
    curves = run.scalars()
    assert {value for _, value in curves["episode/energy"]} == {0.5}
    assert 0.0 < np.mean([value for _, value in curves["episode/success_rate"]]) < 1.0
    assert "episode/label" not in curves
    # Two environments, one episode each: the first, which succeeds.
    assert [value for _, value in curves["evaluation/success_rate"]] == [1.0]
    assert "evaluation/energy" not in curves
    assert run.summary["evaluation"]["success_rate"] == 1.0


def test_a_key_that_no_episode_tells_is_reported_once(task, train, capsys) -> None:
    train(*WORDS, "tracking.info=[is_success,enrgy,energy]")
    said = [line for line in capsys.readouterr().out.splitlines() if "tracking.info" in line]
    assert len(said) == 1 and said[0].startswith("notice: tracking.info=enrgy: no episode of 2")
    short = [word for word in WORDS if "total" not in word]
    train(*short, "tracking.info=[enrgy]", "total_env_steps=32")
    assert "notice: tracking.info=enrgy: no episode of " in capsys.readouterr().out
    train(*WORDS, "tracking.info=[is_success,energy]")
    assert "tracking.info" not in capsys.readouterr().out


def test_a_finished_run_is_evaluated_for_them_too(run) -> None:
    words = [f"run='{run.directory}'", "evaluation.episodes=6", "evaluation.num_envs=2"]
    evaluation = watch_run(load(words, "evaluate")).evaluation
    assert evaluation.info == {"success_rate": pytest.approx(2 / 3), "energy": 0.5}


def test_a_resumed_run_has_the_same_table(run, train, go_on, kill, tmp_path) -> None:
    kill(6)  # one iteration after a checkpoint
    with pytest.raises(Killed):
        train(*WORDS, "checkpoint.interval=64", directory=tmp_path / "run")
    kill(0)
    resumed = rows(go_on(tmp_path / "run").directory)
    shared = [name for name in resumed[0] if name != "seconds"]
    assert [[row[n] for n in shared] for row in resumed] == [
        [row[n] for n in shared] for row in rows(run.directory)
    ]


def test_a_table_without_event_files_is_refused() -> None:
    with pytest.raises(InvalidConfiguration, match=r"tracking\.episodes: expected false"):
        load(["tracking=none", "tracking.episodes=true"])
