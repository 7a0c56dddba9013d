"""Weights of extractors: taken by name behind prefixes, reported, and refused where they misfit."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from conf.composing.command_line import InvalidConfiguration, load
from training.saving.weights import load_into, read_tensors, take_weights

Tensors = dict[str, Tensor]


def small_net() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))


@pytest.fixture
def tensors() -> Tensors:
    return {name: torch.full_like(tensor, 7.0) for name, tensor in small_net().state_dict().items()}


@pytest.fixture
def write(tmp_path: Path) -> Callable[[Tensors], Path]:
    def write(tensors: Tensors) -> Path:
        rows = {name: tensor.contiguous() for name, tensor in tensors.items()}
        safetensors.torch.save_file(rows, tmp_path / "weights.safetensors")
        return tmp_path / "weights.safetensors"

    return write


@pytest.mark.parametrize(
    "prefix",
    [
        "",
        "module.",
        "encoder.",
        "features_extractor.",
        "actor.extractor.",
        "agent.actor.extractor.",
        "module.encoder.",
        "state_dict.model.",
    ],
)
def test_common_prefixes_are_left_out(prefix: str, tensors: Tensors) -> None:
    net = small_net()
    found = {f"{prefix}{name}": tensor for name, tensor in tensors.items()}
    found |= {"decoder.0.weight": torch.zeros(4, 3), "value_net.0.bias": torch.zeros(4)}
    report = load_into("extractor", net, found, Path("there"))
    assert report == "extractor: 4 of 4 tensors from there"
    assert all((tensor == 7.0).all() for tensor in net.state_dict().values())


def test_names_behind_other_words_are_others(tensors: Tensors) -> None:
    found = {f"decoder.{name}": tensor for name, tensor in tensors.items()}
    with pytest.raises(ValueError, match=r"none of its 4 tensors has a name of this extractor's"):
        load_into("extractor", small_net(), found, Path("there"))


def test_what_is_missing_stays_as_drawn_and_is_named(tensors: Tensors) -> None:
    net, drawn = small_net(), small_net()
    found = {name: tensor for name, tensor in tensors.items() if name.startswith("0.")}
    report = load_into("extractor", net, found, Path("there"))
    assert report == "extractor: 2 of 4 tensors from there; as drawn: 2.weight, 2.bias"
    assert torch.equal(net[2].weight, drawn[2].weight)
    assert not torch.equal(net[0].weight, drawn[0].weight)


def test_the_prefix_of_most_names_wins(tensors: Tensors) -> None:
    found = {f"module.{name}": tensor for name, tensor in tensors.items()}
    found |= {"0.weight": torch.zeros(4, 3)}
    net = small_net()
    load_into("extractor", net, found, Path("there"))
    assert (net[0].weight == 7.0).all()


@pytest.mark.parametrize(("key", "expected"), [("extractor", 1.0), ("critic.extractor", 2.0)])
def test_an_actor_s_extractor_is_not_a_critic_s(key, expected, tensors: Tensors) -> None:
    found = {
        f"agent.{part}.extractor.{name}": torch.full_like(tensor, value)
        for part, value in (("critic", 2.0), ("actor", 1.0))
        for name, tensor in tensors.items()
    }
    net = small_net()
    load_into(key, net, found, Path("there"))
    assert (net[0].weight == expected).all()


def test_another_shape_is_refused(tensors: Tensors) -> None:
    found = {**tensors, "2.weight": torch.zeros(5, 4)}
    net, drawn = small_net(), small_net()
    with pytest.raises(ValueError) as caught:
        load_into("extractor", net, found, Path("there"))
    message = str(caught.value)
    assert message.startswith("extractor.weights=there: 2.weight has shape (5, 4) there and (2, 4)")
    assert "\n" not in message
    assert torch.equal(net[0].weight, drawn[0].weight)  # none of it was taken


def test_an_extractor_without_weights_takes_none(tensors: Tensors) -> None:
    with pytest.raises(ValueError, match="Flatten has no weights to load"):
        load_into("extractor", nn.Flatten(), tensors, Path("there"))


# ---- files


class Canary:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("is_legacy", [False, True])
def test_files_of_torch_are_read_when_they_hold_tensors(tmp_path, tensors, is_legacy) -> None:
    content = {"state_dict": tensors, "epoch": 3, "names": ["a"]}
    torch.save(content, tmp_path / "x.pt", _use_new_zipfile_serialization=not is_legacy)
    found = read_tensors("extractor.weights", tmp_path / "x.pt")
    assert found.keys() == {f"state_dict.{name}" for name in tensors}
    net = small_net()
    load_into("extractor", net, found, tmp_path / "x.pt")
    assert (net[0].weight == 7.0).all()


@pytest.mark.parametrize("is_legacy", [False, True])
@pytest.mark.parametrize("forced", [False, True])
def test_a_pickle_is_refused_and_not_run(tmp_path, monkeypatch, is_legacy, forced) -> None:
    if forced:
        monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    canary, path = tmp_path / "canary", tmp_path / "x.pt"
    torch.save({"x": Canary(canary)}, path, _use_new_zipfile_serialization=not is_legacy)
    with pytest.raises(ValueError, match=r"^extractor\.weights=.*x\.pt: not loaded") as caught:
        read_tensors("extractor.weights", path)
    assert "\n" not in str(caught.value)
    assert not canary.exists()


@pytest.mark.parametrize("content", [b"", b"text", b"\x80\x04N.", b"PK\x03\x04 broken"])
def test_what_is_no_weights_is_refused_in_one_line(tmp_path, content) -> None:
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(ValueError, match=r"^extractor\.weights=") as caught:
        read_tensors("extractor.weights", tmp_path / "x")
    assert "\n" not in str(caught.value)


def test_weights_that_are_not_there_are_refused_before_anything(tmp_path) -> None:
    for key in ("extractor.weights", "init_from"):
        with pytest.raises(InvalidConfiguration, match=f"{key}: there is no nowhere"):
            load([f"{key}=nowhere"])
    with pytest.raises(InvalidConfiguration, match=r"extractor\.default\.weights: there is no x"):
        load(["extractor=dict", "extractor.default.weights=x"])
    with pytest.raises(InvalidConfiguration, match=r"critic\.extractor\.weights: there is no x"):
        load(["extractor@critic.extractor=mlp", "critic.extractor.weights=x"])


# ---- agents


def filled(agent: Any, value: float) -> Tensors:
    return {
        name: torch.full_like(tensor, value)
        for name, tensor in agent.actor.extractor.state_dict().items()
    }


def values(module: nn.Module) -> set[float]:
    return {float(each) for tensor in module.state_dict().values() for each in tensor.flatten()}


def test_actor_and_critic_start_alike_and_it_is_said_once(build, write) -> None:
    path = write(filled(build().agent, 3.0))
    here = build(f"extractor.weights={path}")
    start = take_weights(here.config, here.agent)
    assert start.notices == [f"extractor: 2 of 2 tensors from {path}"]
    assert start.env_steps == 0
    for backbone in (here.agent.actor, here.agent.critic):
        assert values(backbone.extractor) == {3.0}


def test_a_critic_s_own_extractor_has_weights_of_its_own(build, write, tmp_path) -> None:
    path = write(filled(build().agent, 3.0))
    own = ["extractor@critic.extractor=mlp", "critic.extractor.hidden_sizes=[8]"]
    here = build(*own, f"critic.extractor.weights={path}")
    assert len(take_weights(here.config, here.agent).notices) == 1
    assert values(here.agent.critic.extractor) == {3.0}
    assert values(here.agent.actor.extractor) != {3.0}
    here = build(*own, f"extractor.weights={path}")
    take_weights(here.config, here.agent)
    assert values(here.agent.critic.extractor) != {3.0}


def test_an_encoder_s_own_extractor_has_weights_of_its_own(build_run, small_words, write) -> None:
    given = [word for word in small_words() if "extractor" not in word]

    def build(*words: str) -> Any:
        return build_run([*given, *words])

    words = ["extractor=autoencoder", "extractor.latent_size=3"]
    inner = build(*words).agent.actor.extractor.encoder.state_dict()
    path = write({name: torch.full_like(tensor, 3.0) for name, tensor in inner.items()})
    here = build(*words, f"extractor.vector_encoder.weights={path}")
    (notice,) = take_weights(here.config, here.agent).notices
    assert notice.startswith("extractor.vector_encoder: 4 of 4 tensors")
    assert values(here.agent.actor.extractor.encoder) == {3.0}
    assert values(here.agent.actor.extractor.latent) != {3.0}


def test_parts_have_weights_of_their_own(build, write, parts) -> None:
    words = [f"env.id={parts}", "extractor=dict"]
    own = ["+extractor@extractor.keys.goal=mlp", "extractor.keys.goal.hidden_sizes=[5]"]
    extractor = build(*words, *own).agent.actor.extractor.parts["goal"]
    path = write({n: torch.full_like(t, 3.0) for n, t in extractor.state_dict().items()})
    here = build(*words, *own, f"extractor.keys.goal.weights={path}")
    (notice,) = take_weights(here.config, here.agent).notices
    assert notice.startswith("extractor.keys.goal: 2 of 2 tensors")
    assert values(here.agent.actor.extractor.parts["goal"]) == {3.0}
    assert values(here.agent.actor.extractor.parts["position"]) != {3.0}


class Own(nn.Module):
    """A user's extractor."""

    def __init__(self, input_shape: Any) -> None:
        super().__init__()
        self.net = nn.Linear(4, 6)

    def forward(self, rows: Tensor) -> Tensor:
        return self.net(rows)


