"""Policy heads: which one an action space gets, what its actions become, and their mirrors."""

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces

from conf.schema.heads import GaussianHeadOptions
from networks.heads.box import DeterministicHead, GaussianHead, SquashedGaussianHead
from networks.heads.distributions import Bernoulli, Categorical, DiagonalGaussian, MultiCategorical
from networks.heads.policy import (
    BernoulliHead,
    CategoricalHead,
    MultiCategoricalHead,
    policy_head_class,
)

LAYERS: dict[str, Any] = {
    "hidden_sizes": [6],
    "activation": "tanh",
    "initialization": "orthogonal",
    "gain": 1.0,
}
UNIT_BOX = spaces.Box(-1.0, 1.0, (3,), np.float32)
INFINITE = np.inf


def policy_head(space: spaces.Space[Any], kind: Any = None, **changes: Any):
    torch.manual_seed(0)
    options = GaussianHeadOptions(**{**LAYERS, "initial_log_std": -0.5, **changes})
    return policy_head_class(kind, space)(space, 5, options)


def box(low: Any, high: Any, dtype: Any = np.float32) -> spaces.Box:
    return spaces.Box(np.array(low, dtype), np.array(high, dtype), dtype=dtype)


ZOO: dict[str, spaces.Space[Any]] = {
    "discrete": spaces.Discrete(4),
    "discrete one": spaces.Discrete(1),
    "discrete start": spaces.Discrete(3, start=-2),
    "discrete int32": spaces.Discrete(3, start=7, dtype=np.int32),
    "multi": spaces.MultiDiscrete([2, 5, 3]),
    "multi even": spaces.MultiDiscrete([3, 3]),
    "multi one": spaces.MultiDiscrete([1, 4]),
    "multi starts": spaces.MultiDiscrete([2, 3], start=[-1, 10]),
    "multi 2x3": spaces.MultiDiscrete(
        np.array([[2, 3, 4], [5, 2, 3]]), start=np.array([[0, -3, 7], [1, 1, 1]])
    ),
    "multi uint8": spaces.MultiDiscrete([4, 2], dtype=np.uint8, start=[251, 0]),
    "bits": spaces.MultiBinary(3),
    "bits 2x3": spaces.MultiBinary((2, 3)),
    "box": UNIT_BOX,
    "box uneven": box([-3.0, 0.0], [1.0, 5.0]),
    "box odd bounds": box([-0.1, 1e-3, -1e6], [0.3, 0.7, 1e6 + 0.1]),
    "box odd bounds float64": box([-0.1, 1e-3, -1e6], [0.3, 0.7, 1e6 + 0.1], np.float64),
    "box free": box([-INFINITE, 0.0, -INFINITE], [INFINITE, INFINITE, 3.0]),
    "box huge": box([-3.4028235e38, -1e38], [3.4028235e38, 1e38]),
    "box scalar": spaces.Box(-2.0, 7.0, ()),
    "box 2x2": box([[-1, 0], [3, -9]], [[1, 2], [3, 9]]),
    "box float16": spaces.Box(-INFINITE, INFINITE, (2,), np.float16),
}


@pytest.fixture(params=ZOO.values(), ids=ZOO)
def space(request) -> spaces.Space[Any]:
    return request.param


@pytest.mark.parametrize(
    ("space", "head", "distribution"),
    [
        (spaces.Discrete(4), CategoricalHead, Categorical),
        (spaces.MultiDiscrete([2, 3]), MultiCategoricalHead, MultiCategorical),
        (spaces.MultiBinary((2, 2)), BernoulliHead, Bernoulli),
        (UNIT_BOX, GaussianHead, DiagonalGaussian),
    ],
)
def test_action_space_chooses_the_head(space, head, distribution) -> None:
    chosen = policy_head(space)
    assert isinstance(chosen, head)
    assert isinstance(chosen(torch.zeros(2, 5)), distribution)


