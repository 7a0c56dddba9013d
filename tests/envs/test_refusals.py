"""What `make_environments` refuses: one line that names the key and the remedy."""

from functools import partial
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.envs.registration import registry
from gymnasium.error import DependencyNotInstalled
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv

from envs.wrappers.pomdp import MaskVelocity

MASK = partial(MaskVelocity, dimensions=[0])


BOX = spaces.Box(-1, 1, (2,))
FILM = spaces.Box(0, 255, (2, 2, 8, 8, 3), np.uint8)
OBSERVATIONS = {
    "empty box": (spaces.Box(-1, 1, (0,)), ["space Box(", "expected a non-empty Box"]),
    "film": (FILM, ["space Box(", "expected a non-empty Box of at most 4 dimensions"]),
    "text": (spaces.Text(3), ["space Text(", "expected a non-empty Box"]),
    "sequence": (spaces.Sequence(spaces.Discrete(2)), ["Sequence("]),
    "graph": (spaces.Graph(spaces.Discrete(2), None), ["Graph("]),
    "one of": (spaces.OneOf([spaces.Discrete(2), BOX]), ["OneOf("]),
    "wide": (spaces.Discrete(10_001), ["10,001 values are too many", "at most 10,000"]),
    "wide together": (spaces.MultiDiscrete([9_000, 1_001]), ["10,001 values are too many"]),
    "wide grid": (
        spaces.MultiDiscrete(np.full((40, 40, 3), 300)),
        ["1,440,000 values are too many", "at most 1,000,000"],
    ),
    "no choices": (spaces.MultiDiscrete([]), ["MultiDiscrete([]", "expected a non-empty Box"]),
    "no parts": (spaces.Dict(), ["Dict()", "expected a non-empty Box"]),
    "no items": (spaces.Tuple([]), ["Tuple()", "expected a non-empty Box"]),
    "part": (spaces.Dict(a=BOX, b=spaces.Text(3)), ["the observation's part 'b' is Text("]),
    "nested part": (
        spaces.Dict(goal=spaces.Dict(text=spaces.Text(3), x=BOX), y=BOX),
        ["the observation's part 'goal/text' is Text(", "env.wrappers"],
    ),
    "item": (spaces.Tuple([BOX, FILM]), ["the observation's part '1' is Box(", "4 dimensions"]),
    "wide part": (spaces.Tuple([spaces.Discrete(20_000)]), ["part '0'", "20,000 values"]),
    "empty part": (spaces.Dict(a=BOX, b=spaces.Dict()), ["part 'b' is Dict()"]),
    "number for a key": (spaces.Dict({1: BOX}), ["env: ", "the key 1;", "expected text"]),
    "empty key": (spaces.Dict({"": BOX}), ["the key '';"]),
    "dot": (spaces.Dict({"a.b": BOX}), ["the key 'a.b';", "A wrapper in env.wrappers can rename"]),
    "slash": (spaces.Dict({"a/b": BOX}), ["the key 'a/b';"]),
    "slash below": (spaces.Tuple([spaces.Dict({"a/b": BOX}), BOX]), ["the key 'a/b';"]),
}


@pytest.mark.parametrize(("observation_space", "words"), OBSERVATIONS.values(), ids=OBSERVATIONS)
@pytest.mark.parametrize("previous", [False, True])
@pytest.mark.filterwarnings("ignore::UserWarning")  # Gymnasium's opinion of an empty box
def test_unsupported_observations_are_refused(
    registered, observation_space, words, previous, refusal, plain
) -> None:
    id = registered(lambda: plain(observation_space), disable_env_checker=True)
    message = refusal(id=id, previous_reward=previous)
    assert [word for word in words if word not in message] == []
    assert message.startswith("env")
    assert plain.open_count == 0