def test_a_user_s_extractor_takes_weights(build_run, write, small_words) -> None:
    path = write({"module.net.weight": torch.ones(6, 4), "module.net.bias": torch.ones(6)})
    given = [word for word in small_words() if "extractor" not in word]
    target = "tests.training.test_weights.Own"
    words = [f"~extractor.{key}" for key in MLP_KEYS]
    words += [f"extractor._target_={target}", "trusted_packages=[tests]"]
    here = build_run([*given, *words, f"extractor.weights={path}"])
    assert take_weights(here.config, here.agent).notices == [
        f"extractor: 2 of 2 tensors from {path}"
    ]
    assert values(here.agent.actor.extractor) == {1.0}


MLP_KEYS = (
    "hidden_sizes",
    "activation",
    "normalization",
    "dropout",
    "residual",
    "initialization",
    "gain",
)


# ---- runs


def test_a_run_does_not_need_the_file_any_more(train, go_on, write, build, finished_run) -> None:
    import neurl

    path = write(filled(build().agent, 0.1))
    run = train(
        "total_env_steps=64", f"extractor.weights={path}", "extractor.freeze=true", "seed=5"
    )
    path.unlink()
    weights = run.weights()
    for part in ("actor", "critic"):
        frozen = [t for n, t in weights.items() if n.startswith(f"agent.{part}.extractor.")]
        assert frozen and all((tensor == torch.tensor(0.1)).all() for tensor in frozen)
    policy = neurl.load(run.directory)
    assert values(policy.agent.actor.extractor) == {float(torch.tensor(0.1))}
    assert policy.config.extractor.weights is None
    assert go_on(run.directory, "total_env_steps=128").summary["env_steps"] >= 128


def test_a_run_s_extractor_serves_another(train, build) -> None:
    run = train("total_env_steps=64", "seed=5")
    here = build(f"extractor.weights={run.directory}", "seed=6")
    take_weights(here.config, here.agent)
    for name, tensor in here.agent.actor.extractor.state_dict().items():
        assert torch.equal(tensor, run.weights()[f"agent.actor.extractor.{name}"])
