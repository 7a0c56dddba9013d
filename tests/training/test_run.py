"""The life of a run in this process: what it leaves, when, and how it ends early."""

import json
import os
import shutil
import signal
from contextlib import ExitStack
from importlib import metadata
from pathlib import Path

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.envs.registration import register, registry
from omegaconf import OmegaConf

import training.runs.run
from conf.composing.command_line import load
from training.evaluation.restore import load_agent
from training.evaluation.watching import watch_run
from training.process.locking import locked
from training.runs.directory import discard, finished
from training.runs.opening import beginning
from training.runs.refusal import Refusal
from training.saving.checkpoint import load_checkpoint

EVALUATED = [
    "total_env_steps=600",
    "tracking.interval=1",
    "evaluation.interval=200",
    "checkpoint.interval=150",
    "policy_head.gain=1.0",
    "optimizer.learning_rate=0.01",
]


@pytest.fixture(scope="module")
def run(train):
    return train(*EVALUATED)


def test_summary_tells_everything(run) -> None:
    summary = run.summary
    assert summary.keys() >= {
        "status",
        "env_steps",
        "updates",
        "wall_seconds",
        "steps_per_second",
        "evaluation",
        "best",
        "train_return_mean",
        "parameters",
        "versions",
        "seed",
        "pretraining_seconds",
        "peak_memory_mib",
    }
    assert summary["status"] == "finished"
    assert 600 <= summary["env_steps"] <= 600 + 2 * 16
    assert summary["evaluation"].keys() == {
        "return_mean",
        "return_std",
        "length_mean",
        "episodes",
        "unfinished",
        "returns",
    }
    assert summary["best"].keys() == {*summary["evaluation"], "env_steps"}
    assert summary["evaluation"]["return_mean"] == run.score
    assert summary["parameters"]["total"] == sum(
        count for part, count in summary["parameters"].items() if part != "total"
    )
    assert (summary["seed"], summary["num_threads"]) == (0, 1)
    assert summary["versions"]["torch"] == metadata.version("torch")
    assert 0 < summary["training_seconds"] <= summary["wall_seconds"]
    assert summary["pretraining_seconds"] == 0
    assert 50 < summary["peak_memory_mib"] < 2**20  # torch alone takes more


def test_updates_are_gradient_steps(run) -> None:
    _, state = load_checkpoint(run.directory / "checkpoints" / "last")
    assert state["env_steps"] == run.summary["env_steps"]
    assert run.summary["updates"] == 2 * len(run.scalars()["loss/policy"])  # over two minibatches
    assert state["updates"] == run.summary["updates"]


def test_best_is_the_best_evaluation(train) -> None:
    run = train(*EVALUATED, "seed=5", "evaluation.final_episodes=10")
    *scores, (last_step, last_score) = run.scalars()["evaluation/return"]
    best_step, best_score = max(scores, key=lambda point: (point[1], point[0]))
    best, last = run.summary["best"], run.summary["evaluation"]
    assert (best["episodes"], last["episodes"]) == (10, 10)
    assert last_score == pytest.approx(last["return_mean"])
    assert last_score < best["return_mean"] != best_score  # which was that of two episodes
    assert best["env_steps"] == best_step < last_step == run.summary["env_steps"]
    _, state = load_checkpoint(run.directory / "checkpoints" / "best")
    assert state["env_steps"] == best_step


def test_last_and_best_weights_are_told_over_as_many_episodes(train) -> None:
    """Of every environment's episodes the first is the longest: few episodes flatter."""
    run = train(
        *EVALUATED,
        "env.id=neurl/Counting-v0",
        "+env.kwargs.lengths=[5, 1]",
        "evaluation.final_episodes=4",
    )
    assert [score for _, score in run.scalars()["evaluation/return"]] == [5.0, 5.0, 3.0]
    assert run.summary["evaluation"]["return_mean"] == run.summary["best"]["return_mean"] == 3.0
    assert run.summary["evaluation"]["episodes"] == run.summary["best"]["episodes"] == 4
    # as good as the best, and later
    _, state = load_checkpoint(run.directory / "checkpoints" / "best")
    assert state["env_steps"] == run.summary["best"]["env_steps"] == run.summary["env_steps"]


