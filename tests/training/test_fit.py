"""`neurl.fit` and `neurl.build` with what a caller hands in: environments, modules, callbacks."""

import copy
import itertools
import json
import pickle
import re
import signal
from functools import partial
from pathlib import Path

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from torch import nn

import neurl
from conf.composing.command_line import load as configure
from conf.schema.layout import version_of
from neurl import results
from tests.doors import Doors
from training.evaluation.watching import watch_run

SMALL = (
    "device=cpu", "num_threads=1", "extractor.hidden_sizes=[8]", "agent.rollout_length=16",
    "agent.num_epochs=1", "evaluation.interval=100", "evaluation.episodes=2",
    "evaluation.final_episodes=3", "evaluation.num_envs=2",
)  # fmt: skip
RECURRENT = (*SMALL, "memory=gru", "memory.hidden_size=5", "agent.num_minibatches=1")
make = partial(gymnasium.make, "CartPole-v1")


def positive() -> gymnasium.Env:
    return gymnasium.wrappers.TransformReward(make(), abs)


class Room(gymnasium.Env):
    """Not registered; episodes of seven steps, a reward of 1 in each."""

    def __init__(self, space: spaces.Space | None = None) -> None:
        self.observation_space = space or spaces.Box(-1, 1, (3,))
        self.action_space = spaces.Box(-2, 1, (2,))
        self.is_closed = False

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return self.observation_space.sample(), {}

    def step(self, action):
        assert self.action_space.contains(action)
        self.steps += 1
        return self.observation_space.sample(), 1.0, self.steps == 7, False, {}

    def close(self):
        self.is_closed = True


class Net(nn.Module):
    def __init__(self, size: int) -> None:
        super().__init__()
        self.layer = nn.Linear(size, 6)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return torch.tanh(self.layer(rows))


class Told(neurl.Callback):
    """Keeps what it is told, and stops when it is to."""

    def __init__(self, stop_at: float = np.inf, *, at_evaluation: bool = False) -> None:
        self.iterations: list[neurl.TrainingProgress] = []
        self.evaluations: list[neurl.TrainingProgress] = []
        self.stop_at, self.at_evaluation = stop_at, at_evaluation

    def on_iteration(self, progress: neurl.TrainingProgress) -> bool:
        self.iterations.append(progress)
        return self.at_evaluation or progress.env_steps < self.stop_at

    def on_evaluation(self, progress: neurl.TrainingProgress) -> bool:
        self.evaluations.append(progress)
        return not self.at_evaluation or progress.env_steps < self.stop_at


def weights(policy: neurl.Policy) -> torch.Tensor:
    return policy.agent.optimizer.flat.clone()


# ---- progress, directories, callbacks


def test_a_call_tells_how_it_goes_unless_it_is_not_to(capsys) -> None:
    policy = neurl.build(*SMALL, "env.num_envs=2")
    score = neurl.fit(policy, make, 640)
    *_, last = lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 10
    assert last.split()[:4] == [f"{policy.env_steps:,}", "steps", "return", f"{score:.2f}"]
    before, told = policy.env_steps, Told()
    neurl.fit(policy, make, 64, progress=False, callbacks=told)
    assert capsys.readouterr().out == ""
    assert 0 < told.iterations[0].env_steps - before < 40


