"""Values are accepted in the notations people use, and come out as the schema types them."""

from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf
from omegaconf.errors import ReadonlyConfigError

from conf.checking.validation import checked
from conf.composing.command_line import InvalidConfiguration, load


@pytest.mark.parametrize(
    ("override", "key", "value"),
    [
        ("total_env_steps=1e5", "total_env_steps", 100_000),
        ("total_env_steps=200_000", "total_env_steps", 200_000),
        ("total_env_steps=2.0", "total_env_steps", 2),
        ("agent.clip_range=1", "agent.clip_range", 1.0),
        ("optimizer.learning_rate=3e-4", "optimizer.learning_rate", 3e-4),
        ("agent.value_clip_range=0.2", "agent.value_clip_range", 0.2),
        ("agent.value_clip_range=null", "agent.value_clip_range", None),
        ("extractor.hidden_sizes=[]", "extractor.hidden_sizes", []),
        ("extractor.hidden_sizes=[1e2]", "extractor.hidden_sizes", [100]),
        ("num_threads=2", "num_threads", 2),
        ("num_threads=auto", "num_threads", "auto"),
        ("tracking.progress=false", "tracking.progress", False),
        ("device=cuda:1", "device", "cuda:1"),
        ("pomdp=[mask_velocity]", "pomdp.mask_velocity.dimensions", None),
        ("pomdp=[]", "pomdp", {}),
        ("+env.kwargs.gravity=9.8", "env.kwargs", {"gravity": 9.8}),
        ("+env.kwargs={gravity: 9.8}", "env.kwargs", {"gravity": 9.8}),
        ("+optimizer.groups.memory.learning_rate=1", "optimizer.groups.memory.learning_rate", 1.0),
        ("optimizer.groups.memory.learning_rate=1", "optimizer.groups.memory.learning_rate", 1.0),
        ("env.kwargs.gravity=9", "env.kwargs.gravity", 9),
        ("+seed=3", "seed", 3),
        ("run_dir='my runs/x'", "run_dir", "my runs/x"),
        ("env.id=ALE/Pong-v5", "env.id", "ALE/Pong-v5"),
    ],
)
def test_notation_is_accepted(override: str, key: str, value: Any) -> None:
    found = OmegaConf.select(load([override]), key)
    found = OmegaConf.to_container(found) if OmegaConf.is_config(found) else found
    assert found == value
    assert type(found) is type(value)


GROUPS_AND_GRADIENTS = """# @package _global_
optimizer: {groups: {critic.memory: {learning_rate: 1e-4}}}
gradients: {critic.memory: [critic]}
"""


def test_a_path_may_be_one_key_or_nested(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text(GROUPS_AND_GRADIENTS)
    nested = load(
        ["+optimizer.groups.critic.memory.learning_rate=1e-4", "gradients.critic.memory=[critic]"]
    )
    assert nested.gradients == {"critic.memory": ["critic"]}
    for words in (
        [
            "optimizer.groups={critic.memory: {learning_rate: 1e-4}}",
            "gradients={critic.memory: [critic]}",
        ],
        [f"hydra.searchpath=[file://{tmp_path}]", "experiment=mine"],
    ):
        dotted = load(words)
        assert dotted.optimizer.groups == nested.optimizer.groups
        assert dotted.gradients == nested.gradients
    with pytest.raises(InvalidConfiguration, match=r"mean optimizer\.groups\.critic\.memory\?"):
        load(["optimizer.groups={critic.memry: {learning_rate: 1}}"])


def test_deleting_what_an_experiment_adds_works() -> None:
    assert load(["experiment=cartpole_no_velocity", "~pomdp.mask_velocity"]).pomdp == {}


def test_order_of_pomdp_is_kept_and_named() -> None:
    config = load(["env.id=ALE/Pong-v5", "pomdp=mask_velocity", "memory=gru", "seed=3"])
    parts = config.run_dir.split("/")
    assert parts[:3] == ["runs", "ALE-Pong-v5-mask_velocity", "ppo-mlp-gru"]
    assert parts[3].endswith("-seed3")
    assert "=" not in config.run_dir
    assert " " not in config.run_dir


def test_command_line_beats_experiment() -> None:
    config = load(["experiment=cartpole_no_velocity", "memory=gru", "agent.discount=0.5"])
    assert config.memory._target_ == "networks.memory.GRU"
    assert config.agent.discount == 0.5
    assert config.optimizer.schedule == "linear"


def test_minibatches_are_counted_in_sequences() -> None:
    assert load(["memory=lstm", "agent.num_minibatches=8"]).agent.num_minibatches == 8
    config = load(["memory=lstm", "memory.sequence_length=16", "agent.num_minibatches=64"])
    assert config.memory.sequence_length == 16


def test_critic_with_memory_beside_actor_without_counts_the_critics_sequences() -> None:
    load(["memory@critic.memory=lstm", "agent.num_minibatches=8"])
    with pytest.raises(InvalidConfiguration, match="does not divide 8 sequences"):
        load(["memory@critic.memory=lstm", "agent.num_minibatches=16"])


def test_result_is_read_only() -> None:
    config = load([])
    with pytest.raises(ReadonlyConfigError):
        config.agent.discount = 0.5


def test_problems_of_a_plain_dictionary() -> None:
    config: Any = OmegaConf.to_container(load([]))
    assert checked(config)[1] == []
    config["agent"]["clip_range"] = float("nan")
    del config["checkpoint"]["interval"]
    assert checked(config)[1] == [
        "checkpoint.interval: missing; expected an integer >= 0",
        "agent.clip_range: expected a number > 0, got nan",
    ]
