"""mLSTM: a matrix per head as the state, written and read by keys and queries."""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from conf.schema.memories import MLSTMOptions
from networks.initialization import initialize, spread_timescales
from networks.memory.fused import Features, IsFirst, Outputs, State, StepMirror
from networks.memory.linear import LinearLayer, ResidualMemory
from networks.memory.scan import scan
from networks.mirror import Array, linear_mirror, sigmoid

_CHUNK = 16
"""Steps that read one another as in attention; from chunk to chunk the state is scanned."""
_FASTEST = 5.0
"""Limit of -log f: products of forget gates, and their inverses, of a chunk stay in float32."""
_EPS = 1.0
"""Weak reads stay weak and well-conditioned, as with xLSTM's `max(|n q|, 1)`."""


def _chunked(rows: Tensor) -> Tensor:
    """Cut `[T, *X]` into `[K, C, *X]`; the last chunk is filled with zeros."""
    size = min(len(rows), _CHUNK)
    padded = functional.pad(rows, (0, 0) * (rows.ndim - 1) + (0, -len(rows) % size))
    return padded.unflatten(0, (-1, size))


class MLSTMLayer(LinearLayer):
    """Per head: `C' = f C + i v k^T;  r = C' q;  y = W_o (o * r / sqrt(1 + mean(r^2)))`.

    The gates see the input alone: i and o are sigmoids, `f = exp(-5 sigmoid(...))`. It is the
    variant with a sigmoid input gate, which needs neither a normaliser nor a running maximum (Beck
    et al. 2025, arXiv:2503.14376). Within a chunk, the weight of step s at step t is `q_t k_s i_s`
    times the forget gates after s.
    """

    def __init__(self, options: MLSTMOptions) -> None:
        super().__init__(options)
        heads, size = self.shape = (options.num_heads, options.head_size)
        self.state_size = heads * size * size
        self.sizes = [heads, heads] + [heads * size] * 4  # f, i, o, q, k, v
        self.gates = nn.Linear(options.hidden_size, sum(self.sizes))
        self.output = nn.Linear(heads * size, options.hidden_size)
        initialize(self, initialization=options.initialization, gain=options.gain)
        with torch.no_grad():  # f = exp(-1 / tau)
            timescales = spread_timescales(heads, options.span)
            self.gates.bias[:heads] = -torch.log(_FASTEST * timescales - 1)

    def mix(self, inputs: Features, state: State, is_first: IsFirst) -> tuple[Outputs, State]:
        """Process T steps."""
        forget, write, out, *vectors = self.gates(inputs).split(self.sizes, dim=-1)
        query, key, value = (vector.unflatten(-1, self.shape) for vector in vectors)
        read, after = _attend(
            _chunked(query),
            _chunked(key * write.sigmoid()[..., None]),
            _chunked(value),
            _chunked(-_FASTEST * forget.sigmoid()),
            _chunked(is_first.long()),
            state.unflatten(-1, (*self.shape, -1)),
        )
        read = functional.rms_norm(read.flatten(0, 1)[: len(inputs)], read.shape[-1:], eps=_EPS)
        return self.output(out.sigmoid() * read.flatten(-2)), after.flatten(1)

    def mix_mirror(self) -> StepMirror:
        """Numpy form of `mix` at T = 1 without reset."""
        affine, output = linear_mirror(self.gates), linear_mirror(self.output)
        heads, size = self.shape
        gates = 2 * heads + heads * size  # f, i, o
        mean = np.full((size, 1), 1 / size, np.float32)  # a product: the fastest mean

        def mix(inputs: Array, state: Array) -> tuple[Array, Array]:
            rows = affine(inputs)
            opened = sigmoid(rows[:, :gates])
            forget = np.exp(opened[:, :heads] * np.float32(-_FASTEST))
            vectors = rows[:, gates:].reshape(-1, 3, heads, size)
            query, key, value = vectors[:, 0, :, :, None], vectors[:, 1], vectors[:, 2]
            key = key * opened[:, heads : 2 * heads, None]
            after = state.reshape(-1, heads, size, size) * forget[..., None, None]
            after += value[..., None] * key[..., None, :]
            read = np.matmul(after, query)[..., 0]
            read /= np.sqrt(np.matmul(np.square(read), mean) + np.float32(_EPS))
            mixed = output(opened[:, 2 * heads :] * read.reshape(len(read), -1))
            return mixed, after.reshape(state.shape)

        return mix


def _attend(
    query: Tensor, key: Tensor, value: Tensor, log_forget: Tensor, first: Tensor, before: Tensor
) -> tuple[Tensor, Tensor]:
    """Return what every step of every chunk reads, and the state after the last.

    Args:
        query: as `key` and `value`: `[K, C, B, heads, D]`.
        log_forget: `[K, C, B, heads]`.
        first: `[K, C, B]`, 1 where an episode begins.
        before: the state, `[B, heads, D, D]`.
    """
    episode = first.cumsum(1)
    of_chunk = episode.movedim(1, -1)  # [K, B, C]
    is_past = (of_chunk[..., None] == of_chunk[..., None, :]).tril()
    # Sums of one episode each: a sum over all, differenced, would let rounded gradients pass.
    total = torch.einsum("kbts,ksbh->ktbh", is_past.to(log_forget), log_forget)
    query = query * total.exp()[..., None]
    scores = torch.einsum("ktbhd,ksbhd->kbhts", query, key * (-total).exp()[..., None])
    read = torch.einsum("kbhts,ksbhd->ktbhd", scores.masked_fill(~is_past[:, :, None], 0.0), value)
    left = (total[:, -1:] - total).exp().masked_fill((episode != episode[:, -1:])[..., None], 0.0)
    added = torch.einsum("ksbhv,ksbhd->kbhvd", value * left[..., None], key)
    is_carried = (episode == 0)[..., None]
    carried = (total[:, -1].exp() * is_carried[:, -1])[..., None, None]
    states = scan(carried.expand_as(added), added, before)
    states = torch.cat([before[None], states])
    query = query * is_carried[..., None]
    return read + torch.einsum("kbhvd,ktbhd->ktbhv", states[:-1], query), states[-1]


class MLSTM(ResidualMemory):
    """xLSTM's memory of matrices (Beck et al. 2024, arXiv:2405.04517)."""

    Options = MLSTMOptions
    layer = MLSTMLayer
