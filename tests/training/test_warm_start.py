"""Weights of another run: taken by name, reported, and refused where they do not fit."""

from pathlib import Path

import pytest
import safetensors.torch
import torch

from conf.composing.command_line import InvalidConfiguration
from training.runs.refusal import Refusal
from training.saving.weights import warm_start

WORDS = ["total_env_steps=64", "optimizer.learning_rate=0.05", "normalize_observations=true"]


@pytest.fixture(scope="module")
def trained(train):
    return train(*WORDS, "seed=3", "memory=gru", "memory.hidden_size=4")


def networks(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    parts = ("actor.", "critic.", "policy_head.", "value_head.")
    return {name: tensor for name, tensor in tensors.items() if name.startswith(parts)}


@pytest.mark.parametrize("way", ["run", "checkpoint", "best", "file", "bare file"])
def test_training_starts_from_weights(trained, build, tmp_path: Path, way: str) -> None:
    checkpoints = trained.directory / "checkpoints"
    weights = trained.weights("best" if way == "best" else "last")
    own = {name.removeprefix("agent."): tensor for name, tensor in weights.items()}
    safetensors.torch.save_file(weights, tmp_path / "file.safetensors")
    safetensors.torch.save_file(networks(own), tmp_path / "bare.safetensors")
    source = {
        "run": trained.directory,
        "checkpoint": checkpoints / "last",
        "best": checkpoints / "best",
        "file": tmp_path / "file.safetensors",
        "bare file": tmp_path / "bare.safetensors",
    }[way]
    words = ["memory=gru", "memory.hidden_size=4", "normalize_observations=true"]
    agent = build(*words).agent
    moments = {k: v.clone() for k, v in agent.state_dict().items() if k.startswith("optimizer")}
    report = warm_start(agent, source)
    for name, tensor in networks(own).items():
        assert torch.equal(agent.state_dict()[name], tensor), name
    for name, tensor in moments.items():  # a new run: its optimizer has not moved yet
        assert torch.equal(agent.state_dict()[name], tensor), name
    assert f"{len(networks(own))} of {len(networks(own))} tensors" in report
    # what acting reads is what was loaded
    before = [parameter.clone() for parameter in agent.optimizer.trainable]
    agent.optimizer.flat.add_(1.0)
    for parameter, loaded in zip(agent.optimizer.trainable, before, strict=True):
        assert torch.equal(parameter, loaded + 1.0)


def test_what_is_missing_stays_as_drawn_and_is_named(trained, build) -> None:
    agent = build("memory=gru", "memory.hidden_size=4", "value_head.hidden_sizes=[3]").agent
    with pytest.raises(ValueError, match=r"value_head\.layers\.output\.weight has shape"):
        warm_start(agent, trained.directory)
    agent = build("memory=lstm", "memory.hidden_size=4", "extractor.hidden_sizes=[5]").agent
    with pytest.raises(ValueError, match="choose the network"):
        warm_start(agent, trained.directory)


def test_a_part_alone_may_be_taken(trained, build, tmp_path: Path) -> None:
    tensors = {
        name.removeprefix("agent."): tensor
        for name, tensor in trained.weights().items()
        if ".extractor." in name and name.startswith("agent.actor")
    }
    safetensors.torch.save_file(tensors, tmp_path / "part.safetensors")
    agent = build("memory=gru", "memory.hidden_size=4").agent
    report = warm_start(agent, tmp_path / "part.safetensors")
    assert f"{len(tensors)} of" in report
    assert "as drawn: actor.memory, critic.extractor, critic.memory" in report


@pytest.mark.parametrize("what", ["nothing", "empty", "other names", "no safetensors"])
def test_no_weights_are_refused_in_one_line(build, tmp_path: Path, what: str) -> None:
    source = tmp_path / "here"
    if what == "empty":
        source.mkdir()
    elif what == "other names":
        safetensors.torch.save_file({"x": torch.zeros(2)}, source)
    elif what == "no safetensors":
        source.write_bytes(b"\x80\x04 pickle")
    with pytest.raises(ValueError, match=r"^init_from=") as caught:
        warm_start(build().agent, source)
    assert "\n" not in str(caught.value)


def test_a_run_is_warm_started_and_says_so(trained, train, capsys, tmp_path) -> None:
    words = [*WORDS, "memory=gru", "memory.hidden_size=4", f"init_from={trained.directory}"]
    train(*words)
    assert f"started from {trained.directory}: " in capsys.readouterr().out
    (tmp_path / "text").write_text("no weights")
    with pytest.raises(Refusal, match="init_from="):
        train(*WORDS, f"init_from={tmp_path / 'text'}")
    with pytest.raises(InvalidConfiguration, match="init_from: there is no nowhere"):
        train(*WORDS, "init_from=nowhere")