def test_best_weights_that_are_evaluated_last_are_told_once(train) -> None:
    run = train(*EVALUATED, "evaluation.checkpoint=best", "evaluation.final_episodes=5")
    best = dict(run.summary["best"])
    assert best.pop("env_steps") < run.summary["env_steps"]
    assert best == run.summary["evaluation"]


def test_configuration_is_kept_as_it_was_run(run) -> None:
    kept = OmegaConf.load(run.directory / "config.yaml")
    assert kept.total_env_steps == 600
    assert kept.optimizer.learning_rate == 0.01
    OmegaConf.resolve(kept)  # nothing is left to resolve
    assert "${" not in (run.directory / "config.yaml").read_text()


def test_effective_values_are_the_written_ones(train) -> None:
    """What live objects use is what the configuration says."""
    words = [
        "agent.discount=0.9",
        "agent.gae_lambda=0.8",
        "agent.clip_range=0.3",
        "agent.entropy_coefficient=0.01",
        "agent.entropy_coefficient_schedule=linear",
        "agent.value_clip_range=0.4",
        "agent.value_coefficient=0.7",
        "agent.target_kl=0.5",
        "agent.num_epochs=3",
        "agent.normalize_advantages=false",
        "optimizer.learning_rate=0.02",
        "optimizer.schedule=linear",
        "optimizer.final_learning_rate=0.01",
        "optimizer.max_grad_norm=0.9",
        "optimizer.eps=1e-7",
        "optimizer.betas=[0.8,0.9]",
        "value_head=huber",
        "value_head.delta=2.5",
        "seed=3",
    ]
    run = train(*words, "total_env_steps=32")
    config, agent = load_agent(run.directory, checkpoint="last", device="cpu", trusted_packages=())
    written = config.agent
    for name in (
        "discount",
        "gae_lambda",
        "value_clip_range",
        "value_coefficient",
        "target_kl",
        "num_epochs",
        "num_minibatches",
        "normalize_advantages",
    ):
        assert getattr(agent.options, name) == written[name], name
    learner = agent.learner
    assert learner.num_epochs == written.num_epochs
    assert learner.num_minibatches == written.num_minibatches
    clip_range, entropy = (agent.schedules[name] for name in ("clip_range", "entropy_coefficient"))
    assert clip_range(0.0) == clip_range(1.0) == 0.3
    assert [entropy(at) for at in (0.0, 0.5, 1.0)] == [0.01, 0.005, 0.0]
    assert [agent.optimizer.default.learning_rate(at) for at in (0.0, 1.0)] == [0.02, 0.01]
    assert agent.optimizer.max_grad_norm == 0.9
    (rule,) = agent.optimizer.rules
    assert (rule.betas, rule.eps) == ((0.8, 0.9), 1e-7)
    assert agent.value_head.delta == 2.5


def test_schedules_follow_environment_steps(train) -> None:
    """The first update learns at the schedule's start, none at its very end."""
    run = train(
        "total_env_steps=500",
        "tracking.interval=1",
        "optimizer.learning_rate=0.01",
        "optimizer.schedule=linear",
        "optimizer.final_learning_rate=0.002",
    )
    points = run.scalars()["schedule/learning_rate"]
    taken_before = [0, *(step for step, _ in points[:-1])]
    assert [value for _, value in points] == pytest.approx(
        [0.01 - 0.008 * steps / 500 for steps in taken_before]
    )


def test_the_final_evaluation_can_take_the_best_weights(train) -> None:
    run, plain = train(*EVALUATED, "evaluation.checkpoint=best"), train(*EVALUATED)
    # earlier weights get no second point at a step that they are not of
    assert run.scalars()["evaluation/return"] == plain.scalars()["evaluation/return"][:-1]
    assert run.summary["evaluation_checkpoint"] == "best"
    assert plain.summary["evaluation_checkpoint"] == "last"
    for name, tensor in plain.weights().items():
        assert torch.equal(run.weights()[name], tensor)  # the last ones stay the last ones


def test_best_weights_keep_the_step_they_are_of(train) -> None:
    """A final evaluation of earlier weights that is as good again makes them no later ones."""
    run = train(
        *EVALUATED,
        "evaluation.checkpoint=best",
        "env.id=neurl/Counting-v0",
        "+env.kwargs.lengths=[3]",  # all evaluations are equal
    )
    _, state = load_checkpoint(run.directory / "checkpoints" / "best")
    assert not torch.equal(
        run.weights("best")["agent.policy_head.output.weight"],
        run.weights("last")["agent.policy_head.output.weight"],
    )
    assert state["env_steps"] == run.summary["best"]["env_steps"] < run.summary["env_steps"]


