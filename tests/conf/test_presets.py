"""A preset gives way to what is typed beside it, and says so; what is refused was typed."""

import functools
import re
import warnings
from pathlib import Path

import pytest
from omegaconf import DictConfig, OmegaConf

from conf.checking.validation import checked
from conf.composing.command_line import InvalidConfiguration, check, load
from conf.composing.composer import Composer
from conf.composing.resumption import leaves

CONF = Path(__file__).resolve().parents[2] / "conf"


def options(group: str) -> list[str]:
    return sorted(file.stem for file in (CONF / group).glob("*.yaml"))


PRESETS, TASKS = options("experiment"), options("task")
MEMORIES, AGENTS = options("memory"), ["ppo", "dqn", "a2c", "pqn"]
CONTINUOUS = ("pendulum", "halfcheetah", "hopper", "crossq", "simba", "tqc", "droq", "redq")
RECURRENT = [name for name in MEMORIES if name != "none"]
OPTIONS = {
    "extractor": options("extractor"),
    "value_head": ("mse", "hl_gauss"),
    "optimizer": ("sgd", "adamw"),
}


@functools.cache
def own(group: str, option: str) -> dict:
    """Return what an option says by itself."""
    return dict(load([f"{group}={option}"])[group])


def given(*words: str) -> tuple[DictConfig, list[str]]:
    """Return what is run, and what is said."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        config = load(words)
    return config, [str(warning.message) for warning in caught]


def assert_taken(preset: str, **chosen: str) -> None:
    """Every option that is typed is the one that is run, and has its keys alone."""
    config, _ = given(preset, *(f"{group}={option}" for group, option in chosen.items()))
    for group, option in chosen.items():
        assert config[group].keys() == own(group, option).keys(), (preset, option)
        assert config[group]._target_ == own(group, option)["_target_"]


def acting(preset: str) -> list[str]:
    """Return the agents that can act: values of every action need actions that can be counted."""
    is_continuous = preset.partition("=")[2].partition("_")[0] in CONTINUOUS
    return ["ppo", "a2c", "sac", "td3", "ddpg"] if is_continuous else [*AGENTS, "sac"]


SWAPS = [f"experiment={name}" for name in PRESETS] + [f"task={name}" for name in TASKS]


@pytest.mark.parametrize("number", range(len(SWAPS)))
def test_every_preset_takes_options_of_every_group(number: int) -> None:
    """Experiments with no memory and with one, tasks, which say nothing of networks, with either.

    With another preset, other options; all with all are `make test-grid`'s.
    """
    preset, agents = SWAPS[number], acting(SWAPS[number])
    others = {group: named[number % len(named)] for group, named in OPTIONS.items()}
    taken = ["none", RECURRENT[number % 3]]
    if preset.startswith("task="):
        taken = taken[number % 2 :][:1]
    for turn, memory in enumerate(taken):
        assert_taken(preset, agent=agents[(turn + number) % len(agents)], memory=memory, **others)
        others = {}


@pytest.mark.grid
@pytest.mark.parametrize("preset", SWAPS)
def test_every_preset_takes_every_option(preset: str) -> None:
    for memory in MEMORIES:
        assert_taken(preset, memory=memory)
        for agent in acting(preset):
            assert_taken(preset, agent=agent, memory=memory)
    for group, named in OPTIONS.items():
        for option in named:
            assert_taken(preset, **{group: option})


@pytest.mark.parametrize("preset", PRESETS)
def test_an_experiment_is_a_task_and_what_differs(preset: str) -> None:
    text = (CONF / "experiment" / f"{preset}.yaml").read_text()
    first = re.search(r"\ndefaults:\n  - (.*)\n", text)
    assert first
    assert first[1].startswith("override /task: ") or first[1] in PRESETS
    said = OmegaConf.to_container(OmegaConf.load(CONF / "experiment" / f"{preset}.yaml"))
    del said["defaults"]  # type: ignore[arg-type]
    words = [f"{group}={option}" for group, option in re.findall(r"override /(.*): (.*)\n", text)]
    without = dict(leaves(Composer("config").chosen(words)))
    repeated = [key for key, value in leaves(said) if without.get(key, "none") == value]
    assert [key for key in repeated if not key.startswith("extractor.encoder.")] == []


def test_a_task_is_solved_by_any_agent() -> None:
    config, said = given("task=cartpole_no_velocity", "agent=dqn", "memory=gru")
    assert config.task == {"name": "cartpole_no_velocity", "solved_at": 475.0}
    assert (config.env.id, list(config.pomdp)) == ("CartPole-v1", ["mask_velocity"])
    assert config.agent == own("agent", "dqn")
    assert said == []
    assert given()[0].task == {"name": None, "solved_at": None}


def test_an_experiment_goes_to_another_task() -> None:
    """What it says of its own task is left out, what it says of agent and networks stays."""
    config, said = given("experiment=cartpole_dqn", "task=lunarlander")
    assert config.task == {"name": "lunarlander", "solved_at": 200.0}
    assert (config.env.id, config.env.num_envs) == ("LunarLander-v3", 1)
    assert (config.total_env_steps, config.evaluation.interval) == (1_000_000, 100_000)
    assert config.agent == given("experiment=cartpole_dqn")[0].agent
    assert said == [
        "experiment=cartpole_dqn: left out total_env_steps, evaluation.interval, made for "
        "task=cartpole, as task=lunarlander is chosen"
    ]
    atari = given("experiment=cartpole", "task=atari_pong")[0]
    assert atari.env == given("task=atari_pong")[0].env
    assert given("experiment=r2d2", "task=cartpole", "extractor=mlp")[0].env.num_envs == 16


@pytest.mark.parametrize(
    "words",
    [
        ("task=cartpole", "env=pendulum"),
        ("task=lunarlander", "+env.kwargs.gravity=-5.0"),
        ("experiment=cartpole_no_velocity", "pomdp=[]"),
        ("experiment=cartpole_no_velocity", "pomdp=flicker"),
        ("experiment=cartpole_no_velocity", "~pomdp.mask_velocity"),
        ("experiment=atari_pong", "env.id=Atari/Breakout-v0"),
    ],
)
def test_another_environment_is_no_longer_the_task(words: tuple[str, ...]) -> None:
    assert given(*words)[0].task == {"name": None, "solved_at": None}


def test_a_run_of_before_there_were_tasks_can_be_read() -> None:
    stored = OmegaConf.to_container(load([]))
    del stored["task"]  # type: ignore[arg-type]
    assert checked(stored) == (stored, [])  # type: ignore[arg-type]


def test_the_words_of_a_run_whose_preset_gave_way_may_be_repeated(tmp_path: Path) -> None:
    words = ("experiment=atari_pong", "env.id=Atari/Breakout-v0", "memory=gru", "env.num_envs=2")
    begun, said = given(*words)
    assert said
    (tmp_path / "config.yaml").write_text(OmegaConf.to_yaml(begun))
    resumed, _ = given(*words, f"resume={tmp_path}")
    assert {**resumed, "run_dir": "", "resume": None} == {**begun, "run_dir": ""}


def test_how_a_task_is_run_is_not_what_it_is() -> None:
    config, said = given("experiment=lunarlander", "env.num_envs=2", "task.solved_at=250")
    assert config.task == {"name": "lunarlander", "solved_at": 250.0}
    assert said == []


def test_what_two_options_mean_alike_stays() -> None:
    config, said = given("experiment=minatar_breakout", "extractor=impala_cnn")
    assert config.extractor == {**own("extractor", "impala_cnn"), "layout": "hwc",
                                "hidden_sizes": [128]}  # fmt: skip
    assert said == [
        "experiment=minatar_breakout: left out extractor.filters, extractor.layers, made for "
        "extractor=cnn, as extractor=impala_cnn is chosen"
    ]
    assert given("experiment=r2d2", "memory=gru")[0].memory.hidden_size == 512
    head = given("experiment=cartpole_c51", "value_head=mse")[0].value_head
    assert head == {**own("value_head", "mse"), "initialization": "default"}


def test_an_option_is_the_one_that_was_typed() -> None:
    """What tells two options of one class apart is not the preset's to say."""
    nature = given("experiment=minatar_breakout", "extractor=nature_cnn")[0].extractor
    assert nature.layers == own("extractor", "nature_cnn")["layers"]
    env = given("experiment=lunarlander", "env=cartpole")[0].env
    assert (env.id, env.num_envs) == ("CartPole-v1", 16)
    agent = given("experiment=lunarlander", "agent=a2c")[0].agent
    assert agent == {**own("agent", "a2c"), "discount": 0.999, "entropy_coefficient": 0.01}


