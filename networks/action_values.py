"""Layers that make a value for each action: plain, dueling, noisy, or both."""

from typing import Any

from jaxtyping import Float
from torch import Tensor

from networks.heads import NoisyFunction, StateLayers, ValueLayers
from networks.mirror import Array
from networks.noisy import NoisyLayers


class ActionLayers(ValueLayers):
    """The numbers of one value for each summary and action.

    Dueling layers have a stream for the state and one for the actions, each with hidden layers of
    its own, and add them up number by number,

        q(s, a) = v(s) + u(s, a) - mean_a' u(s, a')

    Source: Wang et al. (2016), arXiv:1511.06581, eq. 9; of distributions, where the numbers are
    logits, Hessel et al. (2018), arXiv:1710.02298, section 4.
    """

    def __init__(
        self,
        input_size: int,
        width: int,
        *,
        num_actions: int,
        dueling: bool,
        noisy: bool,
        noisy_sigma: float,
        **layers: Any,
    ) -> None:
        """Build the layers.

        Args:
            width: numbers of each value, K.
            noisy: whether every linear layer here is noisy.
            noisy_sigma: first spread of the noise, in units of `1 / sqrt(inputs)`.
        """
        super().__init__()

        def stream(output_size: int) -> ValueLayers:
            if noisy:
                return NoisyLayers(input_size, output_size, sigma=noisy_sigma, **layers)
            return StateLayers(input_size, output_size, **layers)

        self.actions = stream(num_actions * width)
        self.state = stream(width) if dueling else None
        self._table = (num_actions, width)
        self.output_shape = self._table if width > 1 else (num_actions,)
        self._own_noise = self.actions.noise_size
        self.noise_size = self._own_noise + (self.state.noise_size if self.state else 0)

    def forward(
        self, summary: Float[Tensor, "*N H"], noise: Float[Tensor, "..."] | None
    ) -> Float[Tensor, "*N A K"]:
        """Return the numbers of each action's value."""
        own = None if noise is None else noise[..., : self._own_noise]
        output: Tensor = self.actions(summary, own).unflatten(-1, self._table)
        if self.state is None:
            return output
        common: Tensor = self.state(
            summary, None if noise is None else noise[..., self._own_noise :]
        )
        return common[..., None, :] + output - output.mean(-2, keepdim=True)

    def project(self, weights: Float[Tensor, "K K"], bias: Float[Tensor, " K"]) -> None:
        """Project each stream; only one of them may add the bias, the mean of actions drops it."""
        self.actions.project(weights, bias)
        if self.state is not None:
            self.state.project(weights, bias)

    def mirror(self) -> NoisyFunction | None:
        """Numpy form of `forward`."""
        actions, table, size = self.actions.mirror(), self._table, self._own_noise
        if actions is None:
            return None
        own: NoisyFunction = actions
        state = None if self.state is None else self.state.mirror()

        def apply(summary: Array, noise: Array | None) -> Array:
            shares = (None, None) if noise is None else (noise[..., :size], noise[..., size:])
            output = own(summary, shares[0]).reshape(-1, *table)
            if state is not None:
                output -= output.mean(-2, keepdims=True)
                output += state(summary, shares[1])[:, None]
            return output

        return apply
