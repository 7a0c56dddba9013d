"""Our update rules against `torch.optim`, and what the optimizer around them promises."""

import math
from dataclasses import fields, replace
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from agents.learning.optimizer import Group, Optimizer
from agents.learning.schedules import schedule
from agents.learning.update_rules import Adam, RMSpropTF, TorchRule, UpdateRule
from conf.composing.command_line import load
from conf.schema.registry import OptimizerOptions


class HandWritten(torch.optim.Optimizer):
    """TensorFlow's RMSprop, number by number: `ms = a ms + (1 - a) g^2`, `p -= lr g / sqrt(ms+e)`.

    It starts with ms = 1.
    """

    def __init__(self, parameters, lr: float, alpha: float, eps: float, weight_decay: float = 0):
        super().__init__(
            parameters, {"lr": lr, "alpha": alpha, "eps": eps, "weight_decay": weight_decay}
        )
        self.squares: dict[tuple[int, int], float] = {}

    def step(self, closure=None) -> None:
        (group,) = self.param_groups
        alpha = group["alpha"]
        for number, parameter in enumerate(group["params"]):
            values, slopes = parameter.data.view(-1), parameter.grad.view(-1).tolist()
            for index, slope in enumerate(slopes):
                slope += group["weight_decay"] * values[index].item()
                before = self.squares.get((number, index), 1.0)
                square = alpha * before + (1 - alpha) * slope * slope
                self.squares[number, index] = square
                values[index] -= group["lr"] * slope / math.sqrt(square + group["eps"])


LEARNING_RATE = 0.01
ADAM = {"betas": (0.9, 0.999), "eps": 1e-5}
RULES: dict[str, tuple[Any, dict[str, Any], Any]] = {
    "adam": (partial(Adam, decoupled=False), ADAM, torch.optim.Adam),
    "adamw": (partial(Adam, decoupled=True), ADAM, torch.optim.AdamW),
    **{
        name: (partial(TorchRule, factory=partial(kind, **options)), {}, partial(kind, **options))
        for name, kind, options in (
            ("radam", torch.optim.RAdam, {"eps": 1e-8}),
            ("rmsprop_centered", torch.optim.RMSprop, {"alpha": 0.9, "centered": True}),
            ("sgd", torch.optim.SGD, {}),
            ("sgd_nesterov", torch.optim.SGD, {"momentum": 0.8, "nesterov": True}),
            ("nadam", torch.optim.NAdam, {}),
        )
    },
    "rmsprop_tf": (RMSpropTF, {"alpha": 0.9, "eps": 1e-2}, HandWritten),
}


def gradients(steps: int, size: int = 6) -> Tensor:
    return torch.randn(steps, size, generator=torch.Generator().manual_seed(0))


def make_rule(name: str, parameters: Tensor, weight_decay: float = 0.0) -> UpdateRule:
    build, options, _ = RULES[name]
    return build(parameters, weight_decay=weight_decay, **options)


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
@pytest.mark.parametrize("name", RULES)
def test_rule_equals_torch_over_twenty_steps(name: str, weight_decay: float) -> None:
    _, options, reference_class = RULES[name]
    parameters = torch.linspace(-1, 1, 6)
    reference = nn.Parameter(parameters.clone())
    optimizer = reference_class([reference], lr=1.0, weight_decay=weight_decay, **options)
    rule = make_rule(name, parameters, weight_decay)
    for step, gradient in enumerate(gradients(20)):
        rate = LEARNING_RATE * (1 - step / 40)  # schedules move it
        optimizer.param_groups[0]["lr"] = rate
        reference.grad = gradient.clone()
        optimizer.step()
        rule.update(parameters, gradient, torch.tensor(rate), torch.tensor(1.0))
        torch.testing.assert_close(parameters, reference.detach(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", RULES)
def test_weight_zero_changes_nothing_at_any_time(name: str) -> None:
    """Parameters, moments and the count of steps: the rule goes on as if it had not been called."""
    with_gaps, without = torch.linspace(-1, 1, 6), torch.linspace(-1, 1, 6)
    gapped, plain = make_rule(name, with_gaps, 0.1), make_rule(name, without, 0.1)
    rate, skipped = torch.tensor(LEARNING_RATE), torch.tensor(0.0)
    for gradient in gradients(5):
        before = [tensor.clone() for tensor in (with_gaps, *gapped.buffers())]
        gapped.update(with_gaps, torch.full((6,), 1e3), rate, skipped)
        for tensor, kept in zip((with_gaps, *gapped.buffers()), before, strict=True):
            assert torch.equal(tensor, kept)
        for rule, parameters in ((gapped, with_gaps), (plain, without)):
            rule.update(parameters, gradient.clone(), rate, torch.tensor(1.0))
        assert torch.equal(with_gaps, without)


def build(
    parts: dict[str, list[nn.Parameter]],
    *,
    name: str = "sgd",
    max_grad_norm: float = math.inf,
    weight_decay: float = 0.0,
    groups: dict[str, dict[str, Any]] | None = None,
) -> Optimizer:
    default = Group(schedule("linear", LEARNING_RATE, 0.0), weight_decay, frozen_until=0)
    return Optimizer(
        parts,
        rule=lambda parameters, decay: make_rule(name, parameters, decay),
        default=default,
        groups={part: replace(default, **own) for part, own in (groups or {}).items()},
        max_grad_norm=max_grad_norm,
    )


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))


