"""Checks of an environment: what training takes for granted, and no error would ever tell."""

import copy
import warnings
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.utils.env_checker import check_env

from analysis.doctor.patient import Check, Patient

_STEPS = 50


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(_equal(a[key], b[key]) for key in a)
    if isinstance(a, tuple | list):
        return len(a) == len(b) and all(map(_equal, a, b))
    return np.array_equal(np.asarray(a), np.asarray(b), equal_nan=np.asarray(a).dtype.kind == "f")


def _leaves(space: spaces.Space[Any], value: Any) -> list[tuple[spaces.Space[Any], Any]]:
    if isinstance(space, spaces.Dict):
        return [pair for key, part in space.items() for pair in _leaves(part, value[key])]
    if isinstance(space, spaces.Tuple):
        return [pair for part, own in zip(space, value, strict=True) for pair in _leaves(part, own)]
    return [(space, value)]


def _play(env: gymnasium.Env[Any, Any], seed: int) -> list[Any]:
    """Return everything that an episode shows under actions that depend on the seed alone."""
    actions = copy.deepcopy(env.action_space)
    actions.seed(seed)
    observation, _ = env.reset(seed=seed)
    shown = [copy.deepcopy(observation)]
    for _ in range(_STEPS):
        observation, reward, terminated, truncated, _ = env.step(actions.sample())
        shown += [copy.deepcopy(observation), float(reward), bool(terminated), bool(truncated)]
        if terminated or truncated:
            break
    return shown


def interface(patient: Patient) -> str | None:
    """Gymnasium's own checks."""
    env = patient.singles[2].unwrapped
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            check_env(env, skip_render_check=True, skip_close_check=True)
        except Exception as error:
            return f"gymnasium's check_env: {' '.join(str(error).split())}"
    return None


def seeded_reset(patient: Patient) -> str | None:
    """Equal seeds give equal first observations."""
    one, other = patient.singles[:2]
    first = copy.deepcopy(one.reset(seed=11)[0])
    if _equal(first, one.reset(seed=11)[0]) and _equal(first, other.reset(seed=11)[0]):
        return None
    return (
        "reset(seed=11) gives different observations: call super().reset(seed=seed), and draw from "
        "self.np_random alone"
    )


def seeded_steps(patient: Patient) -> str | None:
    """Equal seeds and actions give equal episodes."""
    one, other = (_play(env, seed=5) for env in patient.singles[:2])
    if _equal(one, other):
        return None
    return (
        "equal seeds and actions give different episodes: draw from self.np_random alone, which "
        "super().reset(seed=seed) seeds, and reset all state"
    )


def fresh_observations(patient: Patient) -> str | None:
    """An observation does not change when the environment goes on."""
    env = patient.singles[0]
    kept, _ = env.reset(seed=3)
    before = copy.deepcopy(kept)
    for _ in range(3):
        if any(env.step(env.action_space.sample())[2:4]):
            break
    if _equal(kept, before):
        return None
    return "step() changes the array that it returned before: return a copy"


def valid_observations(patient: Patient) -> str | None:
    """Observations have the dtype, shape and bounds of their space, and finite numbers."""
    env = patient.singles[0]
    space = env.observation_space
    shown = _play(env, seed=7)
    for observation in [shown[0], *shown[1::4]]:
        for part, value in _leaves(space, observation):
            array = np.asarray(value)
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                return f"an observation is not finite: {value}"
            if array.dtype != part.dtype:
                return f"an observation has dtype {array.dtype}, its space {part.dtype}"
            if not part.contains(value):
                return f"an observation lies outside of its space {part}: {value}"
    return None


def finite_rewards(patient: Patient) -> str | None:
    """Rewards are finite."""
    rewards = _play(patient.singles[0], seed=9)[2::4]
    odd = [reward for reward in rewards if not np.isfinite(reward)]
    return f"a reward is {odd[0]}" if odd else None


def valid_actions(patient: Patient) -> str | None:
    """Every action that the policy head sends lies in the action space."""
    head, space = patient.agent.policy_head, patient.environments.single_action_space
    generator = np.random.default_rng(0)
    drawn = head.uniform(generator, 256)
    if drawn.dtype.kind == "f":  # samples may lie beyond the bounds
        drawn = 3 * drawn
    sent = head.to_environment(drawn)
    wrong = [action for action in sent if not space.contains(action)]
    if not wrong:
        return None
    return f"the policy head sends {wrong[0]}, outside of {space}: mend its to_environment"


def marked_starts(patient: Patient) -> str | None:
    """An episode begins two steps after the step that ended the last one, and only there."""
    trajectory = patient.trajectory
    if bool((trajectory.is_first[2:] == trajectory.ended[:-1]).all()):
        return None
    return "is_first does not follow the ends of episodes: environments must reset in NEXT_STEP"


ENVIRONMENT: dict[str, Check] = {
    "Gymnasium's interface": interface,
    "equal seeds, equal starts": seeded_reset,
    "equal seeds, equal episodes": seeded_steps,
    "observations stay as they were": fresh_observations,
    "observations lie in their space": valid_observations,
    "rewards are finite": finite_rewards,
    "actions lie in their space": valid_actions,
    "starts of episodes are marked": marked_starts,
}
