"""Environments that do what environments should not, and some that behave; workers import them."""

import ctypes
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

HOUR = 3600


class Steady(gymnasium.Env):
    """Shows `[number of the reset, step]`, pays 1, ends after `length` steps (None: never).

    Args:
        flags: terminated and truncated at the end.
    """

    action_space = spaces.Discrete(5, start=2)
    observation_space = spaces.Box(-np.inf, np.inf, (2,), np.float32)

    def __init__(self, *, length: int | None = 4, flags: tuple[bool, bool] = (True, False)) -> None:
        self.length, self.flags = length, flags
        self.resets = self.steps = 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.resets, self.steps = self.resets + 1, 0
        return self.shown(), {}

    def step(self, action):
        self.steps += 1
        flags = self.flags if self.steps == self.length else (False, False)
        return self.shown(), 1.0, *flags, {}

    def shown(self) -> Any:
        return np.array([self.resets, self.steps], np.float32)


OBSERVATIONS: dict[str, Any] = {
    "nan": np.array([1, np.nan], np.float32),
    "infinite": np.array([-np.inf, 0], np.float32),
    "beyond float32": np.array([1e300, 0]),
    "another shape": np.zeros(3, np.float32),
    "a column": np.zeros((2, 1), np.float32),
    "a row": np.zeros((1, 2), np.float32),
    "a number": 1.5,
    "nothing": None,
    "objects": np.array([1.0, None]),
    "texts": np.array(["1", "2"]),
    "complex": np.zeros(2, np.complex64),
    "ragged": [1.0, [2.0, 3.0]],
    "a dictionary": {"x": np.zeros(2, np.float32)},
}
REWARDS: dict[str, Any] = {
    "nan": np.nan,
    "infinite": -np.inf,
    "beyond float32": 1e39,
    "nothing": None,
    "a text": "1.0",
    "two numbers": np.ones(2),
    "none at all": np.zeros(0),
    "a huge integer": 10**400,
    "complex": 1j,
    "a list": [1.0, 2.0],
}


class Misbehaving(Steady):
    """Does something at the third step of its first episode, or in every reset (`"reset raises"`).

    Args:
        what: `raises`, `exits`, ..., `observation: nan`, `reward: nothing`.
        once: a file; where it exists, all goes well, and it is made when something goes wrong.
        probability: instead of the third step: of any step, in any episode.
    """

    def __init__(
        self,
        what: str,
        *,
        length: int | None = 4,
        once: Path | None = None,
        probability: float | None = None,
    ) -> None:
        super().__init__(length=length)
        self.what, self.once, self.probability = what, once, probability

    def reset(self, *, seed=None, options=None):
        shown, info = super().reset(seed=seed)
        if self.what.startswith("reset ") and self.is_due(True):
            return self.misbehave(self.what.removeprefix("reset "), shown)[0], info
        return shown, info

    def step(self, action):
        shown, reward, *rest = super().step(action)
        is_third = self.resets == 1 and self.steps == 3
        if self.probability is not None:
            is_third = self.np_random.random() < self.probability
        if not self.what.startswith("reset ") and self.is_due(is_third):
            shown, reward = self.misbehave(self.what, shown)
        return shown, reward, *rest

    def is_due(self, is_time: bool) -> bool:
        if not is_time or (self.once and self.once.exists()):
            return False
        if self.once:
            self.once.touch()
        return True

    def misbehave(self, what: str, shown: Any) -> tuple[Any, Any]:
        kind, _, name = what.partition(": ")
        if kind == "observation":
            return OBSERVATIONS[name], 1.0
        if kind == "reward":
            return shown, REWARDS[name]
        DEEDS[what]()
        return shown, 1.0


def raise_error() -> None:
    raise ValueError("it broke\nin two")


def crash() -> None:
    os.kill(os.getpid(), signal.SIGSEGV)
    time.sleep(1)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(1)


def hang_with_the_interpreter() -> None:
    """Never lets Python run again, as a simulator in C may."""
    ctypes.PyDLL(None).sleep(HOUR)


DEEDS = {
    "raises": raise_error,
    "asks to exit": lambda: sys.exit("enough"),
    "exits": lambda: os._exit(3),
    "crashes": crash,
    "dies": die,
    "hangs": lambda: time.sleep(HOUR),
    "hangs hard": hang_with_the_interpreter,
}


class Stubborn(Steady):
    """Takes an hour to close."""

    def close(self):
        time.sleep(HOUR)


class Unmakeable(Steady):
    """Cannot be made, unless `first` is there to be made once."""

    def __init__(self, *, first: Path | None = None) -> None:
        super().__init__()
        if first is None or first.exists():
            raise OSError("no licence")
        first.touch()


class Growing(Misbehaving):
    """Has one action more once there is a file."""

    def __init__(self, what: str, *, grown: Path) -> None:
        super().__init__(what)
        if grown.exists():
            self.action_space = spaces.Discrete(6, start=2)


