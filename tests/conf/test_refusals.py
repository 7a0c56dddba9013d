"""What cannot be run is refused in one line: where, what is expected, what was meant."""

import functools
import pickle
import re
from pathlib import Path

import pytest

from conf.composing.command_line import InvalidConfiguration, check, launch

LONG = 256 * "x"

# The command line, and what its refusal must say.
WRONG = [
    ("sede=1", "sede: unknown key; did you mean seed?"),
    ("+unknown=1", "unknown: unknown key"),
    ("++agent.unknown=1", "agent.unknown: unknown key"),
    ("+optimizer.foo=1", "optimizer.foo: unknown key\n"),
    ("optimizer.groups.foo.learning_rate=1", "optimizer.groups.foo: unknown key\n"),
    ("gradients.foo=[actor]", "gradients.foo: unknown key\n"),
    ("gradients=[actor]", "gradients: expected a mapping, got a list\n"),
    ("env.kwargs=[1]", "env.kwargs: expected a mapping, got a list\n"),
    ("env.num_envs=1e9", "env.num_envs: expected an integer >= 1 and <= 1000000"),
    ("env.frame_stack=1e9", "env.frame_stack: expected an integer >= 1 and <= 10000"),
    ("agent.clip_rang=0.1", "agent.clip_rang: unknown key; did you mean agent.clip_range?"),
    ("clip_range=0.1", "clip_range: unknown key; did you mean agent.clip_range?"),
    ("agent.learning_rate=1", "did you mean optimizer.learning_rate?"),
    (
        "memory.hidden_size=3",
        "memory.hidden_size: unknown key; only RNN, GRU, LSTM, MinGRU, LRU, MLSTM, GTrXL have it",
    ),
    ("seed=abc", "seed: expected an integer >= 0, got 'abc'"),
    ("seed=1.5", "got 1.5"),
    ("seed=true", "seed: expected an integer >= 0, got true"),
    ("seed=-1", "got -1"),
    ("seed=null", "got null"),
    ("seed=nan", "got nan"),
    ("seed=inf", "got inf"),
    ("seed=", "got ''"),
    ("seed=[1]", "got [1]"),
    ("seed.x=3", "got {'x': 3}"),
    (
        "agent.discount=nan",
        "agent.discount: expected a number >= 0 and <= 1, got nan",
    ),
    (
        "agent.discount=1.5",
        "agent.discount: expected a number >= 0 and <= 1, got 1.5",
    ),
    ("agent.discount={a:1}", "got {'a': 1}"),
    ("agent.clip_range=0", "agent.clip_range: expected a number > 0, got 0"),
    ("agent.clip_range=abc", "agent.clip_range: expected a number > 0, got 'abc'"),
    ("agent.target_kl=0", "expected null or a number > 0, got 0"),
    ("agent.num_epochs=0", "expected an integer >= 1"),
    ("agent.normalize_advantages=1", "expected true or false, got 1"),
    ("agent.clip_range_schedule=liner", "expected constant or linear, got 'liner'"),
    ("total_env_steps=0", "expected an integer >= 1, got 0"),
    ("total_env_steps=1e400", "got inf"),
    ("compile=yes", "compile: expected true or false or force, got 'yes'"),
    ("device=gpu", "device: expected auto, cpu, cuda or cuda:<number>, got 'gpu'"),
    ("num_threads=0", "num_threads: expected auto or an integer >= 1, got 0"),
    ("tracking.progress=maybe", "expected auto or true or false, got 'maybe'"),
    ("optimizer.betas=[0.9]", "expected a list of 2 numbers >= 0 and < 1"),
    ("optimizer.betas=[0.9,1.5]", "optimizer.betas[1]: expected a number >= 0 and < 1"),
    (
        "value_head=hl_gauss|agent.value_clip_range=0.2",
        "agent.value_clip_range: expected null, because value_head fits a histogram",
    ),
    (
        "value_head=two_hot|value_head.support=[3,-3]",
        "value_head.support: expected the lowest and the highest value, in this order, got [3.0",
    ),
    ("value_head=two_hot|value_head.support=wide", "expected auto or a list of 2 numbers"),
    ("value_head=two_hot|value_head.bins=2", "value_head.bins: expected an integer >= 3, got 2"),
    (
        "policy_head=deterministic",
        "policy_head: expected auto, categorical, gaussian or squashed_gaussian, because agent=ppo "
        "learns from log-probabilities of actions, which deterministic has not",
    ),
    ("agent=a2c|policy_head=deterministic", "because agent=a2c learns from log-probabilities"),
    (
        "agent=dqn|policy_head=gaussian",
        "policy_head: expected auto, because DQN has values of actions for a policy",
    ),
    (
        "agent=sac|policy_head=gaussian",
        "policy_head: expected auto or squashed_gaussian, with which agent=sac acts; got gaussian",
    ),
    ("agent=td3|policy_head=squashed_gaussian", "expected auto or deterministic, with which agent"),
    ("agent=sac|policy_head=deterministic", "because agent=sac learns from log-probabilities"),
    ("agent=sac|agent.temperature=0", "agent.temperature: expected auto or a number > 0, got 0"),
    ("agent=td3|agent.policy_delay=0", "agent.policy_delay: expected an integer >= 1, got 0"),
    ("agent=ddpg|agent.num_critics=2", "agent.num_critics: unknown key; only TD3, SAC have it"),
    (
        "policy_head=categorical|policy_head.initial_log_std=0",
        "policy_head.initial_log_std: unknown key; only ",
    ),
    (
        "critic.observation=full|agent=dqn",
        "critic.observation: expected same, because DQN has one network, which acts\n",
    ),
    (
        "critic.observation=full|share_backbone=true",
        "critic.observation: expected same, because the critic has the network that acts; ",
    ),
    (
        "critic.observation=full|extractor=autoencoder|extractor.pretrain.frames=1_000",
        "critic.observation: expected same, because pre-training reads what the policy sees",
    ),
    ("critic.observation=everything", "expected same or full, got 'everything'"),
    (
        "auxiliary=lambda_discrepancy|memory=gru",
        "share_backbone: expected true, because the policy must read the memory that auxiliary=lam",
    ),
    (
        "auxiliary=lambda_discrepancy|share_backbone=true",
        "auxiliary: expected no lambda_discrepancy, because there is no memory to train; ",
    ),
    (
        "auxiliary=lambda_discrepancy|agent=sac|memory=gru",
        "auxiliary: expected no lambda_discrepancy, because SAC has no values that are lambda",
    ),
    (
        "auxiliary=lambda_discrepancy|memory=gru|share_backbone=true|agent.gae_lambda=0.5",
        "agent.gae_lambda: expected another than the one of auxiliary=lambda_discrepancy, got 0.5",
    ),
    ("value_head=c51", "value_head: expected mse, huber, two_hot or hl_gauss, because agent=ppo"),
    ("agent=a2c|value_head=quantile", "because agent=a2c fits values to returns"),
    ("value_head=hl_gauss|value_head.symlog=true", "symlog: unknown key; only TwoHotValueHead"),
    ("extractor.hidden_sizes=64", "a list is written [64]"),
    ("extractor.hidden_sizes=64,64", "one list is written extractor.hidden_sizes=[64,64]"),
    ("extractor.hidden_sizes=[64,-1]", "extractor.hidden_sizes[1]: expected an integer >= 1"),
    ("extractor.activation=ReLU", "got 'ReLU'; did you mean relu?"),
    ("extractor.keys.a=3", "extractor.keys: unknown key; only DictExtractor has it"),
    ("extractor=dict|extractor.keys=3", "extractor.keys: expected a mapping, got 3"),
    ("extractor=dict|+extractor.keys.a.b=3", "extractor.keys.a._target_: missing"),
    ("extractor=dict|+extractor.keys.a={}", "first with +extractor@extractor.keys.a=..."),
    ("extractor=dict|+extractor.keys.a=[1]", "extractor.keys.a: expected a mapping, got [1]"),
    (
        "extractor=dict|+extractor@extractor.keys.a.b=mlp|extractor.keys.a.b.hiden_sizes=[3]",
        "extractor.keys.a.b.hiden_sizes: unknown key; did you mean extractor.keys.a.b.hidden_sizes",
    ),
    (
        "extractor=dict|+extractor@extractor.keys.a.b=mlp|extractor.keys.a.b.activation=rel",
        "extractor.keys.a.b.activation: expected one of tanh",
    ),
    (
        "extractor=dict|+extractor.keys.a.b._target_=networks.extractors.MPL",
        "extractor.keys.a.b._target_: expected one of networks.extractors.MLP",
    ),
    ("extractor=dict|+extractor.keys.a._target_=os.system", "'os.system' is not a class of a"),
    ("extractor=dict|extractor.default.gain=0", "extractor.default.gain: expected a number > 0"),
    (
        "extractor=dict|extractor@extractor.keys.a=mlp",
        "(a new one is added with a plus: +extractor@extractor.keys.a=mlp)",
    ),
    ("decoder=dense", "decoder: no choice of this command\n"),
    ("extractor@foo=cnn", "one of extractor, extractor@critic.extractor?\n"),
    ("hydra.foo=1", "'hydra.foo' (a new one is added with a plus: +hydra.foo=1); Key"),
    (
        "optimizer.groups={critic: {memory: {weight_decay: 1}}, critic.memory: {learning_rate: 1}}",
        "optimizer.groups.critic.memory: given more than once\n",
    ),
    (
        "optimizer.groups={critic: 3, critic.memory: {learning_rate: 1}}",
        "optimizer.groups.critic: unknown key; did you mean",
    ),
    (
        "gradients={critic.memory: [critic]}|gradients.critic.memory=[auxiliary]",
        "gradients.critic.memory: given more than once\n",
    ),
    ("~resume", "resume: cannot be removed, as it is null already"),
    ("-m|seed=range(0)", "seed=range(0): there is no such value\n"),
    ("-m|extractor=glob(zzz)", "extractor=glob(zzz): there is no such value\n"),
    ("-m|seed=choice(1,2),3", "seed=choice(1,2),3: one sweep in another; list the values: seed="),
    (
        "extractor@critic.extractor=dict|+critic.extractor.keys.a.b=3",
        "critic.extractor.keys.a._target_: missing",
    ),
    (
        "env.wrappers=[{_target_: envs.wrappers.ScaleReward}]",
        "env.wrappers[0].factor: missing; expected a number > 0",
    ),
    (
        "env.wrappers=[{_target_: envs.wrappers.ScaleReward, factor: 0}]",
        "env.wrappers[0].factor: expected a number > 0, got 0",
    ),
    (
        "env.wrappers=[{_target_: envs.wrappers.adapters.ScaleRewards, factor: 1}]",
        "did you mean envs.wrappers.ScaleReward?",
    ),
    ("optimizer.groups={memry:{learning_rate:1}}", "did you mean optimizer.groups.memory?"),
    ("+optimizer.groups.memry=null", "did you mean optimizer.groups.memory?"),
    ("+optimizer.groups.memory.lr=1", "it is optimizer.groups.memory.learning_rate"),
    ("optimizer.groups.memory.learning_rat=1", "mean optimizer.groups.memory.learning_rate?"),
    ("env.kwargs=3", "env.kwargs: expected a mapping, got 3"),
    ("env.wrappers=[1]", "env.wrappers[0]: expected a mapping"),
    ("env.wrappers=[{}]", "env.wrappers[0]._target_: missing"),
    ("env.packages=[ale-py]", "env.packages[0]: expected the name of a package"),
    ("env.time_limit=0", "expected null or an integer >= 1"),
    ("env.vectorization=asinc", "expected one of sync, async, native, got 'asinc'"),
    ("env.on_failure=retry", "expected stop or restart, got 'retry'"),
    ("env.step_timeout=0", "expected null or a number > 0, got 0"),
    ("env=gymnasium", "env.id: missing; expected a Gymnasium id such as CartPole-v1"),
    ("env=CartPole-v1", "a Gymnasium id is written env.id=CartPole-v1"),
    ("env=ALE/Pong-v5", "env=atari env.id=Atari/Pong-v0"),
    ("env=PongNoFrameskip-v4", "env=atari env.id=Atari/Pong-v0"),
    (
        "memory=lsmt",
        "memory: expected one of gru, gtrxl, lru, lstm, mingru, mlstm, none, rnn, got 'lsmt'; "
        "did you mean lstm?",
    ),
    ("optimizer=Adam", "did you mean adam?"),
    ("pomdp=mask_velocty", "did you mean mask_velocity?"),
    ("experiment=cartpole_no_vel", "did you mean cartpole_no_velocity?"),
    ("experiment=cartpole_dqnn", "that --help lists, such as cartpole_dqn, cartpole_pqn, cartpole"),
    ("agent=recurrent_ppo", "in this project it is agent=ppo memory=lstm"),
    ("agent=QR-DQN", "in this project it is agent=dqn value_head=quantile"),
    ("env=lunarlander", "; there is experiment=lunarlander and task=lunarlander"),
    ("agent=lstm", "; there is memory=lstm"),
    (
        "agent=3",
        "agent: expected one of a2c, autoencoding, cloning, ddpg, dqn, ppo, pqn, sac, td3, got 3",
    ),
    (
        "agent=null",
        "expected one of a2c, autoencoding, cloning, ddpg, dqn, ppo, pqn, sac, td3, got null",
    ),
    ("agent=[ppo]", "got a list"),
    ("agent={a:1}", "agent.a: unknown key"),
    ("policy_head=mlp", "policy_head: expected one of auto, categorical, deterministic, gaussian"),
    ("critic.memory=lstm", "a choice is written memory@critic.memory=lstm"),
    ("critic.extractor.hidden_sizes=[3]", "choose one first with extractor@critic.extractor="),
    (
        "pomdp.noise.std=0.5",
        "pomdp.noise._target_: missing; expected the dotted name of a class; choose it first with "
        "pomdp=noise\n",
    ),
    ("auxiliary.vae.weight=1", "choose it first with auxiliary=vae\n"),
    ("extractor@critic=mlp", "extractor@critic.extractor"),
    ("foo@bar=mlp", "'foo' does not exist"),
    ("+agent=ppo", "a group is chosen without a plus: agent=ppo"),
    ("=3", "expected a key before the ="),
    ("agent", "'agent': expected key=value"),
    ("ppo", "'ppo': expected key=value; there is agent=ppo\n"),
    ("CartPole-v1", "expected key=value; an environment is chosen with env.id=CartPole-v1\n"),
    ("PongNoFrameskip-v4", "; an environment is chosen with env=atari env.id=Atari/Pong-v0\n"),
    ("seed=(", "cannot read the value"),
    ("agent..x=1", "cannot read the key"),
    ("seed=1|seed=2", "seed: given more than once: seed=1 seed=2"),
    ("memory=gru|memory=lstm", "memory: given more than once"),
    ("seed=0,1", "seed: several values need --multirun (-m): -m seed=0,1; one list"),
    ("memory=none,gru", "memory: several values need --multirun (-m)"),
    ("seed=range(3)", "seed: several values need --multirun (-m)"),
    ("~seed", "seed: missing; expected an integer >= 0"),
    ("~agent", "agent: missing"),
    ("~nothing", "nothing: cannot be removed"),
    ("~seed=4", "seed: cannot be removed, as it is 0"),
    ("seed=${nothing}", "seed: Interpolation key 'nothing' not found"),
    ("run_dir=${nothing}", "run_dir: Interpolation key 'nothing' not found"),
    ("run_dir=", "run_dir: expected a path, got ''\n"),
    (f"run_dir={LONG}", "; a file's name has at most 255 letters"),
    (f"init_from={LONG}", "; a file's name has at most 255 letters"),
    (f"run_dir='{130 * 'é'}'", "a name has at most 255 bytes"),
    (f"env.id={LONG[:220]}", "env.id: expected a Gymnasium id such as CartPole-v1"),
    (LONG, "expected key=value"),
    (f"--config-dir|{LONG}", "--config-dir: no directory"),
    ("hydra.run.dir=x", "hydra.run.dir: derived from run_dir"),
    ("hydra.nope=3", "hydra.nope"),
    ("hydra/launcher=nope", "hydra/launcher/nope"),
    ("hydra.searchpath=[file:///nowhere]", "no folder or importable package '/nowhere'"),
    ("hydra.searchpath=[pkg://no_such_package]", "no folder or importable package"),
    ("--seed|3", "--seed: unknown flag; values are set without dashes: seed="),
    ("--gamma=0.9", "values are set without dashes: agent.discount=0.9"),
    ("--config-dir|nowhere", "--config-dir: no directory 'nowhere'"),
    ("--config-name|nope", "Cannot find primary config 'nope'"),
    ("--config-path|x", "--config-path"),
    ("--experimental-rerun|x", "reads a pickle"),
    ("--cfg|nope", "invalid choice: 'nope'"),
    # combinations
    ("agent.num_minibatches=3", "3 does not divide 1024 sequences"),
    ("memory=lstm|agent.num_minibatches=16", "does not divide 8 sequences"),
    ("memory=lstm|memory.sequence_length=100", "choose 64 or 128, or 0 for the whole rollout"),
    (
        "memory=lstm|memory@critic.memory=gru|critic.memory.sequence_length=64",
        "critic.memory.sequence_length: expected 128 as in memory.sequence_length, got 64",
    ),
    (
        "agent=a2c|agent.num_minibatches=2",
        "agent.num_minibatches: unknown key; only PPO, PQN have it",
    ),
    (
        "agent=a2c|memory=lstm|memory.sequence_length=2",
        "2 does not divide agent.rollout_length 5; choose 1 or 5, or 0 for the whole rollout",
    ),
    ("optimizer=rmsprop_tf|optimizer.momentum=0.9", "only RMSprop, SGD have it"),
    ("share_backbone=true|extractor@critic.extractor=mlp", "critic.extractor: expected null"),
    ("share_backbone=true|memory@critic.memory=gru", "critic.memory: expected null"),
    ("env.vectorization=native|pomdp=mask_velocity", "pomdp: not possible with env.vectorization"),
    ("normalize_rewards=true|clip_rewards=1", "clip_rewards: expected null, because normalize_re"),
    ("clip_rewards=0", "clip_rewards: expected null or a number > 0, got 0"),
    ("env.vectorization=native|env.previous_action=true", "env.previous_action: not possible"),
    ("env.vectorization=native|env.on_failure=restart", "env.on_failure: not possible"),
    ("env.vectorization=native|env.previous_reward=true", "env.previous_reward: not possible"),
    (
        "env.vectorization=native|env.wrappers=[{_target_:gymnasium.wrappers.ClipAction}]",
        "env.wrappers: not possible",
    ),
    ("evaluation.checkpoint=best|evaluation.interval=0", "evaluation.checkpoint: expected last"),
    ("value_head.normalization=layer", "value_head.normalization: expected none, because"),
    (
        "agent=sac|env=pendulum|extractor=mlp|extractor.normalization=batch_renorm",
        "extractor.normalization: expected none or layer",
    ),
    (
        "agent=sac|env=pendulum|agent.target_networks=false|value_head.dropout=.1",
        "value_head.dropout: expected 0",
    ),
    (
        "agent=sac|env=pendulum|memory=gru|value_head.normalization=batch_renorm",
        "value_head.normalization: expected none or layer",
    ),
    (
        "agent=sac|env=pendulum|agent.target_entropy=-1|agent.target_entropy_scale=.5",
        "agent.target_entropy_scale: expected 1",
    ),
    (
        "env.copy_argument=sutton_barto_reward|+env.kwargs.sutton_barto_reward=true",
        "env.kwargs.sutton_barto_reward: env.copy_argument gives it a number",
    ),
    ("evaluation.stop_at=1|evaluation.interval=0", "evaluation.stop_at: expected null"),
    ("evaluation.stop_at=solved|env.id=Acrobot-v1", "evaluation.stop_at: expected a number"),
    ("+env.kwargs.max_episode_steps=9", "in this project it is env.time_limit"),
    ("+env.kwargs.num_envs=9", "in this project it is env.num_envs"),
    ("pomdp=[mask_velocity,mask_velocity]", "'mask_velocity' is given twice"),
    (
        "optimizer.schedule=constant|optimizer.final_learning_rate=1e-5",
        "no effect without optimizer.schedule=linear",
    ),
    # sweeps: every job is looked at before the first one runs
    ("-m|seed=0,1,x", "seed: expected an integer >= 0, got 'x'"),
    ("-m|memory=none,lsmt", "did you mean lstm?"),
    ("-m|memory=none,lstm|agent.num_minibatches=16", "does not divide 8 sequences"),
    ("seed=0,1|-m|agent.clip_rnge=3", "did you mean agent.clip_range?"),
    ("-m|seed=0,1|run_dir=runs/x", "2 jobs would share runs/x"),
    ("-m|seed=interval(0,3)", "an interval needs python tune.py"),
    ("hydra.mode=MULTIRUN|seed=1,x", "got 'x'"),
]


