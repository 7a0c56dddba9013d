"""Fits a network to recorded data: epochs, early stopping on held-out data, best weights.

Randomness is derived from seed and epoch, so only weights, moments and counters must be saved to
resume exactly after an epoch.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from omegaconf import DictConfig
from torch import Tensor, nn

from envs.seeding import environment_seeds
from training.runs.refusal import Refusal
from training.saving.checkpoint import part_of, prefixed

HELD_OUT_LOSS = "held_out_loss"
"""The measure that selects the best weights."""


class Objective(ABC):
    """A network, its data, and its loss.

    Attributes:
        options: the learning rate; `epochs`, the maximum number of passes over the data; after
            `patience` passes without a smaller `held_out_loss`, fitting ends.
        module: the network; all its parameters are trained.
        size: number of training items; they are sampled by index.
        items_per_batch: items per gradient step.
    """

    options: DictConfig
    module: nn.Module
    size: int
    items_per_batch: int

    @abstractmethod
    def loss(self, items: Int[Tensor, " M"]) -> Float[Tensor, ""]:
        """Mean loss of some items."""

    @abstractmethod
    def measure(self) -> dict[str, float]:
        """Measure on held-out data, `held_out_loss` among others."""

    def refresh(self) -> None:
        """Recompute what depends on the weights, once per epoch."""
        return


class Fitting:
    """Adam on an objective, epoch by epoch.

    Attributes:
        epoch: finished passes.
        best_epoch: with the smallest `held_out_loss`; 0 is before the first.
        measures: of the latest epoch; `loss` is the mean over its batches, which epoch 0 has not.
        best_measures: of the best epoch.
    """

    def __init__(self, objective: Objective, *, seed: int) -> None:
        """Start before the first epoch; nothing is measured yet."""
        self._objective, self._seed = objective, seed
        self._optimizer = torch.optim.Adam(
            objective.module.parameters(), lr=objective.options.learning_rate, foreach=False
        )
        self.epoch, self.best_epoch = 0, 0
        self.measures: dict[str, float] = {}
        self.best_measures: dict[str, float] = {}
        self._best: dict[str, Tensor] = {}

    @property
    def is_over(self) -> bool:
        """Whether all epochs are done, or patience is exhausted."""
        options = self._objective.options
        without_better = self.epoch - self.best_epoch
        return bool(self.epoch >= options.epochs or without_better >= options.patience)

    def epochs(self, watch: Callable[[], object]) -> Iterator[None]:
        """Measure the initial weights, then train epoch by epoch; yields after each.

        Args:
            watch: called before every batch; an exception from it discards the epoch.

        Raises:
            Refusal: the loss is not finite.
        """
        if not self.measures:
            self._measure({})
            yield
        while not self.is_over:
            loss = self._pass(watch)
            self.epoch += 1
            self._measure({"loss": loss})
            yield

    def load_best(self) -> None:
        """Load the best weights into the module."""
        self._objective.module.load_state_dict(self._best)

    def _pass(self, watch: Callable[[], object]) -> float:
        """Take a gradient step on every batch, in a new order for each epoch."""
        objective = self._objective
        with self._randomness("order") as generator:
            order = torch.from_numpy(generator.permutation(objective.size))
            batches = order.split(objective.items_per_batch)
            objective.module.train()
            total = 0.0
            for items in batches:
                watch()
                loss = objective.loss(items)
                self._optimizer.zero_grad(set_to_none=True)
                loss.backward()
                self._optimizer.step()
                total += float(loss.detach()) * len(items)
        objective.module.eval()
        return total / objective.size

    @torch.no_grad()
    def _measure(self, of_learning: Mapping[str, float]) -> None:
        self._objective.module.eval()
        with self._randomness("measure"):
            self._objective.refresh()
            self.measures = {**of_learning, **self._objective.measure()}
        current = self.measures[HELD_OUT_LOSS]
        if not math.isfinite(current):
            raise Refusal(f"the held-out loss is {current} after {self.epoch} epochs", 1)
        if not self._best or current < self.best_measures[HELD_OUT_LOSS]:
            self.best_epoch, self.best_measures = self.epoch, self.measures
            state = self._objective.module.state_dict()
            self._best = {name: tensor.detach().clone() for name, tensor in state.items()}

    @contextmanager
    def _randomness(self, purpose: str) -> Iterator[np.random.Generator]:
        """Seed each epoch differently; measuring always has the same seed."""
        index = self.epoch if purpose == "order" else 0
        seeds = environment_seeds(self._seed, 2, purpose=f"pretraining {purpose}", index=index)
        device = next(self._objective.module.parameters()).device
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(seeds[0])
            yield np.random.default_rng(seeds)

    def state_dict(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return everything that the next epoch depends on, as tensors and plain Python."""
        tensors = prefixed("now", self._objective.module.state_dict()) | prefixed(
            "best", self._best
        )
        for index, moments in self._optimizer.state_dict()["state"].items():
            tensors |= prefixed(f"moments.{index}", moments)
        return tensors, {
            "epoch": self.epoch,
            "best_epoch": self.best_epoch,
            "measures": self.measures,
            "best_measures": self.best_measures,
        }

    def load_state_dict(self, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
        """Resume from a saved state."""
        self._objective.module.load_state_dict(part_of(tensors, "now"))
        self._best = part_of(tensors, "best")
        groups = self._optimizer.state_dict()["param_groups"]
        moments = {index: part_of(tensors, f"moments.{index}") for index in groups[0]["params"]}
        begun = {index: each for index, each in moments.items() if each}
        self._optimizer.load_state_dict({"state": begun, "param_groups": groups})
        with torch.no_grad():
            self._objective.module.eval()
            self._objective.refresh()
        self.epoch, self.best_epoch = state["epoch"], state["best_epoch"]
        self.measures, self.best_measures = dict(state["measures"]), dict(state["best_measures"])