def parts_of(module: nn.Sequential) -> dict[str, list[nn.Parameter]]:
    first, last = list(module[0].parameters()), list(module[2].parameters())
    return {"extractor": first, "memory": [], "actor": last}


def gradients_of(module: nn.Module, scale: float = 1.0) -> list[Tensor]:
    rows = torch.linspace(-1, 1, 15).view(5, 3)
    return list(torch.autograd.grad(scale * module(rows).square().sum(), module.parameters()))


def step(
    optimizer: Optimizer, gradients: list[Tensor], active: bool = True
) -> tuple[float, Tensor]:
    taken, packed, clipped = optimizer.clip(gradients, torch.tensor(active))
    optimizer.step(taken, clipped, optimizer.pace(0.0, 0))
    return taken.item(), packed


@pytest.mark.parametrize(
    "name", ["adam", "rmsprop_centered", "rmsprop_tf", "sgd_nesterov", "nadam"]
)
@pytest.mark.parametrize("max_grad_norm", [math.inf, 0.5])
def test_training_a_module_equals_torch_with_clip_grad_norm(name: str, max_grad_norm) -> None:
    _, options, reference_class = RULES[name]
    ours, theirs = network(), network()
    reference = reference_class(theirs.parameters(), lr=LEARNING_RATE, **options)
    optimizer = build(parts_of(ours), name=name, max_grad_norm=max_grad_norm)
    for index in range(20):
        scale = 1.0 if index % 2 else 0.01  # above the limit, and below it
        step(optimizer, gradients_of(ours, scale))
        for parameter, gradient in zip(
            theirs.parameters(), gradients_of(theirs, scale), strict=True
        ):
            parameter.grad = gradient
        nn.utils.clip_grad_norm_(theirs.parameters(), max_grad_norm)
        reference.step()
    for found, expected in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=2e-6)


def test_norms_are_per_part_and_from_before_clipping() -> None:
    module = network()
    optimizer = build(parts_of(module), max_grad_norm=1e-3)
    found = gradients_of(module)
    _, packed = step(optimizer, found)
    same = torch.cat([gradient.flatten() for gradient in found])  # in another order
    assert torch.equal(packed.sort().values, same.sort().values)
    movement = optimizer.movement(gradients=packed, before=optimizer.flat, progress=0.0)
    norms = {tag: norm for tag, norm in movement.items() if tag.startswith("gradient_norm/")}
    expected = {"extractor": found[:2], "actor": found[2:]}  # the empty memory has none
    assert norms == {
        f"gradient_norm/{part}": pytest.approx(nn.utils.get_total_norm(own).item())
        for part, own in expected.items()
    }


def test_groups_have_rates_and_decays_of_their_own() -> None:
    module = network()
    before = [parameter.detach().clone() for parameter in module.parameters()]
    rate_of_actor = schedule("linear", 3 * LEARNING_RATE, 0.0)
    groups = {"actor": {"learning_rate": rate_of_actor, "weight_decay": 0.0}}
    optimizer = build(parts_of(module), weight_decay=0.1, groups=groups)
    found = gradients_of(module)
    taken, _, clipped = optimizer.clip(found, None)
    optimizer.step(taken, clipped, optimizer.pace(0.5, 0))
    told = optimizer.movement(gradients=optimizer.flat, before=optimizer.flat, progress=0.5)
    rates = {tag: round(rate.item(), 6) for tag, rate in told.items() if tag.startswith("schedule")}
    assert rates == {"schedule/learning_rate": 0.005, "schedule/learning_rate/actor": 0.015}
    for index, (parameter, kept) in enumerate(zip(module.parameters(), before, strict=True)):
        rate, decay = (0.005, 0.1) if index < 2 else (0.015, 0.0)
        torch.testing.assert_close(parameter.detach(), kept - rate * (found[index] + decay * kept))


def test_equal_neighbours_form_one_group() -> None:
    module = network()
    assert len(build(parts_of(module)).rules) == 1
    assert len(build(parts_of(module), groups={"actor": {"weight_decay": 0.1}}).rules) == 2


