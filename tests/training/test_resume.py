"""A run that was stopped goes on bit for bit, or says in words why it cannot."""

import errno
import json
import os
import shutil
import signal
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.envs.registration import register, registry
from omegaconf import OmegaConf

import training.runs.run
import training.saving.archive
import training.stream.collect
from conf.composing.command_line import InvalidConfiguration, load
from tests.doors import MASKED, TWO
from tests.training.endings import Killed, assert_same
from training.runs.refusal import Refusal
from training.saving.checkpoint import load_checkpoint, open_checkpoint

RUN = [
    "total_env_steps=400",
    "tracking.interval=1",
    "evaluation.interval=100",
    "checkpoint.interval=64",
    "policy_head.gain=1.0",
    "optimizer.learning_rate=0.01",
    "optimizer.schedule=linear",
]
CASES = {
    "plain": [],
    "normalised": ["normalize_observations=true", "normalize_rewards=true"],
    "lstm": ["memory=lstm", "memory.hidden_size=4"],
    "linear": ["memory=mingru", "memory.hidden_size=4", "memory@critic.memory=lru"],
    "mlstm": ["memory=mlstm", "memory.hidden_size=4", "memory.sequence_length=8"],
    "gtrxl": ["memory=gtrxl", "memory.hidden_size=4", "memory.window=3"],
    "shared gru": [
        "memory=gru", "memory.hidden_size=4", "share_backbone=true",
        "auxiliary=lambda_discrepancy",
    ],
    "box actions": ["env=pendulum", "env.time_limit=30"],
    "wrapped": [
        "pomdp=mask_velocity", "env.frame_stack=2", "env.previous_action=true",
        "critic.observation=full",
    ],
    "unreliable": [
        "pomdp=[sticky_actions,flicker,noise,delay]", "pomdp.delay.is_random=true",
    ],
    "native task": [
        "env=gymnasium", "env.id=neurl/HiddenArm-v0", "env.vectorization=native",
        "+env.kwargs.arms=3", "memory=gru", "memory.hidden_size=4", "critic.observation=full",
    ],
    "masked": [*MASKED, TWO, "memory=gru", "memory.hidden_size=4"],
    "best weights": ["evaluation.checkpoint=best"],
    "one of a kind": ["memory=rnn", "memory.hidden_size=4", "optimizer=rmsprop"],
}  # fmt: skip


GRIDS = {
    "minigrid": ["env=minigrid", "env.wrappers.0.direction=true", "env.time_limit=40"],
    "minatar": ["env=minatar", "env.id=MinAtar/Asterix-v0"],
    "atari": [
        "env=atari", "env.id=Atari/Breakout-v0", "env.vectorization=sync", "env.life_loss=true",
        "env.kwargs.sticky_actions=0.25", "env.kwargs.size=16", "env.time_limit=100",
        "env.frame_stack=2", "clip_rewards=1.0",
    ],
}  # fmt: skip
NEEDS = {"minigrid": "minigrid", "minatar": "minatar", "atari": "ale_py"}


@pytest.fixture(scope="module")
def undisturbed(train) -> Callable[[str], Any]:
    known: dict[str, Any] = {}

    def look_up(case: str) -> Any:
        if case not in known:
            known[case] = train(*RUN, *CASES[case])
        return known[case]

    return look_up


@pytest.mark.parametrize("case", CASES)
def test_a_run_that_died_twice_is_the_run_that_did_not(
    case, undisturbed, train, go_on, kill, tmp_path
) -> None:
    directory = tmp_path / "run"
    for iteration, begin in ((4, train), (5, None)):
        kill(iteration)
        with pytest.raises(Killed):
            if begin is None:
                go_on(directory)
            else:
                begin(*RUN, *CASES[case], directory=directory)
    kill(0)
    assert_same(go_on(directory), undisturbed(case))


@pytest.mark.parametrize("case", GRIDS)
def test_games_go_on_where_they_stood(case, train, go_on, kill, tmp_path, capsys) -> None:
    pytest.importorskip(NEEDS[case])
    words = ["total_env_steps=200", "evaluation.interval=0", "checkpoint.interval=32", *GRIDS[case]]
    kill(3)
    with pytest.raises(Killed):
        train(*words, directory=tmp_path / "run")
    kill(0)
    gone_on = go_on(tmp_path / "run")
    assert "notice: all environments" not in capsys.readouterr().out
    assert_same(gone_on, train(*words))


def test_native_games_say_that_they_begin_anew(train, go_on, kill, tmp_path, capsys) -> None:
    pytest.importorskip("ale_py")
    words = ["env=atari", "env.kwargs.size=16", "total_env_steps=100", "checkpoint.interval=32"]
    kill(2)
    with pytest.raises(Killed):
        train(*words, "env.time_limit=20", "evaluation.interval=0", directory=tmp_path / "run")
    kill(0)
    assert go_on(tmp_path / "run").summary["status"] == "finished"
    assert "all environments cannot be restored" in capsys.readouterr().out