def test_every_evaluation_of_a_run_plays_episodes_of_its_own(train) -> None:
    """Weights that as good as stand still: scores differ by where episodes begin."""
    run = train(
        "env.id=Pendulum-v1", "env.time_limit=10", "optimizer.learning_rate=1e-20",
        "total_env_steps=160", "evaluation.interval=32", "evaluation.episodes=4",
    )  # fmt: skip
    scores = [score for _, score in run.scalars()["evaluation/return"]]
    assert len(set(scores)) == len(scores) == 5


def test_a_run_may_stop_at_a_score(train) -> None:
    words = ["total_env_steps=6400", "evaluation.interval=64", "evaluation.stop_at=1"]
    run = train(*words)
    assert run.summary["status"] == "finished"
    assert 64 <= run.summary["env_steps"] < 200
    assert run.summary["evaluation"]["return_mean"] >= 1
    assert finished(run.directory, total_env_steps=6400, goal=1.0) is not None
    assert finished(run.directory, total_env_steps=6400, goal=None) is None  # goes on without it
    assert finished(run.directory, total_env_steps=6400, goal=2.0) is None


def test_a_run_without_evaluations_has_a_final_one(train) -> None:
    run = train("total_env_steps=32", "evaluation.interval=0", "evaluation.final_episodes=3")
    assert run.summary["evaluation"]["episodes"] == 3
    assert run.summary["best"]["env_steps"] == run.summary["env_steps"]


def test_no_finished_episode_is_no_mean(train, monkeypatch, capsys) -> None:
    monkeypatch.setattr("training.evaluation.evaluation.MAX_EPISODE_STEPS", 20)
    run = train(
        "env.id=neurl/Endless-v0", "+env.kwargs.limit=null", "total_env_steps=64",
        "evaluation.final_episodes=5",
    )  # fmt: skip
    assert run.summary["train_return_mean"] is None
    line = "20.00 +- 0.00; 2 cut after 20 steps, 3 more not played (set env.time_limit)"
    assert line in capsys.readouterr().out
    assert run.summary["evaluation"]["returns"] == [20.0, 20.0]


@pytest.fixture
def broken():
    """Registers an environment that pays nan at its 30th step."""

    class Broken(gymnasium.Env):
        observation_space = gymnasium.spaces.Box(-1, 1, (1,))
        action_space = gymnasium.spaces.Discrete(2)
        steps = 0

        def reset(self, *, seed=None, options=None):
            return np.zeros(1, np.float32), {}

        def step(self, action):
            self.steps += 1
            reward = np.nan if self.steps == 30 else 1.0
            return np.zeros(1, np.float32), reward, self.steps % 10 == 0, False, {}

    register("test/Broken-v0", entry_point=Broken)
    yield "test/Broken-v0"
    del registry["test/Broken-v0"]


def test_bad_numbers_end_the_run_and_keep_what_was_saved(broken, train, tmp_path) -> None:
    with pytest.raises(Refusal, match="the reward is not finite") as caught:
        train(
            f"env.id={broken}",
            "total_env_steps=200",
            "evaluation.interval=0",
            "checkpoint.interval=1",
            directory=tmp_path,
        )
    assert caught.value.exit_code == 1
    assert str(tmp_path) in str(caught.value)
    assert json.loads((tmp_path / "summary.json").read_text())["status"] == "failed"
    tensors, state = load_checkpoint(tmp_path / "checkpoints" / "last")
    assert 0 < state["env_steps"] < 60
    assert all(tensor.isfinite().all() for tensor in tensors.values())


