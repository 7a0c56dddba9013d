"""Training's environments change their arguments as a run goes on; the evaluated one does not."""

import os
import signal

import pytest

import neurl
from conf.composing.command_line import InvalidConfiguration, load
from tests.corridors import Corridor
from tests.training.endings import Killed, assert_same
from training.runs.refusal import Refusal
from training.stream.loop import iterations

LENGTHS = "{until: 100, kwargs: {length: 3}}, {until: 200, kwargs: {length: 5}}"
CURRICULUM = ["env=gymnasium", "env.id=test/Corridor-v0", f"env.curriculum=[{LENGTHS}]"]
RUN = [*CURRICULUM, "total_env_steps=400", "evaluation.interval=200", "checkpoint.interval=32"]


ASYNC = ["env.vectorization=async", "env.packages=[tests.corridors]"]


@pytest.mark.parametrize("words", [[], [*ASYNC, "env.on_failure=restart"]])
def test_each_stage_has_its_arguments_and_the_last_one_the_configured(build, words) -> None:
    built = build(*CURRICULUM, *words)
    if words:
        os.kill(built.environments._slots[0].pid, signal.SIGKILL)  # a new process must be told
    lengths, begun = [], 0
    for iteration in iterations(built.agent, built.collector, total_env_steps=300):
        lengths += [(begun, episode.length) for episode in iteration.episodes]
        begun = iteration.env_steps
    assert {length for begun, length in lengths if begun < 100} == {3}
    assert [length for _, length in lengths] == sorted(length for _, length in lengths)
    assert {length for _, length in lengths} == {3, 5, 9}


def test_an_episode_ends_as_it_began(build) -> None:
    built, changes = build(*CURRICULUM), 0
    for _ in iterations(built.agent, built.collector, total_env_steps=300):
        trajectory = built.collector.trajectory
        lengths = trajectory.observations[..., 0]
        has_changed = lengths[1:] != lengths[:-1]
        assert (trajectory.is_first[1:] | ~has_changed).all()
        changes += int(has_changed.sum())
    assert changes == 2 * 2  # two environments, two changes


def test_stages_have_other_episodes_and_the_same_seed_the_same(build) -> None:
    played = []
    for _ in range(2):
        built = build(*CURRICULUM)
        rounds = iterations(built.agent, built.collector, total_env_steps=300)
        played.append([built.collector.trajectory.rewards.clone() for _ in rounds])
    for one, other in zip(*played, strict=True):
        assert (one == other).all()
    first = {round(float(reward), 6) for reward in played[0][0].flatten() if reward}
    later = {round(float(reward), 6) for reward in played[0][-1].flatten() if reward}
    assert not first & later


@pytest.mark.parametrize("iteration", [3, 4, 5])
def test_a_run_that_died_beside_a_change_is_the_run_that_did_not(
    train, go_on, kill, tmp_path, iteration, capsys
) -> None:
    kill(iteration)  # at 96, 128 or 160 steps; the stage changes at 100, at the next reset
    with pytest.raises(Killed):
        train(*RUN, directory=tmp_path / "run")
    kill(0)
    gone_on = go_on(tmp_path / "run")
    assert "cannot be restored" not in capsys.readouterr().out
    assert_same(gone_on, train(*RUN))


def test_evaluations_are_of_the_configured_environment(train) -> None:
    run = train(*CURRICULUM, "total_env_steps=300", "evaluation.interval=50", "tracking.interval=1")
    assert {value for _, value in run.scalars()["evaluation/length"]} == {9.0}
    stages = [value for _, value in run.scalars()["schedule/stage"]]
    assert stages == sorted(stages) and set(stages) == {0.0, 1.0, 2.0}


def test_a_call_of_fit_goes_on_at_its_stage() -> None:
    words = ["agent.rollout_length=16", "agent.num_minibatches=1", "env.num_envs=1"]
    policy = neurl.build(*CURRICULUM, *words)
    neurl.fit(policy, env_steps=150, progress=False)
    seen = []

    class Watch(neurl.Callback):
        def on_iteration(self, progress):
            seen.extend(episode.length for episode in progress.iteration.episodes)

    neurl.fit(policy, env_steps=32, progress=False, callbacks=Watch())
    assert set(seen) == {5}


@pytest.mark.parametrize(
    ("stages", "told"),
    [
        ("[{until: 9, kwargs: {}}, {until: 9, kwargs: {}}]", "later stages to end later"),
        ("[{until: 0, kwargs: {}}]", "env.curriculum[0].until: expected an integer >= 1"),
        ("[{until: 9, kwargs: {num_envs: 3}}]", "env.curriculum[0].kwargs.num_envs"),
        ("[{until: 9}]", "env.curriculum[0].kwargs: missing"),
    ],
)
def test_a_curriculum_is_checked_with_the_configuration(stages, told) -> None:
    with pytest.raises(InvalidConfiguration, match=r"env\.curriculum") as caught:
        load(["env=gymnasium", "env.id=test/Corridor-v0", f"env.curriculum={stages}"])
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("kwargs", "told"),
    [("length: 0", "no corridor"), ("width: 2", "observation space"), ("lenght: 2", "lenght")],
)
def test_stages_that_cannot_be_made_are_refused_at_the_start(train, kwargs, told) -> None:
    last = f"env.curriculum=[{{until: 9, kwargs: {{}}}}, {{until: 99, kwargs: {{{kwargs}}}}}]"
    with pytest.raises(Refusal, match=r"env\.curriculum\[1\]: ") as caught:
        train(*RUN[:2], last)
    assert told in str(caught.value) and caught.value.exit_code == 2
    assert "\n" not in str(caught.value)


def test_an_environment_of_python_has_callbacks_instead() -> None:
    with pytest.raises(ValueError, match=r"env\.curriculum: does not apply"):
        neurl.build("env.curriculum=[]", env=Corridor())


def test_without_a_curriculum_nothing_is_made_twice(build) -> None:
    Corridor.made = 0
    built = build(*CURRICULUM[:2])
    built.collector.collect(built.agent)
    assert Corridor.made == 2 and built.collector.curriculum is None