def refusal(argv: list[str], capsys: pytest.CaptureFixture[str], name: str = "config") -> list[str]:
    with pytest.raises(SystemExit) as exit_info:
        check(argv, name)
    assert exit_info.value.code == 2
    output = capsys.readouterr()
    assert output.out == ""
    return output.err.splitlines()


@pytest.mark.parametrize(("command", "message"), WRONG, ids=[command for command, _ in WRONG])
def test_wrong_command_line_is_refused_in_one_line(
    command: str,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    lines = refusal(command.split("|"), capsys)
    assert len(lines) == 1, lines
    assert message in f"{lines[0]}\n"
    assert "Traceback" not in lines[0]
    assert not re.match(r"(\S+: )\1", lines[0])
    assert list(tmp_path.iterdir()) == []


def test_every_problem_is_told_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["seed=abc", "agent.clip_rang=1", "optimizer.eps=0", "seeed=1"]
    lines = refusal(argv, capsys)
    assert {line.partition(":")[0] for line in lines} == {
        "seed",
        "agent.clip_rang",
        "optimizer.eps",
        "seeed",
    }


def test_ctrl_c_while_the_command_line_is_checked_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("conf.composing.command_line.check", interrupted)
    with pytest.raises(SystemExit) as end:
        launch(print)
    assert end.value.code == 130
    assert capsys.readouterr().err == "interrupted\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a full disk of Linux's")
