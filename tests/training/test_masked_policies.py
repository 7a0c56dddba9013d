"""Policies with masks of legal actions: played, asked one by one, imitated, resumed elsewhere."""

import json

import numpy as np
import pytest

import neurl
from conf.composing.command_line import load
from tests.doors import MASKED, TWO, Doors
from training.building.environments import build_environments
from training.runs.refusal import Refusal
from training.runs.session import train_run

SMALL = ["env.num_envs=2", "agent.learning_starts=16", "agent.batch_size=16", "tracking=none"]
ENDS = ["total_env_steps=64", "evaluation.interval=0", "evaluation.final_episodes=2"]


@pytest.mark.parametrize("words", [[], [TWO]], ids=["one", "two"])
def test_a_policy_is_told_what_is_legal(words: list[str]) -> None:
    """For one environment or several, by one mask or a mask of each choice."""
    policy = neurl.build(*MASKED, *words, "memory=gru")
    env = Doors((3, 2) if words else (6,))
    seen, info = env.reset(seed=0)
    mask, ended = info["action_mask"], False
    while not ended:
        given = tuple(np.split(mask, [3])) if words else mask
        action = policy.predict(seen, action_mask=given, deterministic=False)
        seen, _, ended, _, info = env.step(action)
        mask = info.get("action_mask")
    size = len(env.observation_space.sample())
    masks = np.zeros((2, size), bool)
    masks[0, [0, -1]] = masks[1, [2, -2]] = True
    taken = policy.predict(np.zeros((2, size), np.float32), action_mask=masks)
    for action, allowed in zip(taken, masks, strict=True):
        places = (
            np.ravel(action) - np.ravel(env.action_space.start) + np.array([0, 3])[: action.size]
        )
        assert allowed[places].all()


def test_a_policy_without_its_mask_says_what_it_needs() -> None:
    policy, seen = neurl.build(*MASKED), np.zeros(6, np.float32)
    with pytest.raises(ValueError, match=r"expected predict\(\.\.\., action_mask=\.\.\.\)"):
        policy.predict(seen)
    with pytest.raises(ValueError, match=r"expected a mask of 6 entries.*the shape \(5,\)"):
        policy.predict(seen, action_mask=np.ones(5))
    plain = neurl.build("env=cartpole")  # a mask is welcome where none was trained with
    assert plain.predict(np.zeros(4, np.float32), action_mask=[0, 1]) == 1


@pytest.mark.parametrize("agent", ["autoencoding", "cloning"])
def test_frames_are_collected_by_legal_actions(train, tmp_path, agent: str) -> None:
    """Closed doors raise, whether a uniformly random policy acts or the policy of a run."""
    words = [*MASKED, *SMALL, *ENDS, f"agent={agent}", f"run_dir={tmp_path / 'run'}"]
    if agent == "cloning":
        words.append(f"agent.source={train(*MASKED, 'total_env_steps=64').directory}")
    config = load(words)
    train_run(config, build_environments(config, num_envs=2))
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    # Of a choice among six doors, of which two are open in the mean.
    assert summary["evaluation"]["held_out_loss"] < np.log(3)


def test_a_run_that_ignores_masks_says_so(train, capsys) -> None:
    with pytest.raises(Refusal, match="is closed"):
        train(*MASKED[:2], "total_env_steps=64")
    told = capsys.readouterr().out
    assert "notice: infos tell which actions are legal; env.action_mask=true" in told
