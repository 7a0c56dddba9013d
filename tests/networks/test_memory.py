"""Whatever way a stream is cut, batched or stepped through, a memory gives the same numbers.

`kind`, layers, environments and patterns of resets come from the fixtures: every test that takes
`stream` runs on all of them, in float64.
"""

import numpy as np
import pytest
import torch
from torch import Tensor

from networks.memory.memories import CellMemory, NoMemory


def assert_same(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-11)


def step_through(memory, features, state, is_first) -> tuple[Tensor, Tensor, Tensor]:
    """Reads as acting does, with T = 1: outputs, the state before each step, and the last."""
    outputs, states = [], []
    for t in range(len(features)):
        states.append(state)
        output, state = memory(features[t : t + 1], state, is_first[t : t + 1])
        outputs.append(output)
    return torch.cat(outputs), torch.stack(states), state


def test_unroll_equals_plain_network_on_each_episode(
    memory, kind, stream, plain_network, read_per_episode
) -> None:
    network, _ = plain_network(memory, kind)
    expected_output, expected_state = read_per_episode(network, *stream)
    output, state = memory(*stream)
    assert_same(output, expected_output)
    assert_same(state, expected_state)


def test_single_steps_equal_one_unroll(memory, stream) -> None:
    output, state = memory(*stream)
    stepped, _, last = step_through(memory, *stream)
    assert_same(stepped, output)
    assert_same(last, state)


def test_two_chunks_equal_one_unroll(memory, stream) -> None:
    features, state, is_first = stream
    output, after = memory(*stream)
    for cut in range(1, len(features)):
        head, between = memory(features[:cut], state, is_first[:cut])
        tail, last = memory(features[cut:], between, is_first[cut:])
        assert_same(torch.cat([head, tail]), output)
        assert_same(last, after)


def test_windows_return_the_states_before_them(memory, stream) -> None:
    output, states, last = step_through(memory, *stream)
    for length in (1, 2, 7):
        steps = len(stream[0]) // length * length
        features, state, is_first = stream
        windowed, starts, after = memory.unroll(
            features[:steps], state, is_first[:steps], sequence_length=length
        )
        assert_same(windowed, output[:steps])
        assert_same(starts, states[:steps:length])
        assert_same(after, last if steps == len(features) else states[steps])


def test_subset_of_environments_equals_subset_of_output(memory, stream) -> None:
    features, state, is_first = stream
    output, after = memory(*stream)
    for column in range(features.shape[1]):
        alone = [column]
        part, last = memory(features[:, alone], state[alone], is_first[:, alone])
        assert_same(part, output[:, alone])
        assert_same(last, after[alone])


def test_environments_may_change_places(memory, stream) -> None:
    features, state, is_first = stream
    output, after = memory(*stream)
    order = list(reversed(range(features.shape[1])))
    permuted, last = memory(features[:, order], state[order], is_first[:, order])
    assert_same(permuted, output[:, order])
    assert_same(last, after[order])


def test_inputs_stay_as_they_were(memory, stream) -> None:
    before = [tensor.clone() for tensor in stream]
    memory(*stream)
    step_through(memory, *stream)
    for tensor, kept in zip(stream, before, strict=True):
        assert torch.equal(tensor, kept)


def test_initial_state_is_zero_and_has_the_promised_size(memory) -> None:
    state = memory.initial_state(5)
    assert state.shape == (5, memory.state_size)
    assert not state.any()


def test_float32_is_as_exact_as_float32_can_be(
    kind_and_layers, kind, build_memory, plain_network, read_per_episode
) -> None:
    memory = build_memory(*kind_and_layers)
    features = torch.randn(40, 5, 3, generator=torch.Generator().manual_seed(1))
    is_first = torch.rand(40, 5, generator=torch.Generator().manual_seed(2)) < 0.2
    state = torch.zeros(5, memory.state_size)
    network, _ = plain_network(memory, kind)
    expected = read_per_episode(network, features, state, is_first)
    torch.testing.assert_close(memory(features, state, is_first), expected, rtol=0, atol=1e-6)


