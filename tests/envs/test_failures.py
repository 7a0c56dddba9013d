"""What a user's environment does wrong is told where, with a remedy, and ends nothing else."""

import itertools
import json
import os
import random
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import gymnasium
import numpy as np
import pytest
from gymnasium.wrappers import NormalizeObservation, NormalizeReward, TransformReward

from envs import seeding
from envs.seeding import reset_with_seeds
from envs.spaces import check_spaces
from envs.vector.failures import EnvironmentFailure, in_one_line, place_of
from tests.envs.misbehaving import Steady, Told

HERE = "tests/envs/test_failures.py"


def caught(raises: Any) -> BaseException:
    try:
        raises()
    except BaseException as error:
        return error
    raise AssertionError


def test_an_error_is_told_with_its_place_in_the_users_code() -> None:
    error = caught(lambda: {}["ask"])
    line = error.__traceback__.tb_next.tb_lineno  # type: ignore[union-attr]
    assert in_one_line(error) == f"KeyError: 'ask' ({HERE}:{line} in <lambda>)"


def test_an_error_inside_a_library_is_told_where_the_user_called_it() -> None:
    error = caught(lambda: json.loads("{"))
    assert f"({HERE}:" in in_one_line(error)


def test_an_error_of_our_own_has_no_place() -> None:
    space = gymnasium.spaces.Text(3)
    assert place_of(caught(lambda: check_spaces(space, gymnasium.spaces.Discrete(2)))) == ""


class Panic(BaseException):
    """As extensions written in Rust raise."""


class Panicking(Steady):
    def step(self, action):
        if self.resets == 1 and self.steps == 1:
            raise Panic("unwrap")
        return super().step(action)


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_whatever_is_raised_is_a_failure_of_the_environment(vector, kind: str) -> None:
    environments = vector(kind, Panicking)
    environments.reset(seed=0)
    environments.step([2])
    with pytest.raises(EnvironmentFailure, match=r"Panic: unwrap \(.*test_failures"):
        environments.step([2])


class Interrupted(Steady):
    def step(self, action):
        raise KeyboardInterrupt


def test_ctrl_c_is_not(vector) -> None:
    environments = vector("sync", Interrupted, on_failure="restart")
    environments.reset(seed=0)
    with pytest.raises(KeyboardInterrupt):
        environments.step([2])


class OldReset(Steady):
    def reset(self):  # type: ignore[override]
        return self.shown()


class OldAnswer(Steady):
    def reset(self, *, seed=None, options=None):
        return super().reset(seed=seed)[0]


class OldStep(Steady):
    def step(self, action):
        shown, reward, *_, info = super().step(action)
        return shown, reward, False, info


class Swapped(Steady):
    """Its info stands where an end belongs, and would end every episode or none."""

    def step(self, action):
        shown, reward, terminated, truncated, info = super().step(action)
        return shown, reward, terminated, {"cut": truncated, **info}, True


class Listed(Steady):
    """A list is true, whatever it holds."""

    def step(self, action):
        shown, reward, terminated, truncated, info = super().step(action)
        return shown, reward, [terminated], truncated, info


@pytest.mark.parametrize("old", [OldReset, OldAnswer, OldStep, Swapped, Listed])
def test_the_interface_of_old_gym_is_named(vector, old: type) -> None:
    environments = vector("sync", old)
    with pytest.raises(EnvironmentFailure, match=r"as in Gymnasium; gym before 0\.26"):
        environments.reset(seed=0)
        environments.step([2])


@pytest.mark.parametrize(
    ("wrap", "key"),
    [
        (NormalizeObservation, "normalize_observations=true"),
        (NormalizeReward, "normalize_rewards=true"),
    ],
)
def test_wrappers_with_statistics_of_their_own_are_refused(refusal, wrap: Any, key: str) -> None:
    line = refusal(wrappers=[wrap])
    assert line.startswith("env.wrappers[0]")
    assert key in line


class Dice(Steady):
    """Draws from both global generators."""

    def shown(self):
        drawn = [random.random(), np.random.rand()]  # noqa: NPY002 (environments do)
        return np.array(drawn, np.float32)