@pytest.mark.parametrize(
    "action_space",
    [
        spaces.Box(-1, 1, (0,)),
        spaces.Box(0, 3, (2,), np.int64),
        spaces.Box(0, 1, (2,), np.bool_),
        spaces.MultiDiscrete([]),
        spaces.Dict(a=spaces.Discrete(2)),
        spaces.Tuple([spaces.Discrete(2)]),
        spaces.Text(3),
        spaces.Sequence(spaces.Discrete(2)),
        spaces.Graph(spaces.Discrete(2), None),
    ],
    ids=lambda space: f"{type(space).__name__}{space.shape}{space.dtype}",
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_unsupported_actions_are_refused(registered, action_space, refusal, plain) -> None:
    message = refusal(id=registered(lambda: plain(action_space=action_space)))
    assert "action space" in message
    assert "expected a non-empty Discrete, MultiDiscrete, MultiBinary or Box" in message


@pytest.mark.parametrize(
    "action_space", [spaces.Discrete(10**9), spaces.MultiDiscrete([10**7, 10**7])], ids=str
)
def test_more_actions_than_networks_can_weigh_are_refused(
    registered, action_space, refusal, plain
) -> None:
    message = refusal(id=registered(lambda: plain(action_space=action_space)))
    assert f"the action space {action_space} is not supported" in message
    assert "at most 1,000,000 actions of a choice" in message


def test_a_native_environment_cannot_be_taken_apart(registered, refusal, plain) -> None:
    class Nested(NativeStub):
        def __init__(self, num_envs):
            super().__init__(num_envs)
            self.single_observation_space = spaces.Tuple([BOX])

    message = refusal(
        id=registered(plain, vector_entry_point=Nested), vectorization="native", num_envs=2
    )
    assert "is nested" in message
    assert "use env.vectorization=sync" in message


@pytest.mark.parametrize("name", ["previous_action", "previous_reward"])
def test_a_part_is_not_replaced_by_a_previous_input(registered, refusal, plain, name) -> None:
    id = registered(lambda: plain(spaces.Dict({name: BOX})))
    assert f"set env.{name}=false" in refusal(id=id, **{name: True})


def test_what_is_for_vectors_refuses_parts(registered, refusal, plain) -> None:
    message = refusal(id=registered(lambda: plain(spaces.Dict(a=BOX))), pomdp=[MASK])
    assert message.startswith("pomdp.mask_velocity")
    assert "vector" in message
    assert "Dict('a': Box(" in message


@pytest.mark.parametrize(
    "space",
    [spaces.Discrete(3), spaces.Dict(a=spaces.Discrete(3)), spaces.Box(0, 255, (2, 5, 5, 3))],
    ids=str,
)
def test_what_cannot_be_stacked_is_refused(registered, refusal, plain, space) -> None:
    message = refusal(id=registered(lambda: plain(space)), frame_stack=2)
    assert message.startswith("env.frame_stack=2: only vectors, images and grids of codes can be")
    assert "set env.frame_stack=1" in message


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"id": "CartPol-v1"}, ["env.id=CartPol-v1", "nearest: CartPole-v1", "env.packages"]),
        ({"id": "CARTPOLE-v1"}, ["nearest: CartPole-v1"]),
        ({"id": "Nothing/LikeIt-v3"}, ["env.id=Nothing/LikeIt-v3", "env.packages"]),
        ({"id": "some.module:Env-v0"}, ["env.id", "env.packages=[some.module]", "env.id=Env-v0"]),
        ({"packages": ["not_there"]}, ["env.packages: 'not_there'", "pip install not-there"]),
        ({"kwargs": {"sutton_barto": 1}}, ["env.kwargs.sutton_barto", "nearest: sutton_barto_re"]),
        (
            {"id": "neurl/Recall-v0", "kwargs": {"length": 1}},
            ["env.id=neurl/Recall-v0", "env.kwargs={'length': 1}", "expected at least 2"],
        ),
        ({"vectorization": "async", "wrappers": [lambda env: env]}, ["=async", "=sync", "lambda"]),
        ({"id": "Pendulum-v1", "vectorization": "native"}, ["env.vectorization=native", "=sync"]),
        ({"vectorization": "native", "frame_stack": 2}, ["env.vectorization", "env.frame_stack"]),
        ({"id": "FrozenLake-v1", "frame_stack": 2}, ["env.frame_stack=2", "Discrete(16)"]),
        ({"wrappers": [lambda env: 1 / 0]}, ["env.wrappers[0]", "ZeroDivisionError"]),
        ({"pomdp": [lambda env: 1 / 0]}, ["pomdp[0]", "ZeroDivisionError"]),
        (
            {"id": "neurl/Endless-v0", "pomdp": [partial(MaskVelocity, dimensions=None)]},
            ["pomdp.mask_velocity.dimensions=["],
        ),
    ],
)
def test_refusals_name_the_key_and_the_remedy(
    changes: dict[str, Any], words: list[str], refusal
) -> None:
    message = refusal(**changes)
    assert [word for word in words if word not in message] == []


