"""Observations with parts: read as one vector or part by part, normalised, with any memory."""

import copy
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor, nn

from networks.backbone import Backbone
from networks.extractors.composite import DictExtractor, Joined
from networks.extractors.mlp import MLP, Flatten
from networks.inputs import make_input
from networks.memory.memories import GRU
from networks.normalization import DictNormalization, RunningNormalization
from networks.observations import Parts, map_observations
from tests.building import build

SPACE = spaces.Dict(
    [
        ("velocity", spaces.Box(-9, 9, (2, 2))),
        ("goal/code", spaces.MultiDiscrete([3, 2])),
        ("type", spaces.Box(-9, 9, ())),
    ]
)
SHAPES = {"velocity": (2, 2), "goal/code": (5,), "type": (1,)}
LAYERS: dict[str, Any] = {"activation": "tanh", "initialization": "default", "gain": 1.0}


def mlp(*shape: int, **changes: Any) -> MLP:
    return build(MLP, shape, **{"hidden_sizes": [6], **LAYERS, **changes})


def joined(**changes: Any) -> Joined:
    torch.manual_seed(0)
    return Joined(mlp(10, **changes))


def by_part(**changes: Any) -> DictExtractor:
    torch.manual_seed(0)
    extractors = {"velocity": mlp(2, 2), "goal/code": mlp(5, **changes), "type": Flatten((1,))}
    return build(DictExtractor, extractors, 13, hidden_sizes=[3], **LAYERS)


def normalization() -> DictNormalization:
    return DictNormalization(
        {
            "velocity": RunningNormalization((2, 2)),
            "type": RunningNormalization((1,)),
        }
    )


def rows(size: int = 7) -> dict[str, Tensor]:
    random = np.random.default_rng(0)
    return {
        name: torch.from_numpy(random.standard_normal((size, *shape), np.float32))
        for name, shape in SHAPES.items()
    }


def observations(*leading: int) -> dict[str, Tensor]:
    """A stream of the space's own values, its parts in another order than the space's."""
    random = np.random.default_rng(1)
    return {
        "type": torch.from_numpy(random.normal(3, 2, leading).astype(np.float32)),
        "goal/code": torch.from_numpy(random.integers(0, 2, (*leading, 2))),
        "velocity": torch.from_numpy(random.normal(-1, 5, (*leading, 2, 2)).astype(np.float32)),
    }


def test_parts_side_by_side_are_one_vector() -> None:
    parts, network = rows(), joined()
    vector = torch.cat([parts[name].reshape(7, -1) for name in SHAPES], dim=1)
    assert torch.equal(network(parts), network.extractor(vector))


def test_each_part_has_its_extractor_and_all_have_layers_in_common() -> None:
    parts, network = rows(), by_part()
    features = [network.parts[name](parts[name]) for name in SHAPES]
    assert [each.shape[1] for each in features] == [6, 6, 1]
    assert torch.equal(network(parts), network.fusion(torch.cat(features, dim=1)))
    assert network.output_size == 3


def test_without_layers_in_common_features_are_handed_on() -> None:
    network = build(
        DictExtractor, {"a": Flatten((2,)), "b": Flatten((1,))}, 3, hidden_sizes=[], **LAYERS
    )
    parts = {"a": torch.tensor([[1.0, 2.0]]), "b": torch.tensor([[3.0]])}
    assert network(parts).tolist() == [[1, 2, 3]]
    assert network.output_size == 3


def test_gradients_reach_every_part() -> None:
    network = by_part()
    network(rows()).square().sum().backward()
    assert all(each.grad is not None and each.grad.any() for each in network.parameters())


@pytest.mark.parametrize("build", [joined, by_part])
def test_mirror_equals_torch(build) -> None:
    network, parts = build(), rows(50)
    kept = map_observations(torch.clone, parts)
    mirror = network.mirror()
    with torch.no_grad():
        for _ in range(2):  # the second time with other weights in the same storage
            expected = network(parts).numpy()
            found = mirror(map_observations(Tensor.numpy, parts))
            assert found.dtype == np.float32
            np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)
            for parameter in network.parameters():
                parameter.mul_(-0.7)
    assert all(torch.equal(parts[name], kept[name]) for name in parts)


@pytest.mark.parametrize("build", [joined, by_part])
def test_what_numpy_lacks_has_no_mirror(build) -> None:
    assert build(activation="gelu").mirror() is None


def test_numbers_are_normalised_part_by_part_and_the_rest_passes() -> None:
    normalize = normalization()
    for _ in range(3):
        normalize.update(rows(40))
    alone = RunningNormalization((2, 2))
    for _ in range(3):
        alone.update(rows(40)["velocity"])
    parts = rows()
    found = normalize(parts)
    assert torch.equal(found["velocity"], alone(parts["velocity"]))
    assert not torch.equal(found["type"], parts["type"])
    assert torch.equal(found["goal/code"], parts["goal/code"])
    mirrored = normalize.mirror()(map_observations(Tensor.numpy, parts))
    for name, part in found.items():
        np.testing.assert_array_equal(mirrored[name], part)


