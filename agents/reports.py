"""From gradient steps to TensorBoard's scalars, the same for every agent."""

from collections.abc import Mapping, Sequence

from jaxtyping import Float
from torch import Tensor

from agents.optimizer import Optimizer

COUNTS = ("update/steps", "update/skipped")
"""What every gradient step reports last: whether it counted, whether it was not finite."""


def summarized(names: Sequence[str], steps: Float[Tensor, "U metrics"]) -> dict[str, Tensor]:
    """Average what gradient steps reported, and sum the counts.

    Args:
        names: of the metrics of one step, `COUNTS` last.
    """
    metrics = dict(zip(names, steps.mean(0).unbind(), strict=True))
    return metrics | dict(zip(COUNTS, steps[:, -len(COUNTS) :].sum(0).unbind(), strict=True))


def movement(
    optimizer: Optimizer,
    *,
    gradients: Float[Tensor, " P"],
    before: Float[Tensor, " P"],
    progress: float,
) -> dict[str, Tensor]:
    """Tell how the parts moved: learning rates, gradient norms, and how far.

    Args:
        gradients: of the last step, packed.
        before: the parameters before the first step, packed; `update_ratio/<part>` is how far they
            have moved since, in units of their norm.
    """
    metrics = optimizer.learning_rates(progress)
    metrics |= _by_part("gradient_norm", optimizer.norms(gradients))
    moved, sizes = optimizer.norms(optimizer.flat - before), optimizer.norms(before)
    return metrics | _by_part(
        "update_ratio", {part: norm / sizes[part].clamp(min=1e-12) for part, norm in moved.items()}
    )


def _by_part(tag: str, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"{tag}/{part}": value for part, value in values.items()}
