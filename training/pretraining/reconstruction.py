"""Pre-trains an extractor as the encoder of an autoencoder, on collected frames."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from gymnasium.vector import VectorEnv
from jaxtyping import Float, Int
from omegaconf import DictConfig
from torch import Tensor

from agents.agent import Agent
from conf.checking.pretraining import frames_wanted
from envs.seeding import environment_seeds
from networks.autoencoding.autoencoder import Autoencoder, Encoder
from networks.backbone import Backbone
from networks.observations import Observations, map_observations
from training.building.environments import build_environments
from training.building.extractors import build_autoencoder, build_extractor
from training.building.instantiation import plain
from training.pretraining.fitting import HELD_OUT_LOSS, Objective
from training.pretraining.frames import Frames, collect_frames, hold_out, refuse_too_many
from training.pretraining.players import make_player
from training.pretraining.stages import (
    Pretrained,
    Pretraining,
    Recording,
    SavedPretraining,
    Task,
    say,
)
from training.process.threads import drawing
from training.saving.checkpoint import part_of
from training.stream.collect import Collector
from training.tracking.tracking import NoTensorBoard, Progress, TensorBoard

MAX_COLUMNS = 2048
"""Maximum row size for PCA: its time grows with the third power."""
Batches = Callable[[], Iterator[Float[Tensor, "N D"]]]
"""Iterates over rows, in pieces."""


@torch.no_grad()
def component_error(learnt: Batches, held_out: Batches, size: int) -> float:
    """Mean squared error of PCA with `size` components, fitted to other rows.

        C = mean (x - m)(x - m)^T,  W its `size` leading eigenvectors
        error = mean |(x - m) - W W^T (x - m)|^2,  a sum over columns

    In float64. Source: Pearson (1901); Jolliffe (2002), section 3.
    """
    count, total, products = 0, torch.zeros(()), torch.zeros(())
    for rows in learnt():
        wide = rows.double()
        count += len(wide)
        total = total.to(wide) + wide.sum(0)
        products = products.to(wide) + wide.T @ wide
    mean = total / count
    covariance = products / count - torch.outer(mean, mean)
    _, vectors = torch.linalg.eigh(covariance)  # in ascending order of eigenvalues
    basis = vectors[:, -size:]
    squares, measured = 0.0, 0
    for rows in held_out():
        centred = rows.double() - mean
        squares += float((centred - centred @ basis @ basis.T).square().sum())
        measured += len(centred)
    return squares / measured


KEY = "extractor.pretrain"
_MEASURED = 1024
"""Frames measured at once."""
_SHOWN = 8
"""Frames shown as images."""
_ROLLOUT = 8
"""Steps collected at once."""


class ReconstructionObjective(Objective):
    """An autoencoder and frames; its inputs are scaled and normalised like the agent's."""

    def __init__(
        self,
        autoencoder: Autoencoder,
        backbone: Backbone,
        frames: Frames,
        *,
        batch_size: int,
        held_out: float,
        seed: int,
    ) -> None:
        """Hold out some contiguous stretches; normalisation statistics come from the others.

        Args:
            backbone: of the agent; scales inputs, and its normalisation gets the statistics.
        """
        self.module = self._autoencoder = autoencoder
        self._backbone, self._frames = backbone, frames
        self.items_per_batch = batch_size
        self._learnt, self._held = hold_out(frames.stretches, held_out, seed)
        self.size = len(self._learnt)
        if backbone.normalization.learns:
            for chosen in self._learnt.split(_MEASURED):
                backbone.normalization.update(backbone.inputs(self._observed(chosen)))
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
    def pictures(self) -> dict[str, Tensor]:
        """Show some held-out frames above their reconstructions."""
        places = torch.linspace(0, len(self._held) - 1, min(_SHOWN, len(self._held)))
        return self._autoencoder.pictures(self._rows(self._held[places.long()]))

    def _observed(self, chosen: Tensor) -> Observations:
        device = next(self.module.parameters()).device
        return map_observations(lambda part: part.to(device), self._frames.select(chosen))

    @torch.no_grad()
    def _rows(self, chosen: Tensor) -> Observations:
        rows: Observations = self._backbone.normalization(
            self._backbone.inputs(self._observed(chosen))
        )
        return rows

    def _component_error(self) -> dict[str, float]:
        """Compute the error of PCA with the latent's size, with parts weighted equally too."""
        width = self._wide(self._learnt[:1]).shape[1]
        size = self._autoencoder.encoder.output_size
        if width > MAX_COLUMNS:
            say(f"pre-training: no principal components of {width:,} columns, as they take long")
            return {}

        def batches(chosen: Tensor) -> Callable[[], Iterator[Tensor]]:
            return lambda: (self._wide(some) for some in chosen.split(_MEASURED))

        error = component_error(batches(self._learnt), batches(self._held), min(size, width))
        return {"pca_squared_error": error}

    def _wide(self, chosen: Tensor) -> Float[Tensor, "N D"]:
        """Scale columns so that a sum over them is the mean over parts of means over columns."""
        rows = self._rows(chosen)
        parts = list(rows.values()) if isinstance(rows, dict) else [rows]
        flat = [part.flatten(1) for part in parts]
        return torch.cat([part / (part.shape[1] * len(flat)) ** 0.5 for part in flat], dim=1)


