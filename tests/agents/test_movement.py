"""How parts move: not at all while they are frozen, and at learning rates of their own."""

import pytest
import torch
from torch import Tensor, nn

from tests.agents.test_gradients import AUXILIARY


def weights(module: nn.Module) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in module.parameters()])


class Noting(nn.Module):
    """An extractor with statistics of its own, which counts how often it is asked."""

    def __init__(self, input_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(input_shape[0], 6), nn.BatchNorm1d(6), nn.Tanh())
        self.rows = 0

    def forward(self, rows: Tensor) -> Tensor:
        self.rows += len(rows)
        return self.layers(rows)


NOTING = [
    "extractor=flatten",
    "extractor._target_=tests.agents.test_movement.Noting",
    "trusted_packages=[tests]",
]


KINDS = [("ppo", "true"), ("ppo", "false"), ("a2c", "true"), ("a2c", "false")]
KINDS += [("dqn", "false"), ("pqn", "false")]


@pytest.mark.parametrize("memory", ["none", "lstm"])
@pytest.mark.parametrize(("agent", "shared"), KINDS)
def test_a_frozen_extractor_never_changes(build, agent: str, shared: str, memory: str) -> None:
    words = [f"agent={agent}", f"memory={memory}", f"share_backbone={shared}"]
    decay = ["optimizer.learning_rate=0.05", "optimizer=adamw", "optimizer.weight_decay=0.1"]
    words += ["agent.sequence_length=4"] if agent == "dqn" else []
    run = build(*words, *decay, *NOTING, "extractor.freeze=true")
    before = {key: value.clone() for key, value in run.agent.state_dict().items()}
    for _ in range(5 if agent == "dqn" else 3):
        metrics = run.agent.learn(run.collector.collect(run.agent))
    after = run.agent.state_dict()
    frozen = [key for key in before if ".extractor." in key]
    assert any("running_mean" in key for key in frozen)
    for key in frozen:
        assert torch.equal(before[key], after[key]), key
    head = [key for key in before if key.startswith("policy_head.")]
    assert any(not torch.equal(before[key], after[key]) for key in head if "weight" in key)
    assert "gradient_norm/actor.extractor" not in metrics
    assert metrics["update/skipped"] == 0


@pytest.mark.parametrize(
    ("words", "still"),
    [
        (["share_backbone=true", "gradients.extractor=[]"], ["actor.extractor."]),
        (["gradients.extractor=[critic]"], ["actor.extractor."]),
        (["memory=gru", "gradients.memory=[actor]"], ["critic.memory."]),
    ],
)
def test_what_no_loss_trains_does_not_decay(build, words: list[str], still: list[str]) -> None:
    run = build(*words, "optimizer=adamw", "optimizer.weight_decay=0.1")
    before = {key: value.clone() for key, value in run.agent.state_dict().items()}
    run.agent.learn(run.collector.collect(run.agent))
    after = run.agent.state_dict()
    of_them = [key for key in before if key.startswith(tuple(still))]
    assert of_them
    for key in of_them:
        assert torch.equal(before[key], after[key]), key


def test_a_loss_that_trains_nothing_yet_waits(build) -> None:
    """The features are frozen, and the loss has no parameters of its own."""
    words = [word.replace("Size", "BareSize") for word in AUXILIARY]
    run = build(*words, "share_backbone=true", "extractor.freeze=40")
    for env_steps, moves in ((0, False), (40, True)):
        run.agent.env_steps = env_steps
        before = weights(run.agent.actor.extractor)
        metrics = run.agent.learn(run.collector.collect(run.agent))
        assert torch.equal(before, weights(run.agent.actor.extractor)) != moves
        assert metrics["loss/size"] > 0


def test_frozen_features_are_computed_once(build) -> None:
    run = build(*NOTING, "extractor.freeze=true", "agent.num_epochs=7", "share_backbone=true")
    trajectory = run.collector.collect(run.agent)
    run.agent.actor.extractor.rows = 0
    run.agent.learn(trajectory)
    assert run.agent.actor.extractor.rows == 13 * 3  # T + 1 steps of 3 environments


@pytest.mark.parametrize("shared", ["true", "false"])
def test_learning_on_kept_features_is_learning_on_observations(build, shared: str) -> None:
    """A part that no loss trains has its features computed anew: with the same result."""
    words = [f"share_backbone={shared}", "memory=gru", "optimizer.learning_rate=0.01"]
    kept = build(*words, "extractor.freeze=true")
    anew = build(*words, "gradients.extractor=[]")
    for _ in range(2):
        for run in (kept, anew):
            run.agent.learn(run.collector.collect(run.agent))
    found, expected = (run.agent.networks.parts() for run in (kept, anew))
    for part in ("policy_head", "value_head", "actor.memory", "actor.extractor"):
        torch.testing.assert_close(weights(found[part]), weights(expected[part]))


