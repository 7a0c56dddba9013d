"""A preset gives way to what is typed beside it, and says so; what is refused was typed."""

import functools
import warnings
from pathlib import Path

import pytest
from omegaconf import DictConfig

from conf.composing.command_line import InvalidConfiguration, check, load
from conf.composing.composer import Composer

PRESETS = sorted(
    file.stem
    for file in (Path(__file__).resolve().parents[2] / "conf" / "experiment").glob("*.yaml")
)
OPTIONS = {
    "extractor": ("flatten", "impala_cnn", "nature_cnn", "mlp", "vae"),
    "value_head": ("mse", "hl_gauss"),
    "optimizer": ("sgd", "adamw"),
    "memory": ("none", "lstm"),
    "agent": ("a2c", "ppo", "dqn", "pqn"),
}


@pytest.fixture(autouse=True)
def one_composer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reads the YAML files once."""
    monkeypatch.setattr("conf.composing.command_line.Composer", _composer)


_composer = functools.cache(Composer)


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


def assert_taken(preset: str, group: str, option: str) -> None:
    config, _ = given(f"experiment={preset}", f"{group}={option}")
    assert config[group].keys() == own(group, option).keys(), (preset, option)
    assert config[group]._target_ == own(group, option)["_target_"]


@pytest.mark.parametrize("number", range(len(PRESETS)))
def test_every_preset_takes_an_option_of_every_group(number: int) -> None:
    """With another preset, another one; all with all are `make test-grid`'s."""
    for group, options in OPTIONS.items():
        assert_taken(PRESETS[number], group, options[number % len(options)])


@pytest.mark.grid
@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_takes_every_option(preset: str) -> None:
    for group, options in OPTIONS.items():
        for option in options:
            assert_taken(preset, group, option)


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


def test_the_words_that_hydra_gets_say_it_all() -> None:
    argv = ["experiment=minigrid_autoencoder", "extractor@extractor.encoder=cnn", "memory=lstm"]
    with pytest.warns(UserWarning):
        words = check(argv)
    again, said = given(*words)
    assert {**again, "run_dir": ""} == {**given(*argv)[0], "run_dir": ""}
    assert said == []
