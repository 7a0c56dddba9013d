"""Half precision: of features alone, and the same in learning and acting."""

import math

import torch


def test_half_precision_is_that_of_features_alone(build) -> None:
    run = build("precision=bf16", "memory=lstm", "optimizer.learning_rate=0.01")
    trajectory = run.collector.collect(run.agent)
    full = build("memory=lstm", "optimizer.learning_rate=0.01").agent
    for agent in (run.agent, full):
        assert all(p.dtype == torch.float32 for p in agent.parameters())
    rows = trajectory.step_observations
    with torch.no_grad():
        half, exact = run.agent.actor.features(rows), full.actor.features(rows)
    assert half.dtype == torch.float32
    difference = (half - exact).abs().max().item()
    assert 1e-5 < difference < 0.05
    metrics = run.agent.learn(trajectory)
    assert metrics["update/skipped"] == 0
    assert all(math.isfinite(value) or "explained" in tag for tag, value in metrics.items())


def test_half_precision_has_eight_bits_of_mantissa_in_learning_and_acting(build) -> None:
    """Features of a tanh are exact bfloat16; actions are the means that learning computes."""
    run = build("precision=bf16", "env.id=neurl/ContinuousTarget-v0", "policy_head.gain=1.0")
    trajectory = run.collector.collect(run.agent)
    rows, state, is_first = (
        trajectory.observations[:1], trajectory.state, trajectory.is_first[:1]
    )  # fmt: skip
    with torch.no_grad():
        features = run.agent.actor.features(rows)
        summary, _ = run.agent.actor(rows, state, is_first)
        expected = run.agent.policy_head(summary[0]).mode()
    assert torch.equal(features, features.bfloat16().float())
    seen = rows[0].numpy(), state.numpy(), is_first[0].numpy()
    acted, _ = run.agent.act(*seen, explore=False)
    assert acted.tolist() == expected.tolist()


def test_half_precision_acts_as_it_learns(build) -> None:
    run = build("precision=bf16", "share_backbone=true")
    run.agent.learn(run.collector.collect(run.agent))
    trajectory = run.collector.collect(run.agent)
    batch, _ = run.agent.prepare(trajectory)
    with torch.no_grad():
        summary, _ = run.agent.actor(
            trajectory.step_observations[:1], trajectory.state, trajectory.is_first[:1]
        )
        log_probs = run.agent.policy_head(summary).log_prob(trajectory.actions[:1])
    noted = batch.old_log_probs.view(12, 3) if batch.old_log_probs.shape[0] == 1 else None
    assert noted is not None
    torch.testing.assert_close(log_probs[0], noted[0], rtol=0, atol=1e-2)


def test_half_precision_is_that_of_hidden_layers_of_heads_too(build) -> None:
    """Their output layers are float32, whose values have more than 8 bits of mantissa."""
    words = ["agent=sac", "env.id=neurl/ContinuousTarget-v0", "policy_head.gain=1.0"]
    torch.manual_seed(0)
    half, exact = (build(*words, more).agent for more in ("precision=bf16", "precision=float32"))
    summary = torch.randn(1, 5, half.actor.memory.output_size)
    inputs = torch.cat([summary, torch.rand(1, 5, 1)], -1)
    for name, rows in (("policy_head", summary), ("value_head", inputs)):
        own, full = (getattr(agent.networks, name) for agent in (half, exact))
        full.load_state_dict(own.state_dict())
        outputs = [
            head.linear(rows) if name == "policy_head" else head(rows) for head in (own, full)
        ]
        assert 1e-5 < (outputs[0] - outputs[1]).abs().max() < 0.05
        assert not torch.equal(outputs[0], outputs[0].bfloat16().float())
    assert half.policy_head.mirror() is None  # acting rounds as learning does
    assert exact.policy_head.mirror() is not None
