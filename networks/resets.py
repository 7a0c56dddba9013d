"""Null steps: time steps that resets get of their own, so that a fused kernel can run over them."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class NullSteps:
    """Where real steps and null steps lie when resets get time steps of their own.

    Every column (environment) of `[T, B]` is stretched to `length = T + n * R` steps, R being the
    most resets in any column: n null steps before each first observation, pads at the end of
    columns with fewer resets.
    """

    length: int
    rows: Int[Tensor, " TB"]  # row of each real step in the flattened [length * B]
    flags: Float[Tensor, "L B N"]  # one column per null step of a reset, the last one marks pads

    @staticmethod
    def plan(is_first: Bool[Tensor, "T B"], null_steps: int) -> "NullSteps | None":
        """Lay out the stretched batch, or return None where no episode begins inside it."""
        inner = is_first[1:]
        resets = functional.pad(inner.long().cumsum(0), (0, 0, 1, 0))  # [T, B]
        most = int(resets[-1].max())
        if most == 0:
            return None
        steps, batch = is_first.shape
        length = steps + null_steps * most
        times = torch.arange(steps, device=is_first.device)[:, None] + null_steps * resets
        rows = times * batch + torch.arange(batch, device=is_first.device)
        flags = torch.zeros(length * batch, null_steps + 1, device=is_first.device)
        openings = rows[1:][inner]
        for index in range(null_steps):
            flags[openings - (null_steps - index) * batch, index] = 1.0
        flags = flags.view(length, batch, -1)
        ends = steps + null_steps * resets[-1]
        flags[:, :, -1] = torch.arange(length, device=is_first.device)[:, None] >= ends
        return NullSteps(length, rows.reshape(-1), flags)

    def stretch(self, steps: Float[Tensor, "T B F"]) -> Float[Tensor, "L B FN"]:
        """Spread real steps over the stretched batch and append the flags as further inputs."""
        _, batch, size = steps.shape
        spread = steps.new_zeros(self.length * batch, size)
        spread = spread.index_copy(0, self.rows, steps.reshape(-1, size))
        return torch.cat([spread.view(self.length, batch, size), self.flags.to(steps)], dim=-1)

    def gather(self, outputs: Float[Tensor, "L B H"], steps: int) -> Float[Tensor, "T B H"]:
        """Pick the real steps' outputs."""
        size = outputs.shape[-1]
        return outputs.reshape(-1, size).index_select(0, self.rows).view(steps, -1, size)