def test_a_directory_makes_the_call_a_run_and_changes_no_weight(tmp_path: Path, capsys) -> None:
    alone, told = neurl.build(*RECURRENT, "env.num_envs=2"), Told()
    policy = neurl.build(*RECURRENT, "env.num_envs=2")
    for call, steps in enumerate((300, 200)):
        neurl.fit(alone, make, steps, progress=False)
        place, before = tmp_path / str(call), policy.env_steps
        score = neurl.fit(policy, make, steps, run_dir=place, progress=False, callbacks=told)
        assert torch.equal(weights(policy), weights(alone))
        assert policy.env_steps == alone.env_steps
        summary = json.loads((place / "summary.json").read_text())
        assert summary["status"] == "finished"
        assert summary["env_steps"] == policy.env_steps
        assert summary["evaluation"]["return_mean"] == score
        rate = (policy.env_steps - before) / summary["training_seconds"]
        assert summary["steps_per_second"] == pytest.approx(rate)
        assert f"tensorboard --logdir {place.parent}" in capsys.readouterr().out
    assert len(results(str(tmp_path / "1"), ["evaluation/return"])) == 2  # at 400, at the end
    assert torch.equal(weights(neurl.load(place)), weights(policy))  # of the id that was made
    with pytest.raises(ValueError, match="holds a run already"):
        neurl.fit(policy, make, 100, run_dir=place)
    with pytest.raises(ValueError, match="total_env_steps"):
        neurl.fit(policy, make, 100, run_dir=tmp_path / "2", total_env_steps=10_000)
    steps = [progress.env_steps for progress in told.iterations]
    assert steps == sorted(set(steps))
    assert steps[-1] == policy.env_steps
    assert "policy/entropy" in told.iterations[0].iteration.metrics
    episodes = [e for p in told.iterations[:5] for e in p.iteration.episodes]
    assert told.iterations[4].return_mean == np.mean([e.episode_return for e in episodes][-100:])
    assert [len(p.evaluation.returns) for p in told.evaluations] == [2, 2, 3, 2, 3]


@pytest.mark.parametrize("has_directory", [False, True])
def test_a_callback_ends_training(tmp_path: Path, has_directory: bool) -> None:
    policy, told = neurl.build(*SMALL, "env.num_envs=2"), Told(stop_at=100)
    where = tmp_path / "run" if has_directory else None
    neurl.fit(policy, make, 5_000, callbacks=[neurl.Callback(), told], run_dir=where)
    assert 100 <= policy.env_steps < 150
    if where is not None:
        assert json.loads((where / "summary.json").read_text())["status"] == "finished"
        told, where = Told(stop_at=250, at_evaluation=True), tmp_path / "another"
        neurl.fit(policy, make, 5_000, callbacks=told, run_dir=where)
        assert 300 <= policy.env_steps < 350
        assert told.evaluations[-1].evaluation is not None


def test_a_call_that_diverges_says_so_and_keeps_the_last_finite_weights() -> None:
    words = ("optimizer=sgd", "optimizer.learning_rate=1e30", "optimizer.max_grad_norm=null")
    policy = neurl.build(*SMALL, *words, "agent.num_minibatches=1", env=make)
    with pytest.raises(RuntimeError, match=r"^no gradient was finite in 3 .*normalize_rewards"):
        neurl.fit(policy, make, 5_000, progress=False)
    assert 0 < policy.env_steps < 5_000
    assert all(weight.isfinite().all() for weight in policy.agent.parameters())


def test_a_stopped_run_is_saved_and_a_broken_one_says_why(tmp_path: Path) -> None:
    class Stop(neurl.Callback):
        def on_iteration(self, progress: neurl.TrainingProgress) -> None:
            signal.raise_signal(signal.SIGTERM)

    policy = neurl.build(*SMALL, "env.num_envs=2")
    with pytest.raises(KeyboardInterrupt, match="saved at"):
        neurl.fit(policy, make, 5_000, run_dir=tmp_path / "stopped", callbacks=Stop())
    assert 0 < policy.env_steps < 50
    assert torch.equal(weights(neurl.load(tmp_path / "stopped")), weights(policy))

    class Broken(gymnasium.Wrapper):
        def step(self, action):
            raise ArithmeticError("a wheel came off")

    with pytest.raises(RuntimeError, match="a wheel came off"):
        neurl.fit(policy, lambda: Broken(make()), 100, run_dir=tmp_path / "broken")


