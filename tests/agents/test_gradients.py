"""Which loss trains what: declared, measured, frozen."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from agents.learning.actor_critic import read
from agents.learning.optimizer import Optimizer
from agents.learning.parts import trained_by
from networks.autoencoding.losses import AuxiliaryLoss, Reading, Source, mean_of_valid


class Size(AuxiliaryLoss):
    """The size of features, as a map of its own sees them."""

    def __init__(self, source: Source) -> None:
        super().__init__()
        self.map = nn.Linear(source.feature_size, 1)

    def forward(self, reading: Reading) -> Tensor:
        return mean_of_valid(self.map(reading.features).square().squeeze(-1), reading.valid)


class BareSize(AuxiliaryLoss):
    """The size of features."""

    def __init__(self, source: Source) -> None:
        super().__init__()

    def forward(self, reading: Reading) -> Tensor:
        return mean_of_valid(reading.features.square().mean(-1), reading.valid)


AUXILIARY = [
    "+auxiliary.size._target_=tests.agents.test_gradients.Size",
    "+auxiliary.size.weight=0.5",
    "+auxiliary.size.weight_schedule=constant",
    "trusted_packages=[tests]",
]
SETTINGS = {
    "default": [],
    "shared": ["share_backbone=true"],
    "shared lstm": ["share_backbone=true", "memory=lstm"],
    "separate gru": ["memory=gru"],
    "critic alone": ["share_backbone=true", "memory=gru", "gradients.extractor=[critic]"],
    "memory by the actor": ["share_backbone=true", "memory=gru", "gradients.memory=[actor]"],
    "crossed": [
        "share_backbone=true",
        "memory=lstm",
        "gradients.extractor=[critic]",
        "gradients.memory=[actor]",
    ],
    "separate, critic alone": ["gradients.extractor=[critic]"],
    "nothing": ["share_backbone=true", "gradients.extractor=[]"],
    "auxiliary": [*AUXILIARY, "share_backbone=true"],
    "auxiliary, separate": [*AUXILIARY, "memory=rnn"],
    "auxiliary alone": [*AUXILIARY, "share_backbone=true", "gradients.extractor=[auxiliary]"],
    "autoencoder's rules": [
        *AUXILIARY,
        "share_backbone=true",
        "memory=gru",
        "gradients.extractor=[critic,auxiliary]",
    ],
    "frozen": ["extractor.freeze=true"],
}


def losses_of(agent, batch) -> dict[str, Tensor]:
    """One number for each loss, of everything that it can read."""
    outputs = read(agent.networks, batch)
    losses = {
        "actor": (outputs.log_probs + outputs.entropies).sum(),
        "critic": outputs.values.sum(),
    }
    return losses | ({"auxiliary": outputs.auxiliary.sum()} if len(agent.auxiliary) else {})


def modules_of(agent) -> dict[str, nn.Module]:
    is_shared = agent.networks.shares_backbone
    modules = {name: head for name, (head, _) in agent.networks.heads.items()}
    modules["auxiliary"] = agent.auxiliary
    for name, backbone in agent.networks.backbones.items():
        prefix = "" if is_shared else f"{name}."
        modules |= {
            f"{prefix}extractor": backbone.extractor,
            f"{prefix}memory": backbone.memory,
        }
    return modules


def measured(agent, take: Callable[[], dict[str, Tensor]]) -> dict[str, tuple[str, ...]]:
    """The losses whose gradient in a module is not zero, by module."""
    found: dict[str, list[str]] = {
        name: [] for name, module in modules_of(agent).items() if list(module.parameters())
    }
    for loss in take():
        gradients = agent.optimizer._gradients({loss: take()[loss]})
        by_parameter = {id(p): g for p, g in zip(agent.optimizer.trainable, gradients, strict=True)}
        for name, module in modules_of(agent).items():
            own = [by_parameter[id(p)] for p in module.parameters() if id(p) in by_parameter]
            if any(gradient.abs().sum() > 0 for gradient in own):
                found[name].append(loss)
    return {name: tuple(losses) for name, losses in found.items()}


def declared(agent, words: list[str]) -> dict[str, tuple[str, ...]]:
    return {
        name: () if name.endswith("extractor") and "extractor.freeze=true" in words else losses
        for name, losses in trained_by(agent.networks, agent.optimizer.routes).items()
    }


@pytest.mark.parametrize("agent", ["ppo", "a2c"])
@pytest.mark.parametrize("words", SETTINGS.values(), ids=SETTINGS)
def test_losses_train_what_is_declared_and_nothing_else(
    build, prepared, agent: str, words: list[str]
) -> None:
    run = build(f"agent={agent}", "policy_head.gain=1.0", *words)
    batch = prepared(run.agent, run.collector.collect(run.agent))
    assert measured(run.agent, lambda: losses_of(run.agent, batch)) == declared(run.agent, words)


@pytest.mark.parametrize("words", SETTINGS.values(), ids=SETTINGS)
def test_routed_gradients_are_those_of_each_loss_alone(build, prepared, words: list[str]) -> None:
    """One backward pass for all losses, or several: the sums are those of single passes."""
    run = build("policy_head.gain=1.0", *words)
    batch = prepared(run.agent, run.collector.collect(run.agent))
    optimizer: Optimizer = run.agent.optimizer
    together = optimizer._gradients(losses_of(run.agent, batch))
    apart = [
        optimizer._gradients({name: losses_of(run.agent, batch)[name]})
        for name in losses_of(run.agent, batch)
    ]
    for index, gradient in enumerate(together):
        torch.testing.assert_close(gradient, sum(each[index] for each in apart))


# Freezing


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
    "extractor._target_=tests.agents.test_gradients.Noting",
    "trusted_packages=[tests]",
]


@pytest.mark.parametrize("memory", ["none", "lstm"])
@pytest.mark.parametrize("shared", ["true", "false"])
@pytest.mark.parametrize("agent", ["ppo", "a2c"])
def test_a_frozen_extractor_never_changes(build, agent: str, shared: str, memory: str) -> None:
    words = [f"agent={agent}", f"memory={memory}", f"share_backbone={shared}"]
    decay = ["optimizer.learning_rate=0.05", "optimizer=adamw", "optimizer.weight_decay=0.1"]
    run = build(*words, *decay, *NOTING, "extractor.freeze=true")
    before = {key: value.clone() for key, value in run.agent.state_dict().items()}
    for _ in range(3):
        metrics = run.agent.learn(run.collector.collect(run.agent))
    after = run.agent.state_dict()
    frozen = [key for key in before if ".extractor." in key]
    assert any("running_mean" in key for key in frozen)
    for key in frozen:
        assert torch.equal(before[key], after[key]), key
    assert not torch.equal(weights(run.agent.policy_head), before["policy_head.output.weight"])
    assert "gradient_norm/extractor" not in metrics
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
    for name in ("policy_head", "value_head", "actor", "critic"):
        torch.testing.assert_close(
            weights(getattr(kept.agent, name)), weights(getattr(anew.agent, name))
        )


@pytest.mark.parametrize("optimizer", ["adam", "rmsprop", "sgd"])
def test_an_extractor_thaws_at_its_step_as_if_it_began_there(build, optimizer: str) -> None:
    run = build(f"optimizer={optimizer}", "extractor.freeze=100", "optimizer.weight_decay=0.1")
    agent, collector = run.agent, run.collector
    before = weights(agent.actor.extractor)
    rule = agent.optimizer.rules[0]
    began = {key: value.clone() for key, value in rule.state_dict().items()}
    for env_steps in (0, 36, 99):
        agent.env_steps = env_steps
        metrics = agent.learn(collector.collect(agent))
        assert torch.equal(weights(agent.actor.extractor), before)
        assert metrics["gradient_norm/extractor"] == 0  # or it would count where norms are clipped
    for key, value in rule.state_dict().items():  # moments and counts as well
        assert torch.equal(value, began[key]), key
    agent.env_steps = 100
    metrics = agent.learn(collector.collect(agent))
    assert not torch.equal(weights(agent.actor.extractor), before)
    assert metrics["gradient_norm/extractor"] > 0


def test_a_thawed_agent_goes_on_exactly(build) -> None:
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


# Pace


def test_parts_have_schedules_of_their_own(build) -> None:
    run = build(
        "memory=lstm",
        "optimizer.learning_rate=0.01",
        "optimizer.schedule=linear",
        "+optimizer.groups.extractor.learning_rate=0.1",
        "+optimizer.groups.memory={learning_rate: 0.2, schedule: constant}",
        "+optimizer.groups.critic={learning_rate: 0.02, final_learning_rate: 0.03}",
    )
    run.agent.progress = 0.5
    metrics = run.agent.learn(run.collector.collect(run.agent))
    rates = {
        tag.removeprefix("schedule/learning_rate"): round(value.item(), 6)
        for tag, value in metrics.items()
        if tag.startswith("schedule/learning_rate")
    }
    assert rates == {"": 0.005, "/extractor": 0.05, "/memory": 0.2, "/critic": 0.025}
    pace = run.agent.optimizer.pace(0.5, 0)
    assert pace.rates.tolist() == pytest.approx([0.05, 0.2, 0.005, 0.025, 0.005])


def test_updates_are_told_in_units_of_the_weights(build) -> None:
    run = build("memory=lstm", "optimizer=sgd", "optimizer.learning_rate=0.05")
    before = run.agent.optimizer.flat.clone()
    metrics = run.agent.learn(run.collector.collect(run.agent))
    moved = run.agent.optimizer.norms(run.agent.optimizer.flat - before)
    for part, size in run.agent.optimizer.norms(before).items():
        expected = (moved[part] / size).item()
        assert metrics[f"update_ratio/{part}"].item() == pytest.approx(expected)
        assert expected > 0


# Precision


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
    acted, _ = run.agent.act(rows[0], state, is_first[0], explore=False)
    assert torch.equal(acted, expected)


def test_half_precision_acts_as_it_learns(build, prepared: Callable[..., Any]) -> None:
    run = build("precision=bf16", "share_backbone=true")
    run.agent.learn(run.collector.collect(run.agent))
    trajectory = run.collector.collect(run.agent)
    batch = prepared(run.agent, trajectory)
    with torch.no_grad():
        summary, _ = run.agent.actor(
            trajectory.step_observations[:1], trajectory.state, trajectory.is_first[:1]
        )
        log_probs = run.agent.policy_head(summary).log_prob(trajectory.actions[:1])
    noted = batch.old_log_probs.view(12, 3) if batch.old_log_probs.shape[0] == 1 else None
    assert noted is not None
    torch.testing.assert_close(log_probs[0], noted[0], rtol=0, atol=1e-2)