def test_statistics_are_saved_under_their_parts_name() -> None:
    names = normalization().state_dict().keys()
    assert {"by_path./velocity.mean", "by_path./type.count"} <= names
    assert not [name for name in names if "goal" in name]


def test_a_copy_of_a_normalisation_learns_apart() -> None:
    normalize = normalization()
    copied = copy.deepcopy(normalize)
    copied.update(rows())
    assert copied["velocity"].count == 7
    assert normalize["velocity"].count == 0


def test_modules_may_be_named_like_what_every_module_has() -> None:
    names = ["type", "training", "forward", "values", "0", "a/b", "_modules"]
    parts = Parts({name: nn.Linear(1, 1) for name in names})
    found = parts({name: torch.ones(2, 1) for name in reversed(names)})
    assert list(found) == names
    assert len(parts.state_dict()) == 2 * len(names)


def backbone(extractor: nn.Module, normalize: Any) -> Backbone:
    torch.manual_seed(1)
    width = extractor(rows()).shape[1]
    memory = build(
        GRU,
        width,
        hidden_size=4,
        num_layers=1,
        initialization="orthogonal",
        gain=1.0,
    )
    return Backbone(
        reader="actor",
        inputs=make_input(SPACE),
        normalization=normalize,
        extractor=extractor,
        feature_size=width,
        memory=memory,
        frozen_until=0.0,
    )


@pytest.fixture(params=[joined, by_part])
def network(request) -> Backbone:
    """A backbone that has seen some observations."""
    network = backbone(request.param(), normalization())
    network.observe(observations(20, 3), torch.ones(20, 3, dtype=torch.bool))
    return network


def is_first(steps: int) -> Tensor:
    return torch.rand(steps, 3, generator=torch.Generator().manual_seed(2)) < 0.3


@torch.no_grad()
def test_a_backbone_reads_parts_step_by_step_as_it_reads_a_stream(network) -> None:
    stream, first = observations(9, 3), is_first(9)
    state = network.memory.initial_state(3)
    expected, last = network(stream, state, first)
    assert expected.shape == (9, 3, 4)
    for step in range(9):
        now = map_observations(lambda part, step=step: part[step : step + 1], stream)
        output, state = network(now, state, first[step : step + 1])
        torch.testing.assert_close(output[0], expected[step])
    torch.testing.assert_close(state, last)


@torch.no_grad()
def test_a_backbone_unrolls_parts_in_windows(network) -> None:
    stream, first, state = observations(9, 3), is_first(9), network.memory.initial_state(3)
    output, states, last = network.memory.unroll(
        network.features(stream), state, first, sequence_length=3
    )
    expected, after = network(stream, state, first)
    torch.testing.assert_close(output, expected)
    torch.testing.assert_close(last, after)
    _, third = network(map_observations(lambda part: part[:3], stream), state, first[:3])
    torch.testing.assert_close(states[1], third)


@torch.no_grad()
def test_a_backbones_mirror_acts_on_parts_as_torch_does(network) -> None:
    stream, first = observations(9, 3), is_first(9)
    mirror, state = network.mirror(), network.memory.initial_state(3)
    mirrored = state.numpy().copy()
    for step in range(9):
        now = map_observations(lambda part, step=step: part[step], stream)
        output, state = network(
            map_observations(lambda part: part[None], now), state, first[[step]]
        )
        found, mirrored = mirror(map_observations(Tensor.numpy, now), mirrored, first[step].numpy())
        np.testing.assert_allclose(found, output[0].numpy(), rtol=0, atol=1e-6)
        np.testing.assert_allclose(mirrored, state.numpy(), rtol=0, atol=1e-6)


def test_only_valid_steps_move_statistics() -> None:
    network, stream = backbone(joined(), normalization()), observations(6, 3)
    valid = is_first(6)
    spoiled = map_observations(torch.clone, stream)
    for name in ("velocity", "type"):
        spoiled[name][~valid] = 1e9
    network.observe(spoiled, valid)
    statistics = network.normalization["velocity"]
    assert statistics.count == valid.sum()
    expected = stream["velocity"][valid].double()
    torch.testing.assert_close(statistics.mean, expected.mean(0), rtol=1e-6, atol=1e-6)


def test_nothing_is_counted_without_normalisation() -> None:
    network = backbone(by_part(), nn.Identity())
    network.observe(observations(6, 3), torch.ones(6, 3, dtype=torch.bool))
    assert not network.normalization.state_dict()
