"""The layout of null steps, drawn by hand."""

import pytest
import torch

from networks.memory.fused import NullSteps
from tests.networks.conftest import FEATURES, build_memory

YES, NO = True, False


def test_no_plan_without_a_reset_inside() -> None:
    is_first = torch.tensor([[YES, YES], [NO, NO], [NO, NO]])
    assert NullSteps.plan(is_first, 1) is None


def test_null_steps_lie_before_first_observations_and_pads_at_the_end() -> None:
    # Column 0 opens an episode at step 1, column 1 at steps 1 and 2; step 0 needs no null step.
    is_first = torch.tensor([[YES, NO], [YES, YES], [NO, YES]])
    plan = NullSteps.plan(is_first, 1)
    assert plan is not None
    assert plan.length == 3 + 2
    steps = torch.arange(1.0, 7.0).view(3, 2, 1)
    stretched = plan.stretch(steps)
    features, reset, pad = stretched.unbind(-1)
    assert features.T.tolist() == [[1, 0, 3, 5, 0], [2, 0, 4, 0, 6]]
    assert reset.T.tolist() == [[0, 1, 0, 0, 0], [0, 1, 0, 1, 0]]
    assert pad.T.tolist() == [[0, 0, 0, 0, 1], [0, 0, 0, 0, 0]]
    assert torch.equal(plan.gather(stretched, 3)[..., :1], steps)


def test_two_null_steps_come_in_order() -> None:
    plan = NullSteps.plan(torch.tensor([[NO], [YES]]), 2)
    assert plan is not None
    assert plan.length == 2 + 2
    assert plan.flags[:, 0].T.tolist() == [[0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]]


@pytest.mark.parametrize("kind", ["rnn_tanh", "gru", "lstm"])
def test_layers_share_one_plan(kind: str, monkeypatch) -> None:
    memory, plans, plan = build_memory(kind, 3), [], NullSteps.plan
    monkeypatch.setattr(NullSteps, "plan", lambda *given: plans.append(given) or plan(*given))
    is_first = torch.tensor([[YES], [NO], [YES]])
    memory(torch.zeros(3, 1, FEATURES), memory.initial_state(1), is_first)
    assert len(plans) == 1
