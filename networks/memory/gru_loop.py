"""A GRU over time on a CPU, with a hand-written backward pass.

PyTorch's GRU records about 35 operations per step on a CPU (its LSTM is one oneDNN kernel). Here a
step is 13 numpy calls forward and 5 backward: what does not depend on the next step's gradient is
computed for all steps at once. Up to 64 sequences it takes as long as the LSTM.
"""

from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from networks.mirror import array_of, sigmoid


def gru_loop(
    inputs: Float[Tensor, "T B F"], state: Float[Tensor, "B H"], weights: list[Tensor]
) -> Float[Tensor, "T B H"]:
    """Process T steps; the weights are those of `torch.nn.GRU`, in its order."""
    weight_x, weight_h, bias_x, bias_h = weights
    projected = functional.linear(inputs, weight_x, bias_x)
    outputs: Tensor = _Loop.apply(projected, state, weight_h, bias_h)  # type: ignore[no-untyped-call]
    return outputs


class _Loop(torch.autograd.Function):
    """The recurrence of a GRU over projected inputs `x = [x_r, x_z, x_n]`, `[T, B, 3 H]`.

    [g_r, g_z, g_n] = W_h h + b_h
    r, z = sigmoid(x_r + g_r), sigmoid(x_z + g_z);  n = tanh(x_n + r g_n);  h' = n + z (h - n)
    """

    @staticmethod
    def forward(ctx: Any, projected: Tensor, state: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """Return the state after every step."""
        x, transposed, added = array_of(projected), array_of(weight).T.copy(), array_of(bias)
        steps, batch, size = *x.shape[:2], state.shape[-1]
        states, news = np.empty((steps + 1, batch, size), x.dtype), np.empty_like(x[..., :size])
        gates, recurrent = np.empty_like(x[..., : 2 * size]), np.empty_like(news)
        total, difference = np.empty_like(x[0]), np.empty_like(news[0])
        states[0] = array_of(state)
        for h, after, entering, gate, g_n, n in zip(
            states, states[1:], x, gates, recurrent, news, strict=False
        ):
            np.dot(h, transposed, out=total)
            np.add(total, added, out=total)
            g_n[...] = total[:, 2 * size :]
            np.add(entering[:, : 2 * size], total[:, : 2 * size], out=gate)
            sigmoid(gate, out=gate)
            np.multiply(gate[:, :size], g_n, out=n)
            np.add(n, entering[:, 2 * size :], out=n)
            np.tanh(n, out=n)
            np.subtract(h, n, out=difference)
            np.multiply(difference, gate[:, size:], out=difference)
            np.add(n, difference, out=after)
        outputs = torch.from_numpy(states[1:])
        ctx.save_for_backward(weight, outputs)  # torch notices if outputs, a view, are overwritten
        ctx.steps = states, gates, recurrent, news
        return outputs

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return the gradients of the projected inputs, the state, the weight and the bias."""
        (weight, _), (states, gates, g_n, n) = ctx.saved_tensors, ctx.steps
        steps, batch, size = n.shape
        r, z = gates[..., :size], gates[..., size:]
        # d [g_r, g_z, g_n] / d h', for all steps at once.
        inner = (1 - z) * (1 - n * n)
        slopes = np.stack(
            [inner * g_n * r * (1 - r), (states[:-1] - n) * z * (1 - z), inner * r], axis=2
        )
        of_gates, of_states = np.empty_like(slopes), np.empty_like(n)
        carried, kept = np.zeros_like(n[0]), np.empty_like(n[0])
        weights, outputs = array_of(weight), gradient.contiguous().numpy()
        for step in range(steps - 1, -1, -1):
            of_state = np.add(outputs[step], carried, out=of_states[step])
            np.multiply(slopes[step], of_state[:, None], out=of_gates[step])
            np.dot(of_gates[step].reshape(batch, -1), weights, out=carried)
            np.multiply(of_state, z[step], out=kept)
            np.add(carried, kept, out=carried)
        rows = torch.from_numpy(of_gates).view(steps * batch, -1)
        of_weight = rows.t() @ torch.from_numpy(states[:-1]).view(steps * batch, size)
        of_bias = rows.sum(0)
        of_gates[:, :, 2] = of_states * inner  # r scales g_n, not x_n
        of_inputs = torch.from_numpy(of_gates).view(steps, batch, -1)
        return of_inputs, torch.from_numpy(carried), of_weight, of_bias
