"""Memories of every kind, patterns of resets, and what plain PyTorch networks make of both."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from networks.memory import GRU, LRU, LSTM, MLSTM, RNN, CellMemory, GTrXL, Memory, MinGRU
from tests.building import build
from tests.networks.plain_memories import STEPS, PlainNetwork

FEATURES, HIDDEN = 3, 4
MEMORIES = [
    *[(kind, layers) for kind in ("rnn_tanh", "rnn_relu", "gru", "lstm") for layers in (1, 2, 3)],
    *[(kind, layers) for kind in ("mingru", "lru", "mlstm", "gtrxl") for layers in (1, 2)],
    ("cell", 1),
]
OWN: dict[str, tuple[type[Memory], dict[str, Any]]] = {
    "gru": (GRU, {"span": None}),
    "lstm": (LSTM, {"span": 20.0}),
    "mingru": (MinGRU, {"span": 50.0, "conv_width": 4}),
    "lru": (LRU, {"span": 50.0, "conv_width": 1, "complex_size": 3, "max_phase": 1.0}),
    "mlstm": (MLSTM, {"span": 50.0, "conv_width": 3, "num_heads": 2, "head_size": 3}),
    "gtrxl": (GTrXL, {"num_heads": 2, "head_size": 3, "window": 8}),
}
"""Memories with options of their own."""


class ElmanCell(CellMemory):
    """A user's own cell, in the ten lines that it should take."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.cell = nn.RNNCell(input_size, hidden_size)
        self.output_size = self.state_size = hidden_size

    def step(self, inputs: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        state = self.cell(inputs, state)
        return state, state


def build_memory(kind: str, num_layers: int = 1) -> Memory:
    """Builds with PyTorch's own draw, whose biases are not zero."""
    options = {"hidden_size": HIDDEN, "num_layers": num_layers}
    options |= {"initialization": "default", "gain": 1.0}
    torch.manual_seed(len(kind) + num_layers)
    if kind == "cell":
        assert num_layers == 1
        return ElmanCell(FEATURES, HIDDEN)
    if kind.startswith("rnn"):
        return build(RNN, FEATURES, nonlinearity=kind.removeprefix("rnn_"), **options)
    cls, own = OWN[kind]
    return build(cls, FEATURES, **options, **own)


def plain_network(memory: Memory, kind: str) -> tuple[Any, dict[str, str]]:
    """Returns PyTorch's network with the same weights, and its parameters' names by ours; the
    equations, step by step, for what PyTorch has not.
    """
    if kind in STEPS:
        names = {name: f"memory.{name}" for name, _ in memory.named_parameters()}
        return PlainNetwork(memory, STEPS[kind]), names
    prefixes = (
        {"cell.": ""}
        if kind == "cell"
        else {f"layers.{index}.kernel.": str(index) for index in range(len(memory.layers))}
    )
    options: dict[str, Any] = {"num_layers": len(prefixes)}
    if kind.startswith("rnn"):
        options["nonlinearity"] = kind.removeprefix("rnn_")
    cls = {"gru": nn.GRU, "lstm": nn.LSTM}.get(kind, nn.RNN)
    network = cls(FEATURES, HIDDEN, **options).to(next(memory.parameters()).dtype)
    names = {}
    for name, _ in memory.named_parameters():
        (prefix,) = (prefix for prefix in prefixes if name.startswith(prefix))
        stem = name.removeprefix(prefix).removesuffix("_l0")
        names[name] = f"{stem}_l{prefixes[prefix] or 0}"
    with torch.no_grad():
        for name, parameter in memory.named_parameters():
            network.get_parameter(names[name]).copy_(parameter)
    return network, names


def read_per_episode(
    network: Any, features: Tensor, state: Tensor, is_first: Tensor
) -> tuple[Tensor, Tensor]:
    """Calls the plain network once for each piece of an episode: slow, and surely without leaks."""
    is_lstm = isinstance(network, nn.LSTM)
    columns, states = [], []
    for column in range(features.shape[1]):
        # One row per layer, [h] or [h, c].
        memory = state[column].view(network.num_layers, -1)
        starts = [t for t in range(len(features)) if is_first[t, column] or t == 0]
        pieces = []
        for start, stop in zip(starts, [*starts[1:], len(features)], strict=True):
            if is_first[start, column]:
                memory = torch.zeros_like(memory)
            parts = [part[:, None].contiguous() for part in memory.chunk(1 + is_lstm, dim=-1)]
            before = tuple(parts) if is_lstm else parts[0]
            output, after = network(features[start:stop, column : column + 1], before)
            memory = torch.cat([part[:, 0] for part in (after if is_lstm else (after,))], dim=-1)
            pieces.append(output)
        columns.append(torch.cat(pieces))
        states.append(memory.reshape(-1))
    return torch.cat(columns, dim=1), torch.stack(states)


def resets(pattern: str, steps: int, num_envs: int) -> Tensor:
    """Where episodes begin. `uneven` gives every column another number of resets."""
    if pattern == "side by side":
        return torch.cat([resets(each, steps, 3) for each in SIDE_BY_SIDE], dim=1)
    is_first = torch.zeros(steps, num_envs, dtype=torch.bool)
    if pattern == "everywhere":
        is_first[:] = True
    elif pattern.startswith("at"):
        is_first[int(pattern.removeprefix("at"))] = True
    elif pattern == "uneven":
        # Columns 0, 1 and 2 have none, three and all: the first two end in pads.
        is_first[[2, 3, 5], 1:2] = True
        is_first[:, 2:] = True
    elif pattern == "random":
        generator = torch.Generator().manual_seed(num_envs)
        is_first = torch.rand(steps, num_envs, generator=generator) < 0.4
    else:
        assert pattern == "nowhere"
    return is_first


SIDE_BY_SIDE = ("at1", "at-1", "uneven", "random")
PATTERNS = [
    *[(name, 3) for name in ("nowhere", "everywhere", "at0")],
    ("side by side", 3 * len(SIDE_BY_SIDE)),
    ("random", 1),
]
"""Alone, where all columns are alike and none is padded; of the others each as a few columns."""


@pytest.fixture(name="build_memory")
def build_memory_fixture() -> Callable[..., Memory]:
    return build_memory


@pytest.fixture(name="plain_network")
def plain_network_fixture() -> Callable[..., tuple[Any, dict[str, str]]]:
    return plain_network


@pytest.fixture(name="read_per_episode")
def read_per_episode_fixture() -> Callable[..., tuple[Tensor, Tensor]]:
    return read_per_episode


@pytest.fixture(params=MEMORIES, ids=lambda one: f"{one[0]}-{one[1]}layers")
def kind_and_layers(request) -> tuple[str, int]:
    return request.param


@pytest.fixture
def kind(kind_and_layers) -> str:
    return kind_and_layers[0]


@pytest.fixture
def memory(kind_and_layers) -> Memory:
    """A memory in float64, where equalities hold to many digits and the smallest leak shows."""
    return build_memory(*kind_and_layers).double()


@pytest.fixture(params=PATTERNS, ids=lambda one: f"{one[0]}-{one[1]}envs")
def is_first(request) -> Tensor:
    pattern, num_envs = request.param
    return resets(pattern, 7, num_envs)


@pytest.fixture
def stream(memory, is_first) -> tuple[Tensor, Tensor, Tensor]:
    """Features, the state that was carried there, and resets."""
    generator = torch.Generator().manual_seed(0)
    steps, num_envs = is_first.shape
    options = {"generator": generator, "dtype": torch.float64}
    features = torch.randn(steps, num_envs, FEATURES, **options)
    # Carried states are what a network can output: an RNN's are in (-1, 1), a window is full.
    state = torch.rand(num_envs, memory.state_size, **options)
    if isinstance(memory, GTrXL):
        state.unflatten(-1, (len(memory.layers), -1))[..., -1] = 8.0
    return features, state, is_first