def test_what_may_not_be_beside_it_gives_way() -> None:
    config, said = given("experiment=r2d2", "memory=none")
    assert config.agent.burn_in == 0
    assert (
        "experiment=r2d2: left out agent.burn_in: expected 0, because memory=none leaves nothing "
        "to bring up to date; got 40"
    ) in said
    config, said = given("experiment=cartpole_c51", "agent=a2c")
    assert config.value_head == {**own("value_head", "mse"), "initialization": "default"}
    assert given("experiment=atari_pong", "value_head=hl_gauss")[0].agent.value_clip_range is None
    assert not given("experiment=minatar_breakout", "agent=dqn")[0].share_backbone
    assert given("experiment=cartpole_no_velocity", "agent=dqn")[0].policy_head.hidden_sizes == []


def test_what_is_typed_gives_way_to_nothing() -> None:
    for words, message in (
        (("memory=none", "memory.hidden_size=32"), "memory.hidden_size: unknown key"),
        (("extractor=flatten", "extractor.layers=[]"), "extractor.layers: unknown key"),
        (("agent=a2c", "value_head=c51"), "value_head: expected mse, huber, two_hot or hl_gauss"),
        (("memory=lstm", "agent.num_minibatches=3"), "agent.num_minibatches: 3 does not divide 8"),
    ):
        with pytest.raises(InvalidConfiguration, match=message):
            load(["experiment=cartpole", *words])
    typed = given("experiment=minatar_breakout", "extractor=impala_cnn", "extractor.filters=[4]")
    assert typed[0].extractor.filters == [4]


