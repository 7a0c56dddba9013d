"""Makes environments with few words, and closes them after the test."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import gymnasium
import pytest
from gymnasium import spaces
from gymnasium.envs.registration import register, registry
from gymnasium.vector import VectorEnv

from conf.schema.run import EnvironmentOptions
from envs.making.make import make_environments
from envs.vector.base import OnFailure, SlotVectorEnv

DEFAULTS: dict[str, Any] = {
    "id": "CartPole-v1",
    "kwargs": {},
    "packages": [],
    "copy_argument": None,
    "num_envs": 2,
    "on_failure": "stop",
    "step_timeout": 60.0,
    "vectorization": "sync",
    "time_limit": None,
    "frame_stack": 1,
    "previous_action": False,
    "previous_reward": False,
    "action_mask": False,
    "wrappers": [],
    "life_loss": False,
    "image_layout": "auto",
}


def make_with(
    *,
    wrappers: Sequence[Any] = (),
    pomdp: Sequence[Any] = (),
    is_privileged: bool = False,
    make: Any = None,
    **changes: Any,
) -> Any:
    """Calls `make_environments` with the defaults of the configuration, but for what is given."""
    options = EnvironmentOptions(**{**DEFAULTS, **changes})
    return make_environments(
        options,
        num_envs=options.num_envs,
        wrappers=wrappers,
        pomdp=pomdp,
        is_privileged=is_privileged,
        make=make,
    )


@pytest.fixture
def make() -> Iterator[Callable[..., VectorEnv[Any, Any, Any]]]:
    """Calls `make_with`, and closes what it made."""
    made = []

    def make_changed(**changes: Any) -> VectorEnv[Any, Any, Any]:
        made.append(make_with(**changes))
        return made[-1]

    yield make_changed
    for environments in made:
        environments.close()


@pytest.fixture
def refusal(make) -> Callable[..., str]:
    """Gives the one line with which making environments is refused."""

    def refused(**changes: Any) -> str:
        with pytest.raises(ValueError) as caught:
            make(**changes)
        message = str(caught.value)
        assert "\n" not in message
        return message

    return refused


@pytest.fixture
def registered():
    """Registers classes and functions under throw-away ids."""
    ids = []

    def add(entry_point: Any, **specification: Any) -> str:
        ids.append(f"test/Throwaway{len(ids)}-v0")
        register(id=ids[-1], entry_point=entry_point, **specification)
        return ids[-1]

    yield add
    for id in ids:
        del registry[id]


class _Plain(gymnasium.Env):
    """Spaces to choose; counts how many of it are open."""

    open_count = 0

    def __init__(self, observation_space=None, action_space=None):
        # Not "or": an empty space is false.
        is_given = observation_space is not None, action_space is not None
        self.observation_space = observation_space if is_given[0] else spaces.Box(-1, 1, (2,))
        self.action_space = action_space if is_given[1] else spaces.Discrete(2)
        _Plain.open_count += 1

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.observation_space.sample(), {}

    def step(self, action):
        return self.observation_space.sample(), 0.0, False, False, {}

    def close(self):
        _Plain.open_count -= 1


@pytest.fixture
def plain() -> type[gymnasium.Env]:
    """Gives the class, none of which is open."""
    _Plain.open_count = 0
    return _Plain


@pytest.fixture
def vector() -> Iterator[Callable[..., SlotVectorEnv]]:
    """Steps environments together, `sync` or `async`, and closes them after the test."""
    made: list[SlotVectorEnv] = []

    def vectorize(
        kind: str,
        *makers: Callable[[], gymnasium.Env[Any, Any]],
        on_failure: OnFailure = "stop",
        step_timeout: float | None = 20.0,
    ) -> SlotVectorEnv:
        workers = {"in_workers": True, "step_timeout": step_timeout} if kind == "async" else {}
        made.append(SlotVectorEnv(makers, on_failure=on_failure, **workers))
        return made[-1]

    yield vectorize
    for environments in made:
        environments.close()