def test_deviations_start_where_they_are_told() -> None:
    assert policy_head(UNIT_BOX).log_std.tolist() == [-0.5] * 3
    with torch.no_grad():
        head = policy_head(UNIT_BOX, SquashedGaussianHead, gain=0.0)
        assert head(torch.randn(2, 5)).before.log_std.tolist() == [[-0.5] * 3] * 2


@pytest.mark.parametrize(
    ("kind", "space", "usual"),
    [
        (CategoricalHead, spaces.Discrete(4), CategoricalHead),
        (CategoricalHead, spaces.MultiDiscrete([2, 3]), MultiCategoricalHead),
        (CategoricalHead, spaces.MultiBinary(3), BernoulliHead),
        (GaussianHead, UNIT_BOX, GaussianHead),
        (SquashedGaussianHead, UNIT_BOX, SquashedGaussianHead),
        (DeterministicHead, UNIT_BOX, DeterministicHead),
    ],
)
def test_a_head_is_chosen(kind, space, usual) -> None:
    assert type(policy_head(space, kind)) is usual


@pytest.mark.parametrize(
    ("kind", "space", "line"),
    [
        (CategoricalHead, UNIT_BOX, "CategoricalHead does not fit .*; use policy_head=auto$"),
        (GaussianHead, spaces.Discrete(2), "GaussianHead .*; use policy_head=categorical$"),
        (SquashedGaussianHead, spaces.MultiBinary(2), "; use policy_head=categorical$"),
    ],
)
def test_a_head_for_other_actions_is_refused(kind, space, line: str) -> None:
    with pytest.raises(ValueError, match=f"^policy_head: .*{line}"):
        policy_head(space, kind)


@pytest.mark.parametrize("kind", [SquashedGaussianHead, DeterministicHead])
def test_squashing_needs_finite_bounds(kind) -> None:
    with pytest.raises(
        ValueError, match=r"bounds, which Box.* has not; use policy_head=gaussian, with"
    ):
        policy_head(box([-1.0, 0.0], [1.0, INFINITE]), kind)


@pytest.mark.parametrize("name", ["box uneven", "box odd bounds", "box scalar", "box 2x2"])
@pytest.mark.parametrize("kind", [SquashedGaussianHead, DeterministicHead])
def test_squashed_actions_reach_the_bounds_and_not_beyond(kind, name: str) -> None:
    space = ZOO[name]
    head, random = policy_head(space, kind, hidden_sizes=[]), np.random.default_rng(0)
    summary = 50.0 * torch.randn(200, 5, generator=torch.Generator().manual_seed(0))
    noise = head.noise(random, 200)
    actions = head.mirror()(summary.numpy(), noise)
    with torch.no_grad():
        for given in (noise, None):
            policy = head(summary)
            drawn = policy.mode() if given is None else policy.sample(torch.from_numpy(given))
            found = torch.from_numpy(head.mirror()(summary.numpy(), given))
            torch.testing.assert_close(found, drawn, rtol=0, atol=1e-5)
    assert np.abs(actions).max() == 1.0
    sent = head.to_environment(actions)
    assert all(space.contains(np.asarray(action)) for action in sent)
    np.testing.assert_array_equal(sent.min(0), space.low)
    np.testing.assert_array_equal(sent.max(0), space.high)
    assert space.contains(np.asarray(head.to_environment(head.uniform(random, 1))[0]))


@pytest.mark.parametrize(
    "space", [spaces.Text(3), spaces.Box(0, 3, (2,), np.int64), spaces.Dict(a=spaces.Discrete(2))]
)
def test_unknown_action_space_is_refused_by_name(space) -> None:
    with pytest.raises(ValueError, match="not supported; use Discrete, MultiDiscrete, MultiBinary"):
        policy_head(space)


def test_random_actions_lie_in_the_space(space) -> None:
    head, random = policy_head(space), np.random.default_rng(0)
    summary = random.standard_normal((200, 5), dtype=np.float32)
    actions = head.mirror()(summary, head.noise(random, 200))
    sent = head.to_environment(actions)
    assert sent.dtype == space.dtype
    assert sent.shape == (200, *space.shape)
    assert all(space.contains(np.asarray(action)) for action in sent)


