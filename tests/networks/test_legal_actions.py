"""Distributions and heads with a mask: only legal actions, by brute force over all of them."""

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces

from conf.schema.heads import GaussianHeadOptions
from networks.heads.distributions import Categorical, MultiCategorical
from networks.heads.policy import CategoricalHead, policy_head_class
from tests.networks.test_greedy import greedy
from tests.networks.test_policy_heads import LAYERS, UNIT_BOX, policy_head

ROWS = 6
MULTI = spaces.MultiDiscrete([2, 3])
OPEN = "10011", "01111", "11001", "11111", "10100", "01010"
MASK = torch.tensor([[mark == "1" for mark in row] for row in OPEN])
"""Of five actions, or of two options and three."""


def joint(space: spaces.Space[Any]) -> Any:
    return CategoricalHead(space, 5, GaussianHeadOptions(**LAYERS, initial_log_std=0.0))


HEADS: dict[str, Any] = {
    "categorical": lambda: policy_head(spaces.Discrete(5, start=2)),
    "joint": lambda: joint(MULTI),
    "multi": lambda: policy_head(MULTI),
    "greedy": lambda: greedy(spaces.Discrete(5), epsilon=0.5),
    "greedy c51": lambda: greedy(spaces.Discrete(5), kind="c51", epsilon=0.5),
    "greedy noisy": lambda: greedy(MULTI, noisy=True, dueling=True, epsilon=0.5),
}


def is_legal(head: Any, sent: np.ndarray) -> np.ndarray:
    """Whether each of the environment's actions `[B, *A]` is allowed by `MASK`."""
    chosen = sent.reshape(ROWS, -1) - np.ravel(head.space.start)
    if chosen.shape[1] == 1:
        return MASK.numpy()[np.arange(ROWS), chosen[:, 0]]
    return np.array([m[i] and m[2 + j] for m, (i, j) in zip(MASK.numpy(), chosen, strict=True)])


@pytest.mark.parametrize("name", HEADS)
def test_acting_takes_legal_actions_all_of_them_in_torch_and_in_numpy(name: str) -> None:
    head, generator = HEADS[name](), np.random.default_rng(0)
    legal, summary = head.legal(MASK).numpy(), 3 * torch.randn(ROWS, 5)
    mirror, taken = head.mirror(), [set[Any]() for _ in range(ROWS)]
    for explore in [True] * 150 + [False]:
        noise = head.noise(generator, ROWS) if explore else None
        noise = head.mask_noise(noise, legal, generator)
        with torch.no_grad():
            actions = head(summary).sample(torch.from_numpy(noise)).numpy()
        np.testing.assert_array_equal(mirror(summary.numpy(), noise), actions)
        assert is_legal(head, head.to_environment(actions)).all()
        for row, action in zip(taken, actions, strict=True):
            row.add(tuple(np.ravel(action)))
    with torch.no_grad():  # at last the mode
        policy = head(summary).mask_illegal(torch.from_numpy(legal))
    np.testing.assert_array_equal(policy.mode().numpy(), actions)
    if "greedy" in name:  # half of the actions are uniformly random
        assert [len(row) for row in taken] == legal.sum(1).tolist()


def test_random_actions_are_uniform_among_the_legal_ones() -> None:
    head, generator = greedy(spaces.Discrete(5), epsilon=1.0), np.random.default_rng(0)
    legal, counts = MASK.numpy(), np.zeros((ROWS, 5))
    for _ in range(1000):
        noise = head.mask_noise(head.noise(generator, ROWS), legal, generator)
        counts[np.arange(ROWS), head.mirror()(np.zeros((ROWS, 5), np.float32), noise)] += 1
    expected = legal / legal.sum(1, keepdims=True)
    np.testing.assert_allclose(counts / 1000, expected, atol=0.06)
    assert (counts[~legal] == 0).all()


def test_log_probabilities_and_entropy_are_those_of_a_softmax_over_legal_actions() -> None:
    logits = torch.tensor([[1.0, 2.0, 30.0, -1.0]], requires_grad=True)
    policy = Categorical(logits).mask_illegal(torch.tensor([[True, True, False, True]]))
    weights = [math.exp(1.0), math.exp(2.0), math.exp(-1.0)]
    p = [weight / sum(weights) for weight in weights]
    for action, probability in zip((0, 1, 3), p, strict=True):
        found = policy.log_prob(torch.tensor([action])).item()
        assert found == pytest.approx(math.log(probability), abs=1e-6)
    expected = -sum(each * math.log(each) for each in p)
    assert policy.entropy().item() == pytest.approx(expected, abs=1e-6)
    (gradient,) = torch.autograd.grad(policy.log_prob(torch.tensor([0])) + policy.entropy(), logits)
    assert gradient[0, 2] == 0
    assert gradient.isfinite().all()
    assert policy.log_prob(torch.tensor([2])) < -1e29


def test_a_single_legal_action_is_certain() -> None:
    only = torch.tensor([[False, True, False]])
    policy = Categorical(torch.randn(1, 3)).mask_illegal(only)
    assert policy.log_prob(torch.tensor([1])).item() == policy.entropy().item() == 0.0


def test_choices_are_independent_given_their_masks() -> None:
    head = policy_head(MULTI)
    policy = head(torch.randn(ROWS, 5)).mask_illegal(head.legal(MASK))
    assert isinstance(policy, MultiCategorical)
    pairs = torch.tensor([*itertools.product(range(2), range(3))])
    probabilities = torch.stack(
        [policy.log_prob(pair.expand(ROWS, 2)).exp() for pair in pairs], dim=-1
    )
    torch.testing.assert_close(probabilities.sum(-1), torch.ones(ROWS))
    assert torch.equal(probabilities > 0, joint(MULTI).legal(MASK))
    entropy = -(probabilities * probabilities.clamp(min=1e-30).log()).sum(-1)
    torch.testing.assert_close(policy.entropy(), entropy)


@pytest.mark.parametrize("space", [UNIT_BOX, spaces.MultiBinary(3)])
def test_other_heads_say_that_they_take_no_mask(space: spaces.Space[Any]) -> None:
    assert policy_head_class(None, space) is not CategoricalHead
    with pytest.raises(ValueError, match=r"env\.action_mask=true: .* use env\.action_mask=false"):
        policy_head(space).legal(MASK)