def test_minibatches_and_sequences_are_cut_to_what_fits() -> None:
    config, said = given("experiment=minigrid_doorkey", "memory=gru")
    assert config.agent.num_minibatches == 8
    assert said == [
        "agent.num_minibatches=8, as 16 does not divide 8 sequences (agent.rollout_length 128 / "
        "sequence_length 128 x env.num_envs 8)"
    ]
    config, said = given("experiment=cartpole_no_velocity_200", "agent.rollout_length=100")
    assert (config.memory.sequence_length, len(said)) == (5, 1)
    config, said = given("memory=lstm", "env.num_envs=2")
    assert (config.agent.num_minibatches, len(said)) == (2, 1)


def test_numbers_of_a_replay_are_set_to_what_fits() -> None:
    config, said = given("agent=dqn", "memory=gru", "env.num_envs=64")
    assert config.agent.learning_starts == 2_048
    assert said == [
        "agent.learning_starts=2048, as 1000 leaves 16 steps of each of env.num_envs 64 at the "
        "first update, fewer than a window: agent.burn_in 0 + sequence 32 + agent.n_step 1 - 1 = 32"
    ]
    agent = given("experiment=r2d2", "agent.train_frequency=7")[0].agent
    assert (agent.train_frequency, agent.sequence_stride) == (7, 35)
    agent = given("experiment=cartpole_c51", "memory=lstm", "env.num_envs=400")[0].agent
    assert (agent.buffer_size, agent.batch_size) == (20_000, 128)
    with pytest.raises(InvalidConfiguration, match=r"1000 / env\.num_envs 400 holds 2 steps"):
        load(["experiment=cartpole_c51", "env.num_envs=400", "agent.buffer_size=1_000"])


def test_a_preset_with_a_fault_of_its_own_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "experiment").mkdir()
    text = "# @package _global_\nagent: {clip_rang: 0.1}\noptimizer: {eps: -1}"
    (tmp_path / "experiment" / "faulty.yaml").write_text(text)
    with pytest.raises(SystemExit):
        check(["--config-dir", str(tmp_path), "experiment=faulty", "extractor=flatten"])
    said = capsys.readouterr().err
    assert "agent.clip_rang: unknown key" in said
    assert "optimizer.eps: expected a number > 0" in said


def test_a_group_that_was_added_is_added_again_to_find_a_fault_in_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "extractor").mkdir()
    (tmp_path / "extractor" / "mine.yaml").write_text("defaults: [mlp]\nactivation: rel")
    words = ["extractor=dict", "+extractor@extractor.keys.camera=mine"]
    with pytest.raises(SystemExit):
        check(["--config-dir", str(tmp_path), *words])
    assert capsys.readouterr().err.startswith("extractor.keys.camera.activation: expected one of")


def test_the_words_that_hydra_gets_say_it_all() -> None:
    argv = ["experiment=minigrid_autoencoder", "extractor@extractor.encoder=cnn", "memory=lstm"]
    with pytest.warns(UserWarning):
        _, words = check(argv)
    again, said = given(*words)
    assert {**again, "run_dir": ""} == {**given(*argv)[0], "run_dir": ""}
    assert said == []
