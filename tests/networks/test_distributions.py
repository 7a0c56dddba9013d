"""Our distributions against `torch.distributions`, their samples against their probabilities."""

import math

import pytest
import torch
from torch import distributions

from networks.heads.distributions import (
    IMPOSSIBLE,
    Bernoulli,
    Categorical,
    DiagonalGaussian,
    MultiCategorical,
    SquashedGaussian,
)

LOGITS = torch.tensor([[0.0, 1.0, -2.0, 0.5], [3.0, 3.0, 3.0, 3.0], [-50.0, 0.0, 50.0, 0.0]])
MEAN = torch.tensor([[0.5, -2.0, 0.0], [3.0, 0.1, -0.3]])
LOG_STD = torch.tensor([0.0, -1.0, 0.7])


def test_categorical_equals_torch() -> None:
    ours, reference = Categorical(LOGITS), distributions.Categorical(logits=LOGITS)
    for action in range(4):
        actions = torch.full((3,), action)
        torch.testing.assert_close(ours.log_prob(actions), reference.log_prob(actions))
    torch.testing.assert_close(ours.entropy(), reference.entropy())
    assert ours.mode().tolist() == [1, 0, 2]


def test_gaussian_equals_torch_summed_over_dimensions() -> None:
    ours = DiagonalGaussian(MEAN, LOG_STD)
    reference = distributions.Independent(distributions.Normal(MEAN, LOG_STD.exp()), 1)
    actions = torch.tensor([[0.0, 1.0, 2.0], [3.0, 0.1, -0.3]])
    torch.testing.assert_close(ours.log_prob(actions), reference.log_prob(actions))
    torch.testing.assert_close(ours.entropy(), reference.entropy())
    assert torch.equal(ours.mode(), MEAN)


def squashed(log_std: float = -0.3) -> SquashedGaussian:
    mean = torch.tensor([[0.5, -2.0, 0.0], [3.0, 0.1, -0.3]], dtype=torch.float64)
    return SquashedGaussian(mean, torch.full_like(mean, log_std))


