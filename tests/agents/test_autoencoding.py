"""Autoencoding: what it learns, what it leaves alone, and what evaluations measure."""

from typing import Any

import pytest
import torch

SMALL = [
    "agent=autoencoding",
    "device=cpu",
    "env.num_envs=2",
    "extractor.latent_size=2",
    "extractor.vector_encoder.hidden_sizes=[8]",
    "agent.learning_starts=16",
    "agent.batch_size=32",
    "agent.replay_ratio=1",
    "optimizer.learning_rate=0.01",
]


def learn(here: Any, rounds: int) -> list[float]:
    losses = []
    for _ in range(rounds):
        metrics = here.agent.learn(here.collector.collect(here.agent))
        if "loss/reconstruction" in metrics:
            losses.append(float(metrics["loss/reconstruction"]))
    return losses


@pytest.mark.parametrize("extractor", ["autoencoder", "vae"])
def test_encoder_and_decoder_learn_and_nothing_else(build_run, extractor) -> None:
    here = build_run([*SMALL, f"extractor={extractor}", "extractor.beta=0.001"])
    before = {part: [p.clone() for p in own] for part, own in here.agent.parts().items()}
    losses = learn(here, 30)
    assert losses[-1] < 0.6 * losses[0]
    for part, own in here.agent.parts().items():
        moved = any(not torch.equal(p, q) for p, q in zip(own, before[part], strict=True))
        assert moved == (part in ("actor.extractor", "decoder")), part


def test_freezing_is_of_the_agent_that_reads_the_extractor(build_run) -> None:
    here = build_run([*SMALL, "extractor.freeze=true"])
    assert not here.agent.actor.is_frozen


def test_what_is_held_out_is_measured_step_by_step(build_run) -> None:
    """Valid steps alone; the loss by hand; principal components of what was replayed."""
    here = build_run([*SMALL, "agent.train_frequency=64"])
    agent = here.agent
    learn(here, 2)
    trajectory = here.collector.collect(agent)
    assert not trajectory.valid.all()
    found = agent.held_out(trajectory)
    rows = trajectory.step_observations[trajectory.valid]
    with torch.no_grad():
        again = agent.decoder.reconstruct(rows)
    squares = (again - rows).square().mean(1)
    torch.testing.assert_close(found["squared_error"], squares)
    torch.testing.assert_close(found["held_out_loss"].mean(), squares.mean())
    # The best plane through the replay's observations loses at least what a better one would.
    centred = rows.double() - rows.double().mean(0)
    _, _, directions = torch.linalg.svd(centred)
    least = (centred - centred @ directions[:2].T @ directions[:2]).square().mean()
    error = float(found["pca_squared_error"].mean())
    assert float(least) <= error < 3 * float(least) + 1e-3


def test_without_replayed_observations_there_are_no_components(build_run) -> None:
    here = build_run([*SMALL, "agent.train_frequency=64"])
    found = here.agent.held_out(here.collector.collect(here.agent))
    assert found.keys() == {"held_out_loss", "squared_error"}


def test_latents_are_sampled_in_gradient_steps_alone(build_run) -> None:
    here = build_run([*SMALL, "extractor=vae"])
    agent, trajectory = here.agent, here.collector.collect(here.agent)
    first, second = (agent.held_out(trajectory)["held_out_loss"] for _ in range(2))
    assert torch.equal(first, second)
    agent.decoder.train()
    third = agent.held_out(trajectory)["held_out_loss"]
    agent.decoder.eval()
    assert not torch.equal(first, third)
    assert not agent.is_alike_in_learning
