"""Environments and networks with one fault each, which the doctor must find."""

from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from torch import nn

from networks.memory import CellMemory, Memory

_SHARED = np.random.default_rng(0)


class Sound(gymnasium.Env[Any, Any]):
    """Shows numbers drawn by its own generator; an episode has nine steps."""

    observation_space = spaces.Box(-1.0, 1.0, (3,), np.float32)
    action_space = spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self._age = 0
        return self._draw(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self._age += 1
        return self._draw(), float(action), self._age >= 9, False, {}

    def _draw(self) -> Any:
        return self.np_random.uniform(-1, 1, 3).astype(np.float32)


class Unseeded(Sound):
    """Its start does not depend on the seed."""

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        return _SHARED.uniform(-1, 1, 3).astype(np.float32), {}


class Drifting(Sound):
    """Its steps draw from a generator that no seed sets."""

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        _, *rest = super().step(action)
        return _SHARED.uniform(-1, 1, 3).astype(np.float32), *rest


class Reusing(Sound):
    """Returns one array, again and again."""

    def __init__(self) -> None:
        self._array = np.zeros(3, np.float32)

    def _draw(self) -> Any:
        self._array[...] = super()._draw()
        return self._array


class WrongType(Sound):
    """Shows float64 instead of float32."""

    def _draw(self) -> Any:
        return super()._draw().astype(np.float64)


class NotFinite(Sound):
    """Shows a NaN after four steps."""

    def _draw(self) -> Any:
        drawn = super()._draw()
        return drawn * np.float32(np.nan) if self._age == 4 else drawn


class OutOfBounds(Sound):
    """Shows numbers beyond its space."""

    def _draw(self) -> Any:
        return super()._draw() * np.float32(3)


class NaNReward(Sound):
    """Pays NaN."""

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        observation, _, *rest = super().step(action)
        return observation, float("nan"), *rest


class OldInterface(Sound):
    """Returns four values, as before Gymnasium."""

    def step(self, action: Any) -> Any:
        observation, reward, terminated, _, info = super().step(action)
        return observation, reward, terminated, info


class Broken(Sound):
    """Raises in its third step."""

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        if getattr(self, "_age", 0) == 2:
            raise ZeroDivisionError("no wheels left")
        return super().step(action)


for _kind in (
    Sound,
    Unseeded,
    Drifting,
    Reusing,
    WrongType,
    NotFinite,
    OutOfBounds,
    NaNReward,
    OldInterface,
    Broken,
):
    gymnasium.register(f"ailing/{_kind.__name__}-v0", _kind, disable_env_checker=True)


class SoundMemory(Memory):
    """`h' = tanh(W [x, h])`, cleared at first steps; `x` has the features' size."""

    def __init__(self, input_size: int) -> None:
        super().__init__()
        self.output_size = self.state_size = 8
        self.layer = nn.Linear(input_size + 8, 8)

    def forward(self, features: Any, state: Any, is_first: Any) -> Any:
        outputs = []
        for row, first in zip(features, is_first, strict=True):
            state = self.step(row, self.clear(state, first))
            outputs.append(state)
        return torch.stack(outputs), state

    def clear(self, state: Any, first: Any) -> Any:
        return state * ~first[:, None]

    def step(self, row: Any, state: Any) -> Any:
        return torch.tanh(self.layer(torch.cat([row, state], -1)))


class Leaking(SoundMemory):
    """Never clears its state."""

    def clear(self, state: Any, first: Any) -> Any:
        return state


class Late(SoundMemory):
    """Clears its state after the first step has read it."""

    def forward(self, features: Any, state: Any, is_first: Any) -> Any:
        outputs = []
        for row, first in zip(features, is_first, strict=True):
            state = self.step(row, state)
            outputs.append(state)
            state = self.clear(state, first)
        return torch.stack(outputs), state


class FirstState(SoundMemory):
    """Returns the state of the first step instead of the last."""

    def forward(self, features: Any, state: Any, is_first: Any) -> Any:
        outputs, _ = super().forward(features, state, is_first)
        return outputs, outputs[0]


class EarlierState(SoundMemory):
    """Returns the state before the last step."""

    def forward(self, features: Any, state: Any, is_first: Any) -> Any:
        outputs, _ = super().forward(features, state, is_first)
        return outputs, (outputs[-2] if len(outputs) > 1 else self.clear(state, is_first[0]))


class Swapped(SoundMemory):
    """Takes the batch for time."""

    def forward(self, features: Any, state: Any, is_first: Any) -> Any:
        size = features.shape[1]
        outputs, _ = super().forward(
            features.transpose(0, 1),
            state[:1].expand(features.shape[0], -1),
            is_first.transpose(0, 1),
        )
        outputs = outputs.transpose(0, 1)
        return outputs, outputs[-1].reshape(size, -1)


class Detached(SoundMemory):
    """Stops the gradient between steps."""

    def step(self, row: Any, state: Any) -> Any:
        return super().step(row, state.detach())


class Silent(SoundMemory):
    """Computes its outputs without a gradient."""

    def forward(self, features: Any, state: Any, is_first: Any) -> Any:
        with torch.no_grad():
            return super().forward(features, state, is_first)


class Counting(CellMemory):
    """Counts calls in an attribute that is neither parameter nor buffer, and reads it."""

    output_size = state_size = 4

    def __init__(self, input_size: int) -> None:
        super().__init__()
        self.layer = nn.Linear(input_size, 4)
        self.register_buffer("calls", torch.zeros(()))

    def step(self, inputs: Any, state: Any) -> Any:
        self.calls += 1
        after = 0.5 * state + self.layer(inputs)
        return after, after


class Unsaved(CellMemory):
    """Scales by a number drawn when it is made, which no checkpoint holds."""

    output_size = state_size = 4

    def __init__(self, input_size: int) -> None:
        super().__init__()
        self.layer = nn.Linear(input_size, 4)
        self.scale = float(torch.rand(()))

    def step(self, inputs: Any, state: Any) -> Any:
        after = self.scale * torch.tanh(self.layer(inputs) + state)
        return after, after


class Mixing(nn.Module):
    """An extractor that subtracts the mean over the batch."""

    def __init__(self, observation_shape: Any, **_: Any) -> None:
        super().__init__()
        self.layer = nn.Linear(observation_shape[0], 8)

    def forward(self, rows: Any) -> Any:
        return self.layer(rows - rows.mean(0))


class Exploding(Mixing):
    """An extractor whose outputs are infinite."""

    def forward(self, rows: Any) -> Any:
        return self.layer(rows) * float("inf")


class Unlearning(Mixing):
    """An extractor whose outputs are detached."""

    def forward(self, rows: Any) -> Any:
        return self.layer(rows).detach()
