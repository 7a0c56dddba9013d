"""Heads: which one an action space gets, what the environment receives, losses, and mirrors."""

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces

from networks.distributions import Categorical, DiagonalGaussian
from networks.heads import (
    CategoricalHead,
    GaussianHead,
    HuberValueHead,
    MSEValueHead,
    make_policy_head,
)

LAYERS: dict[str, Any] = {
    "hidden_sizes": [6],
    "activation": "tanh",
    "initialization": "orthogonal",
    "gain": 1.0,
}
UNIT_BOX = spaces.Box(-1.0, 1.0, (3,), np.float32)


def policy_head(space: spaces.Space[Any], **changes: Any):
    torch.manual_seed(0)
    return make_policy_head(space, 5, **{**LAYERS, "initial_log_std": -0.5, **changes})


def box(low: list[float], high: list[float], dtype: Any = np.float32) -> spaces.Box:
    return spaces.Box(np.array(low, dtype), np.array(high, dtype), dtype=dtype)


def test_action_space_chooses_the_head() -> None:
    discrete, continuous = policy_head(spaces.Discrete(4)), policy_head(UNIT_BOX)
    assert isinstance(discrete, CategoricalHead)
    assert isinstance(continuous, GaussianHead)
    assert isinstance(discrete(torch.zeros(2, 5)), Categorical)
    assert isinstance(continuous(torch.zeros(2, 5)), DiagonalGaussian)
    assert continuous.log_std.tolist() == [-0.5] * 3


@pytest.mark.parametrize("space", [spaces.MultiBinary(3), spaces.Text(3)])
def test_unknown_action_space_is_refused_by_name(space) -> None:
    with pytest.raises(ValueError, match="not supported; use Discrete or Box"):
        policy_head(space)


@pytest.mark.parametrize("start", [0, 5, -3])
def test_discrete_actions_count_from_start(start: int) -> None:
    space = spaces.Discrete(3, start=start)
    sent = policy_head(space).to_environment(np.array([0, 1, 2]))
    assert sent.tolist() == [start, start + 1, start + 2]
    assert all(space.contains(action) for action in sent)


def test_corners_of_an_uneven_box_are_reached_exactly() -> None:
    space = box([-3.0, 0.0], [1.0, 5.0])
    sent = policy_head(space).to_environment(
        np.array([[-1, -1], [1, 1], [0, 0], [-1, 1]], np.float32)
    )
    assert sent.tolist() == [[-3, 0], [1, 5], [-1, 2.5], [-3, 5]]
    assert sent.dtype == space.dtype


def test_actions_beyond_the_bounds_are_cut_for_the_environment_only() -> None:
    space, actions = box([-3.0, 0.0], [1.0, 5.0]), np.array([[-7.0, 1.01]], np.float32)
    sent = policy_head(space).to_environment(actions)
    assert sent.tolist() == [[-3, 5]]
    assert space.contains(sent[0])
    assert actions.tolist() == [[-7.0, np.float32(1.01)]]


def test_dimensions_without_two_bounds_pass_through() -> None:
    infinite = np.inf
    space = box([-infinite, 0.0, -infinite, -2.0], [infinite, infinite, 3.0, 2.0])
    sent = policy_head(space).to_environment(
        np.array([[40.0, 7.0, -9.0, 0.5], [-40.0, -7.0, 9.0, -0.5]], np.float32)
    )
    # Unbounded, bounded below, bounded above, bounded: only the last one is scaled.
    assert sent.tolist() == [[40, 7, -9, 1], [-40, 0, 3, -1]]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_any_action_lands_in_the_space(dtype) -> None:
    # Bounds that float32 cannot hold exactly.
    space = box([-0.1, 1e-3, -1e6], [0.3, 0.7, 1e6 + 0.1], dtype)
    actions = 3 * np.random.default_rng(0).standard_normal((200, 3), dtype=np.float32)
    sent = policy_head(space).to_environment(np.concatenate([actions, np.sign(actions)]))
    assert all(space.contains(action) for action in sent)


