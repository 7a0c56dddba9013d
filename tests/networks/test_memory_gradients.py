"""Gradients through a memory: equal to the plain network's, and never across an episode's start."""

import torch
from torch import Tensor


def differentiate(call, parameters, stream) -> tuple[Tensor, ...]:
    """Gradients of a sum over outputs *and* the returned state, each weighted differently."""
    features, state, is_first = stream
    features, state = features.clone().requires_grad_(), state.clone().requires_grad_()
    output, after = call(features, state, is_first)
    generator = torch.Generator().manual_seed(9)
    weights = [
        torch.randn(tensor.shape, generator=generator, dtype=tensor.dtype)
        for tensor in (output, after)
    ]
    loss = (output * weights[0]).sum() + (after * weights[1]).sum()
    wanted = [features, state, *parameters]
    return torch.autograd.grad(loss, wanted, materialize_grads=True)


def test_gradients_equal_those_of_the_plain_network_on_each_episode(
    memory, kind, stream, plain_network, read_per_episode
) -> None:
    network, names = plain_network(memory, kind)
    found = differentiate(memory, list(memory.parameters()), stream)
    ours = [names[name] for name, _ in memory.named_parameters()]
    expected = differentiate(
        lambda *arguments: read_per_episode(network, *arguments),
        [network.get_parameter(name) for name in ours],
        stream,
    )
    labels = ["features", "state", *ours]
    for label, gradient, reference in zip(labels, found, expected, strict=True):
        torch.testing.assert_close(
            gradient, reference, rtol=1e-8, atol=1e-10, msg=lambda text, at=label: f"{at}: {text}"
        )


def test_gradient_reaches_the_start_of_its_episode_and_never_crosses_one(memory, stream) -> None:
    features, state, is_first = stream
    features, state = features.clone().requires_grad_(), state.clone().requires_grad_()
    output, _ = memory(features, state, is_first)
    steps, num_envs = is_first.shape
    for column in range(num_envs):
        starts = is_first[:, column].nonzero().flatten().tolist()
        for t in range(steps):
            start = max((s for s in starts if s <= t), default=None)
            of_features, of_state = torch.autograd.grad(
                output[t, column].sum(), [features, state], retain_graph=True
            )
            reached = of_features.abs().sum(-1) > 0
            begin = 0 if start is None else start
            inside = torch.zeros_like(is_first)
            inside[begin : t + 1, column] = True
            assert not (reached & ~inside).any()  # exactly zero outside of the episode's past
            assert reached[begin, column]
            assert reached[t, column]
            # A carried state is read only as long as nothing was reset.
            assert bool(of_state[column].any()) == (start is None)


def test_returned_state_keeps_no_gradient_of_earlier_episodes(memory, stream) -> None:
    features, state, is_first = stream
    features = features.clone().requires_grad_()
    _, after = memory(features, state, is_first)
    (gradient,) = torch.autograd.grad(after.sum(), features)
    for column in range(is_first.shape[1]):
        starts = is_first[:, column].nonzero().flatten().tolist()
        begin = starts[-1] if starts else 0
        assert not gradient[:begin, column].any()
        assert gradient[begin, column].any()