class Reusing(Steady):
    """Returns one array for all observations, and changes actions that it got."""

    action_space = spaces.Box(-1, 1, (2,), np.float32)

    def __init__(self, *, copies: bool) -> None:
        super().__init__(length=5)
        self.buffer = np.zeros(2, np.float32)
        self.copies = copies
        self.last = np.zeros(2, np.float32)

    def shown(self) -> Any:
        self.buffer[:] = [self.resets, self.steps]
        return self.buffer.copy() if self.copies else self.buffer

    def step(self, action):
        shown, _, ends, cuts, info = super().step(action)
        reward = float(self.last.sum() + action.sum())
        if self.copies:
            self.last = action.copy()
        else:  # keeps what it was given, and writes into it now and later
            self.last = action
            action *= 1
            shown = shown[...]
        return shown, reward, ends, cuts, info


class Telling(Steady):
    """Tells odd things besides."""

    odd: tuple[dict[str, Any], ...] = (
        {"x": 1, "nested": {"a": {"b": 1}}, "text": "one", "none": None},
        {"x": "text", "nested": 3, "text": 1.0, "ragged": [1, [2]]},
        {"x": np.zeros(3), "nested": {"a": 2}, 5: "key", "array": np.zeros((2, 2))},
        {"x": np.zeros(4), "array": np.zeros(3), "restarted": True, "file": sys.stderr},
        {"function": lambda: 0, "x": None},
        {},
    )

    def step(self, action):
        return (*super().step(action)[:4], dict(self.odd[self.steps % len(self.odd)]))


class Infoless(Steady):
    """Returns something that is no dictionary where infos should be."""

    def step(self, action):
        return (*super().step(action)[:4], ["no", "dictionary"])


class Timed(Steady):
    """Takes `seconds` for a step."""

    def __init__(self, *, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds

    def step(self, action):
        time.sleep(self.seconds)
        return super().step(action)


SPACES: dict[str, spaces.Space[Any]] = {
    "float32": spaces.Box(-1, 1, (3,)),
    "float64": spaces.Box(-1, 1, (2, 2), np.float64),
    "float16": spaces.Box(-1, 1, (2,), np.float16),
    "uint8": spaces.Box(0, 255, (3,), np.uint8),
    "bool": spaces.Box(0, 1, (2,), np.bool_),
    "scalar": spaces.Box(-1, 1, ()),
    "discrete": spaces.Discrete(5, start=-2),
    "multi-discrete": spaces.MultiDiscrete([[2, 3], [4, 5]], start=[[1, 0], [0, -1]]),
    "multi-binary": spaces.MultiBinary((2, 3)),
    "dict": spaces.Dict(
        {
            "z": spaces.Discrete(3),
            "a/b": spaces.Box(-1, 1, (2,), np.float64),
            "m": spaces.MultiBinary(2),
        }
    ),
}


class Sampling(gymnasium.Env):
    """Shows samples of a space, pays what the action adds up to, ends at random; tells things."""

    def __init__(self, *, observations: str, actions: str) -> None:
        self.observation_space = SPACES[observations]  # shared by all of them, generator included
        self.action_space = SPACES[actions]

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.observation_space.sample(), {"reset": True}

    def step(self, action):
        reward = np.asarray(action, np.float64).sum() + self.np_random.normal()
        ends, cuts = self.np_random.random(2) < 0.15
        info = {"drawn": self.np_random.integers(9)} if self.np_random.random() < 0.5 else {}
        return self.observation_space.sample(), reward, ends, cuts, info


class Inquisitive(Steady):
    """Tells about its process."""

    def reset(self, *, seed=None, options=None):
        observation, _ = super().reset(seed=seed)
        told = {
            "pid": os.getpid(),
            "heavy": ", ".join({"torch", "hydra", "pytest"} & sys.modules.keys()),
            "threads": os.environ.get("OMP_NUM_THREADS"),
            "ignored": signal.getsignal(signal.SIGINT) is signal.SIG_IGN,
            "main": getattr(sys.modules["__main__"], "__file__", None) or "none",
        }
        return observation, told


class Threaded(Steady):
    """Computes with torch, in as many threads as it is left."""

    def __init__(self) -> None:
        super().__init__()
        import torch

        self.torch = torch

    def step(self, action):
        self.torch.ones(300, 300) @ self.torch.ones(300, 300)
        return (*super().step(action)[:4], {"threads": self.torch.get_num_threads()})


class Other(Steady):
    """Shows another space."""

    observation_space = spaces.Box(-1, 1, (3,))


class Told(Steady):
    """Says itself what it remembers: how many resets there were."""

    def state_dict(self):
        return {"resets": self.resets}

    def load_state_dict(self, state):
        self.resets = state["resets"]
