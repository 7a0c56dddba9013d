"""GTrXL: a gated transformer whose state is a window of what its layers have read."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from conf.schema.memories import GTrXLOptions
from networks.initialization import initialize
from networks.memory.fused import Features, IsFirst, Outputs, State
from networks.memory.linear import ResidualMemory


class GTrXLLayer(nn.Module):
    """Attention to at most W earlier steps of the episode, then an MLP; a GRU gates each.

        y = gate(x, relu(attend(norm(window, x))));  output = gate(y, relu(mlp(norm(y))))

    Scores add a learnt number for each head and distance. The state is the W inputs before the
    next step, `[W * H]`, and how many of them are of its episode; the others are zero.
    """

    gates: Any

    def __init__(self, options: GTrXLOptions) -> None:
        super().__init__()
        width, self.window = options.hidden_size, options.window
        self.state_size = self.window * width + 1
        self.shape = (options.num_heads, options.head_size)
        inner = options.num_heads * options.head_size
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.query, self.output = nn.Linear(width, inner), nn.Linear(inner, width)
        self.key_value = nn.Linear(width, 2 * inner)
        self.bias = nn.Parameter(torch.zeros(options.num_heads, self.window + 1))
        self.mlp = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))
        self.gates = nn.ModuleList(nn.GRUCell(width, width) for _ in range(2))
        initialize(self, initialization=options.initialization, gain=options.gain)
        with torch.no_grad():
            for gate in self.gates:  # the paper's bias: at first, inputs pass nearly unchanged
                gate.bias_ih[width : 2 * width] += 2.0

    def forward(self, inputs: Features, state: State, is_first: IsFirst) -> tuple[Outputs, State]:
        """Process T steps."""
        kept = state[:, :-1].unflatten(-1, (self.window, -1)).transpose(0, 1)
        stream = torch.cat([kept, inputs])
        age = self._ages(state[:, -1].clamp(min=0), is_first)
        outputs = self._gated(0, inputs, self.output(self._attend(stream, age)))
        outputs = self._gated(1, outputs, self.mlp(self.norms[1](outputs)))
        after = (age[-1] + 1).clamp(max=self.window)
        distances = torch.arange(self.window, 0, -1, device=age.device)[:, None]
        window = stream[-self.window :].masked_fill((distances > after)[..., None], 0.0)
        return outputs, torch.cat([window.transpose(0, 1).flatten(1), after[:, None]], dim=-1)

    def _ages(self, before: Float[Tensor, " B"], is_first: IsFirst) -> Float[Tensor, "T B"]:
        """Count the earlier steps of the episode in the window of each step."""
        times = torch.arange(len(is_first), device=is_first.device)[:, None].to(before)
        starts = torch.where(is_first, times, -torch.inf)
        if len(starts) > 1:
            starts = starts.cummax(0).values
        return torch.minimum(times - starts, before + times).clamp(max=self.window)

    def _attend(
        self, stream: Float[Tensor, "WT B H"], age: Float[Tensor, "T B"]
    ) -> Float[Tensor, "T B I"]:
        """Attend block by block: Q steps read W earlier ones and one another."""
        steps, window = len(age), self.window
        block = min(steps, window)
        fill = -steps % block
        normed = self.norms[0](functional.pad(stream, (0, 0, 0, 0, 0, fill)))
        age = functional.pad(age, (0, 0, 0, fill)).unflatten(0, (-1, block))  # [N, Q, B]
        query = self.query(normed[window:]).unflatten(-1, self.shape).unflatten(0, (-1, block))
        pairs = self.key_value(normed).unflatten(-1, (2, *self.shape))
        key, value = pairs.unfold(0, window + block, block).unbind(2)  # [N, B, heads, D, W + Q]
        scores = query.permute(0, 2, 3, 1, 4) @ key / self.shape[1] ** 0.5
        reach = torch.arange(window + block, device=age.device)
        distance = reach[:block, None] + window - reach
        is_past = (distance >= 0) & (distance <= age.transpose(1, 2)[..., None])  # [N, B, Q, W + Q]
        scores = scores + self.bias[:, distance.clamp(0, window)]
        weights = scores.masked_fill(~is_past[:, :, None], -torch.inf).softmax(-1)
        read = weights @ value.mT  # [N, B, heads, Q, D]
        return read.permute(0, 3, 1, 2, 4).flatten(3).flatten(0, 1)[:steps]

    def _gated(self, index: int, inputs: Features, update: Features) -> Features:
        """Add an update to a residual stream by a GRU."""
        rows: Tensor = self.gates[index](update.relu().flatten(0, 1), inputs.flatten(0, 1))
        return rows.view_as(inputs)


class GTrXL(ResidualMemory):
    """Gated Transformer-XL (Parisotto et al. 2019, arXiv:1910.06764), relative positions learnt."""

    Options = GTrXLOptions
    layer = GTrXLLayer

    def split(self, state: Float[Tensor, "*N S"]) -> dict[str, Float[Tensor, "*N _"]]:
        """Return the windows, without how many of their steps count."""
        return {"state": state.unflatten(-1, (len(self.layers), -1))[..., :-1].flatten(-2)}
