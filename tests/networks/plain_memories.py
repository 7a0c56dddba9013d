"""The equations of memories, one step of one environment at a time, as their papers write them."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from networks.memory.linear import ShortConvolution

State = tuple[Tensor, ...]
Step = Callable[[Any, Tensor, State], tuple[Tensor, State]]
"""`layer, inputs [H], state -> outputs [H], state`."""


def mingru(layer: Any, inputs: Tensor, state: State) -> tuple[Tensor, State]:
    keep, candidate = layer.gates(layer.norm(inputs)).chunk(2)
    update = torch.sigmoid(-keep)
    (hidden,) = state
    hidden = (1 - update) * hidden + update * candidate
    return inputs + hidden, (hidden,)


def convolution(layer: Any, inputs: Tensor, state: State) -> tuple[Tensor, State]:
    read = [*state[0].view(-1, len(inputs)), inputs]
    outputs = sum(weight * step for weight, step in zip(layer.weight, read, strict=True))
    return inputs + outputs, (torch.cat(read[1:]),)


def lru(layer: Any, inputs: Tensor, state: State) -> tuple[Tensor, State]:
    size = torch.exp(-torch.exp(layer.log_rate))
    cosine, sine = size * torch.cos(layer.phase), size * torch.sin(layer.phase)
    real, imaginary = state[0].view(-1, 2).unbind(-1)
    written = (layer.write(layer.norm(inputs))).view(-1, 2) * torch.sqrt(1 - size**2)[:, None]
    state = torch.stack([cosine * real - sine * imaginary, sine * real + cosine * imaginary], -1)
    state = (state + written).flatten()
    output, gate = layer.read(state).chunk(2)
    return inputs + output * torch.sigmoid(gate), (state,)


def mlstm(layer: Any, inputs: Tensor, state: State) -> tuple[Tensor, State]:
    heads, size = layer.shape
    gates = layer.gates(layer.norm(inputs))
    forget, write = (torch.sigmoid(gate) for gate in gates[: 2 * heads].split(heads))
    out, query, key, value = gates[2 * heads :].split(heads * size)
    read, matrices = [], []
    for head, matrix in enumerate(state[0].view(heads, size, size)):
        one = slice(head * size, (head + 1) * size)
        added = write[head] * torch.outer(value[one], key[one])
        matrices.append(torch.exp(-5 * forget[head]) * matrix + added)
        read.append(functional.rms_norm(matrices[-1] @ query[one], (size,), eps=1.0))
    output = layer.output(torch.sigmoid(out) * torch.cat(read))
    return inputs + output, (torch.stack(matrices).flatten(),)


def gtrxl(layer: Any, inputs: Tensor, state: State) -> tuple[Tensor, State]:
    heads, size = layer.shape
    age = int(state[0][-1])
    window = state[0][:-1].view(layer.window, -1)
    read_now = [*window[len(window) - age :], inputs]
    normed = layer.norms[0](torch.stack(read_now))
    keys, values = layer.key_value(normed).chunk(2, dim=-1)
    query, attended = layer.query(normed[-1]), []
    distances = torch.arange(len(read_now) - 1, -1, -1)
    for head in range(heads):
        one = slice(head * size, (head + 1) * size)
        scores = keys[:, one] @ query[one] / size**0.5 + layer.bias[head, distances]
        attended.append(torch.softmax(scores, 0) @ values[:, one])
    first, second = layer.gates
    middle = first(torch.relu(layer.output(torch.cat(attended)))[None], inputs[None])
    outputs = second(torch.relu(layer.mlp(layer.norms[1](middle))), middle)[0]
    kept = read_now[-layer.window :]
    empty = inputs.new_zeros((layer.window - len(kept)) * len(inputs))
    return outputs, (torch.cat([empty, *kept, inputs.new_tensor([len(kept)])]),)


STEPS: dict[str, Step] = {"mingru": mingru, "lru": lru, "mlstm": mlstm, "gtrxl": gtrxl}


class PlainNetwork(nn.Module):
    """Steps through a memory's layers with its own parameters; called as PyTorch's networks are."""

    num_layers = 1  # all layers' states, of different sizes, count as one

    def __init__(self, memory: Any, step: Step) -> None:
        super().__init__()
        self.memory, self.step = memory, step

    def forward(self, features: Tensor, before: Tensor) -> tuple[Tensor, Tensor]:
        """Reads `[T, 1, F]` from the state `[1, 1, S]`."""
        sizes = [layer.state_size for layer in self.memory.layers]
        states: Sequence[State] = [(state,) for state in before[0, 0].split(sizes)]
        outputs = []
        for inputs in features[:, 0]:
            output, after = self.memory.project(inputs), []
            for layer, state in zip(self.memory.layers, states, strict=True):
                is_short = isinstance(layer, ShortConvolution)
                output, kept = (convolution if is_short else self.step)(layer, output, state)
                after.append(kept)
            outputs.append(output)
            states = after
        return torch.stack(outputs)[:, None], torch.cat([state[0] for state in states])[None, None]
