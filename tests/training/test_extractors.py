"""Extractors from configurations: widths are looked up, parts get theirs, misfits are refused."""

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from gymnasium import spaces
from torch import nn

from conf.composing.command_line import load
from networks.autoencoding.autoencoder import Encoder
from networks.extractors.cnn import CNN
from networks.extractors.composite import DictExtractor, Joined
from networks.extractors.mlp import MLP, Flatten
from networks.inputs import make_input
from networks.normalization import DictNormalization, RunningNormalization
from training.building.extractors import _output_size, build_extractor, make_normalization
from training.building.instantiation import plain

SHAPES = {"goal/position": (2, 3), "goal/code": (4,), "speed": (1,)}


class Net(nn.Module):
    def __init__(self, told: int) -> None:
        super().__init__()
        self.output_size = told
        self.layer = nn.Linear(4, 3)

    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        return self.layer(observations)


class Halves(nn.Module):
    """What it reads is stored, and would be learnt from as it left it."""

    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        return observations.div_(2)


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
        (Halves(), r"critic.extractor: Halves changes observations in place; write x = x / 2"),
        (nn.Sequential(nn.ReLU(inplace=True)), "Sequential changes observations in place"),
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


class Speed(nn.Module):
    """Reads one part of several, by its name."""

    reads_parts = True

    def __init__(self, input_shape: dict[str, tuple[int, ...]]) -> None:
        super().__init__()
        self.layer = nn.Linear(*input_shape["speed"], 3)

    def forward(self, parts: dict[str, torch.Tensor]) -> torch.Tensor:
        return self.layer(parts["speed"])


class Deaf(Speed):
    reads_parts = False


def test_a_class_can_ask_for_the_parts_by_name() -> None:
    extractor, width = build_extractor("extractor", {"_target_": f"{__name__}.Speed"}, SHAPES)
    assert (type(extractor), width) == (Speed, 3)
    parts = {name: torch.rand(2, *shape) for name, shape in SHAPES.items()}
    assert extractor(parts).equal(extractor.layer(parts["speed"]))
    with pytest.raises(ValueError, match=r"Speed reads Dict observations.*use extractor=mlp"):
        build_extractor("extractor", {"_target_": f"{__name__}.Speed"}, (4,))


def test_who_does_not_ask_is_told_what_it_gets() -> None:
    with pytest.raises(ValueError, match=r"as one row of 11 numbers: by name, a class that says"):
        build_extractor("extractor", {"_target_": f"{__name__}.Deaf"}, SHAPES)


@dataclass
class ThinOptions:
    """Keys of a user's own extractor."""

    width: int = 2


class Thin(nn.Linear):
    """Takes its options as one."""

    Options = ThinOptions

    def __init__(self, input_shape: tuple[int, ...], options: ThinOptions) -> None:
        super().__init__(*input_shape, options.width)


def test_a_class_takes_its_options_as_one() -> None:
    options = {"_target_": f"{__name__}.Thin", "width": 3, "weights": None, "freeze": False}
    assert build_extractor("extractor", options, (4,))[1] == 3
    with pytest.raises(ValueError, match=r"cannot make .*Thin: .*unexpected .*'deep'"):
        build_extractor("extractor", {**options, "deep": True}, (4,))


class Normalized(nn.Sequential):
    def __init__(self, input_shape: tuple[int, ...]) -> None:
        super().__init__(nn.Linear(*input_shape, 3), nn.BatchNorm1d(3))


