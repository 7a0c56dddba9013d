"""Acting by values: who explores and how, what actions become, refusals, mirrors."""

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces

from networks.heads.action_values import ActionLayers
from networks.heads.distributional import C51ValueHead, QuantileValueHead
from networks.heads.greedy import EpsilonGreedyHead, joint_actions
from networks.heads.values import MSEValueHead
from networks.mirror import can_mirror
from tests.building import build

LAYERS: dict[str, Any] = {"initialization": "orthogonal", "gain": 1.0}
HEADS: dict[str, Any] = {
    "mse": MSEValueHead,
    "c51": partial(build, C51ValueHead, bins=11, support=[-3.0, 3.0]),
    "quantile": partial(build, QuantileValueHead, quantiles=4, kappa=1.0),
}
ZOO: dict[str, spaces.Space[Any]] = {
    "discrete": spaces.Discrete(4),
    "discrete one": spaces.Discrete(1),
    "discrete start": spaces.Discrete(3, start=-2),
    "discrete int32": spaces.Discrete(3, start=7, dtype=np.int32),
    "multi": spaces.MultiDiscrete([2, 5, 3]),
    "multi starts": spaces.MultiDiscrete(
        np.array([[2, 1], [3, 2]]), start=np.array([[-1, 4], [10, 0]])
    ),
    "multi uint8": spaces.MultiDiscrete([4, 2], dtype=np.uint8, start=[251, 0]),
    "bits": spaces.MultiBinary(3),
    "bits 2x2": spaces.MultiBinary((2, 2)),
}


def greedy(
    space: spaces.Space[Any],
    *,
    kind: str = "mse",
    dueling: bool = False,
    noisy: bool = False,
    epsilon: float = 0.0,
    activation: str = "tanh",
) -> EpsilonGreedyHead:
    torch.manual_seed(0)

    options = {"hidden_sizes": [6], "activation": activation, **LAYERS}
    options |= {"dueling": dueling, "noisy": noisy, "noisy_sigma": 0.5}
    options |= {"num_actions": joint_actions(space)}
    made = EpsilonGreedyHead(space, HEADS[kind](partial(build, ActionLayers, 5, **options)))
    made.set_epsilon(epsilon)
    return made


