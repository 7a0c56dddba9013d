"""Published scores, reached by the presets as they stand: minutes each, `make test-learning`.

Every run is the command a user types, in a process of its own. Scores are means over 100 episodes
of the most likely actions after the last step.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import neurl
from training.saving.checkpoint import load_checkpoint, part_of

ROOT = Path(__file__).resolve().parents[2]
SEEDS = (1, 2, 3)

pytestmark = pytest.mark.learning


def trained(directory: Path, *words: str, seeds: tuple[int, ...] = SEEDS) -> list[dict[str, Any]]:
    """Summaries of one run for each seed."""
    summaries = []
    for seed in seeds:
        run = directory / f"seed{seed}"
        words_of_run = [*words, f"seed={seed}", f"run_dir={run}", "device=cpu"]
        subprocess.run([sys.executable, str(ROOT / "train.py"), *words_of_run], check=True)
        summaries.append(json.loads((run / "summary.json").read_text()))
    return summaries


def final_returns(summaries: list[dict[str, Any]]) -> list[float]:
    return [summary["evaluation"]["return_mean"] for summary in summaries]


def test_ppo_solves_cartpole(tmp_path: Path) -> None:
    """500 +- 0 in rl-baselines3-zoo's benchmark at this budget; 475 counts as solved."""
    summaries = trained(tmp_path, "experiment=cartpole")
    assert all(summary["evaluation"]["episodes"] == 100 for summary in summaries)
    assert np.mean(final_returns(summaries)) >= 475


def test_the_default_solves_cartpole_and_does_not_fall_back(tmp_path: Path) -> None:
    """The last weights of every seed: with `gae_lambda=0.95` those of 11, 12 and 14 fall back."""
    assert min(final_returns(trained(tmp_path, seeds=tuple(range(15))))) >= 475


def test_a2c_solves_cartpole(tmp_path: Path) -> None:
    """500 +- 0 in rl-baselines3-zoo's benchmark at this budget; 475 counts as solved."""
    assert np.mean(final_returns(trained(tmp_path, "experiment=cartpole_a2c"))) >= 475


def test_dqn_solves_cartpole(tmp_path: Path) -> None:
    """500 +- 0, the best of the evaluations, in rl-baselines3-zoo's benchmark at this budget."""
    summaries = trained(tmp_path, "experiment=cartpole_dqn")
    assert min(summary["best"]["return_mean"] for summary in summaries) >= 475
    assert np.mean(final_returns(summaries)) >= 475  # of those weights


def test_c51_solves_cartpole(tmp_path: Path) -> None:
    """481 +- 21 while training in CleanRL's documentation at this budget."""
    assert np.mean(final_returns(trained(tmp_path, "experiment=cartpole_c51"))) >= 460


def test_quantile_regression_solves_cartpole(tmp_path: Path) -> None:
    """386 +- 64 over five seeds in sb3-contrib's documentation at this budget."""
    assert np.mean(final_returns(trained(tmp_path, "experiment=cartpole_quantile"))) >= 340


def test_ppo_swings_the_pendulum_up(tmp_path: Path) -> None:
    """-174.9 in SLM-Lab's benchmark at this budget; its target is -200."""
    assert np.mean(final_returns(trained(tmp_path, "experiment=pendulum"))) >= -200


def test_ppo_lands_on_the_moon(tmp_path: Path) -> None:
    """242 +- 32 in rl-baselines3-zoo's benchmark at this budget; 200 counts as solved."""
    pytest.importorskip("Box2D")
    assert np.mean(final_returns(trained(tmp_path, "experiment=lunarlander"))) >= 200


def test_double_dqn_lands_on_the_moon(tmp_path: Path) -> None:
    """265.9 with prioritised replay in SLM-Lab's benchmark at this budget; 200 is solved."""
    pytest.importorskip("Box2D")
    assert np.mean(final_returns(trained(tmp_path, "experiment=lunarlander_dqn"))) >= 200


def test_dqn_plays_breakout(tmp_path: Path) -> None:
    """8.3 over 30 seeds while training at this budget (Young & Tian 2019)."""
    pytest.importorskip("minatar")
    assert np.mean(final_returns(trained(tmp_path, "experiment=minatar_breakout_dqn"))) >= 7.5


def test_saying_the_observation_again_does_not_hold_dqn_up(tmp_path: Path) -> None:
    """8.3 for DQN alone (Young & Tian 2019); features say more than the mean image does."""
    pytest.importorskip("minatar")
    summaries = trained(tmp_path, "experiment=minatar_breakout_dqn_autoencoder")
    assert np.mean(final_returns(summaries)) >= 7.5
    for seed in SEEDS:
        error, of_the_mean_image = reconstruction_errors(tmp_path / f"seed{seed}")
        assert error < of_the_mean_image