@pytest.mark.parametrize("space", [spaces.Discrete(4), UNIT_BOX], ids=["discrete", "box"])
@pytest.mark.parametrize("hidden_sizes", [[], [6], [6, 7]], ids=str)
def test_mirror_chooses_the_actions_that_torch_chooses(space, hidden_sizes) -> None:
    head = policy_head(space, hidden_sizes=hidden_sizes)
    with torch.no_grad():
        for bias in (layer.bias for layer in head.modules() if isinstance(layer, torch.nn.Linear)):
            bias.normal_(generator=torch.Generator().manual_seed(1))
    mirror, random = head.mirror(), np.random.default_rng(0)
    summary = torch.randn(300, 5, generator=torch.Generator().manual_seed(2))
    noise = head.noise(random, 300)
    kept = summary.clone()
    with torch.no_grad():
        distribution = head(summary)
        for mirrored, expected in [
            (mirror(summary.numpy(), noise), distribution.sample(torch.from_numpy(noise))),
            (mirror(summary.numpy(), None), distribution.mode()),
        ]:
            found = torch.from_numpy(mirrored)
            assert found.dtype == expected.dtype == head.action_dtype
            torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    assert torch.equal(summary, kept)


def test_noise_depends_on_the_generator_alone() -> None:
    for space, shape in [(spaces.Discrete(4), (6, 4)), (UNIT_BOX, (6, 3))]:
        head = policy_head(space)
        first, again = (head.noise(np.random.default_rng(3), 6) for _ in range(2))
        assert first.shape == shape
        assert first.dtype == np.float32
        np.testing.assert_array_equal(first, again)


def test_discrete_actions_have_their_frequencies() -> None:
    draws, head = 100_000, policy_head(spaces.Discrete(4), hidden_sizes=[])
    with torch.no_grad():
        head.output.weight.zero_()
        head.output.bias.copy_(torch.tensor([0.0, 1.0, -2.0, 0.5]))
    noise = head.noise(np.random.default_rng(0), draws)
    expected = draws * head.output.bias.detach().softmax(0).numpy()
    counts = np.bincount(head.mirror()(np.zeros((draws, 5), np.float32), noise), minlength=4)
    chi_squared = ((counts - expected) ** 2 / expected).sum()
    assert chi_squared < 16.3  # 0.999 quantile, 3 degrees of freedom


def test_discrete_noise_is_finite_at_the_ends_of_its_range() -> None:
    class Ends(np.random.Generator):
        def standard_exponential(self, size, dtype):
            return np.resize(np.array([0.0, 1e-45, 80.0], dtype), size)

    assert np.isfinite(policy_head(spaces.Discrete(3)).noise(Ends(np.random.PCG64()), 5)).all()


def test_head_without_numpy_form_has_no_mirror() -> None:
    assert policy_head(UNIT_BOX, activation="gelu").mirror() is None
    assert policy_head(UNIT_BOX, hidden_sizes=[], activation="gelu").mirror() is None


def test_rows_of_any_leading_shape_are_the_same_rows() -> None:
    head = MSEValueHead(5, **LAYERS)
    summary = torch.randn(4, 3, 5)
    assert head(summary).shape == (4, 3)
    torch.testing.assert_close(head(summary)[2], head(summary[2]))


def test_mse_loss_by_hand() -> None:
    head, output = MSEValueHead(5, **LAYERS), torch.tensor([1.0, -2.0], requires_grad=True)
    losses = head.loss(output, torch.tensor([3.0, -2.5]))
    assert losses.tolist() == [4.0, 0.25]  # (1 - 3)^2, (-2 + 2.5)^2
    losses.sum().backward()
    assert output.grad is not None
    assert output.grad.tolist() == [-4.0, 1.0]  # 2 (v - y): upwards where v is too low


def test_huber_loss_by_hand() -> None:
    head = HuberValueHead(5, delta=2.0, **LAYERS)
    output = torch.tensor([1.0, 0.0, 0.0], requires_grad=True)
    losses = head.loss(output, torch.tensor([0.0, 2.0, 5.0]))
    # Inside: error^2 / 2. Outside: delta (|error| - delta / 2) = 2 (5 - 1).
    assert losses.tolist() == [0.5, 2.0, 8.0]
    losses.sum().backward()
    assert output.grad is not None
    assert output.grad.tolist() == [1.0, -2.0, -2.0]  # never steeper than delta