def test_an_environment_is_evaluated_at_its_end_and_stays_open(tmp_path: Path, capsys) -> None:
    room = Room()
    policy, told = neurl.build(*SMALL, env=room), Told()
    assert neurl.fit(policy, room, 250, run_dir=tmp_path / "run", callbacks=told) == 7.0
    assert "PPO on Room, 250 steps" in capsys.readouterr().out
    assert [len(progress.evaluation.returns) for progress in told.evaluations] == [3]
    assert not room.is_closed
    with pytest.raises(ValueError, match=r"env\.id=Room.* env="):
        neurl.load(tmp_path / "run")
    loaded = neurl.load(tmp_path / "run", env=Room)
    assert neurl.fit(loaded, Room, 50) == 7.0
    assert loaded.evaluate(room, episodes=4).returns == (7.0,) * 4


def test_masks_that_nobody_obeys_are_told(capsys) -> None:
    policy = neurl.build(*SMALL, env=lambda: Doors((1,)))
    neurl.fit(policy, lambda: Doors((1,)), 16, progress=False)
    assert capsys.readouterr().out == ""
    neurl.fit(policy, lambda: Doors((1,)), 16)
    assert "env.action_mask=true obeys" in capsys.readouterr().out


def test_wrong_arguments_are_refused_by_name(tmp_path: Path) -> None:
    policy = neurl.build(*SMALL)
    fit = partial(neurl.fit, policy, progress=False)
    (tmp_path / "file").touch()
    same, two = make(), itertools.cycle([make(), make()])
    for name, call in {
        "env: .*; steps are env_steps=2000": lambda: fit(2000),
        "env: .*environments, got 5": lambda: fit(lambda: 5, 16),
        "env: .*the same one again": lambda: fit(lambda: same, 16),
        "env: .*got the same one again": lambda: fit(lambda: next(two), 16),
        "callbacks": lambda: fit(make, 16, callbacks=neurl.Callback),
        "callbacks: ": lambda: fit(make, 16, callbacks=[neurl.Callback(), print]),
        "env_steps=True": lambda: fit(make, True),
        "env_steps=0.5": lambda: fit(make, 0.5),
        "total_env_steps=50": lambda: fit(make, 100, total_env_steps=50),
        "run_dir: .*file cannot be made": lambda: fit(make, 16, run_dir=tmp_path / "file"),
        "episodes=0": lambda: policy.evaluate(episodes=0),
        "episodes=2.5": lambda: policy.evaluate(episodes=2.5),
        "resume: .* neurl.load": lambda: neurl.build(f"resume={tmp_path}"),
        "extractor: .*; got <class .*Linear'>": lambda: neurl.build(extractor=nn.Linear),
    }.items():
        with pytest.raises(ValueError, match=f"^{name}"):
            call()
    with pytest.raises(ValueError, match=r"got .*; env.reset\(\) returns \(observation, info\)"):
        policy.predict(make().reset())
    fit(make, np.int64(16))
    fit(make, 1.6e1)


# ---- policies


def test_a_policy_is_saved_copied_and_not_pickled(tmp_path: Path) -> None:
    policy = neurl.build(*RECURRENT, "env.num_envs=2", "normalize_observations=true")
    stream = np.random.default_rng(0).normal(size=(9, 3, 4))
    policy.save(tmp_path / "mine")
    neurl.fit(policy, make, 64)
    policy.save(tmp_path / "mine")  # replaced
    expected = [policy.predict(each, deterministic=True).tolist() for each in stream]
    again, copied = neurl.load(tmp_path / "mine"), copy.deepcopy(policy)
    copied.reset()
    for other in (again, copied):
        assert [other.predict(each).tolist() for each in stream] == expected
    neurl.fit(copied, make, 64)
    assert torch.equal(weights(policy), weights(again))
    assert not torch.equal(weights(policy), weights(copied))
    with pytest.raises(TypeError, match=r"policy\.save"):
        pickle.dumps(policy)
    words = [f"run={tmp_path / 'mine'}", "evaluation.episodes=4", "evaluation.num_envs=2"]
    assert watch_run(configure(words, "evaluate")).evaluation == again.evaluate(episodes=4)
    assert again.evaluate("CartPole-v1", 4) == again.evaluate(make, 4) == again.evaluate(episodes=4)
    assert str(again.evaluate(episodes=4)).endswith("over 4 episodes")
    neurl.fit(policy, make, 64, run_dir=tmp_path / "run")
    with pytest.raises(ValueError, match="holds a run"):
        policy.save(tmp_path / "run")


