"""Autoencoding: an encoder learns to keep what another policy observes, without rewards."""

from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from agents.agent import Agent, Setup
from agents.learning.behaviour import Behaviour
from agents.learning.gradient_step import Losses
from agents.learning.parts import Networks
from agents.learning.replay_learner import ReplayLearner
from agents.trajectory import Trajectory
from conf.schema.agents import AutoencodingOptions
from networks.autoencoding.autoencoder import Autoencoder
from networks.memory.memories import pick_steps
from networks.observations import Observations, map_observations, parts_of

_MAX_COLUMNS = 1024
"""Maximum row size for PCA, whose time grows with the third power."""
_FITTED = 4096
"""Observations that PCA is fitted to."""


class Autoencoding(Agent):
    """Trains the extractor as an autoencoder's encoder, on observations of a behaviour policy.

        L = mean over a batch of || decode(encode(o)) - o ||^2

    For what is not a number the error is a cross-entropy, and a variational autoencoder adds a KL
    divergence (`networks.autoencoding.autoencoder.Autoencoder`). Batches are drawn uniformly from
    the replay. The observations of evaluation have other seeds and are never learnt from.

    Source: Hinton & Salakhutdinov (2006), "Reducing the dimensionality of data with neural
    networks"; Lange & Riedmiller (2010), "Deep auto-encoder neural networks in reinforcement
    learning".
    """

    Options = AutoencodingOptions
    trains: ClassVar = {"reconstruction": ("extractor", "decoder")}
    minimizes = "held_out_loss"
    evaluated = ("behaviour",)
    decoder: Autoencoder
    learner: ReplayLearner

    def __init__(self, networks: Networks, options: AutoencodingOptions, setup: Setup) -> None:
        super().__init__(networks, setup)
        self.learner = ReplayLearner(networks, options, setup, policy_delay=None)
        self.behaviour = Behaviour(self, explores=True, is_random=options.source == "random")
        self._components: tuple[int, Tensor, Tensor] | None = None

    def losses(self, window: Trajectory, weights: None, noise: None) -> Losses:
        """Compute the loss of single observations."""
        loss, metrics = self.decoder.loss(self._rows(window))
        return Losses(
            {"reconstruction": loss}, {f"loss/{name}": each for name, each in metrics.items()}
        )

    def _rows(self, window: Trajectory) -> Observations:
        return self.actor.rows(pick_steps(window.observations, self.learner.learnt))

    @torch.no_grad()
    def held_out(self, trajectory: Trajectory) -> dict[str, Float[Tensor, " N"]]:
        """Measure the observations before valid steps.

        Returns:
            `held_out_loss`; `squared_error` of numbers, and `pca_squared_error`, that of as many
            principal components of replayed observations as the latent has numbers.
        """
        seen = trajectory.to(self.device)
        is_valid = seen.valid.flatten()
        rows = map_observations(lambda p: p[is_valid], self.actor.rows(seen.step_observations))
        squares = self.decoder.squared_error(rows)
        found = {"held_out_loss": self.decoder.loss(rows)[0].expand_as(squares)}
        found["squared_error"] = squares
        if self._fit_components():
            assert self._components is not None
            _, mean, basis = self._components
            centred = _columns(rows) - mean
            rest = centred - centred @ basis @ basis.T
            found["pca_squared_error"] = rest.square().sum(1)
        return found

    def _fit_components(self) -> bool:
        """Fit principal components to replayed observations, anew after every gradient step.

            C = mean (x - m)(x - m)^T,  its leading eigenvectors

        Returns:
            Whether there are any: not for large observations, nor before some were replayed.
            Source: Pearson (1901); Jolliffe (2002), section 3.
        """
        replay, updates = self.learner.replay, self.learner.clock.updates
        if self._components is None or self._components[0] != updates:
            self._components = None
            if replay.num_windows:
                sample = replay.sample(_FITTED, np.random.default_rng(0), importance_exponent=0.0)
                columns = _columns(self._rows(sample.window.to(self.device)))
                if columns.shape[1] <= _MAX_COLUMNS:
                    _, vectors = torch.linalg.eigh(torch.cov(columns.T, correction=0))
                    size = self.decoder.encoder.output_size
                    self._components = updates, columns.mean(0), vectors[:, -size:]
        return self._components is not None


def _columns(rows: Observations) -> Float[Tensor, "N D"]:
    """Scale columns so that a sum over them is the mean over parts of means over columns."""
    flat = [part.flatten(1).double() for part in parts_of(rows)]
    return torch.cat([part / (part.shape[1] * len(flat)) ** 0.5 for part in flat], dim=1)
