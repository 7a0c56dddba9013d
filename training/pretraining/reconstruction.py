"""Pre-trains an extractor as the encoder of an autoencoder, on collected frames."""

from collections.abc import Iterable, Mapping

import torch
from jaxtyping import Float, Int
from omegaconf import DictConfig
from torch import Tensor

from agents.agent import Agent
from envs.seeding import environment_seeds
from networks.autoencoding.autoencoder import Encoder
from networks.observations import Observations, map_observations, parts_of
from training.building.extractors import build_autoencoder, build_extractor
from training.building.instantiation import plain
from training.pretraining.fitting import HELD_OUT_LOSS
from training.pretraining.frames import collect_frames, observations_of
from training.pretraining.stages import Task
from training.process.threads import drawing
from training.saving.checkpoint import part_of, prefixed
from training.stream.collect import Collector, Player
from training.tracking.tracking import Progress, TensorBoard

MAX_COLUMNS = 2048
"""Maximum row size for PCA: its time grows with the third power."""


@torch.no_grad()
def component_error(learnt: Iterable[Tensor], held_out: Iterable[Tensor], size: int) -> float:
    """Mean squared error of PCA with `size` components, fitted to other rows.

        C = mean (x - m)(x - m)^T,  W its `size` leading eigenvectors
        error = mean |(x - m) - W W^T (x - m)|^2,  a sum over columns

    In float64. Source: Pearson (1901); Jolliffe (2002), section 3.

    Args:
        learnt: rows `[N, D]`, in pieces, like `held_out`.
    """
    count, total, products = 0, torch.zeros(()), torch.zeros(())
    for rows in learnt:
        wide = rows.double()
        count += len(wide)
        total = total.to(wide) + wide.sum(0)
        products = products.to(wide) + wide.T @ wide
    mean = total / count
    covariance = products / count - torch.outer(mean, mean)
    _, vectors = torch.linalg.eigh(covariance)  # in ascending order of eigenvalues
    basis = vectors[:, -size:]
    squares, measured = 0.0, 0
    for rows in held_out:
        centred = rows.double() - mean
        squares += float((centred - centred @ basis @ basis.T).square().sum())
        measured += len(centred)
    return squares / measured


_MEASURED = 1024
"""Frames measured at once."""
_SHOWN = 8
"""Frames shown as images."""
_ROLLOUT = 8
"""Steps collected at once."""