@pytest.mark.filterwarnings("ignore:.*torch.jit.trace:DeprecationWarning")
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_a_policy_acts_as_a_module_and_is_not_traced_by_its_arrays() -> None:
    policy = neurl.build(*RECURRENT, env=Room())
    rows, first = torch.linspace(-1, 1, 6).reshape(2, 3), torch.ones(2, dtype=torch.bool)
    state = torch.from_numpy(policy.agent.initial_state(2))
    traced = torch.jit.trace(policy.module(), (rows, state, first), check_trace=False)
    found = traced(-rows, state, first)[0].detach()
    np.testing.assert_allclose(found, policy.predict(-rows.numpy()), atol=1e-5)
    with pytest.raises(RuntimeError, match=r"Policy\.module"):
        torch.jit.trace(lambda x: torch.as_tensor(policy.predict(np.ones((1, 3)))), rows)
    with pytest.raises(ValueError, match="finite"):
        policy.predict([0.0, np.nan, 0.0])


def test_names_help() -> None:
    assert dir(neurl) == sorted(neurl.__all__)
    assert neurl.__version__ == version_of("neurl")
    assert repr(neurl.build(*RECURRENT, env=Room())).startswith("<Policy: PPO, MLP, GRU on Room, ")


# ---- what is handed in


def test_a_vector_environment_is_trained_in_as_its_single_ones() -> None:
    single = neurl.build(*RECURRENT, "env.num_envs=3")
    vector = SyncVectorEnv([make] * 3)
    policy = neurl.build(*RECURRENT, env=vector)
    assert policy.config.env.num_envs == 3
    assert torch.equal(weights(policy), weights(single))
    assert neurl.fit(policy, vector, 200) > 9
    assert policy.evaluate(vector, episodes=6).returns  # it is open
    vector.close()
    frames = SyncVectorEnv([make], autoreset_mode=AutoresetMode.SAME_STEP)
    with pytest.raises(ValueError, match="NEXT_STEP"):
        neurl.build(*SMALL, env=frames)


def test_an_environment_that_is_not_as_registered_is_asked_for(tmp_path: Path) -> None:
    short = partial(make, max_episode_steps=7)
    same = (make, make(), SyncVectorEnv([make]), neurl.build().environments(2))
    others = (short, short(), partial(gymnasium.make, "FrozenLake-v1", map_name="8x8"))
    for env in (*same, *others, positive, SyncVectorEnv([short])):
        assert (neurl.build(*SMALL, env=env).config.env.id == "CartPole-v1") == (env in same)
    policy = neurl.build(*SMALL, "evaluation.video=true", env=short)
    with pytest.raises(ValueError, match="video=true: CartPoleEnv is not registered"):
        neurl.fit(policy, short, 32, run_dir=tmp_path / "video")
    policy = neurl.build(*SMALL, env=short)
    neurl.fit(policy, short, 32, run_dir=tmp_path / "run")
    for alone in (policy.evaluate, partial(neurl.load, tmp_path / "run")):
        with pytest.raises(ValueError, match=r"env\.id=CartPoleEnv.* env="):
            alone()
    assert neurl.load(tmp_path / "run", env=short).evaluate(short, 2).lengths == (7, 7)


def test_a_policy_of_a_vector_environment_is_loaded_without_it(tmp_path: Path) -> None:
    vector = SyncVectorEnv([partial(gymnasium.make, "Acrobot-v1", max_episode_steps=500)] * 2)
    policy = neurl.build(*SMALL, env=vector)
    policy.save(tmp_path / "mine")
    loaded = neurl.load(tmp_path / "mine")
    assert loaded.evaluate(episodes=2) == policy.evaluate(episodes=2)
    assert policy.evaluate("Acrobot-v1", episodes=2).returns