def test_squashed_gaussian_equals_torch() -> None:
    ours = squashed()
    normal = distributions.Normal(ours.before.mean, ours.before.log_std.exp())
    transform = distributions.TanhTransform()
    reference = distributions.Independent(
        distributions.TransformedDistribution(normal, [transform]), 1
    )
    noise = torch.randn(2, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    actions, log_probs = ours.sample_with_log_prob(noise)
    assert torch.equal(actions, ours.sample(noise))
    torch.testing.assert_close(log_probs, ours.log_prob(actions), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(log_probs, reference.log_prob(actions), rtol=1e-9, atol=1e-9)
    assert torch.equal(ours.mode(), ours.before.mean.tanh())


def test_squashed_log_probs_are_finite_at_the_bounds() -> None:
    mean = torch.tensor([[30.0]], requires_grad=True)
    policy = SquashedGaussian(mean, torch.zeros(1, 1))
    actions, log_probs = policy.sample_with_log_prob(torch.zeros(1, 1))
    assert actions.item() == 1.0
    # log N(0) - 2 (log 2 - u - log(1 + exp(-2u))) at u = 30
    expected = -0.5 * math.log(2 * math.pi) - 2 * (math.log(2) - 30)
    assert log_probs.item() == pytest.approx(expected, rel=1e-6)
    policy.log_prob(torch.tensor([[1.0]])).sum().backward()
    assert mean.grad is not None
    assert mean.grad.isfinite().all()


@pytest.mark.parametrize("log_std", [-3.0, -1.0, 0.0, 0.7])
def test_squashed_entropy_is_the_integral(log_std: float) -> None:
    policy = squashed(log_std)
    inner = torch.linspace(-40.0, 40.0, 800_001, dtype=torch.float64)[:, None, None]
    width = 80.0 / 800_000
    spread = policy.before.log_std.exp()
    points = policy.before.mean + inner * spread / 4
    logs = (
        -0.5 * ((points - policy.before.mean) / spread).square()
        - policy.before.log_std
        - 0.5 * math.log(2 * math.pi)
    )
    slopes = 2 * (math.log(2) - points - torch.nn.functional.softplus(-2 * points))
    expected = -(logs.exp() * (logs - slopes)).sum(0) * width * spread / 4
    torch.testing.assert_close(policy.entropy(), expected.sum(-1), rtol=0, atol=0.02)


def test_choices_equal_torch_summed() -> None:
    ours = MultiCategorical(LOGITS[None].expand(5, 3, 4).double())
    reference = distributions.Categorical(logits=LOGITS.double())
    for actions in (torch.tensor([0, 1, 2]), torch.tensor([3, 0, 3])):
        expected = reference.log_prob(actions).sum()
        torch.testing.assert_close(ours.log_prob(actions.expand(5, 3)), expected.expand(5))
    torch.testing.assert_close(ours.entropy(), reference.entropy().sum().expand(5))
    assert ours.mode().tolist() == [[1, 0, 2]] * 5


def test_bits_equal_torch_summed() -> None:
    logits = LOGITS.double()
    ours, reference = Bernoulli(logits), distributions.Bernoulli(logits=logits)
    for actions in (torch.zeros(3, 4), torch.ones(3, 4), torch.eye(4)[:3]):
        expected = reference.log_prob(actions.double()).sum(-1)
        torch.testing.assert_close(ours.log_prob(actions.long()), expected, rtol=1e-14, atol=1e-14)
    torch.testing.assert_close(ours.entropy(), reference.entropy().sum(-1), rtol=1e-12, atol=1e-14)
    assert ours.mode().tolist() == [[0, 1, 0, 1], [1, 1, 1, 1], [0, 0, 1, 0]]


def test_two_bits_by_hand() -> None:
    ours = Bernoulli(torch.tensor([[3.0, 1.0]]).log())  # probabilities 3/4 and 1/2
    # log 3/4 + log 1/2
    assert ours.log_prob(torch.tensor([[1, 0]])).item() == pytest.approx(-0.980829, abs=1e-6)
    # -(3/4 log 3/4 + 1/4 log 1/4) + log 2
    assert ours.entropy().item() == pytest.approx(1.255482, abs=1e-6)


def test_one_standard_normal_by_hand() -> None:
    ours = DiagonalGaussian(torch.zeros(1, 1), torch.zeros(1))
    # log N(1; 0, 1) = -1/2 - log(2 pi) / 2 = -0.5 - 0.918939
    assert ours.log_prob(torch.ones(1, 1)).item() == pytest.approx(-1.418939, abs=1e-6)
    # (1 + log 2 pi) / 2
    assert ours.entropy().item() == pytest.approx(1.418939, abs=1e-6)


def test_leading_shapes_are_kept() -> None:
    logits = LOGITS.view(1, 3, 4).expand(5, 3, 4)
    categorical = Categorical(logits)
    assert categorical.log_prob(torch.zeros(5, 3, dtype=torch.int64)).shape == (5, 3)
    assert categorical.entropy().shape == categorical.mode().shape == (5, 3)
    assert categorical.sample(torch.zeros(5, 3, 4)).shape == (5, 3)
    gaussian = DiagonalGaussian(MEAN.expand(5, 2, 3), LOG_STD)
    assert gaussian.log_prob(torch.zeros(5, 2, 3)).shape == gaussian.entropy().shape == (5, 2)


def test_gradients_of_log_probs_equal_torch() -> None:
    actions = torch.tensor([2, 0, 2])
    logits = LOGITS.clone().requires_grad_()
    (ours,) = torch.autograd.grad(Categorical(logits).log_prob(actions).sum(), logits)
    reference = distributions.Categorical(logits=logits).log_prob(actions).sum()
    torch.testing.assert_close(ours, torch.autograd.grad(reference, logits)[0])

    bits = torch.tensor([[0, 1, 1, 0]] * 3)
    for ours, reference in [
        (
            Bernoulli(logits).log_prob(bits),
            distributions.Bernoulli(logits=logits).log_prob(bits.float()),
        ),
        (Bernoulli(logits).entropy(), distributions.Bernoulli(logits=logits).entropy()),
    ]:
        (found,) = torch.autograd.grad(ours.sum(), logits)
        torch.testing.assert_close(found, torch.autograd.grad(reference.sum(), logits)[0])

    log_std, drawn = LOG_STD.clone().requires_grad_(), torch.tensor([[0.0, 1.0, 2.0]] * 2)
    (ours,) = torch.autograd.grad(DiagonalGaussian(MEAN, log_std).log_prob(drawn).sum(), log_std)
    reference = distributions.Normal(MEAN, log_std.exp()).log_prob(drawn).sum()
    torch.testing.assert_close(ours, torch.autograd.grad(reference, log_std)[0])


def test_categorical_sample_takes_the_largest_perturbed_log_probability() -> None:
    halves_and_quarters = Categorical(torch.tensor([0.5, 0.25, 0.25]).log())
    # log 2 = 0.69 is what action 0 is ahead.
    for noise, action in [([0, 0, 0], 0), ([0, 0.6, 0], 0), ([0, 0, 0.8], 2), ([-5, 0, -1], 1)]:
        assert halves_and_quarters.sample(torch.tensor(noise, dtype=torch.float32)).item() == action


def test_the_most_probable_action_is_that_of_the_largest_logit() -> None:
    logits = torch.tensor([3e-9, -2e-8, 1e-8])  # as of a layer whose units are all 0
    assert Categorical(logits).log_probabilities.unique().numel() == 1
    assert Categorical(logits).mode() == 2  # as numpy's argmax, by which policies act
    assert Categorical(logits).mask_illegal(torch.tensor([True, True, False])).mode() == 0


def test_bits_are_set_where_the_perturbed_logit_is_positive() -> None:
    bits = Bernoulli(torch.tensor([[0.5, -0.5, 0.0]]))
    for noise, expected in [([0, 0, 0], [1, 0, 0]), ([-0.6, 0.6, 0.1], [0, 1, 1])]:
        assert bits.sample(torch.tensor([noise], dtype=torch.float32)).tolist() == [expected]


def test_padding_changes_nothing() -> None:
    logits = torch.tensor([[0.5, -1.0], [2.0, 2.0]], dtype=torch.float64, requires_grad=True)
    padding = torch.full((2, 3), IMPOSSIBLE, dtype=torch.float64)
    padded = MultiCategorical(torch.cat([logits, padding], dim=-1))
    plain, actions = MultiCategorical(logits), torch.tensor([1, 0])
    objectives = [(each.log_prob(actions), each.entropy()) for each in (padded, plain)]
    assert all(map(torch.equal, *objectives))
    found, expected = (torch.autograd.grad(p + e, logits)[0] for p, e in objectives)
    torch.testing.assert_close(found, expected, rtol=1e-14, atol=1e-15)
    noise = torch.full((2, 5), 90.0, dtype=torch.float64)  # more than any Gumbel draw
    noise[:, 0] = -5.0
    assert padded.sample(noise).tolist() == [1, 1]


def test_gaussian_samples_have_their_moments() -> None:
    draws = 100_000
    noise = torch.randn(draws, 3, generator=torch.Generator().manual_seed(0))
    samples = DiagonalGaussian(MEAN[:1].expand(draws, 3), LOG_STD).sample(noise)
    tolerance = 4 * LOG_STD.exp() / math.sqrt(draws)
    assert ((samples.mean(0) - MEAN[0]).abs() < tolerance).all()
    assert ((samples.std(0) - LOG_STD.exp()).abs() < tolerance).all()


def test_impossible_actions_leave_everything_finite() -> None:
    distribution = Categorical(torch.tensor([[1e4, -1e4, 0.0]]))
    assert distribution.entropy().item() == 0
    assert distribution.log_prob(torch.tensor([1])).item() == -2e4
    assert distribution.sample(torch.tensor([[-3.0, 50.0, 50.0]])).item() == 0


def test_certain_bits_leave_everything_finite() -> None:
    logits = torch.tensor([[1e4, -1e4, 200.0]], requires_grad=True)
    distribution = Bernoulli(logits)
    assert distribution.entropy().item() == 0
    assert distribution.log_prob(torch.tensor([[0, 1, 1]])).item() == -2e4
    (gradient,) = torch.autograd.grad(distribution.entropy().sum(), logits)
    assert gradient.isfinite().all()


def test_entropy_has_a_gradient_where_an_action_is_impossible() -> None:
    logits = torch.tensor([[200.0, -200.0]], requires_grad=True)
    (gradient,) = torch.autograd.grad(Categorical(logits).entropy().sum(), logits)
    assert gradient.isfinite().all()