def test_run_on_a_full_disk_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    full = functools.partial(Path.open, Path("/dev/full"), "wb")
    monkeypatch.setattr("conf.composing.configuration.TemporaryFile", lambda dir: full())
    (line,) = refusal(["run_dir=x"], capsys)
    assert line.startswith("run_dir: x cannot be made, as . cannot be written to (No space left")


def test_a_refusal_reaches_another_process() -> None:
    refusal = pickle.loads(pickle.dumps(InvalidConfiguration(["a: 1", "b: 2", "a: 1"])))
    assert refusal.problems == ["a: 1", "b: 2"]
    assert str(refusal) == "a: 1\nb: 2"


def test_word_with_a_space_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    split = ["seed=1", "extractor.hidden_sizes=[64,", "64,", "32]", "device=cpu"]
    assert refusal(split, capsys) == [
        "extractor.hidden_sizes: the shell split the value; "
        "quote it: 'extractor.hidden_sizes=[64, 64, 32]'"
    ]
    split = ["env.curriculum=[{until:", "-5,", "kwargs:", "{a:", "1}}]", "-m", "seed=1"]
    assert refusal(split, capsys) == [
        "env.curriculum: the shell split the value; "
        "quote it: 'env.curriculum=[{until: -5, kwargs: {a: 1}}]'"
    ]
    assert refusal(["a b"], capsys) == ["'a b': expected key=value"]
    assert refusal([""], capsys) == ["'': expected key=value, got an empty word"]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("evaluation.episodes=3", "run: missing; expected last, or a run's directory"),
        ("evaluation.episodes=0", "evaluation.episodes: expected an integer >= 1"),
        ("evaluation.interval=3", "evaluation.interval: unknown key"),
        ("agent.discount=0.9", "agent"),
    ],
)
def test_evaluation_has_a_schema_of_its_own(
    override: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run = [] if "missing" in message else ["run=runs/x"]
    assert message in refusal([*run, override], capsys, "evaluate")[0]


@pytest.mark.parametrize(
    ("script", "word", "remedy"),
    [
        ("evaluate", "env=cartpole", "; another environment is env.id=... or +env.kwargs.KEY=..."),
        ("evaluate", "env=nothing", "; another environment is env.id=... or +env.kwargs.KEY=..."),
        ("evaluate", "memory=lstm", ""),
        ("analyze", "env=cartpole", ""),
        ("compare", "agent=nothing", ""),
        ("config", "study=nothing", ""),
    ],
)
def test_a_group_of_another_command_is_refused_in_one_way(
    script: str, word: str, remedy: str, capsys: pytest.CaptureFixture[str]
) -> None:
    group = word.partition("=")[0]
    told = [f"{group}: no choice of this command{remedy}"]
    assert refusal([word], capsys, script) == told


def test_evaluation_accepts_a_run() -> None:
    argv = ["run=runs/CartPole-v1/ppo-mlp-none/20260101-120000-seed0"]
    ((run,), _) = check(argv, "evaluate")
    assert run.typed["evaluation"]["episodes"] == 100
    assert run.typed["device"] == "cpu"