def test_summary_says_running_while_it_runs(train, tmp_path, monkeypatch) -> None:
    seen = []
    learn = training.runs.run.Run._after

    def look(run, iteration):
        seen.append(json.loads((tmp_path / "summary.json").read_text())["status"])
        learn(run, iteration)

    monkeypatch.setattr(training.runs.run.Run, "_after", look)
    train("total_env_steps=64", directory=tmp_path)
    assert set(seen) == {"running"}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_run_after_the_iteration(train, tmp_path, monkeypatch, number) -> None:
    handlers = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    learn = training.runs.run.Run._after

    def stop(run, iteration):
        os.kill(os.getpid(), number)
        learn(run, iteration)

    monkeypatch.setattr(training.runs.run.Run, "_after", stop)
    with pytest.raises(Refusal, match="interrupted") as caught:
        train("total_env_steps=100000", directory=tmp_path)
    assert caught.value.exit_code == 128 + number
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["status"] == "interrupted"
    _, state = load_checkpoint(tmp_path / "checkpoints" / "last")
    assert state["env_steps"] == summary["env_steps"] > 0
    assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == handlers


def test_a_second_signal_ends_it_at_once(train, tmp_path, monkeypatch) -> None:
    def stop_twice(run, iteration):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(training.runs.run.Run, "_after", stop_twice)
    with pytest.raises(Refusal, match="interrupted") as caught:
        train("total_env_steps=100000", directory=tmp_path)
    assert caught.value.exit_code == 130
    assert json.loads((tmp_path / "summary.json").read_text())["status"] != "running"


def test_a_refused_run_leaves_no_directory(tmp_path: Path) -> None:
    directory = tmp_path / "run"
    (directory / ".hydra").mkdir(parents=True)
    discard(directory)
    assert not directory.exists()
    (directory / ".hydra").mkdir(parents=True)
    (directory / "mine.txt").write_text("")
    discard(directory)
    assert (directory / "mine.txt").exists()
    discard(tmp_path / "nowhere")


OF_AGENTS = {
    "ppo": ["policy_head.gain=1.0"],
    "dqn": ["agent.sequence_length=6", "agent.noisy=true", "agent.prioritized=true"],
    "pqn": ["agent.dueling=true"],
}


@pytest.mark.parametrize("agent", OF_AGENTS)
def test_equal_seeds_give_equal_runs_and_others_differ(train, agent: str) -> None:
    words = ["total_env_steps=200", "memory=lstm", "memory.hidden_size=4", f"agent={agent}"]
    words += OF_AGENTS[agent]
    first, second, other = (train(*words, f"seed={seed}") for seed in (5, 5, 6))
    assert first.summary["evaluation"] == second.summary["evaluation"]
    for name, tensor in first.weights().items():
        assert torch.equal(tensor, second.weights()[name]), name
    assert not torch.equal(
        first.weights()["agent.actor.extractor.layers.0.weight"],
        other.weights()["agent.actor.extractor.layers.0.weight"],
    )


def test_a_run_does_not_touch_global_random_numbers(train) -> None:
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002  (the global generator is what must not move)
    before = torch.get_rng_state(), np.random.get_state()[1]  # noqa: NPY002
    train("total_env_steps=32")
    assert torch.equal(torch.get_rng_state(), before[0])
    np.testing.assert_array_equal(np.random.get_state()[1], before[1])  # noqa: NPY002


def lose_the_weights(directory: Path) -> None:
    for path in (directory / "checkpoints" / "last").glob("tensors-*"):
        path.unlink()


def cut_the_weights(directory: Path) -> None:
    for path in (directory / "checkpoints" / "last").glob("tensors-*"):
        path.write_bytes(path.read_bytes()[:-1])


def lose_the_configuration(directory: Path) -> None:
    (directory / "config.yaml").unlink()


def change_the_network(directory: Path) -> None:
    config = OmegaConf.load(directory / "config.yaml")
    config.extractor.hidden_sizes = [5]
    OmegaConf.save(config, directory / "config.yaml")


def change_the_environment(directory: Path) -> None:
    config = OmegaConf.load(directory / "config.yaml")
    config.env.id = "Acrobot-v1"
    OmegaConf.save(config, directory / "config.yaml")


def unregister_the_environment(directory: Path) -> None:
    config = OmegaConf.load(directory / "config.yaml")
    config.env.id = "Nowhere-v1"
    OmegaConf.save(config, directory / "config.yaml")