def test_huge_features_never_reach_the_next_episode(kind_and_layers, build_memory) -> None:
    memory = build_memory(*kind_and_layers)
    features = torch.randn(6, 2, 3, generator=torch.Generator().manual_seed(1))
    is_first = torch.zeros(6, 2, dtype=torch.bool)
    is_first[3, 0] = True
    expected, expected_state = memory(features, memory.initial_state(2), is_first)
    features[:3, 0] = 1e9
    output, state = memory(features, memory.initial_state(2), is_first)
    torch.testing.assert_close(output[3:], expected[3:], rtol=0, atol=1e-6)
    torch.testing.assert_close(state, expected_state, rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", ["rnn_tanh", "rnn_relu", "gru", "lstm", "mingru", "lru", "mlstm"])
@pytest.mark.parametrize("num_layers", [1, 2, 3])
def test_numpy_mirror_equals_torch(kind, num_layers, build_memory) -> None:
    memory = build_memory(kind, num_layers)
    mirror = memory.mirror()
    generator = torch.Generator().manual_seed(3)
    state = mirrored_state = torch.rand(4, memory.state_size, generator=generator)
    for _ in range(20):
        features = torch.randn(4, 3, generator=generator)
        is_first = torch.rand(4, generator=generator) < 0.2
        with torch.no_grad():
            output, state = memory(features[None], state, is_first[None])
        arguments = [t.numpy() for t in (features, mirrored_state, is_first)]
        kept = [array.copy() for array in arguments]
        mirrored, after = mirror(*arguments)
        # A matrix of sums has no bound: its last digit may be larger than the tolerance.
        rtol = 1e-6 if kind == "mlstm" else 0
        np.testing.assert_allclose(mirrored, output[0].numpy(), rtol=rtol, atol=1e-6)
        np.testing.assert_allclose(after, state.numpy(), rtol=rtol, atol=1e-6)
        assert mirrored.dtype == after.dtype == np.float32
        for array, copy in zip(arguments, kept, strict=True):
            np.testing.assert_array_equal(array, copy)
        mirrored_state = torch.from_numpy(after)


def test_mirror_of_saturated_gates_neither_overflows_nor_warns(build_memory) -> None:
    memory = build_memory("lstm")
    mirror, first = memory.mirror(), np.zeros(2, bool)
    for size in (1e6, -1e6):
        output, _ = mirror(np.full((2, 3), size, np.float32), np.ones((2, 8), np.float32), first)
        assert np.isfinite(output).all()


def test_no_memory_hands_features_on() -> None:
    memory = NoMemory(3)
    features, state = torch.randn(4, 2, 3), memory.initial_state(2)
    is_first = torch.ones(4, 2, dtype=torch.bool)
    assert (memory.state_size, memory.output_size, state.shape) == (0, 3, (2, 0))
    output, after = memory(features, state, is_first)
    assert torch.equal(output, features)
    assert after.shape == (2, 0)
    output, starts, after = memory.unroll(features, state, is_first, sequence_length=2)
    assert torch.equal(output, features)
    assert (starts.shape, after.shape) == ((2, 2, 0), (2, 0))
    mirrored, _ = memory.mirror()(features[0].numpy(), state.numpy(), is_first[0].numpy())
    np.testing.assert_array_equal(mirrored, features[0].numpy())


class StartsAtSeven(CellMemory):
    """Counts from an initial state of its own."""

    output_size = state_size = 1

    def initial_state(self, batch_size: int) -> Tensor:
        return torch.full((batch_size, 1), 7.0)

    def step(self, inputs: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        return state, state + 1


def test_cell_starts_every_episode_from_its_own_initial_state() -> None:
    memory = StartsAtSeven()
    is_first = torch.tensor([[True, False], [False, False], [True, False]])
    output, state = memory(torch.zeros(3, 2, 1), torch.tensor([[50.0], [60.0]]), is_first)
    assert output[..., 0].T.tolist() == [[7, 8, 7], [60, 61, 62]]
    assert state[:, 0].tolist() == [8, 63]