@pytest.mark.parametrize("name", RULES)
def test_inactive_or_not_finite_steps_move_nothing_and_do_not_count(name: str) -> None:
    module = network()
    optimizer = build(parts_of(module), name=name, weight_decay=0.1, max_grad_norm=0.5)
    step(optimizer, gradients_of(module))
    before = {key: value.clone() for key, value in optimizer.state_dict().items()}
    weights = optimizer.flat.clone()
    good = gradients_of(module)
    for poison in (math.nan, math.inf, -math.inf):
        bad = [gradient.clone() for gradient in good]
        bad[1][0] = poison
        assert step(optimizer, bad)[0] == 0
    assert step(optimizer, good, active=False)[0] == 0
    assert torch.equal(optimizer.flat, weights)
    for key, value in optimizer.state_dict().items():
        assert torch.equal(value, before[key]), key
    assert step(optimizer, good)[0] == 1
    assert not torch.equal(optimizer.flat, weights)


def test_packing_keeps_what_the_module_computes() -> None:
    module, rows = network(), torch.randn(5, 3)
    before = module(rows)
    optimizer = build(parts_of(module))
    torch.testing.assert_close(module(rows), before)  # weights with few inputs are transposed
    assert optimizer.flat.numel() == sum(p.numel() for p in module.parameters())
    for parameter in module.parameters():
        assert parameter.untyped_storage().data_ptr() == optimizer.flat.untyped_storage().data_ptr()


def test_repacking_after_a_move_trains_the_moved_parameters() -> None:
    module, rows = network(), torch.randn(5, 3).double()
    optimizer = build(parts_of(module), name="adam")
    step(optimizer, gradients_of(module))
    module.double()
    optimizer.double()
    before = module(rows)
    optimizer.repack()
    assert torch.equal(module(rows), before)
    weights = [parameter.detach().clone() for parameter in module.parameters()]
    rows = torch.linspace(-1, 1, 15).view(5, 3).double()
    found = torch.autograd.grad(module(rows).square().sum(), list(module.parameters()))
    step(optimizer, list(found))
    for parameter, kept in zip(module.parameters(), weights, strict=True):
        assert not torch.equal(parameter, kept)


def test_a_parameter_in_two_parts_is_refused() -> None:
    module = network()
    shared = list(module[0].parameters())
    with pytest.raises(ValueError, match="belongs to two parts"):
        build({"extractor": shared, "memory": shared})


def test_an_unknown_group_is_refused_with_the_parts() -> None:
    parts = parts_of(network())
    with pytest.raises(ValueError, match="no part 'critc'; parts are extractor, memory, actor"):
        build(parts, groups={"critc": {"weight_decay": 1.0}})


@pytest.mark.parametrize("shape", [(64, 4), (64, 33), (4, 64), (2, 64, 4), (8, 4, 3, 3), (64,)])
def test_weights_of_few_inputs_and_their_gradients_are_stored_by_input(shape) -> None:
    """As PyTorch takes three times as long for the gradient of a weight stored by output."""
    weight = torch.nn.Parameter(torch.randn(shape))
    values, expected = weight.detach().clone(), torch.randn(shape)
    optimizer = build({"only": [weight]})
    assert torch.equal(weight, values)
    is_thin = shape == (64, 4)
    assert weight.stride()[-1] == (math.prod(shape[:-1]) if is_thin else 1)
    if len(shape) == 2:
        rows = torch.randn(7, shape[1])
        (gradient,) = torch.autograd.grad(torch.nn.functional.linear(rows, weight).sum(), weight)
        assert gradient.stride() == weight.stride()
    _, packed = step(optimizer, [expected])
    weight.data.zero_()
    optimizer.flat.add_(packed)
    assert torch.equal(weight, expected)


@pytest.mark.parametrize("name", ["adam", "adamw", "radam", "rmsprop", "sgd"])
def test_each_optimizer_of_the_configuration_is_that_of_torch(build, name: str) -> None:
    """With its options, by two steps."""
    optimizer = build(f"optimizer={name}", "optimizer.max_grad_norm=null").agent.optimizer
    chosen = load([f"optimizer={name}"]).optimizer
    own = {field.name for field in fields(OptimizerOptions)} | {"_target_"}
    options = {key: value for key, value in chosen.items() if key not in own}
    kind = getattr(torch.optim, chosen["_target_"].rpartition(".")[2])
    copies = [nn.Parameter(each.detach().clone()) for each in optimizer.trainable]
    reference = kind(copies, lr=chosen.learning_rate, **options)
    for number in (1, 2):
        for copy in copies:
            copy.grad = torch.full_like(copy, 0.1 * number)
        reference.step()
        step(optimizer, [copy.grad for copy in copies])
        for parameter, copy in zip(optimizer.trainable, copies, strict=True):
            torch.testing.assert_close(parameter, copy)
