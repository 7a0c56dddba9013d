"""How runs end before their time, and whether they end the same."""

from typing import Any

import torch


class Killed(BaseException):
    """The process dies here."""


def assert_same(run: Any, expected: Any) -> None:
    for name in ("last", "best"):
        weights, others = run.weights(name), expected.weights(name)
        assert weights.keys() == others.keys()
        for key, tensor in others.items():
            assert torch.equal(weights[key], tensor), f"{name}: {key}"
    curves = {tag: points for tag, points in run.scalars().items() if "time/" not in tag}
    others = {tag: points for tag, points in expected.scalars().items() if "time/" not in tag}
    assert curves == others
    for key in ("evaluation", "best", "env_steps", "updates", "train_return_mean", "status"):
        assert run.summary[key] == expected.summary[key], key