@pytest.mark.parametrize("agent", ["ppo", "a2c", "dqn", "pqn"])
@pytest.mark.parametrize("freeze", [False, True, 100])
def test_batch_statistics_are_refused_where_they_would_move_the_policy(
    build_run, agent: str, freeze: bool | int
) -> None:
    words = [f"agent={agent}", f"extractor._target_={__name__}.Normalized", "~extractor.activation"]
    words += [f"trusted_packages=[{__name__.partition('.')[0]}]", f"extractor.freeze={freeze}"]
    keys = ("hidden_sizes", "normalization", "dropout", "residual", "initialization", "gain")
    words += [f"~extractor.{key}" for key in keys]
    if agent in ("dqn", "pqn") or freeze is True:
        assert build_run(words).agent is not None
        return
    with pytest.raises(
        ValueError, match=r"^actor: extractor.1 is a BatchNorm1d.*LayerNorm or GroupNorm"
    ):
        build_run(words)


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
        (["extractor=dict"], (4,), r"extractor: networks\.extractors\.DictExtractor reads Dict"),
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
            r"extractor\.keys\.speed: networks\.extractors\.DictExtractor reads Dict",
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
        nn.Identity: [code, spaces.MultiBinary(2), spaces.Dict(a=code)],
        DictNormalization: [spaces.Dict(a=box, b=code)],
    }
    for kind, observation_spaces in kinds.items():
        for space in observation_spaces:
            assert type(make_normalization(make_input(space), learns=True)) is kind
            assert type(make_normalization(make_input(space), learns=False)) is nn.Identity


IMAGE = (12, 12, 3)
OF_PARTS = {"arm/camera": IMAGE, "map": (7, 7, 20), "speed": (1,)}
SMALL = ["extractor.filters=[2]", "extractor.hidden_sizes=[5]"]


def test_an_image_is_read_in_the_layout_of_the_environment() -> None:
    for words, shape, channels in (
        ([], (12, 12, 3), 3),
        ([], (3, 12, 12), 3),
        (["env.image_layout=chw"], (10, 10, 10), 10),
        (["env.image_layout=hwc"], (12, 12, 12), 12),
    ):
        extractor, width = build("extractor=cnn", *SMALL, *words, shape=shape)
        assert isinstance(extractor, CNN)
        assert (extractor.rows.channels, width) == (channels, 5)


def test_what_a_space_says_of_its_layout_wins() -> None:
    config = load(["extractor=cnn", *SMALL, "env.image_layout=chw"]).extractor
    extractor, _ = build_extractor("extractor", config, (7, 7, 20), "hwc")
    assert extractor.rows.channels == 20


def test_each_part_has_a_layout_of_its_own() -> None:
    config = load(
        [
            "extractor=dict",
            "+extractor@extractor.keys.arm.camera=cnn",
            "extractor.keys.arm.camera.layout=chw",
            "+extractor@extractor.keys.map=cnn",
            "env.image_layout=hwc",
        ]
    ).extractor
    shapes = {**OF_PARTS, "arm/camera": (6, 6, 6)}
    layouts = {"arm/camera": None, "map": "hwc", "speed": None}
    extractor, _ = build_extractor("extractor", config, shapes, layouts)
    assert [extractor.parts[name].rows.is_last for name in ("arm/camera", "map")] == [False, True]
    rows = {name: torch.zeros(2, *shape) for name, shape in shapes.items()}
    assert extractor(rows).shape == (2, 64)


@pytest.mark.parametrize("name", ["mlp", "flatten"])
def test_extractors_of_vectors_read_images_flat(name: str) -> None:
    extractor, _ = build(f"extractor={name}", shape=IMAGE)
    rows = torch.rand(2, *IMAGE)
    assert torch.equal(extractor(rows), extractor(rows.flatten(1)))