@pytest.mark.parametrize("optimizer", ["adam", "rmsprop", "sgd"])
def test_an_extractor_unfreezes_at_its_step_as_if_it_began_there(build, optimizer: str) -> None:
    run = build(f"optimizer={optimizer}", "extractor.freeze=100", "optimizer.weight_decay=0.1")
    agent, collector = run.agent, run.collector
    before = weights(agent.actor.extractor)
    rule = agent.optimizer.rules[0]
    began = {key: value.clone() for key, value in rule.state_dict().items()}
    for env_steps in (0, 36, 99):
        agent.env_steps = env_steps
        metrics = agent.learn(collector.collect(agent))
        assert torch.equal(weights(agent.actor.extractor), before)
        assert (
            metrics["gradient_norm/actor.extractor"] == 0
        )  # or it would count where norms are clipped
    for key, value in rule.state_dict().items():  # moments and counts as well
        assert torch.equal(value, began[key]), key
    agent.env_steps = 100
    metrics = agent.learn(collector.collect(agent))
    assert not torch.equal(weights(agent.actor.extractor), before)
    assert metrics["gradient_norm/actor.extractor"] > 0


def test_an_unfrozen_agent_goes_on_exactly(build) -> None:
    words = ["extractor.freeze=50", "memory=lstm"]
    whole, half = build(*words), build(*words)
    for run in (whole, half):
        for env_steps in (0, 36):
            run.agent.env_steps = env_steps
            run.agent.learn(run.collector.collect(run.agent))
    fresh = build(*words, "seed=1").agent
    fresh.load_state_dict(half.agent.state_dict())
    fresh.generator.bit_generator.state = half.agent.generator.bit_generator.state
    for agent, collector in ((whole.agent, whole.collector), (fresh, half.collector)):
        agent.env_steps = 72
        agent.learn(collector.collect(agent))
    assert torch.equal(fresh.optimizer.flat, whole.agent.optimizer.flat)


def test_an_extractor_unfreezes_and_the_target_network_follows(build) -> None:
    run = build("agent=dqn", "extractor.freeze=100", "agent.target_update_interval=1")
    agent, (copied, _) = run.agent, run.agent.learner.target_network.copies
    before = weights(agent.actor.extractor)
    for env_steps, moves in ((0, False), (99, False), (100, True)):
        agent.env_steps = env_steps
        for _ in range(3):
            acting = weights(agent.actor.extractor).clone()
            metrics = agent.learn(run.collector.collect(agent))
        assert torch.equal(weights(agent.actor.extractor), before) != moves
        # Of frozen parts there is none: it would count where norms are clipped.
        assert (metrics["gradient_norm/actor.extractor"] > 0) == moves
        assert torch.equal(weights(copied.extractor), acting)


# Pace


def test_parts_have_learning_rates_of_their_own_on_one_schedule(build) -> None:
    run = build(
        "memory=lstm",
        "optimizer.learning_rate=0.01",
        "optimizer.schedule=linear",
        "+optimizer.groups.extractor.learning_rate=0.1",
        "+optimizer.groups.memory.learning_rate=0.2",
        "+optimizer.groups.value_head.weight_decay=0.1",
    )
    run.agent.progress = 0.5
    metrics = run.agent.learn(run.collector.collect(run.agent))
    rates = {
        tag.removeprefix("schedule/learning_rate"): round(value.item(), 6)
        for tag, value in metrics.items()
        if tag.startswith("schedule/learning_rate")
    }
    assert rates == {
        "": 0.005,
        "/actor.extractor": 0.05,
        "/critic.extractor": 0.05,
        "/actor.memory": 0.1,
        "/critic.memory": 0.1,
    }
    pace = run.agent.optimizer.pace(0.5, 0)
    assert [rate.item() for rate in pace.rates] == pytest.approx([0.05, 0.1, 0.005, 0.005])


def test_updates_are_told_in_units_of_the_weights(build) -> None:
    run = build("memory=lstm", "optimizer=sgd", "optimizer.learning_rate=0.05")
    parts = {
        part: module for part, module in run.agent.networks.parts().items() if part != "auxiliary"
    }
    before = {part: weights(module) for part, module in parts.items()}
    metrics = run.agent.learn(run.collector.collect(run.agent))
    for part, module in parts.items():
        expected = ((weights(module) - before[part]).norm() / before[part].norm()).item()
        assert metrics[f"update_ratio/{part}"].item() == pytest.approx(expected)
        assert expected > 0