def reconstruction_errors(run: Path) -> tuple[float, float]:
    """Squared error of an auxiliary decoder on what the policy sees, and of the mean of that."""
    policy = neurl.load(run)
    environments, frames = policy.environments(8), []
    observations, _ = environments.reset(seed=list(range(8)))
    for _ in range(250):
        frames.append(observations.copy())
        observations, *_ = environments.step(policy.predict(observations, deterministic=False))
    environments.close()
    actor, auxiliary = policy.agent.actor, policy.agent.auxiliary
    (loss,) = auxiliary.by_backbone["actor"].values()
    with torch.no_grad():
        rows = actor.rows(torch.from_numpy(np.stack(frames)))
        made = loss.decoder(actor.extract(rows))
        error = loss.decoder.squared_error(made, rows).mean()
    return error.item(), (rows - rows.mean(0)).square().mean().item()


@pytest.mark.parametrize("memory", ["rnn", "gru", "lstm"])
def test_memory_makes_up_for_hidden_velocities(tmp_path: Path, memory: str) -> None:
    """500 +- 0 for RecurrentPPO with an LSTM in rl-baselines3-zoo's benchmark at this budget."""
    summaries = trained(tmp_path, "experiment=cartpole_no_velocity", f"memory={memory}")
    assert min(summary["best"]["return_mean"] for summary in summaries) >= 475
    assert np.mean(final_returns(summaries)) >= 450


def test_without_memory_they_stay_hidden(tmp_path: Path) -> None:
    """The control: were it to pass, the masks would hide nothing."""
    summaries = trained(tmp_path, "experiment=cartpole_no_velocity", "memory=none")
    assert np.mean(final_returns(summaries)) <= 200


def test_a_recurrent_dqn_makes_up_for_hidden_velocities(tmp_path: Path) -> None:
    """500 +- 0 for RecurrentPPO in rl-baselines3-zoo's benchmark at this budget."""
    summaries = trained(tmp_path / "lstm", "experiment=cartpole_no_velocity_dqn")
    assert min(summary["best"]["return_mean"] for summary in summaries) >= 475
    assert np.mean(final_returns(summaries)) >= 450
    control = trained(tmp_path / "none", "experiment=cartpole_no_velocity_dqn", "memory=none")
    assert np.mean(final_returns(control)) <= 200


def test_a_recurrent_dqn_answers_what_it_was_shown(tmp_path: Path) -> None:
    """bsuite's memory_len, 1,000 episodes at least 95% right: a return of 0.9; guessing gives 0."""
    assert np.mean(final_returns(trained(tmp_path / "gru", "experiment=memory_length"))) >= 0.9
    control = trained(tmp_path / "none", "experiment=memory_length", "memory=none")
    assert np.mean(final_returns(control)) <= 0.1


def test_truncated_gradients_make_up_for_hidden_velocities(tmp_path: Path) -> None:
    """192.8 +- 2.9 of 200 over ten seeds in recurrent-ppo-truncated-bptt at this budget."""
    summaries = trained(tmp_path, "experiment=cartpole_no_velocity_200")
    assert np.mean(final_returns(summaries)) >= 187


def test_a_memory_repeats_what_it_saw(tmp_path: Path) -> None:
    """GRU: 1.000 +- 0 after 15 million steps in POPGym's benchmark, 15 times as many as here."""
    pytest.importorskip("popgym")
    summaries = trained(tmp_path, "experiment=repeat_previous", seeds=(1,))
    assert np.mean(final_returns(summaries)) >= 0.9


def test_without_memory_nothing_can_be_repeated(tmp_path: Path) -> None:
    """The control: one suit of four is right, 2 * 1/4 - 1."""
    pytest.importorskip("popgym")
    words = ["experiment=repeat_previous", "memory=none", "total_env_steps=300_000"]
    summaries = trained(tmp_path, *words, seeds=(1,))
    assert np.mean(final_returns(summaries)) <= -0.4


def test_a_frozen_autoencoder_s_latent_is_enough(tmp_path: Path) -> None:
    """0.964 end to end in rl-baselines3-zoo's benchmark; here from 8 numbers of random frames."""
    pytest.importorskip("minigrid")
    summaries = trained(tmp_path, "experiment=minigrid_autoencoder")
    assert np.mean(final_returns(summaries)) >= 0.9
    for seed in SEEDS:
        before = tmp_path / f"seed{seed}" / "pretraining"
        weights, state = load_checkpoint(before / "checkpoints" / "best")
        measures = state["evaluation"]["measures"]
        assert measures["squared_error"] <= measures["pca_squared_error"]
        final, _ = load_checkpoint(tmp_path / f"seed{seed}" / "checkpoints" / "last")
        for name, tensor in part_of(weights, "agent.actor.extractor").items():
            for part in ("actor", "critic"):
                assert torch.equal(final[f"agent.{part}.extractor.{name}"], tensor)