@pytest.mark.parametrize("iteration", (1, 2, 6, 12))
def test_any_iteration_may_be_the_last(
    iteration, undisturbed, train, go_on, kill, tmp_path
) -> None:
    kill(iteration)
    with pytest.raises(Killed):
        train(*RUN, directory=tmp_path / "run")
    kill(0)
    assert_same(go_on(tmp_path / "run"), undisturbed("plain"))


def test_a_run_that_died_in_its_last_evaluation(
    undisturbed, train, go_on, monkeypatch, tmp_path
) -> None:
    with monkeypatch.context() as patch:
        evaluate = training.runs.run.Run._evaluate

        def die(run: Any, episodes: int) -> Any:
            if run.at.env_steps >= 400:
                raise Killed
            return evaluate(run, episodes)

        patch.setattr(training.runs.run.Run, "_evaluate", die)
        with pytest.raises(Killed):
            train(*RUN, directory=tmp_path / "run")
    assert_same(go_on(tmp_path / "run"), undisturbed("plain"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_loses_nothing(number, undisturbed, train, go_on, monkeypatch, tmp_path) -> None:
    with monkeypatch.context() as patch:
        after = training.runs.run.Run._after

        def stop(run: Any, result: Any) -> None:
            if result.env_steps > 150:
                os.kill(os.getpid(), number)
            after(run, result)

        patch.setattr(training.runs.run.Run, "_after", stop)
        with pytest.raises(Refusal) as caught:
            train(*RUN, directory=tmp_path / "run")
    assert caught.value.exit_code == 128 + number
    assert_same(go_on(tmp_path / "run"), undisturbed("plain"))


def test_a_signal_in_an_evaluation_leaves_it_due(
    undisturbed, train, go_on, monkeypatch, tmp_path
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("training.process.signals._PATIENCE", -1.0)
        evaluate = training.runs.run.Run._evaluate

        def stop(run: Any, episodes: int) -> Any:
            if run.at.env_steps > 200:
                os.kill(os.getpid(), signal.SIGTERM)
            return evaluate(run, episodes)

        patch.setattr(training.runs.run.Run, "_evaluate", stop)
        with pytest.raises(Refusal, match="saved at"):
            train(*RUN, directory=tmp_path / "run")
    assert_same(go_on(tmp_path / "run"), undisturbed("plain"))


def test_a_signal_while_collecting_slowly_gives_the_rollout_up(
    undisturbed, train, go_on, monkeypatch, tmp_path
) -> None:
    """An environment may take longer for a rollout than a user waits."""
    with monkeypatch.context() as patch:
        patch.setattr("training.process.signals._PATIENCE", -1.0)
        put, calls = training.stream.collect.put, []

        def stop(*arguments: Any) -> None:  # called in every step of collecting
            calls.append(1)
            if len(calls) == 100:
                os.kill(os.getpid(), signal.SIGTERM)
            put(*arguments)

        patch.setattr(training.stream.collect, "put", stop)
        with pytest.raises(Refusal, match="saved at") as caught:
            train(*RUN, directory=tmp_path / "run")
    assert caught.value.exit_code == 143
    assert_same(go_on(tmp_path / "run"), undisturbed("plain"))


def test_more_steps_are_the_steps_of_a_longer_run(train, go_on, tmp_path, capsys) -> None:
    words = [word for word in RUN if "schedule" not in word]
    words = [word for word in words if "total" not in word] + ["optimizer.schedule=constant"]
    whole = train(*words, "total_env_steps=500")
    short = train(*words, "total_env_steps=250")
    longer = go_on(short.directory, "total_env_steps=500")
    assert_same(longer, whole)
    assert "total_env_steps grows from 250 to 500" in capsys.readouterr().out
    assert OmegaConf.load(longer.directory / "config.yaml").total_env_steps == 500


def test_what_more_steps_do_to_schedules_is_said(train, go_on, tmp_path, capsys) -> None:
    run = train(*RUN)
    go_on(run.directory, "total_env_steps=450")
    assert "schedules end there now: optimizer.schedule" in capsys.readouterr().out


def test_evaluations_may_change(train, go_on, kill, undisturbed, tmp_path) -> None:
    kill(5)
    with pytest.raises(Killed):
        train(*RUN, directory=tmp_path / "run")
    kill(0)
    run = go_on(tmp_path / "run", "evaluation.interval=50", "evaluation.episodes=3")
    for name, tensor in undisturbed("plain").weights().items():
        assert torch.equal(run.weights()[name], tensor), name
    steps = [step for step, _ in run.scalars()["evaluation/return"]]
    assert steps == sorted(set(steps))
    assert len(steps) > len(undisturbed("plain").scalars()["evaluation/return"])


def test_a_damaged_checkpoint_falls_back(undisturbed, train, go_on, kill, tmp_path) -> None:
    kill(9)
    with pytest.raises(Killed):
        train(*RUN, directory=tmp_path / "run")
    kill(0)
    last = tmp_path / "run" / "checkpoints" / "last"
    before = json.loads((last / "manifest.json").read_text())["step"]
    next(last.glob(f"tensors-{before}*")).write_bytes(b"")
    with pytest.warns(RuntimeWarning, match="the one before it is used"):
        run = go_on(tmp_path / "run")
    assert_same(run, undisturbed("plain"))


def test_no_whole_checkpoint_is_refused(undisturbed, go_on, tmp_path) -> None:
    shutil.copytree(undisturbed("plain").directory, tmp_path / "run")
    for path in (tmp_path / "run" / "checkpoints" / "last").glob("state-*"):
        path.write_bytes(b"")
    with pytest.raises(Refusal, match="damaged") as caught:
        go_on(tmp_path / "run", "total_env_steps=500")
    assert caught.value.exit_code == 2


def test_a_checkpoint_of_another_run_is_refused(undisturbed, go_on, tmp_path) -> None:
    shutil.copytree(undisturbed("plain").directory, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "last")
    shutil.copytree(
        undisturbed("normalised").directory / "checkpoints" / "last",
        tmp_path / "run" / "checkpoints" / "last",
    )
    with pytest.raises(Refusal, match=r"config\.yaml: is not the one"):
        go_on(tmp_path / "run", "total_env_steps=500")


CHANGED = {
    "seed=4": "seed: 4 was asked for",
    "agent.discount=0.5": "agent.discount: 0.5 was asked for",
    "env.num_envs=3": "env.num_envs: 3 was asked for",
    "env=pendulum": "env.id: 'Pendulum-v1' was asked for",
    "memory=lstm": "memory._target_: 'networks.memory.LSTM' was asked for",
    "extractor=flatten": "extractor._target_",
    "num_threads=2": "num_threads: 2 was asked for",
    "compile=true": "compile: true was asked for",
    "run_dir=elsewhere": "run_dir: a run resumes in its own directory",
    "init_from=elsewhere": "init_from: 'elsewhere' was asked for",
    "total_env_steps=100": "total_env_steps: expected at least 400",
    "optimizer.learning_rate=0.02": "optimizer.learning_rate: 0.02",
}


@pytest.mark.parametrize(("word", "message"), CHANGED.items(), ids=CHANGED)
def test_another_run_is_refused_in_words(undisturbed, word: str, message: str) -> None:
    """The key, what was asked for, what the run has, and what may change."""
    with pytest.raises(InvalidConfiguration) as caught:
        load([f"resume={undisturbed('plain').directory}", word])
    first, *others = sorted(caught.value.problems, key=lambda line: not line.startswith(message))
    assert first.startswith(message)
    assert all(line.startswith("env.") for line in others)  # a group brings all its keys


def test_the_words_a_run_was_begun_with_may_be_repeated(undisturbed, small_words) -> None:
    directory = undisturbed("lstm").directory
    config = load([*small_words(*RUN, *CASES["lstm"]), f"resume={directory}"])
    assert config.memory.hidden_size == 4
    assert config.run_dir == str(directory)


def test_a_default_that_is_said_counts(train) -> None:
    run = train("total_env_steps=32", "seed=1")
    with pytest.raises(InvalidConfiguration, match="seed: 0 was asked for"):
        load([f"resume={run.directory}", "seed=0"])
    assert load([f"resume={run.directory}"]).seed == 1


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("identity", "threads"), 63, "num_threads=63: this machine has"),
        (("identity", "versions", "torch"), "1.0", "the run was made with torch 1.0, here is"),
        (("identity", "versions", "ale-py"), "9", "with ale-py 9, here is none"),
        (("identity", "observation space"), "Box(7)", "observation space was Box(7)"),
        (("identity", "action space"), "Box(7)", "action space was Box(7)"),
    ],
)
def test_another_machine_is_refused_in_words(
    path, value, message, undisturbed, go_on, tmp_path, monkeypatch
) -> None:
    shutil.copytree(undisturbed("plain").directory, tmp_path / "run")
    checkpoint = open_checkpoint(tmp_path / "run" / "checkpoints" / "last")
    node = checkpoint.state
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = value
    monkeypatch.setattr("training.runs.resume.open_checkpoint", lambda _: checkpoint)
    with pytest.raises(Refusal) as caught:
        go_on(tmp_path / "run", "total_env_steps=500")
    assert message in str(caught.value)
    assert "Traceback" not in str(caught.value)


