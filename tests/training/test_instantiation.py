"""Only classes of the kind that a place is for, defined where their name says, are ever called."""

import sys
from collections.abc import Iterator
from pathlib import Path

import gymnasium
import pytest
import torch
from gymnasium import spaces
from torch import nn

from agents.agent import Agent
from conf.schema.registry import TARGETS
from networks.autoencoding.losses import AuxiliaryLoss
from networks.heads.values import ValueHead
from networks.memory.memories import Memory
from training.building.instantiation import find, make, make_partial

OWN = """
import pathlib
import numpy as np
import torch
from pathlib import Path
from torch.nn import Linear
from networks.extractors.mlp import MLP

class Net(torch.nn.Module):
    def __init__(self, shape, inner=None, inners=(), by_name=None, number=0):
        super().__init__()
        self.shape, self.inner, self.number = shape, inner, number
        self.inners, self.by_name = list(inners), dict(by_name or {})

    class Inner(torch.nn.Module):
        pass

class Record:
    def __init__(self, path):
        Path(path).touch()

def function(path):
    Path(path).touch()

Other = Net
instance = Net(1)
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch) -> Iterator[str]:
    """A user's module, with what modules have: imports, functions, second names."""
    (tmp_path / "own_package.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    yield "own_package"
    sys.modules.pop("own_package", None)


KINDS = {
    "agent": Agent,
    "extractor": nn.Module,
    "decoder": nn.Module,
    "memory": Memory,
    "value_head": ValueHead,
    "auxiliary": AuxiliaryLoss,
    "pomdp": gymnasium.Wrapper,
    "wrapper": gymnasium.Wrapper,
}


@pytest.mark.parametrize("group", KINDS)
def test_every_class_of_ours_is_found_where_its_name_says(group: str) -> None:
    for target in TARGETS[group]:
        found = find(group, target, KINDS[group])
        package, _, name = target.rpartition(".")  # or the module itself
        assert found.__qualname__ == name
        assert f"{found.__module__}.".startswith(f"{package}.")


@pytest.mark.parametrize(
    ("target", "kind"),
    [
        ("torch.nn.Linear", nn.Module),
        ("torch.optim.NAdam", torch.optim.Optimizer),
        ("gymnasium.wrappers.TimeLimit", gymnasium.Wrapper),
        ("gymnasium.spaces.Box", gymnasium.Space),
    ],
)
def test_public_names_of_trusted_packages_are_found(target: str, kind: type) -> None:
    assert issubclass(find("key", target, kind), kind)


def test_a_package_of_the_users_may_name_a_class_twice(own: None) -> None:
    assert find("extractor", "own_package.Other", nn.Module).__name__ == "Net"


REFUSED = {
    "gymnasium.spaces.box.np.lib.npyio.NpzFile": "cannot make",
    "gymnasium.utils.play.PlayPlot": "cannot make|is no",
    "gymnasium.wrappers.vector.RecordVideo": "is no",
    "gymnasium.spaces.Box": r"is no torch\.nn\.Module",
    "networks.extractors.mlp.Tensor": "is no",
    "networks.extractors.mlp.Missing": "has no attribute 'Missing'",
    "torch.nn.functional.relu": "is no",
    "own_package.np": "is no",
    "own_package.pathlib.Path": "cannot make",
    "own_package.Path": "is no",
    "own_package.Record": "is no",
    "own_package.function": "is no",
    "own_package.instance": "is no",
    "own_package.Net.Inner": "cannot make",
    "own_package.Linear": r"defined elsewhere; name it torch\.nn\.modules\.linear\.Linear",
    "own_package.MLP": r"defined elsewhere; name it networks\.extractors\.mlp\.MLP",
    "no_package_of_this_name.Net": "No module named",
}


@pytest.mark.parametrize("target", REFUSED)
def test_what_is_not_meant_to_be_made_is_refused_in_one_line(own, tmp_path, target: str) -> None:
    node = {"_target_": target, "path": str(tmp_path / "TRACE")}
    with pytest.raises(ValueError, match=REFUSED[target]) as told:
        make("extractor", node, nn.Module)
    assert str(told.value).startswith("extractor: ")
    assert target in str(told.value)
    assert "\n" not in str(told.value)
    assert not (tmp_path / "TRACE").exists()


def test_modules_inside_of_a_module_are_made(own) -> None:
    linear = {"_target_": "torch.nn.Linear", "in_features": 2, "out_features": 3}
    node = {
        "_target_": "own_package.Net",
        "inner": linear,
        "inners": [linear, {"_target_": "own_package.Net", "shape": [4]}],
        "by_name": {"a": linear, "b": 5},
    }
    made = make("extractor", node, nn.Module, (7,))
    assert made.shape == (7,)
    assert made.inner.out_features == 3
    assert [type(each).__name__ for each in made.inners] == ["Linear", "Net"]
    assert made.by_name["a"].in_features == 2
    assert made.by_name["b"] == 5
    assert make_partial("extractor", {**node, "number": 9}, nn.Module)((1,)).number == 9


def test_spaces_inside_of_a_wrapper_are_made() -> None:
    box = {"_target_": "gymnasium.spaces.Box", "low": 0.0, "high": 1.0, "shape": [2]}
    node = {
        "_target_": "gymnasium.wrappers.TransformObservation",
        "func": None,
        "observation_space": {"_target_": "gymnasium.spaces.Dict", "spaces": {"a": box}},
    }
    wrapper = make_partial("env.wrappers[0]", node, gymnasium.Wrapper)
    space = wrapper.keywords["observation_space"]
    assert isinstance(space["a"], spaces.Box)
    assert space["a"].shape == (2,)


@pytest.mark.parametrize(
    ("kind", "target"),
    [
        (gymnasium.Wrapper, "torch.nn.Linear"),
        (gymnasium.Wrapper, "own_package.Record"),
        (nn.Module, "gymnasium.spaces.Box"),
        (nn.Module, "own_package.Record"),
    ],
)
def test_nothing_else_is_made_inside(own, tmp_path, kind: type, target: str) -> None:
    outer = "own_package.Net" if kind is nn.Module else "gymnasium.wrappers.TimeLimit"
    inner = {"_target_": target, "path": str(tmp_path / "TRACE")}
    for value in (inner, [inner], {"deep": [inner]}):
        with pytest.raises(ValueError, match=rf"^key\.inner.*: {target} is no "):
            make("key", {"_target_": outer, "inner": value}, kind, 1)
    assert not (tmp_path / "TRACE").exists()


@pytest.mark.parametrize("word", ["_partial_", "_args_", "_convert_", "_recursive_"])
def test_words_of_hydras_are_none_of_ours(own, word: str) -> None:
    with pytest.raises(ValueError, match=f"cannot make own_package.Net: .*'{word}'"):
        make("extractor", {"_target_": "own_package.Net", word: True}, nn.Module, (7,))