class ReconstructionTask(Task):
    """The autoencoder around an agent's extractor."""

    def __init__(self, config: DictConfig, agent: Agent) -> None:
        """Build it, with separate weights, so that a missing decoder is refused at once.

        Raises:
            ValueError: in one line, why the extractor cannot be pre-trained.
        """
        self._config, self._agent = config, agent
        self._options = config.extractor.pretrain
        (seed,) = environment_seeds(config.seed, 1, purpose="pretraining weights")
        inputs = agent.actor.inputs
        own = {**plain(config.extractor), "freeze": False}
        with drawing(seed):
            encoder, _ = build_extractor("extractor", own, inputs.shape, inputs.layout)
            if not isinstance(encoder, Encoder):
                raise ValueError(
                    f"{KEY}: {type(encoder).__name__} is no autoencoder's encoder; use "
                    "extractor=autoencoder"
                )
            self._autoencoder = build_autoencoder("extractor", own, inputs, encoder)
        # Start from the agent's weights: parts of them may have been loaded.
        encoder.load_state_dict(agent.actor.extractor.state_dict())
        self._autoencoder.to(agent.device)
        self._objective: ReconstructionObjective | None = None

    def check(self, environments: VectorEnv[Any, Any, Any]) -> None:
        """Check, before anything is written, that frames can be collected.

        Raises:
            ValueError: they would not fit into memory, or their source cannot be used.
        """
        options = self._options
        refuse_too_many(f"{KEY}.frames", environments.single_observation_space, options.frames)
        head = self._agent.policy_head
        make_player(
            f"{KEY}.source", options.source, self._config, head, environments, is_greedy=False
        )

    def collect(self, should_abandon: Callable[[], bool]) -> Recording:
        """Collect frames with the random agent or a run's policy."""
        config, options = self._config, self._options
        environments = build_environments(config, num_envs=config.env.num_envs)
        try:
            seeds = environment_seeds(config.seed, environments.num_envs, purpose="pretraining")
            head = self._agent.policy_head
            player = make_player(
                f"{KEY}.source", options.source, config, head, environments, is_greedy=False
            )
            collector = Collector(environments, rollout_length=_ROLLOUT, seeds=seeds)
            collector.should_abandon = should_abandon
            progress = Progress(options.frames, show=config.tracking.progress)
            frames = collect_frames(
                player,
                collector,
                count=options.frames,
                watch=lambda count: progress.update(count, None),
            )
            progress.close()
        finally:
            environments.close()
        return _to_recording(frames)

    def objective(self, recording: Recording) -> ReconstructionObjective:
        """Build the objective from the autoencoder and the frames."""
        options = self._options
        self._objective = ReconstructionObjective(
            self._autoencoder,
            self._agent.actor,
            _from_recording(recording),
            batch_size=options.batch_size,
            held_out=options.held_out,
            seed=self._config.seed,
        )
        return self._objective

    def weights(self) -> dict[str, Tensor]:
        """Return encoder, decoder, and the normalisation they were trained with."""
        normalization = self._agent.actor.normalization.state_dict()
        return self._autoencoder.state_dict() | {
            f"normalization.{name}": tensor for name, tensor in normalization.items()
        }

    def show(self, tensorboard: TensorBoard | NoTensorBoard, step: int) -> None:
        """Show reconstructions of held-out images."""
        assert self._objective is not None
        pictures = self._objective.pictures()
        for name, picture in pictures.items():
            part = "" if len(pictures) == 1 else f"/{name}"
            tensorboard.picture(f"images/reconstruction{part}", picture.cpu().numpy(), step)

    def give(self, pretrained: Pretrained) -> None:
        """Load the encoder into the agent's extractors, the critic's if it is built alike."""
        agent: Any = self._agent
        agent.actor.normalization.load_state_dict(part_of(pretrained.tensors, "normalization"))
        encoder = part_of(pretrained.tensors, "encoder")
        agent.actor.extractor.load_state_dict(encoder)
        if self._config.critic.extractor is None:
            for backbone in agent.networks.backbones.values():
                backbone.extractor.load_state_dict(encoder)
        agent.weights_replaced()


def pretrain_extractor(
    task: ReconstructionTask,
    config: DictConfig,
    directory: Path,
    *,
    tensorboard: TensorBoard | NoTensorBoard,
    identity: Mapping[str, Any],
    saved: SavedPretraining | None,
) -> int:
    """Pre-train an agent's extractor, or load the pre-training of this directory.

    Returns:
        Environment steps of collecting.

    Raises:
        Interrupted: the user asked to stop.
    """
    pretraining = Pretraining(
        task,
        config.extractor.pretrain,
        directory,
        tensorboard=tensorboard,
        seed=config.seed,
        facts={
            "objective": "reconstruction",
            "extractor": plain(config.extractor),
            "environment": config.env.id,
            "identity": dict(identity),
        },
        saved=saved,
    )
    pretrained = pretraining.run()
    task.give(pretrained)
    say(f"pre-trained on {pretrained}")
    return pretrained.env_steps


def is_wanted(config: DictConfig) -> bool:
    """Tell whether a new agent's extractor is to be pre-trained."""
    return frames_wanted(plain(config)) is not None


def _to_recording(frames: Frames) -> Recording:
    parts = frames.observations
    named = parts if isinstance(parts, dict) else {"": parts}
    tensors = {f"observations.{name}": part for name, part in named.items()}
    return {**tensors, "stretches": frames.stretches}, {"env_steps": frames.env_steps}


def _from_recording(recording: Recording) -> Frames:
    tensors, state = recording
    named = part_of(tensors, "observations")
    return Frames(named.get("", named), tensors["stretches"], state["env_steps"])