def test_a_run_that_never_saved_begins_anew(undisturbed, train, go_on, tmp_path) -> None:
    """Whatever the moment of the first kill, `resume` is the way on."""
    shutil.copytree(undisturbed("plain").directory, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    assert_same(go_on(tmp_path / "run"), undisturbed("plain"))


def test_what_is_no_run_cannot_go_on(tmp_path) -> None:
    with pytest.raises(InvalidConfiguration, match=r"resume: no run in .*config\.yaml is missing"):
        load([f"resume={tmp_path}"])
    (tmp_path / "config.yaml").write_text("a: [")
    with pytest.raises(InvalidConfiguration, match="damaged"):
        load([f"resume={tmp_path}"])


def test_a_stored_run_cannot_make_us_import(undisturbed, tmp_path) -> None:
    config = OmegaConf.load(undisturbed("plain").directory / "config.yaml")
    config.env.packages = ["malicious_package"]
    config.trusted_packages = ["malicious_package"]
    OmegaConf.save(config, tmp_path / "config.yaml")
    with pytest.raises(InvalidConfiguration, match=r"trusted_packages=\[malicious_package\]"):
        load([f"resume={tmp_path}"])


def test_environments_that_cannot_be_restored_begin_new_episodes(
    train, go_on, kill, tmp_path, capsys
) -> None:
    words = [*RUN, "env.vectorization=native"]
    kill(5)
    with pytest.raises(Killed):
        train(*words, directory=tmp_path / "run")
    kill(0)
    run = go_on(tmp_path / "run")
    assert "notice: all environments cannot be restored" in capsys.readouterr().out
    assert run.summary["env_steps"] >= 400
    steps = [step for step, _ in run.scalars()["loss/policy"]]
    assert steps == sorted(set(steps))


class Brittle(gymnasium.Env):
    """Breaks at the 70th step of its life; a new one begins a new life."""

    observation_space = gymnasium.spaces.Box(-1, 1, (2,))
    action_space = gymnasium.spaces.Discrete(2)
    steps = 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(2, np.float32), {}

    def step(self, action):
        self.steps += 1
        if self.steps == 70:
            raise ValueError("broken")
        return np.zeros(2, np.float32), 1.0, self.steps % 10 == 0, False, {}


def test_a_run_that_broke_goes_on_from_its_last_iteration(train, go_on, tmp_path, capsys) -> None:
    """In the middle of a rollout environments have left the point that the weights stand at."""
    register("test/Brittle-v0", entry_point=Brittle)
    words = ["env.id=test/Brittle-v0", "total_env_steps=10000", "evaluation.interval=0"]
    try:
        with pytest.raises(Refusal, match="ValueError: broken"):
            train(*words, "checkpoint.interval=0", directory=tmp_path)
        _, first = load_checkpoint(tmp_path / "checkpoints" / "last")
        assert first["env_steps"] > 100  # though it was never due
        assert first["collector"]["environments"] is None
        with pytest.raises(Refusal, match="ValueError: broken"):
            go_on(tmp_path)
        assert "begin new ones" in capsys.readouterr().out
        _, second = load_checkpoint(tmp_path / "checkpoints" / "last")
        assert second["env_steps"] >= 2 * first["env_steps"] - 32
    finally:
        del registry["test/Brittle-v0"]


def test_a_change_that_does_not_fit_the_rest_is_refused(undisturbed) -> None:
    """Once stored, it would keep everybody from opening the run."""
    directory = undisturbed("best weights").directory
    with pytest.raises(InvalidConfiguration, match=r"evaluation\.checkpoint: expected last"):
        load([f"resume={directory}", "evaluation.interval=0"])


def test_a_run_whose_newest_manifest_is_lost_is_not_trained_over(undisturbed, tmp_path) -> None:
    shutil.copytree(undisturbed("plain").directory, tmp_path / "run")
    for manifest in (tmp_path / "run" / "checkpoints").glob("*/manifest.json"):
        manifest.unlink()
    with pytest.raises(InvalidConfiguration, match="holds a run already"):
        load([f"run_dir={tmp_path / 'run'}"])


def test_a_full_disk_costs_checkpoints_and_not_the_run(train, monkeypatch, tmp_path) -> None:
    save = training.saving.archive.save_checkpoint

    def fail(directory: Any, **contents: Any) -> Any:
        if contents["step"] > 0 and (directory.name == "best" or contents["step"] < 400):
            raise OSError(errno.ENOSPC, "No space left on device")
        return save(directory, **contents)

    monkeypatch.setattr(training.saving.archive, "save_checkpoint", fail)
    with (
        pytest.warns(RuntimeWarning, match="checkpoints/best: manifest.json is missing"),
        pytest.warns(RuntimeWarning, match=r"No space left on device; training goes on"),
    ):
        run = train(*RUN, directory=tmp_path / "run")
    assert run.summary["status"] == "finished"