def test_a_known_package_is_named(refusal) -> None:
    if any(id.startswith("popgym-") for id in registry):
        pytest.skip("another test imported popgym")
    message = refusal(id="popgym-RepeatFirstEasy-v0")
    assert "env.packages=[popgym]" in message
    assert "pip install -c constraints.txt -e '.[popgym]'" in message


@pytest.mark.parametrize(
    ("id", "words"),
    [
        ("ALE/NoSuchGame-v5", "env=atari env.id=Atari/NoSuchGame-v0"),
        ("NoSuchGameNoFrameskip-v4", "env=atari env.id=Atari/NoSuchGame-v0"),
        ("MinAtar/NoSuchGame-v0", "env=minatar env.id=MinAtar/NoSuchGame-v0"),
        ("BabyAI-NoSuchTask-v0", "env=minigrid env.id=BabyAI-NoSuchTask-v0"),
    ],
)
def test_a_preset_is_named(id: str, words: str, refusal) -> None:
    assert words in refusal(id=id)


def test_missing_arguments_name_the_key(registered, refusal, plain) -> None:
    class Needs(plain):
        def __init__(self, size):
            super().__init__()

    message = refusal(id=registered(Needs))
    assert "env.kwargs={}" in message
    assert "'size'" in message


def test_environments_with_different_spaces_are_refused(registered, refusal, plain) -> None:

    def grows():
        return plain(spaces.Box(-1, 1, (2 + plain.open_count,)))

    assert "env.id=test/" in refusal(id=registered(grows))
    assert plain.open_count == 0


class NativeStub(VectorEnv):
    """A vector environment of its own, with a mode to choose and no time limit."""

    def __init__(self, num_envs, mode=AutoresetMode.NEXT_STEP):
        self.num_envs = num_envs
        self.metadata = {"autoreset_mode": mode}
        self.single_observation_space = spaces.Box(-1, 1, (2,))
        self.single_action_space = spaces.Discrete(2)


def test_native_environments_must_restart_in_the_next_step(
    registered, make, refusal, plain
) -> None:
    id = registered(plain, vector_entry_point=NativeStub)
    assert isinstance(make(id=id, vectorization="native"), NativeStub)
    for mode in (AutoresetMode.SAME_STEP, AutoresetMode.DISABLED):
        message = refusal(id=id, vectorization="native", kwargs={"mode": mode})
        assert "env.vectorization=native" in message
        assert mode.name in message


def test_native_environments_without_a_time_limit_refuse_one(registered, refusal, plain) -> None:
    id = registered(plain, vector_entry_point=NativeStub)
    message = refusal(id=id, vectorization="native", time_limit=9)
    assert "env.time_limit=9" in message


def test_a_native_version_that_is_gymnasiums_own_is_refused(registered, refusal, plain) -> None:
    def disguised(num_envs):
        return SyncVectorEnv([plain] * num_envs)

    id = registered(plain, vector_entry_point=disguised)
    assert "SyncVectorEnv" in refusal(id=id, vectorization="native")


def test_a_failing_environment_closes_those_already_made(registered, make, plain) -> None:

    class ThirdFails(plain):
        def __init__(self):
            if plain.open_count == 2:
                raise RuntimeError("no third\none")
            super().__init__()

    with pytest.raises(
        ValueError,
        match=r"^env\.id=test/\S+ cannot be made: Runtime.*: no third one "
        r"\(\S*test_refusals.py:\d+ in __init__\), after 2 of 3 copies, .* env.copy_argument",
    ):
        make(id=registered(ThirdFails), num_envs=3)
    assert plain.open_count == 0


def test_a_failing_wrapper_closes_those_below_it(make) -> None:
    closed = []

    class Closes(gymnasium.Wrapper):
        def close(self):
            closed.append(self.env)
            super().close()

    with pytest.raises(ValueError, match=r"^pomdp\[0\]"):
        make(wrappers=[Closes], pomdp=[lambda env: 1 / 0])
    assert len(closed) == 1


@pytest.mark.parametrize("extra", ["box2d", "mujoco"])
def test_an_extra_of_gymnasiums_is_named_as_ours(extra, registered, refusal) -> None:
    def uninstalled() -> gymnasium.Env:
        raise DependencyNotInstalled(f'try `pip install "gymnasium[{extra}]"`')

    message = refusal(id=registered(uninstalled))
    assert message.endswith(f"needs an extra, `pip install -c constraints.txt -e '.[{extra}]'`")
