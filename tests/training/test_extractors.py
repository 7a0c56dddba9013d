"""Extractors from configurations: widths are looked up, parts get theirs, misfits are refused."""

from typing import Any

import pytest
import torch
from gymnasium import spaces
from torch import nn

from conf.compose import load
from networks.composite import DictExtractor, Joined
from networks.inputs import make_input
from networks.mlp import MLP, Flatten
from networks.normalization import DictNormalization, NoNormalization, RunningNormalization
from training.extractors import _output_size, build_extractor, make_normalization

SHAPES = {"goal/position": (2, 3), "goal/code": (4,), "speed": (1,)}


class Net(nn.Module):
    def __init__(self, told: int) -> None:
        super().__init__()
        self.output_size = told
        self.layer = nn.Linear(4, 3)

    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        return self.layer(observations)


def test_the_width_is_what_comes_out() -> None:
    assert _output_size("", nn.Linear(4, 3), (4,)) == _output_size("", Net(3), (4,)) == 3


def test_looking_leaves_running_statistics_alone() -> None:
    norm = nn.BatchNorm1d(4)
    norm.running_mean.fill_(1.0)
    assert _output_size("", norm, (4,)) == 4
    assert norm.running_mean.eq(1.0).all()
    assert norm.num_batches_tracked == 0


@pytest.mark.parametrize(
    ("network", "words"),
    [
        (Net(7), "critic.extractor: Net says output_size=7 and makes 3"),
        (nn.Linear(5, 3), "critic.extractor: Linear cannot read observations of shape"),
        (nn.Unflatten(1, (2, 2)), "rows of features"),
        (len, "no torch.nn.Module"),
    ],
)
def test_what_does_not_fit_is_refused(network, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        _output_size("critic.extractor", network, (4,))


def build(*words: str, shape: Any = SHAPES) -> tuple[nn.Module, int]:
    return build_extractor("extractor", load(list(words)).extractor, shape)


def test_an_extractor_of_vectors_reads_all_parts_as_one() -> None:
    extractor, width = build("extractor=mlp", "extractor.hidden_sizes=[5]")
    assert isinstance(extractor, Joined)
    assert isinstance(extractor.extractor, MLP)
    assert width == 5
    assert extractor.extractor.layers[0].in_features == 2 * 3 + 4 + 1


def test_each_part_gets_its_own_or_the_default() -> None:
    extractor, width = build(
        "extractor=dict",
        "extractor.default.hidden_sizes=[7]",
        "+extractor@extractor.keys.goal.position=mlp",
        "extractor.keys.goal.position.hidden_sizes=[5,3]",
        "+extractor@extractor.keys.speed=flatten",
        "extractor.hidden_sizes=[9]",
    )
    assert isinstance(extractor, DictExtractor)
    sizes = {
        name: [
            layer.out_features
            for layer in extractor.parts[name].modules()
            if hasattr(layer, "out_features")
        ]
        for name in SHAPES
    }
    assert sizes == {"goal/position": [5, 3], "goal/code": [7], "speed": []}
    assert isinstance(extractor.parts["speed"], Flatten)
    assert extractor.fusion.layers[0].in_features == 3 + 7 + 1
    assert width == extractor.output_size == 9
    assert extractor({name: torch.zeros(2, *shape) for name, shape in SHAPES.items()}).shape == (
        2,
        9,
    )


def test_items_of_a_tuple_have_numbers_for_names() -> None:
    extractor, _ = build(
        "extractor=dict",
        "extractor@extractor.default=flatten",
        "+extractor@extractor.keys.1=mlp",
        shape={"0": (2,), "1": (3,)},
    )
    assert isinstance(extractor.parts["0"], Flatten)
    assert isinstance(extractor.parts["1"], MLP)


@pytest.mark.parametrize(
    ("words", "shape", "message"),
    [
        (["extractor=dict"], (4,), r"extractor: networks\.composite\.DictExtractor reads Dict"),
        (
            ["extractor=dict", "+extractor@extractor.keys.goal.positon=mlp"],
            SHAPES,
            r"extractor\.keys\.goal\.positon: the observation has no such part, only "
            r"goal/position, goal/code, speed; did you mean goal/position\?",
        ),
        (
            ["extractor=dict", "+extractor@extractor.keys.goal=mlp"],
            SHAPES,
            r"extractor\.keys\.goal: the observation has no such part",
        ),
        (
            ["extractor=dict", "+extractor@extractor.keys.speed=dict"],
            SHAPES,
            r"extractor\.keys\.speed: networks\.composite\.DictExtractor reads Dict",
        ),
        (
            ["extractor=dict", "+extractor.keys.speed={_target_: torch.nn.Linear, in_features: 9}"],
            SHAPES,
            r"extractor\.keys\.speed: cannot make torch\.nn\.Linear",
        ),
    ],
)
def test_parts_that_do_not_fit_are_refused_by_their_path(words, shape, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(*words, shape=shape)


def test_numbers_alone_are_normalised() -> None:
    box, code = spaces.Box(-1, 1, (3,)), spaces.Discrete(3)
    kinds = {
        RunningNormalization: [box],
        NoNormalization: [code, spaces.MultiBinary(2), spaces.Dict(a=code)],
        DictNormalization: [spaces.Dict(a=box, b=code)],
    }
    for kind, observation_spaces in kinds.items():
        for space in observation_spaces:
            assert type(make_normalization(make_input(space), learns=True)) is kind
            assert type(make_normalization(make_input(space), learns=False)) is NoNormalization
