"""Checks of an environment: what training takes for granted, and no error would ever tell."""

import copy
import warnings
from collections.abc import Iterator
from typing import Any

import gymnasium
import numpy as np
from gymnasium.utils.env_checker import check_env

from analysis.doctor.patient import Check, Patient
from envs.spaces import flatten_observation, leaves, one_line
from envs.wrappers.action_mask import sample_action
from networks.observations import mask_of

_STEPS = 50


def are_equal(one: Any, other: Any) -> bool:
    """Compare nested arrays and numbers exactly; NaN equals NaN."""
    try:
        np.testing.assert_equal(one, other)
    except AssertionError:
        return False
    return True


def _play(env: gymnasium.Env[Any, Any], seed: int) -> tuple[list[Any], list[Any], list[Any]]:
    """Play an episode under actions that depend on the seed alone.

    Returns:
        Observations as they were returned, as they were then, and what else each step returned.
    """
    env.action_space.seed(seed)
    shown, told = [env.reset(seed=seed)[0]], list[Any]()
    copies = copy.deepcopy(shown)
    for _ in range(_STEPS):
        action = sample_action(env.action_space, mask_of(shown[-1]))
        observation, reward, terminated, truncated, _ = env.step(action)
        shown.append(observation)
        copies.append(copy.deepcopy(observation))
        told.append((float(reward), bool(terminated), bool(truncated)))
        if terminated or truncated:
            break
    return shown, copies, told


def the_interface_of_gymnasium(patient: Patient) -> Iterator[str]:
    """Gymnasium's own checks, which take illegal actions too."""
    if patient.config.env.get("action_mask"):
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            check_env(patient.singles[2].unwrapped, skip_render_check=True, skip_close_check=True)
        except Exception as error:
            yield f"gymnasium's check_env: {one_line(error)}"


def equal_seeds_give_equal_starts(patient: Patient) -> Iterator[str]:
    """Equal seeds give equal first observations, in one environment and in two."""
    one, other = patient.singles[:2]
    first, *others = (copy.deepcopy(env.reset(seed=11)[0]) for env in (one, one, other))
    if not are_equal(others, [first, first]):
        remedy = "call super().reset(seed=seed), and draw from self.np_random alone"
        yield f"reset(seed=11) gives different observations: {remedy}"


def equal_seeds_give_equal_episodes(patient: Patient) -> Iterator[str]:
    """Equal seeds and actions give equal episodes."""
    one, other = (_play(env, seed=5)[1:] for env in patient.singles[:2])
    if not are_equal(one, other):
        remedy = "draw from self.np_random alone, which super().reset(seed=seed) seeds"
        yield f"equal seeds and actions give different episodes: {remedy}, and reset all state"


def observations_stay_as_they_were(patient: Patient) -> Iterator[str]:
    """An observation does not change when the environment goes on."""
    shown, copies, _ = _play(patient.singles[0], seed=3)
    if not are_equal(shown, copies):
        yield "step() changes the array that it returned before: return a copy"


def observations_lie_in_their_space(patient: Patient) -> Iterator[str]:
    """Observations have the dtype, shape and bounds of their space, and finite numbers."""
    env = patient.singles[0]
    parts = dict(leaves(env.observation_space))
    for observation in _play(env, seed=7)[1]:
        for name, value in flatten_observation(observation, parts.keys()).items():
            array, part = np.asarray(value), parts[name]
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                yield f"an observation is not finite: {value}"
            if array.dtype != part.dtype:
                yield f"an observation has dtype {array.dtype}, its space {part.dtype}"
            if not part.contains(value):
                yield f"an observation lies outside of its space {part}: {value}"


def rewards_are_finite(patient: Patient) -> Iterator[str]:
    """Rewards are finite."""
    for reward, *_ in _play(patient.singles[0], seed=9)[2]:
        if not np.isfinite(reward):
            yield f"a reward is {reward}"


def actions_lie_in_their_space(patient: Patient) -> Iterator[str]:
    """Every action that the policy head sends lies in the action space."""
    head, space = patient.agent.policy_head, patient.environments.single_action_space
    drawn = head.uniform(np.random.default_rng(0), 256)
    if drawn.dtype.kind == "f":  # samples may lie beyond the bounds
        drawn = 3 * drawn
    for action in head.to_environment(drawn):
        if not space.contains(action):
            yield f"the policy head sends {action}, outside of {space}: mend its to_environment"


ENVIRONMENT: tuple[Check, ...] = (
    the_interface_of_gymnasium, equal_seeds_give_equal_starts, equal_seeds_give_equal_episodes,
    observations_stay_as_they_were, observations_lie_in_their_space, rewards_are_finite,
    actions_lie_in_their_space,
)  # fmt: skip