def test_every_discrete_action_is_taken(space) -> None:
    if isinstance(space, spaces.Box):
        return
    head, random = policy_head(space, gain=0.01), np.random.default_rng(0)
    noise = head.noise(random, 2000)
    sent = head.to_environment(head.mirror()(np.zeros((2000, 5), np.float32), noise))
    reached = sent.reshape(2000, -1).astype(np.int64)
    batched = [np.ravel(space.sample()) for _ in range(2000)]
    for column, sampled in zip(reached.T, np.stack(batched).T, strict=True):
        assert set(column.tolist()) == set(sampled.tolist())


def test_the_policys_own_actions_are_flat_rows(space) -> None:
    head, random = policy_head(space), np.random.default_rng(0)
    with torch.no_grad():
        drawn = head(torch.zeros(7, 2, 5)).sample(
            torch.from_numpy(np.stack([head.noise(random, 2) for _ in range(7)]))
        )
    assert drawn.shape == (7, 2, *head.action_shape)
    assert drawn.dtype == head.action_dtype
    assert len(head.action_shape) == (0 if isinstance(space, spaces.Discrete) else 1)
    if head.action_dtype == torch.int64:
        assert drawn.min() >= 0
    distribution = head(torch.zeros(7, 2, 5))
    assert distribution.log_prob(drawn).shape == distribution.entropy().shape == (7, 2)


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


def test_noise_depends_on_the_generator_alone(space) -> None:
    head = policy_head(space)
    first, again = (head.noise(np.random.default_rng(3), 6) for _ in range(2))
    assert first.shape[0] == 6
    assert first.dtype == np.float32
    np.testing.assert_array_equal(first, again)


def test_sending_actions_leaves_them_alone(space) -> None:
    head, random = policy_head(space), np.random.default_rng(0)
    actions = head.mirror()(np.zeros((4, 5), np.float32), head.noise(random, 4))
    kept = actions.copy()
    sent = head.to_environment(actions)
    if not isinstance(space, spaces.Discrete):  # whose actions are numbers, not arrays
        sent += sent.dtype.type(1)  # as an environment may that works in place
    np.testing.assert_array_equal(actions, kept)


@pytest.mark.parametrize("start", [0, 5, -3])
def test_discrete_actions_count_from_start(start: int) -> None:
    sent = policy_head(spaces.Discrete(3, start=start)).to_environment(np.array([0, 1, 2]))
    assert sent.tolist() == [start, start + 1, start + 2]


def test_several_choices_count_from_their_starts_in_the_spaces_shape() -> None:
    sent = policy_head(ZOO["multi 2x3"]).to_environment(
        np.array([[0, 0, 0, 0, 0, 0], [1, 2, 3, 4, 1, 2]])
    )
    assert sent.tolist() == [[[0, -3, 7], [1, 1, 1]], [[1, -1, 10], [5, 2, 3]]]
    assert policy_head(ZOO["multi uint8"]).to_environment(np.array([[3, 1]])).tolist() == [[254, 1]]


def test_bits_get_the_spaces_shape() -> None:
    sent = policy_head(spaces.MultiBinary((2, 3))).to_environment(np.array([[0, 1, 1, 1, 0, 0]]))
    assert sent.tolist() == [[[0, 1, 1], [1, 0, 0]]]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_corners_of_an_uneven_box_are_reached_exactly(dtype) -> None:
    space = box([-3.0, 0.0, -0.1, 1e-3], [1.0, 5.0, 0.3, 0.7], dtype)
    head = policy_head(space)
    corners = head.to_environment(np.array([[-1] * 4, [1] * 4], np.float32))
    np.testing.assert_array_equal(corners, [space.low, space.high])
    assert head.to_environment(np.float32([[0, 0, 0, 0]]))[0, :2].tolist() == [-1, 2.5]
    assert head.to_environment(np.float32([[-1, 1, 1, -1]]))[0, :2].tolist() == [-3, 5]