@pytest.mark.parametrize(
    ("words", "shape", "message"),
    [
        (
            ["extractor=nature_cnn"],
            IMAGE,
            r"^extractor\.layers\[1\]: a kernel of 4x4 does not fit its input of 2x2; what fits "
            r"images of 12x12 is layers=\[\{filters: 32, kernel: 8, stride: 4\}, .*\]; "
            r"or use extractor=cnn$",
        ),
        (
            ["extractor=dict", "+extractor@extractor.keys.arm.camera=nature_cnn"],
            OF_PARTS,
            r"^extractor\.keys\.arm\.camera\.layers\[1\]: .*; "
            r"or use extractor@extractor\.keys\.arm\.camera=cnn$",
        ),
        (
            ["extractor=cnn"],
            (4,),
            r"^extractor: observations of shape \(4,\) are a vector, no image; "
            r"use extractor=mlp$",
        ),
        (["extractor=impala_cnn"], (4, 4, 1), r"4x4 pixels, expected at least 5x5; use extractor="),
        (
            ["extractor=cnn"],
            (10, 10, 10),
            r"^extractor\.layout: auto cannot tell .*env\.image_layout=hwc .*; "
            r"or use extractor=mlp$",
        ),
        (
            ["extractor=cnn"],
            OF_PARTS,
            r"^extractor: networks\.extractors\.CNN reads images, and this observation has the "
            r"parts arm/camera, map, speed; give the image one of its own: "
            r"extractor=dict \+extractor@extractor\.keys\.arm\.camera=cnn$",
        ),
    ],
)
def test_what_is_no_fitting_image_is_refused_with_a_remedy(words, shape, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(*words, shape=shape)


def test_the_layers_that_a_refusal_names_can_be_typed() -> None:
    with pytest.raises(ValueError, match="what fits") as refused:
        build("extractor=nature_cnn", shape=IMAGE)
    named = str(refused.value).partition(" is ")[2].partition("; or")[0]
    extractor, width = build("extractor=nature_cnn", f"extractor.{named}", shape=IMAGE)
    assert isinstance(extractor, CNN)
    assert width == 512


def around(encoder: dict[str, Any]) -> dict[str, Any]:
    whole = plain(load(["extractor=autoencoder"]).extractor)
    return {**whole, "encoder": encoder, "latent_size": 3, "freeze": False}


CNN_OPTIONS = {
    "_target_": "networks.extractors.CNN", "layout": "auto", "layers": "auto", "filters": [2],
    "activation": "relu", "normalization": "none", "hidden_sizes": [5],
    "initialization": "orthogonal", "gain": 1.0, "weights": None, "freeze": False,
}  # fmt: skip


def test_an_extractor_within_an_extractor_is_built_for_the_same_rows() -> None:
    extractor, width = build_extractor("extractor", around(CNN_OPTIONS), (7, 7, 20), "hwc")
    assert isinstance(extractor, Encoder)
    assert isinstance(extractor.encoder, CNN)
    assert (extractor.encoder_size, width) == (5, 3)
    assert extractor.encoder.rows.channels == 20
    assert len(list(extractor.parameters())) == 6


def test_what_is_wrong_within_is_told_by_its_path() -> None:
    with pytest.raises(ValueError, match=r"^extractor\.encoder: .* no image; use extractor@extr"):
        build_extractor("extractor", around(CNN_OPTIONS), (4,))
    with pytest.raises(
        ValueError, match=r"^extractor\.encoder: networks.extractors.CNN reads images, "
    ):
        build_extractor("extractor", around(CNN_OPTIONS), OF_PARTS)


class TenLines(nn.Module):
    """A module as a newcomer writes it."""

    def __init__(self, input_shape: tuple[int, ...], width: int) -> None:
        super().__init__()
        height, across, channels = input_shape
        self.convolution = nn.Conv2d(channels, width, 3, stride=2)
        self.output = nn.Linear(width * ((height - 3) // 2 + 1) * ((across - 3) // 2 + 1), 7)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        maps = torch.relu(self.convolution(rows.permute(0, 3, 1, 2)))
        return self.output(maps.flatten(1))


def test_a_plain_module_reads_images_in_the_environments_layout() -> None:
    options = {"_target_": f"{__name__}.TenLines", "width": 3, "weights": None, "freeze": False}
    extractor, width = build_extractor("extractor", options, IMAGE)
    assert isinstance(extractor, TenLines)
    assert width == 7


def test_extractors_are_unfrozen_each_at_its_own_step(build_run) -> None:
    words = ["device=cpu", "extractor.freeze=100", "extractor@critic.extractor=mlp"]
    optimizer = build_run([*words, "critic.extractor.freeze=300"]).agent.optimizer
    for env_steps, expected in ((50, [0, 0]), (200, [1, 0]), (300, [1, 1])):
        weights = optimizer.pace(0.0, env_steps).weights
        assert [float(weight) for weight in weights if weight is not None] == expected
