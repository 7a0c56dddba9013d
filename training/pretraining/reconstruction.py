"""Pre-trains an extractor as the encoder of an autoencoder."""

from collections.abc import Iterable

import torch
from jaxtyping import Float, Int
from omegaconf import DictConfig
from torch import Tensor
from torch.nn import functional

from agents.agent import Agent
from envs.seeding import environment_seeds
from networks.autoencoding.autoencoder import Autoencoder, Encoder
from networks.observations import Observations, parts_of
from training.building.extractors import build_autoencoder, build_extractor
from training.building.instantiation import plain
from training.pretraining.fitting import HELD_OUT_LOSS, Fitting
from training.pretraining.recording import Recording
from training.process.threads import drawing
from training.saving.checkpoint import prefixed

MAX_COLUMNS = 2048
"""Maximum row size for PCA: its time grows with the third power."""
_SHOWN = 8
"""Frames shown as images."""


class Reconstruction(Fitting):
    """The autoencoder around an agent's extractor; inputs are scaled like the agent's."""

    key, source_key = "extractor.pretrain", "extractor.pretrain.source"
    module: Autoencoder

    def __init__(self, config: DictConfig, agent: Agent) -> None:
        """Build it, with separate weights, so that a missing decoder is refused at once.

        Raises:
            ValueError: in one line, why the extractor cannot be pre-trained.
        """
        (seed,) = environment_seeds(config.seed, 1, purpose="pretraining weights")
        inputs, own = agent.actor.inputs, {**plain(config.extractor), "freeze": False}
        with drawing(seed):
            encoder, _ = build_extractor("extractor", own, inputs.shape, inputs.layout)
            assert isinstance(encoder, Encoder)  # `frames_wanted` tells so
            autoencoder = build_autoencoder("extractor", own, inputs, encoder)
        # Start from the agent's weights: parts of them may have been loaded.
        encoder.load_state_dict(agent.actor.extractor.state_dict())
        super().__init__(config, agent, autoencoder.to(agent.device), length=1)

    def prepare(self, recording: Recording) -> None:
        """Hold some frames out, and measure PCA with the latent's size on them."""
        super().prepare(recording)
        width = self._columns(self.learnt[:1]).shape[1]
        if width <= MAX_COLUMNS:
            both = (self.pieces(self.learnt), self.pieces(self.held_out))
            learnt, held_out = (map(self._columns, pieces) for pieces in both)
            size = min(self.module.encoder.output_size, width)
            self.baselines = {"pca_squared_error": component_error(learnt, held_out, size)}

    def loss(self, numbers: Int[Tensor, " N"]) -> Float[Tensor, ""]:
        """Reconstruction loss, plus the autoencoder's other losses."""
        return self.module.loss(self._rows(numbers))[0]

    def measure(self, numbers: Int[Tensor, " N"]) -> dict[str, Float[Tensor, " S"]]:
        """Measure loss and squared error."""
        rows = self._rows(numbers)
        loss, squares = self.module.loss(rows)[0], self.module.squared_error(rows)
        return {HELD_OUT_LOSS: loss.expand_as(squares), "squared_error": squares}

    def pictures(self) -> dict[str, Tensor]:
        """Draw some held-out images above their reconstructions."""
        places = torch.linspace(0, len(self.held_out) - 1, min(_SHOWN, len(self.held_out)))
        return self.module.pictures(self._rows(self.held_out[places.long()]))

    def weights(self) -> dict[str, Tensor]:
        """Return encoder, decoder, and the normalisation they were trained with."""
        normalization = self.agent.actor.normalization.state_dict()
        return self.module.state_dict() | prefixed("normalization", normalization)

    def _rows(self, numbers: Int[Tensor, " N"]) -> Observations:
        return self.agent.actor.rows(self.read(numbers).step_observations)

    def _columns(self, numbers: Int[Tensor, " N"]) -> Float[Tensor, "N D"]:
        """Scale columns so that a sum over them is the mean over parts of means over columns."""
        flat = [part.flatten(1) for part in parts_of(self._rows(numbers))]
        return torch.cat([part / (part.shape[1] * len(flat)) ** 0.5 for part in flat], dim=1)


def component_error(learnt: Iterable[Tensor], held_out: Iterable[Tensor], size: int) -> float:
    """Mean squared error of PCA with `size` components, fitted to other rows.

        C = mean (x - m)(x - m)^T,  W its `size` leading eigenvectors
        error = mean |(x - m) - W W^T (x - m)|^2 = tr D - tr W^T D W,  a sum over columns

    Here D is the same mean as C, over the held-out rows. In float64. Source: Pearson (1901);
    Jolliffe (2002), section 3.

    Args:
        learnt: rows `[N, D]`, in pieces, like `held_out`.
    """
    mean, covariance = _moments(learnt)
    _, vectors = torch.linalg.eigh(covariance)  # in ascending order of eigenvalues
    basis = vectors[:, -size:]
    other_mean, spread = _moments(held_out)
    spread = spread + torch.outer(other_mean - mean, other_mean - mean)
    return float(spread.trace() - (basis.T @ spread @ basis).trace())


def _moments(pieces: Iterable[Float[Tensor, "N D"]]) -> tuple[Tensor, Tensor]:
    """Mean and covariance of rows, from the products of their columns and a column of ones."""
    total = torch.zeros(())
    for rows in pieces:
        wide = functional.pad(rows.double(), (0, 1), value=1.0)
        total = total.to(wide) + wide.T @ wide
    mean = total[-1, :-1] / total[-1, -1]
    return mean, total[:-1, :-1] / total[-1, -1] - torch.outer(mean, mean)