def test_boxes_of_other_shapes_have_their_corners_too() -> None:
    for name in ("box scalar", "box 2x2"):
        space = ZOO[name]
        ends = np.ones((2, policy_head(space).action_shape[0]), np.float32)
        ends[0] *= -1
        sent = policy_head(space).to_environment(ends)
        np.testing.assert_array_equal(sent, [space.low, space.high])


def test_actions_beyond_the_bounds_are_cut_for_the_environment_only() -> None:
    space, actions = box([-3.0, 0.0], [1.0, 5.0]), np.array([[-7.0, 1.01]], np.float32)
    sent = policy_head(space).to_environment(actions)
    assert sent.tolist() == [[-3, 5]]
    assert actions.tolist() == [[-7.0, np.float32(1.01)]]


def test_dimensions_without_two_bounds_pass_through() -> None:
    space = box([-INFINITE, 0.0, -INFINITE, -2.0], [INFINITE, INFINITE, 3.0, 2.0])
    sent = policy_head(space).to_environment(
        np.array([[40.0, 7.0, -9.0, 0.5], [-40.0, -7.0, 9.0, -0.5]], np.float32)
    )
    # Unbounded, bounded below, bounded above, bounded: only the last one is scaled.
    assert sent.tolist() == [[40, 7, -9, 1], [-40, 0, 3, -1]]


def test_the_largest_number_is_no_bound() -> None:
    sent = policy_head(ZOO["box huge"]).to_environment(np.float32([[0.5, 0.5]]))
    assert sent.tolist() == [[0.5, np.float32(0.5e38)]]


def test_small_floats_are_not_left_for_infinity() -> None:
    sent = policy_head(ZOO["box float16"]).to_environment(np.float32([[1e6, -1e6]]))
    assert sent.tolist() == [[65504, -65504]]


