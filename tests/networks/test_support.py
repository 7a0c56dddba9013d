"""Supports that are learnt from returns: when they grow, and what growing keeps."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from networks.heads.histograms import Support, symexp, symlog
from networks.heads.values import StateLayers
from tests.building import build


def support(limits: Any = "auto", *, bins: int = 101, symlog: bool = False, margin: float = 0.0):
    return Support(bins=bins, limits=limits, is_symlog=symlog, margin=margin)


def layer(bins: int = 101) -> StateLayers:
    return build(
        StateLayers, 4, bins, hidden_sizes=[], activation="tanh", initialization="default", gain=1.0
    )


def see(made: Support, values: list[float], layers: StateLayers | None = None) -> dict[str, Tensor]:
    returns = torch.tensor(values)
    valid = torch.ones(len(values), dtype=torch.bool)
    return made.observe(returns, valid, (layers or layer()).project)


def test_symlog_and_its_inverse() -> None:
    values = torch.tensor([-1e6, -1.0, 0.0, 1e-4, 3.0])
    torch.testing.assert_close(symexp(symlog(values)), values)
    assert symlog(torch.tensor([-(torch.e - 1)])).item() == pytest.approx(-1)


def test_limits_begin_at_twice_the_largest_return_and_double_when_it_leaves_them() -> None:
    made = support()
    limits = []
    for values in ([0.0, 0.0], [-3.0, 2.0], [6.0], [-6.1], [100.0], [1.0]):
        see(made, values)
        limits.append(made.limits.tolist())
    # 0: nothing known; 3 -> 6; 6 fits; 6.1 -> 12; 100 -> 12 x 2^4; never back.
    expected = [1, 6, 6, 12, 192, 192]
    assert limits == [[-limit, limit] for limit in expected]
    assert made.centres[[0, 50, 100]].tolist() == [-192, 0, 192]


def test_a_margin_keeps_targets_off_the_limits() -> None:
    made = support(bins=101, margin=5.0)
    see(made, [1.0])
    for value, limit in ((1.79, 2.0), (1.81, 4.0)):  # 5 of 50 bins are a tenth of the limit
        see(made, [value])
        assert made.limits[1].item() == limit


def test_a_margin_of_most_bins_leaves_room() -> None:
    made = support(bins=5, margin=100.0)
    see(made, [1.0])
    see(made, [1.0])
    assert made.limits[1].item() == 2.0


def test_what_is_not_valid_or_not_finite_moves_nothing() -> None:
    made = support()
    returns = torch.tensor([1.0, 50.0, torch.nan, torch.inf])
    metrics = made.observe(returns, torch.tensor([True, False, True, True]), layer().project)
    assert made.limits.tolist() == [-2.0, 2.0]
    assert metrics["value/outside_support"].item() == pytest.approx(2 / 3)
    assert metrics["value/support"].item() == 2.0
    see(made, [3e38])  # stops short of what cannot be written
    assert made.limits.isfinite().all()


def test_given_limits_stay_and_what_leaves_them_is_counted() -> None:
    made = support([-1.0, 4.0])
    metrics = see(made, [-1.0, 4.0, 5.0, -1.5])
    assert {name: value.item() for name, value in metrics.items()} == {"value/outside_support": 0.5}
    assert made.limits.tolist() == [-1.0, 4.0]
    assert made.clamp(torch.tensor([-7.0, 0.5, 9.0])).tolist() == [-1.0, 0.5, 4.0]


def values_of(made: Support, output: nn.Linear, inputs: Tensor) -> Tensor:
    with torch.no_grad():
        return made.mean(output(inputs))


def test_doubling_by_hand() -> None:
    """Five bins from -2 to 2, of width 1, become five from -4 to 4, of width 2.

    Each of the three new ones at -2, 0 and 2 covers half of each old neighbour. Those at -2 and 2
    lie on the old limits: what they would have got from beyond is missing, a quarter of the whole.
    """
    made, layers = support(bins=5), layer(bins=5)
    output = layers.output
    see(made, [1.0], layers)
    old, bias = output.weight.detach().clone(), output.bias.detach().clone()
    see(made, [3.0], layers)
    torch.testing.assert_close(output.weight[2], old[1] / 4 + old[2] / 2 + old[3] / 4)
    torch.testing.assert_close(output.weight[1], old[0] * 2 / 3 + old[1] / 3)
    missing = torch.tensor(0.75).log()
    torch.testing.assert_close(output.bias[1], bias[0] * 2 / 3 + bias[1] / 3 + missing)
    torch.testing.assert_close(output.weight[0], old[0])  # the end that is nearest ...
    torch.testing.assert_close(output.bias[0], bias[0] - 8)  # ... and e^-8 times as likely


@pytest.mark.parametrize("is_symlog", [False, True])
@pytest.mark.parametrize(("bins", "doublings"), [(101, 1), (101, 3), (50, 1)])
@pytest.mark.parametrize("deviation", [0.75, 2.0, 8.0])
def test_growing_keeps_values(is_symlog: bool, bins: int, doublings: int, deviation: float) -> None:
    """To half of a new bin, of Gaussians from less than a bin wide to a sixth of the support."""
    made, layers = support(bins=bins, symlog=is_symlog), layer(bins)
    output = layers.output
    see(made, [50.0], layers)
    inputs = torch.eye(4)
    steps = torch.arange(bins, dtype=torch.float32)
    with torch.no_grad():
        for row, middle in enumerate((0.3, 0.41, 0.53, 0.7)):
            log_density = -(steps - middle * bins).square() / (2 * deviation**2)
            output.weight[:, row] = log_density.clamp(min=-12)  # as far as training gets
        output.bias.normal_(0, 0.1)
    before, limit = values_of(made, output, inputs), made.limits[1].item()
    see(made, [limit * (2**doublings - 0.5)], layers)
    assert made.limits[1].item() == limit * 2**doublings
    after = values_of(made, output, inputs)
    places = torch.searchsorted(made.centres, before)
    widths = made.centres[places] - made.centres[places - 1]
    assert (after - before).abs().div(widths).max() < 0.5


def test_a_new_head_stays_at_zero_when_its_support_moves() -> None:
    made, layers = support(), layer()
    output = layers.output
    nn.init.zeros_(output.weight)
    nn.init.zeros_(output.bias)
    for value in (0.0, 1e-3, 1.0, 1e4):
        see(made, [value], layers)
        assert values_of(made, output, torch.randn(3, 4)).abs().max() < 1e-5 * made.limits[1]


def test_growing_happens_in_place() -> None:
    """Optimizers pack parameters into storage of their own, compiled steps hold on to buffers."""
    made, layers = support(), layer()
    output = layers.output
    places = [t.data_ptr() for t in (output.weight, output.bias, made.limits, made.centres)]
    see(made, [1.0], layers)
    see(made, [100.0], layers)
    assert [t.data_ptr() for t in (output.weight, output.bias, made.limits, made.centres)] == places


def test_what_was_learnt_travels_in_the_state() -> None:
    made, layers = support(), layer()
    see(made, [5.0], layers)
    state, fresh = copy.deepcopy(made.state_dict()), support()
    fresh.load_state_dict(state)
    see(fresh, [11.0], layers)
    assert fresh.limits.tolist() == [-20.0, 20.0]  # grown from 10, not begun at 22


def test_weights_of_other_limits_are_refused() -> None:
    state = support([0.0, 10.0]).state_dict()
    with pytest.raises(ValueError, match=r"value_head\.support: expected \[0\.0, 10\.0\].*auto"):
        support([0.0, 1.0]).load_state_dict(state)
    learnt = support()
    learnt.load_state_dict(state)
    see(learnt, [25.0])
    assert learnt.limits.tolist() == [-40.0, 40.0]
