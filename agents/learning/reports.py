"""What is to be seen of learning from replay: errors along a sequence, how old things have become.

Everything here is measured beside learning, where somebody watches, and changes nothing.
"""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from agents.learning.optimizer import Optimizer
from agents.learning.parts import ActionValues, taken
from agents.learning.replay_learner import Windows, warmed
from agents.learning.targets import QTarget
from agents.mathematics.losses import masked_mean
from agents.replay.replay import Sample
from networks.observations import map_observations

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


_POSITIONS = ("start", "middle", "end")


def by_position(
    valid: Bool[Tensor, "L N"], errors: Float[Tensor, "L N"] | None = None
) -> dict[str, Float[Tensor, ""]]:
    """Average errors over each third of the sequences; nothing where they are too short for that.

    A memory that begins wrong shows errors at the start that fade along the sequence.
    """
    if len(valid) < len(_POSITIONS):
        return {}
    known = torch.zeros_like(valid, dtype=torch.float32) if errors is None else errors
    parts = zip(known.tensor_split(3), valid.tensor_split(3), strict=True)
    means = [masked_mean(error, is_valid) for error, is_valid in parts]
    return {f"value/td_error/{where}": m for where, m in zip(_POSITIONS, means, strict=True)}


def highest(values: Float[Tensor, "L N A"], valid: Bool[Tensor, "L N"]) -> Float[Tensor, ""]:
    """Largest value of any action at a valid step; nan where there is none."""
    found = torch.where(valid[..., None], values, -torch.inf).max()
    return torch.where(found.isinf(), torch.nan, found)


@torch.no_grad()
def look(
    networks: ActionValues,
    target: QTarget,
    windows: Windows,
    sample: Sample,
    device: torch.device,
) -> dict[str, Float[Tensor, ""]]:
    """Measure the networks and the replay on one sample.

    Returns:
        `value/max` and `value/target_gap`, the mean distance to the target network's values;
        `replay/age` of the sample in environment steps, `replay/importance_weight_min`; and
        `replay/state_staleness`, where a memory was kept at the end of what is learnt from: how far
        the present network's memory is from it, in units of its norm.
    """
    window = sample.window.to(device)
    state = warmed(networks.actor, window, windows.burn_in)
    learnt = windows.learnt
    summary, after = networks.actor(
        map_observations(lambda part: part[learnt], window.observations),
        state,
        window.is_first[learnt],
    )
    valid, actions = window.valid[learnt], window.actions[learnt]
    head, scale = networks.value_head, target.scale
    values = scale.inverse(head.value(head(summary)))
    slow = scale.inverse(head.value(target.read(window, learnt, None)))
    gaps = (taken(values, actions) - taken(slow, actions)).abs()
    metrics = {
        "value/max": highest(values, valid),
        "value/target_gap": masked_mean(gaps, valid),
        "replay/age": sample.age,
        "replay/importance_weight_min": sample.weights.min(),
    }
    if sample.state_after is not None:
        kept = sample.state_after.to(device)
        distance = (after - kept).norm(dim=-1) / kept.norm(dim=-1).clamp(min=1e-6)
        metrics["replay/state_staleness"] = distance.nanmean()  # nan: not yet known
    return metrics