@pytest.mark.parametrize(
    "damage",
    [
        lose_the_weights,
        cut_the_weights,
        lose_the_configuration,
        change_the_network,
        change_the_environment,
        unregister_the_environment,
    ],
)
def test_evaluating_a_damaged_run_is_refused_in_one_line(run, tmp_path: Path, damage) -> None:
    copied = tmp_path / "run"
    shutil.copytree(run.directory, copied)
    damage(copied)
    with pytest.raises(Refusal) as caught:
        watch_run(load([f"run={copied}"], "evaluate"))
    assert caught.value.exit_code == 2
    assert str(caught.value).startswith(f"run={copied}: ")
    assert "\n" not in str(caught.value)


DAMAGE = {
    "missing": None,
    "no yaml": "a: [",
    "binary": b"\xff\xfe\x00",
    "empty": "",
    "a list": "[1, 2]",
    "a word": "word",
    "wrong values": "seed: x",
    "unresolvable": "seed: ${nowhere}",
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_configuration_is_refused(run, tmp_path: Path, damage) -> None:
    if damage is not None:
        data = damage if isinstance(damage, bytes) else damage.encode()
        (tmp_path / "config.yaml").write_bytes(data)
    with pytest.raises(ValueError) as caught:
        load_agent(tmp_path, checkpoint="last", device="cpu", trusted_packages=())
    assert str(caught.value)


def test_a_stored_configuration_names_no_foreign_code(run, tmp_path: Path) -> None:
    """A run directory is checked like a command line, and it cannot vouch for itself."""
    canary = tmp_path / "canary"
    for target in ("os.system", "shutil.copyfile", "pathlib.Path.unlink", "builtins.eval"):
        for place in ("extractor", "memory", "value_head", "agent", "optimizer"):
            config = OmegaConf.load(run.directory / "config.yaml")
            config[place] = {"_target_": target, "command": f"touch {canary}"}
            config.trusted_packages = ["os", "shutil", "pathlib", "builtins", "training"]
            OmegaConf.save(config, tmp_path / "config.yaml")
            with pytest.raises(ValueError, match=f"{place}._target_"):
                load_agent(tmp_path, checkpoint="last", device="cpu", trusted_packages=())
    assert not canary.exists()


def test_packages_of_the_users_are_trusted_by_who_loads(run, tmp_path: Path) -> None:
    config = OmegaConf.load(run.directory / "config.yaml")
    config.extractor = {"_target_": "my_package.Net"}
    config.trusted_packages = ["my_package"]
    OmegaConf.save(config, tmp_path / "config.yaml")
    with pytest.raises(ValueError, match=r"trusted_packages=\[my_package\]"):
        load_agent(tmp_path, checkpoint="last", device="cpu", trusted_packages=())


def test_configuration_of_a_run_is_that_of_the_command_line(run) -> None:
    config, _ = load_agent(run.directory, checkpoint="best", device="cpu", trusted_packages=())
    composed = load(["total_env_steps=600"])
    assert config.agent.keys() == composed.agent.keys()
    assert OmegaConf.is_readonly(config)


def test_a_directory_is_one_processs(tmp_path: Path) -> None:
    with locked(tmp_path):
        refusal = pytest.raises(Refusal, match="run_dir: another process is training into")
        with refusal, ExitStack() as stack, beginning(tmp_path, stack):
            pass
        discard(tmp_path)
        assert tmp_path.is_dir()  # in use
    discard(tmp_path)
    assert not tmp_path.exists()


def test_it_is_said_once_that_clipping_leaves_no_gradient(train) -> None:
    words = ["total_env_steps=400", "tracking.interval=1", "evaluation.interval=0"]
    scaled = "env.wrappers=[{_target_: envs.wrappers.ScaleReward, factor: %s}]"
    with pytest.warns(RuntimeWarning, match="normalize_rewards=true") as said:
        train(*words, scaled % "1e6")
    assert len(said) == 1
    train(*words, scaled % "1")  # where a warning is an error


def test_a_run_that_diverges_stops_and_keeps_what_it_has(train, tmp_path: Path) -> None:
    with pytest.raises(Refusal, match="no gradient was finite") as caught:
        train(
            "total_env_steps=100000",
            "checkpoint.interval=0",
            "optimizer=sgd",
            "optimizer.learning_rate=1e30",
            "optimizer.max_grad_norm=null",
            directory=tmp_path,
        )
    assert caught.value.exit_code == 1
    tensors, _ = load_checkpoint(tmp_path / "checkpoints" / "last")
    assert all(tensor.isfinite().all() for tensor in tensors.values())