def test_an_environment_that_is_refused_stays_open() -> None:
    room = Room()
    for words, told in (("env.action_mask=true", "Discrete"), ("env.on_failure=restart", "again")):
        with pytest.raises(ValueError, match=told):
            neurl.build(words, env=room)
    assert not room.is_closed


@pytest.mark.parametrize("words", [SMALL, ("agent=dqn", "agent.learning_starts=100")])
def test_masks_of_a_vector_environment_are_obeyed(words: tuple[str, ...]) -> None:
    vector = SyncVectorEnv([Doors] * 2)
    policy = neurl.build(*words, "env.action_mask=true", env=vector)
    assert neurl.fit(policy, vector, 150, progress=False) is not None  # a closed door raises
    assert policy.evaluate(vector, episodes=2) is not None
    with pytest.raises(ValueError, match=r"critic\.observation=full: .* a function"):
        neurl.build("critic.observation=full", env=vector)


@pytest.mark.parametrize("agent", ["ppo", "dqn"])
def test_a_policy_is_fitted_on_another_number_of_environments(agent: str) -> None:
    small = {
        "ppo": ("agent.rollout_length=16", "agent.num_minibatches=4", "normalize_rewards=true"),
        "dqn": (
            *("agent=dqn", "agent.learning_starts=40", "memory.sequence_length=4"),
            "agent.final_epsilon=1",  # episodes end within 100 steps, whatever the weights
        ),
    }[agent]
    same = ("device=cpu", "memory=gru", "memory.hidden_size=5", "optimizer.learning_rate=1e-12")
    policy = neurl.build(*same, *small, "env.num_envs=4", normalize_observations=True)
    neurl.fit(policy, make, 100)
    before, seen = weights(policy), policy.agent.actor.normalization.count.clone()
    with make() as environment:
        assert neurl.fit(policy, environment, 100) is not None
    assert policy.config.env.num_envs == 1
    assert torch.allclose(weights(policy), before, rtol=0, atol=1e-8)
    assert policy.agent.actor.normalization.count > seen > 50
    neurl.fit(policy, SyncVectorEnv([make] * 2), 100)
    assert policy.config.env.num_envs == 2
    if agent == "ppo":
        assert policy.config.agent.num_minibatches == 1  # one sequence at first
        policy = neurl.build(*same, *small, "env.num_envs=4")
        neurl.fit(policy, SyncVectorEnv([make] * 2), 100)
        assert policy.config.agent.num_minibatches == 2  # of two


def test_a_replay_that_begins_empty_is_filled_and_learnt_from(tmp_path: Path) -> None:
    words = ("agent=dqn", "agent.learning_starts=100", "agent.replay_ratio=0.2", "memory=gru")
    policy = neurl.build(*words, *RECURRENT[-2:-1], "memory.sequence_length=8", "env.num_envs=2")
    neurl.fit(policy, make, 300)
    policy.save(tmp_path / "mine")
    loaded = neurl.load(tmp_path / "mine")
    for each, env in ((policy, make()), (loaded, make)):
        with pytest.raises(ValueError, match="learning_starts=100"):
            neurl.fit(each, env, 60)
        before, begun, told = weights(each), each.env_steps, Told()
        neurl.fit(each, env, 150, callbacks=told)
        taken = [p.env_steps for p in told.iterations if p.iteration.metrics["update/steps"] > 0]
        assert not torch.equal(weights(each), before)
        assert 100 <= taken[0] - begun < 140