class Reconstruction(Task):
    """The autoencoder around an agent's extractor; inputs are scaled like the agent's."""

    key = "extractor.pretrain"
    source_key = f"{key}.source"

    def __init__(self, config: DictConfig, agent: Agent) -> None:
        """Build it, with separate weights, so that a missing decoder is refused at once.

        Raises:
            ValueError: in one line, why the extractor cannot be pre-trained.
        """
        super().__init__(config, agent)
        self._backbone, self.items_per_batch = agent.actor, self.options.batch_size
        (seed,) = environment_seeds(config.seed, 1, purpose="pretraining weights")
        inputs = agent.actor.inputs
        own = {**plain(config.extractor), "freeze": False}
        with drawing(seed):
            encoder, _ = build_extractor("extractor", own, inputs.shape, inputs.layout)
            if not isinstance(encoder, Encoder):
                raise ValueError(
                    f"{self.key}: {type(encoder).__name__} is no autoencoder's encoder; use "
                    "extractor=autoencoder"
                )
            self._autoencoder = build_autoencoder("extractor", own, inputs, encoder)
        # Start from the agent's weights: parts of them may have been loaded.
        encoder.load_state_dict(agent.actor.extractor.state_dict())
        self.module = self._autoencoder.to(agent.device)

    def rollout_length(self, num_envs: int) -> int:
        """Collect a few steps at once."""
        return _ROLLOUT

    def record(self, player: Player, collector: Collector) -> dict[str, Tensor]:
        """Collect frames with the random agent or a run's policy."""
        count = self.options.frames
        progress = Progress(count, show=self.config.tracking.progress)
        frames = collect_frames(
            player, collector, count=count, watch=lambda filled: progress.update(filled, None)
        )
        progress.close()
        return frames

    def prepare(self, recording: Mapping[str, Tensor]) -> None:
        """Hold out some contiguous stretches; normalisation statistics come from the others."""
        self._frames = observations_of(recording)
        self._hold_out(recording["stretches"])
        if self._backbone.normalization.learns:
            for chosen in self._learnt.split(_MEASURED):
                self._backbone.normalization.update(self._backbone.inputs(self._observed(chosen)))
        self._principal = self._component_error()

    def loss(self, items: Int[Tensor, " M"]) -> Float[Tensor, ""]:
        """Reconstruction loss, plus the autoencoder's other losses."""
        loss, _ = self._autoencoder.loss(self._rows(self._learnt[items]))
        return loss

    def measure(self) -> dict[str, float]:
        """Measure loss and squared error, and the squared error of PCA."""
        losses, squares = 0.0, 0.0
        for chosen in self._held.split(_MEASURED):
            rows = self._rows(chosen)
            losses += float(self._autoencoder.loss(rows)[0]) * len(chosen)
            squares += float(self._autoencoder.squared_error(rows).double().sum())
        count = len(self._held)
        return {HELD_OUT_LOSS: losses / count, "squared_error": squares / count, **self._principal}

    @torch.no_grad()
    def show(self, tensorboard: TensorBoard, step: int) -> None:
        """Show some held-out images above their reconstructions."""
        places = torch.linspace(0, len(self._held) - 1, min(_SHOWN, len(self._held)))
        pictures = self._autoencoder.pictures(self._rows(self._held[places.long()]))
        for name, picture in pictures.items():
            part = "" if len(pictures) == 1 else f"/{name}"
            tensorboard.picture(f"images/reconstruction{part}", picture.cpu().numpy(), step)

    def weights(self) -> dict[str, Tensor]:
        """Return encoder, decoder, and the normalisation they were trained with."""
        normalization = self._backbone.normalization.state_dict()
        return self._autoencoder.state_dict() | prefixed("normalization", normalization)

    def give(self, tensors: Mapping[str, Tensor]) -> None:
        """Load pre-trained weights into the agent, its critic too if it is built alike."""
        self._backbone.normalization.load_state_dict(part_of(tensors, "normalization"))
        encoder = part_of(tensors, "encoder")
        self._backbone.extractor.load_state_dict(encoder)
        if self.config.critic.extractor is None:
            for backbone in self.agent.networks.backbones.values():
                backbone.extractor.load_state_dict(encoder)
        self.agent.weights_replaced()

    def _observed(self, chosen: Tensor) -> Observations:
        device = self.agent.device
        return map_observations(lambda part: part.index_select(0, chosen).to(device), self._frames)

    @torch.no_grad()
    def _rows(self, chosen: Tensor) -> Observations:
        rows: Observations = self._backbone.normalization(
            self._backbone.inputs(self._observed(chosen))
        )
        return rows

    def _component_error(self) -> dict[str, float]:
        """Compute the error of PCA with the latent's size, with parts weighted equally too."""
        width = self._wide(self._learnt[:1]).shape[1]
        if width > MAX_COLUMNS:
            print(
                f"pre-training: no principal components of {width:,} columns, as they take long",
                flush=True,
            )
            return {}
        learnt, held = (
            map(self._wide, each.split(_MEASURED)) for each in (self._learnt, self._held)
        )
        size = min(self._autoencoder.encoder.output_size, width)
        return {"pca_squared_error": component_error(learnt, held, size)}

    def _wide(self, chosen: Tensor) -> Float[Tensor, "N D"]:
        """Scale columns so that a sum over them is the mean over parts of means over columns."""
        flat = [part.flatten(1) for part in parts_of(self._rows(chosen))]
        return torch.cat([part / (part.shape[1] * len(flat)) ** 0.5 for part in flat], dim=1)
