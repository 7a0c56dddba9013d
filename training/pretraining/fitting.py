"""Fits a network to recorded steps: epochs, early stopping on held-out steps, best weights.

Randomness is derived from seed and epoch, so only weights, moments and the measures of every epoch
must be saved to resume exactly after an epoch.
"""

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float, Int
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn

from agents.agent import Agent
from agents.trajectory import Trajectory
from envs.seeding import environment_seeds
from training.pretraining.recording import Recording
from training.runs.refusal import Refusal
from training.saving.checkpoint import Tensors, part_of
from training.stream.episodes import Abandoned

HELD_OUT_LOSS = "held_out_loss"
"""The measure that selects the best weights."""
_MEASURED = 1024
"""Approximate number of steps measured at once."""


class Fitting(ABC):
    """Adam on the loss of a network on recorded steps, epoch by epoch.

    Windows of steps are known by their numbers in the recording.

    Attributes:
        key: of the options in the configuration: `batch_size` (steps), `learning_rate`, `epochs`,
            the maximum number of passes over the data, and `patience`, the passes without a smaller
            `held_out_loss` after which it ends.
        source_key: of the run whose policy collects.
        learnt, held_out: the windows to learn from, and to measure on.
        baselines: measures that do not depend on the weights.
        history: measures before the first pass and after each one; `loss` is the mean over the
            batches of a pass.
    """

    key: ClassVar[str]
    source_key: ClassVar[str]
    baselines: Mapping[str, float] = MappingProxyType({})

    def __init__(self, config: DictConfig, agent: Agent, module: nn.Module, length: int) -> None:
        """Pre-train for this agent; nothing is measured yet.

        Args:
            module: the network; all its parameters are trained.
            length: steps of a window.
        """
        self.config, self.agent, self.module, self.length = config, agent, module, length
        self.options = OmegaConf.select(config, self.key)
        self.history: list[dict[str, float]] = []
        self._best: dict[str, Tensor] = {}
        rate = self.options.learning_rate
        self._optimizer = torch.optim.Adam(module.parameters(), lr=rate, foreach=False)

    @abstractmethod
    def loss(self, numbers: Int[Tensor, " N"]) -> Float[Tensor, ""]:
        """Mean loss of some windows."""

    @abstractmethod
    def measure(self, numbers: Int[Tensor, " N"]) -> dict[str, Float[Tensor, " S"]]:
        """Measure every valid step of some windows, `held_out_loss` among others."""

    def refresh(self) -> None:
        """Recompute what depends on the weights, once per epoch."""
        return

    @abstractmethod
    def weights(self) -> dict[str, Tensor]:
        """Return the network's weights as they are stored."""

    def pictures(self) -> dict[str, Tensor]:
        """Draw the network's output on held-out steps, `uint8 [H, W, 3]` by part."""
        return {}

    def prepare(self, recording: Recording) -> None:
        """Hold some windows out; normalisation statistics come from the others."""
        self.recording, options = recording, self.options
        with self._randomness("held out", 0) as generator:
            split = recording.split(self.length, options.frames, options.held_out, generator)
        self.learnt, self.held_out = split
        for numbers in self.pieces(self.learnt):
            steps = self.read(numbers)
            self.agent.actor.observe(steps.step_observations, steps.valid)

    def read(self, numbers: Int[Tensor, " N"]) -> Trajectory:
        """Read some windows, `[L, N]`, onto the agent's device."""
        return self.recording.windows(numbers, self.length).to(self.agent.device)

    def pieces(self, numbers: Int[Tensor, " N"]) -> tuple[Tensor, ...]:
        """Split windows into groups that are read at once."""
        return numbers.split(max(1, _MEASURED // self.length))

    # ---- epochs

    @property
    def epoch(self) -> int:
        """Finished passes; -1 before the initial weights are measured."""
        return len(self.history) - 1

    @property
    def best_epoch(self) -> int:
        """The first one with the smallest `held_out_loss`; 0 is before the first pass."""
        losses = [measures[HELD_OUT_LOSS] for measures in self.history]
        return losses.index(min(losses)) if losses else 0

    def epochs(self, should_abandon: Callable[[], bool]) -> Iterator[None]:
        """Measure the initial weights, then train epoch by epoch; yields after each.

        At the end the network has the best weights.

        Args:
            should_abandon: called before every batch; True abandons the epoch.

        Raises:
            Refusal: the loss is not finite.
            Abandoned: `should_abandon` returned True.
        """
        options = self.options
        while self.epoch < min(options.epochs, self.best_epoch + options.patience):
            self._measure({"loss": self._pass(should_abandon)} if self.history else {})
            yield
        self.module.load_state_dict(self._best)

    def _pass(self, should_abandon: Callable[[], bool]) -> float:
        """Take a gradient step on every batch, in a new order for each epoch."""
        total, size = 0.0, len(self.learnt)
        with self._randomness("order", self.epoch) as generator:
            order = self.learnt[torch.from_numpy(generator.permutation(size))]
            self.module.train()
            for numbers in order.split(max(1, self.options.batch_size // self.length)):
                if should_abandon():
                    raise Abandoned
                loss = self.loss(numbers)
                self._optimizer.zero_grad(set_to_none=True)
                loss.backward()
                self._optimizer.step()
                total += float(loss.detach()) * len(numbers)
        return total / size

    @torch.no_grad()
    def _measure(self, of_learning: Mapping[str, float]) -> None:
        with self._randomness("measure", 0):
            self.module.eval()
            self.refresh()
            found = [self.measure(numbers) for numbers in self.pieces(self.held_out)]
        steps = {name: torch.cat([each[name] for each in found]).double() for name in found[0]}
        means = {name: float(values.mean()) for name, values in steps.items()}
        self.history.append({**of_learning, **means, **self.baselines})
        if not math.isfinite(loss := means[HELD_OUT_LOSS]):
            raise Refusal(f"the held-out loss is {loss} after {self.epoch} epochs", 1)
        if self.best_epoch == self.epoch:
            self._best = copy.deepcopy(self.module.state_dict())

    @contextmanager
    def _randomness(self, purpose: str, index: int) -> Iterator[np.random.Generator]:
        """Seed each epoch differently; measuring always has the same seed."""
        seeds = environment_seeds(self.config.seed, 2, f"pretraining {purpose}", index)
        device = self.agent.device
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(seeds[0])
            yield np.random.default_rng(seeds)

    def state_dict(self) -> dict[str, Tensor]:
        """Return every tensor that the next epoch depends on; `history` is the rest."""
        parts = {"now": self.module.state_dict(), "best": self._best}
        parts |= {f"moments.{i}": m for i, m in self._optimizer.state_dict()["state"].items()}
        return {f"{part}.{k}": tensor for part, own in parts.items() for k, tensor in own.items()}

    @torch.no_grad()
    def load_state_dict(self, tensors: Tensors, history: list[dict[str, float]]) -> None:
        """Resume from a saved state."""
        self.module.load_state_dict(part_of(tensors, "now"))
        self._best, self.history = part_of(tensors, "best"), list(history)
        state = self._optimizer.state_dict()
        moments = {i: part_of(tensors, f"moments.{i}") for i in state["param_groups"][0]["params"]}
        state["state"] = {index: own for index, own in moments.items() if own}
        self._optimizer.load_state_dict(state)
        self.refresh()