def test_a_module_is_the_extractor_of_actor_and_critic(tmp_path: Path) -> None:
    torch.manual_seed(0)
    own = Net(4)
    kept = own.layer.weight.detach().clone()
    policy = neurl.build(*RECURRENT[:2], *RECURRENT[3:], extractor=own)
    networks = policy.agent.networks
    for backbone in (networks.actor, networks.critic):
        assert torch.equal(backbone.extractor.layer.weight, kept)
    neurl.fit(policy, make, 200)
    assert not torch.equal(networks.actor.extractor.layer.weight, kept)
    assert not torch.equal(
        networks.actor.extractor.layer.weight, networks.critic.extractor.layer.weight
    )
    assert torch.equal(own.layer.weight, kept)
    with make() as environment:
        neurl.fit(policy, environment, 64)
    policy.save(tmp_path / "mine")
    loaded = neurl.load(tmp_path / "mine", extractor=Net(4))
    assert torch.equal(weights(loaded), weights(policy))
    assert neurl.fit(loaded, make, 64)
    with pytest.raises(ValueError, match=r"trusted_packages=\[tests\]"):
        neurl.load(tmp_path / "mine")
    with pytest.raises(ValueError, match=r"neurl\.load\(\.\.\., extractor=module\)"):
        neurl.load(tmp_path / "mine", trusted_packages=["tests"])
    neurl.build(env=make, extractor=nn.Sequential(Net(4))).save(tmp_path / "torch")
    with pytest.raises(ValueError, match=r"neurl\.load\(\.\.\., extractor=module\)"):
        neurl.load(tmp_path / "torch")
    for wrong in ("mlp", Net):
        with pytest.raises(ValueError, match="extractor: expected a module"):
            neurl.load(tmp_path / "mine", extractor=wrong)
    with pytest.raises(ValueError) as caught:
        neurl.build("extractor=cnn", "extractor.hidden_sizes=[8]", env=make, extractor=own)
    assert str(caught.value).count("leave it out") == 2
    frozen = neurl.build("extractor.freeze=true", env=make, extractor=own)
    neurl.fit(frozen, make, 10)
    assert torch.equal(frozen.agent.actor.extractor.layer.weight, kept)


def test_a_module_reads_parts_as_one_row_or_is_refused() -> None:
    parts = spaces.Dict(a=spaces.Box(-1, 1, (2,)), b=spaces.Box(-1, 1, (1,)))
    assert neurl.fit(neurl.build(*SMALL[:2], env=Room(parts), extractor=Net(3)), Room(parts), 20)
    with pytest.raises(ValueError, match=r"Net cannot read observations of shape \(4,\)"):
        neurl.build(extractor=Net(5))


def test_keywords_are_overrides_and_an_id_is_an_environment() -> None:
    words = neurl.build("memory=gru", "env.id=Acrobot-v1", "share_backbone=true", "auxiliary=[]")
    typed = neurl.build(memory="gru", env="Acrobot-v1", share_backbone=True, auxiliary=[])
    assert torch.equal(weights(words), weights(typed))
    assert neurl.build(env="pendulum", extractor="flatten").config.env.id == "Pendulum-v1"
    with pytest.raises(ValueError, match="memroy: unknown key; did you mean memory"):
        neurl.build(memroy="gru")


@pytest.mark.parametrize(
    ("words", "env", "named"),
    [
        (["env.time_limit=5", "+env.kwargs.speed=2"], Room, ["env.kwargs.speed", "env.time_limit"]),
        (["env.num_envs=8"], Room(), ["env.num_envs"]),
        (["env.vectorization=async"], Room(), ["env.vectorization"]),
        (["pomdp=mask_velocity"], SyncVectorEnv([make]), ["pomdp"]),
        (["env.frame_stack=4"], SyncVectorEnv([make]), ["env"]),
        ([], 5, ["env"]),
    ],
)
def test_what_cannot_apply_to_an_environment_is_refused(words, env, named) -> None:
    with pytest.raises(ValueError) as caught:
        neurl.build(*words, env=env)
    assert [line.partition(":")[0] for line in str(caught.value).splitlines()] == named


def test_the_page_about_python_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    page = Path(neurl.__file__).parent / "docs" / "python.md"
    names: dict[str, object] = {}
    for source in re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL):
        small = re.sub(r"\b(\d+)_000\b", lambda count: f"{count[1]}0", source)
        for long, short in (
            ('agent="dqn"', 'agent="dqn", **{"agent.learning_starts": 50}'),
            ("episodes=20", "episodes=2"),
            ('"evaluation.interval', '"evaluation.final_episodes=2", "evaluation.interval'),
        ):
            small = small.replace(long, short)
        exec(small, names)