def test_independent_choices_are_heads_of_their_own() -> None:
    head = policy_head(spaces.MultiDiscrete([2, 4, 3]), hidden_sizes=[]).double()
    summary = torch.randn(50, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    actions = torch.stack(
        [torch.arange(50) % 2, torch.arange(50) % 4, torch.arange(50) % 3], dim=-1
    )
    pieces = head.linear(summary).split([2, 4, 3], dim=-1)
    singles = [Categorical(logits) for logits in pieces]
    joint = head(summary)
    log_probs = sum(each.log_prob(actions[:, d]) for d, each in enumerate(singles))
    torch.testing.assert_close(joint.log_prob(actions), log_probs, rtol=1e-14, atol=1e-14)
    entropies = sum(each.entropy() for each in singles)
    torch.testing.assert_close(joint.entropy(), entropies, rtol=1e-14, atol=1e-14)
    assert torch.equal(joint.mode(), torch.stack([each.mode() for each in singles], dim=-1))


def test_padding_has_no_part_in_gradients() -> None:
    head = policy_head(spaces.MultiDiscrete([2, 4, 3]), hidden_sizes=[]).double()
    summary = torch.randn(9, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    actions, parameters = torch.ones(9, 3, dtype=torch.int64), list(head.parameters())
    joint = head(summary)
    found = torch.autograd.grad((joint.log_prob(actions) + joint.entropy()).sum(), parameters)
    singles = [Categorical(logits) for logits in head.linear(summary).split([2, 4, 3], dim=-1)]
    objective = sum((each.log_prob(actions[:, 0]) + each.entropy()).sum() for each in singles)
    for ours, expected in zip(found, torch.autograd.grad(objective, parameters), strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-12, atol=1e-13)


def frequencies(head: Any, draws: int) -> np.ndarray:
    """Actions drawn from the distribution of the output layer's bias alone, `[draws, *A]`."""
    with torch.no_grad():
        head.output.weight.zero_()
        head.output.bias.copy_(torch.linspace(-1.5, 1.0, head.output.out_features))
    noise = head.noise(np.random.default_rng(0), draws)
    drawn: np.ndarray = head.mirror()(np.zeros((draws, 5), np.float32), noise)
    return drawn


def chi_squared(counts: np.ndarray, probabilities: np.ndarray) -> float:
    expected = counts.sum() * probabilities
    return float(((counts - expected) ** 2 / expected).sum())


def test_discrete_actions_have_their_frequencies() -> None:
    head = policy_head(spaces.Discrete(4), hidden_sizes=[])
    drawn = frequencies(head, 100_000)
    probabilities = head.output.bias.detach().softmax(0).numpy()
    # 0.999 quantile, 3 degrees of freedom
    assert chi_squared(np.bincount(drawn, minlength=4), probabilities) < 16.3


def test_joint_choices_have_their_frequencies() -> None:
    head = policy_head(spaces.MultiDiscrete([2, 3]), hidden_sizes=[])
    drawn = frequencies(head, 100_000)
    counts = np.bincount(drawn[:, 0] * 3 + drawn[:, 1], minlength=6)
    first, second = head.output.bias.detach().split([2, 3])
    probabilities = torch.outer(first.softmax(0), second.softmax(0)).flatten().numpy()
    assert chi_squared(counts, probabilities) < 20.5  # 0.999 quantile, 5 degrees of freedom


def test_joint_bits_have_their_frequencies() -> None:
    head = policy_head(spaces.MultiBinary(3), hidden_sizes=[])
    drawn = frequencies(head, 100_000)
    counts = np.bincount(drawn @ [4, 2, 1], minlength=8)
    ones = head.output.bias.detach().sigmoid().numpy()
    patterns = (np.arange(8)[:, None] >> [2, 1, 0]) & 1
    probabilities = np.where(patterns, ones, 1 - ones).prod(-1)
    assert chi_squared(counts, probabilities) < 24.4  # 0.999 quantile, 7 degrees of freedom


def test_discrete_noise_is_finite_at_the_ends_of_its_range() -> None:
    class Ends(np.random.Generator):
        def standard_exponential(self, size, dtype):
            return np.resize(np.array([0.0, 1e-45, 80.0], dtype), size)

    for space in (spaces.Discrete(3), spaces.MultiDiscrete([2, 3])):
        assert np.isfinite(policy_head(space).noise(Ends(np.random.PCG64()), 5)).all()


def test_head_without_numpy_form_has_no_mirror(space) -> None:
    assert policy_head(space, activation="gelu").mirror() is None
    assert policy_head(space, hidden_sizes=[], activation="gelu").mirror() is not None


def test_layouts_known_from_the_space_are_not_saved() -> None:
    names = policy_head(spaces.MultiDiscrete([2, 3]), hidden_sizes=[]).state_dict().keys()
    assert set(names) == {"output.weight", "output.bias"}


@pytest.mark.parametrize(
    ("space", "action", "encoded"),
    [
        (spaces.Discrete(4, start=3), 2, [0, 0, 1, 0]),
        (spaces.MultiDiscrete([3, 2]), [2, 0], [0, 0, 1, 1, 0]),
        (spaces.MultiDiscrete([2, 2]), [1, 0], [0, 1, 1, 0]),
        (spaces.MultiBinary((2, 1)), [0, 1], [0, 1]),
        (UNIT_BOX, [0.5, -3.0, 1.0], [0.5, -3.0, 1.0]),
    ],
)
def test_actions_as_numbers(space, action, encoded) -> None:
    head = policy_head(space)
    actions = torch.tensor(action).expand(2, 5, *head.action_shape)
    assert head.encoded_size == len(encoded)
    expected = torch.tensor(encoded, dtype=torch.float32).expand(2, 5, -1)
    torch.testing.assert_close(head.encode(actions), expected, rtol=0, atol=0)


def test_every_space_has_encoded_actions(space) -> None:
    head = policy_head(space)
    with torch.no_grad():
        actions = head(torch.randn(7, 5)).mode()
    encoded = head.encode(actions)
    assert encoded.shape == (7, head.encoded_size)
    assert encoded.dtype == torch.float32