def test_workers_that_draw_from_global_generators_differ_and_repeat(vector) -> None:
    shown = []
    for _ in range(2):
        environments = vector("async", Dice, Dice, Dice)
        shown.append(reset_with_seeds(environments, [1, 2, 3])[0].copy())
    assert len(np.unique(shown[0])) == 6
    np.testing.assert_array_equal(*shown)


def test_drawing_from_a_global_generator_is_told_once(vector, monkeypatch) -> None:
    monkeypatch.setattr(seeding, "_draws", itertools.count(1))
    environments = vector("sync", Dice)
    environments.reset(seed=0)
    with pytest.warns(RuntimeWarning, match=r"global generator .* self\.np_random"):
        environments.reset(seed=1)
    environments.reset(seed=2)


class Numbered(Steady):
    """Of its number there may be one."""

    taken: ClassVar[set[int]] = set()

    def __init__(self, number: int = 0) -> None:
        super().__init__()
        if number in self.taken:
            raise OSError("address already in use")
        self.taken.add(number)
        self.number = number

    def close(self):
        self.taken.discard(self.number)


def test_copies_may_get_a_number_each(registered, make, refusal) -> None:
    id = registered(Numbered)
    line = refusal(id=id, num_envs=3)
    assert "OSError: address already in use" in line
    assert "after 1 of 3 copies" in line
    assert "env.copy_argument" in line
    make(id=id, num_envs=3, copy_argument="number")
    make(id=id, num_envs=2, copy_argument="number")  # as for evaluation, beside the others
    assert len(Numbered.taken) == 5
    line = refusal(id=id, copy_argument="nummer")
    assert line.startswith("env.copy_argument: test/")
    assert line.endswith("does not take nummer, only number; nearest: number")


class Sharing(Told):
    """What all of them use ends when one of them is closed, as with `pygame.quit()`."""

    is_open = True

    def shown(self):
        assert Sharing.is_open
        return super().shown()

    def close(self):
        Sharing.is_open = False


def test_restoring_closes_nothing_that_others_use(vector) -> None:
    one = vector("sync", Sharing, Sharing)
    reset_with_seeds(one, [1, 2])
    again = vector("sync", Sharing, Sharing)
    reset_with_seeds(again, [3, 4])
    again.step([2, 2])
    assert again.restore(json.loads(json.dumps(one.snapshot()))) == [True, True]
    again.step([2, 2])
    again.close()
    assert not Sharing.is_open


def test_a_million_environments_are_refused_before_they_are_made(monkeypatch, refusal) -> None:
    clock = iter(range(10**9))
    monkeypatch.setattr(time, "monotonic", lambda: float(next(clock)))
    line = refusal(num_envs=1_000_000)
    assert line.startswith("env.num_envs: 1,000,000 environments would take")


def test_own_words_in_info_do_not_matter(make) -> None:
    """`info["episode"]` of the environment's own, below a wrapper, is not our statistics."""

    class Numbering(Steady):
        def step(self, action):
            return (*super().step(action)[:4], {"episode": self.resets})

    doubled = partial(TransformReward, func=lambda reward: 2 * reward)
    environments = make(make=Numbering, num_envs=1, wrappers=[doubled])
    environments.reset(seed=0)
    infos = [environments.step(np.array([2]))[4] for _ in range(4)]
    assert infos[-1]["raw_episode"]["r"].tolist() == [4]
    assert infos[-1]["episode"].tolist() == [1]


class Parent(Steady):
    """Starts a simulator and never ends it."""

    def __init__(self, pid_file: Path) -> None:
        super().__init__()
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"])
        pid_file.write_text(str(child.pid))


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="there are no process groups")
def test_a_workers_simulator_ends_with_it(vector, tmp_path: Path) -> None:
    environments = vector("async", partial(Parent, tmp_path / "pid"))
    pid = int((tmp_path / "pid").read_text())
    os.kill(pid, 0)
    environments.close()
    for _ in range(100):
        state = Path(f"/proc/{pid}/stat")
        if not state.exists() or state.read_text().rsplit(")", 1)[1].split()[0] == "Z":
            return
        time.sleep(0.02)
    raise AssertionError("it still runs")