def values_of(head: EpsilonGreedyHead, summary: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return head.value_head.value(head.value_head(summary))


@pytest.fixture(params=ZOO.values(), ids=ZOO)
def space(request) -> spaces.Space[Any]:
    return request.param


def test_every_action_is_sent_once(space) -> None:
    head = greedy(space)
    everything = np.arange(head.num_actions)
    sent = head.to_environment(everything)
    assert sent.dtype == space.dtype
    assert sent.shape == (head.num_actions, *space.shape)
    assert all(space.contains(np.asarray(action)) for action in sent)
    assert len({tuple(np.ravel(action)) for action in sent}) == head.num_actions
    assert head.num_actions == head.encoded_size == joint_actions(space)


def test_joint_actions_by_hand() -> None:
    sent = greedy(ZOO["multi starts"]).to_environment(np.array([0, 1, 2, 11]))
    # Flat choices of 2, 1, 3 and 2 options from -1, 4, 10 and 0; the last changes fastest.
    assert sent.tolist() == [
        [[-1, 4], [10, 0]],
        [[-1, 4], [10, 1]],
        [[-1, 4], [11, 0]],
        [[0, 4], [12, 1]],
    ]
    assert greedy(spaces.MultiBinary((1, 3))).to_environment(np.array([6])).tolist() == [
        [[1, 1, 0]]
    ]
    assert greedy(spaces.Discrete(3, start=5)).to_environment(np.array([2, 0])).tolist() == [7, 5]


def test_sending_actions_hands_out_copies(space) -> None:
    head, first = greedy(space), np.array([0])
    kept = head.to_environment(first).copy()
    head.to_environment(first)[...] = 1
    np.testing.assert_array_equal(head.to_environment(first), kept)


def test_without_noise_the_best_action_is_taken(space) -> None:
    head, summary = greedy(space, epsilon=1.0), torch.randn(50, 5)
    expected = values_of(head, summary).argmax(-1)
    assert torch.equal(head(summary).mode(), expected)
    mirror = head.mirror()
    assert mirror is not None
    assert np.array_equal(mirror(summary.numpy(), None), expected.numpy())


@pytest.mark.parametrize("noisy", [False, True])
@pytest.mark.parametrize("dueling", [False, True])
@pytest.mark.parametrize("kind", HEADS)
def test_mirror_chooses_what_torch_chooses(space, kind: str, dueling: bool, noisy: bool) -> None:
    head = greedy(space, kind=kind, dueling=dueling, noisy=noisy, epsilon=0.4)
    summary, random = torch.randn(40, 5), np.random.default_rng(0)
    assert can_mirror(head)
    mirror, noise = head.mirror(), head.noise(random, 40)
    assert mirror is not None
    with torch.no_grad():
        for given, expected in [
            (noise, head(summary).sample(torch.from_numpy(noise))),
            (None, head(summary).mode()),
        ]:
            found = mirror(summary.numpy(), given)
            assert found.dtype == np.int64
            assert expected.dtype == head.action_dtype
            np.testing.assert_array_equal(found, expected.numpy())


def test_no_mirror_without_a_numpy_form() -> None:
    assert greedy(ZOO["discrete"], activation="gelu").mirror() is None


@pytest.mark.parametrize("epsilon", [0.0, 0.3, 1.0])
def test_epsilon_is_how_often_any_action_is_taken(epsilon: float) -> None:
    """... uniformly, the best one among them."""
    head, rows = greedy(ZOO["discrete"], epsilon=epsilon), 40_000
    summary = torch.randn(1, 5)
    best = int(values_of(head, summary).argmax())
    mirror = head.mirror()
    assert mirror is not None
    noise = head.noise(np.random.default_rng(0), rows)
    taken = mirror(summary.expand(rows, -1).numpy(), noise)
    counts = np.bincount(taken, minlength=4)
    expected = np.full(4, rows * epsilon / 4)
    expected[best] += rows * (1 - epsilon)
    if epsilon == 0:
        assert counts[best] == rows
    else:  # 0.999 quantile, 3 degrees of freedom
        assert ((counts - expected) ** 2 / expected).sum() < 16.3


def test_exploring_does_not_ask_for_values_however_large() -> None:
    head = greedy(ZOO["discrete"], epsilon=1.0)
    with torch.no_grad():
        head.value_head.layers.actions.output.bias.copy_(torch.tensor([1e12, 0.0, -1e12, 0.0]))
    mirror = head.mirror()
    assert mirror is not None
    noise = head.noise(np.random.default_rng(0), 4000)
    counts = np.bincount(mirror(np.zeros((4000, 5), np.float32), noise), minlength=4)
    assert counts.min() > 850  # of 1000, with a deviation of 27


def test_rows_explore_one_by_one() -> None:
    """Noise of greedy rows is zero, that of others decides on one action."""
    noise = greedy(ZOO["discrete"], epsilon=0.5).noise(np.random.default_rng(0), 1000)
    assert set((noise > 0).sum(-1).tolist()) == {0, 1}
    assert 400 < (noise > 0).sum() < 600
    assert noise.dtype == np.float32


def test_random_numbers_are_drawn_where_something_is_random() -> None:
    random = np.random.default_rng(0)
    before = random.bit_generator.state
    assert greedy(ZOO["discrete"]).noise(random, 6) is None
    assert random.bit_generator.state == before
    noise = greedy(ZOO["discrete"], noisy=True).noise(random, 6)
    assert random.bit_generator.state != before
    assert not noise[:, :4].any()
    assert noise[:, 4:].all()


def test_each_environment_has_noisy_layers_of_its_own() -> None:
    head = greedy(ZOO["discrete"], noisy=True)
    noise = head.noise(np.random.default_rng(0), 2000)
    assert noise.shape == (2000, 4 + head.value_head.noise_size)
    mirror, summary = head.mirror(), np.zeros((2000, 5), np.float32)
    assert mirror is not None
    assert len(set(mirror(summary, noise).tolist())) == 4  # nothing but noise tells them apart
    assert len(set(mirror(summary, None).tolist())) == 1


def test_epsilon_travels_with_the_weights_and_keeps_its_place() -> None:
    head, other = greedy(ZOO["discrete"], epsilon=0.25), greedy(ZOO["discrete"])
    place = other.epsilon.data_ptr()
    other.load_state_dict(head.state_dict())
    assert other.epsilon.item() == 0.25
    other.set_epsilon(0.5)
    assert other.epsilon.item() == 0.5
    assert other.epsilon.data_ptr() == place
    assert not [name for name, _ in head.named_parameters() if "epsilon" in name]


def test_until_it_is_set_everything_is_random() -> None:
    value_head = greedy(ZOO["discrete"]).value_head
    assert EpsilonGreedyHead(ZOO["discrete"], value_head).epsilon.item() == 1.0


def test_uniform_actions_are_the_policys_own(space) -> None:
    head = greedy(space)
    drawn = head.uniform(np.random.default_rng(0), 3000)
    assert drawn.dtype == np.int64
    assert set(drawn.tolist()) == set(range(head.num_actions))


def test_actions_as_numbers() -> None:
    head = greedy(spaces.MultiBinary(2))
    encoded = head.encode(torch.tensor([[2, 0]]))
    assert encoded.tolist() == [[[0, 0, 1, 0], [1, 0, 0, 0]]]


@pytest.mark.parametrize(
    ("space", "message"),
    [
        (spaces.Box(-1.0, 1.0, (2,)), r"Box.*needs Discrete, MultiDiscrete or MultiBinary; use"),
        (spaces.Box(0, 3, (2,), np.int64), "needs Discrete, MultiDiscrete or MultiBinary"),
        (spaces.Text(3), r"needs Discrete, MultiDiscrete or MultiBinary; use agent=ppo"),
        (spaces.MultiBinary(13), r"its choices are 8,192 actions together, more than the 4,096"),
        (spaces.MultiDiscrete([4097]), r"4,097 actions together.*use agent=ppo, which makes each"),
        (spaces.MultiBinary(200), r"actions together"),
    ],
    ids=str,
)
def test_what_cannot_have_a_value_for_each_action_is_refused(space, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        greedy(space)


def test_as_many_joint_actions_as_there_may_be() -> None:
    assert joint_actions(spaces.MultiBinary(12)) == 4096
    assert joint_actions(spaces.Discrete(5000)) == 5000
