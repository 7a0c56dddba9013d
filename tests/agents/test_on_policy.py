"""What holds of every on-policy agent: determinism, what must not matter, and parts."""

import dataclasses
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch


@pytest.fixture(params=["ppo", "a2c", "pqn"])
def build(request, build: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *overrides: build(f"agent={request.param}", *overrides)


of_actor_critics = pytest.mark.parametrize("build", ["ppo", "a2c"], indirect=True)


def learn_once(run) -> dict[str, torch.Tensor]:
    return run.agent.learn(run.collector.collect(run.agent))


def weights_of(agent) -> torch.Tensor:
    return agent.optimizer.flat.clone()


# Determinism


@of_actor_critics
@pytest.mark.parametrize(
    "overrides", [["memory=none"], ["memory=lstm", "env.id=neurl/ContinuousTarget-v0"]], ids=str
)
def test_learning_follows_the_seed_and_nothing_else(build, overrides) -> None:
    finished = []
    for seed, elsewhere in ((0, 1), (0, 2), (1, 1)):
        torch.manual_seed(elsewhere)
        np.random.seed(elsewhere)  # noqa: NPY002 (global state must not matter)
        run = build(*overrides, f"seed={seed}")
        for _ in range(3):
            learn_once(run)
        finished.append(weights_of(run.agent))
    assert torch.equal(finished[0], finished[1])
    assert not torch.equal(finished[0], finished[2])


# Invalid steps


def pair_of_runs(build, *overrides: str) -> tuple[SimpleNamespace, SimpleNamespace]:
    """Two equal runs; the first trajectories are learnt from, so that memories carry something."""
    runs = build(*overrides), build(*overrides)
    for run in runs:
        learn_once(run)
    assert torch.equal(weights_of(runs[0].agent), weights_of(runs[1].agent))
    return runs


def assert_learns_the_same(runs, fill) -> None:
    clean, filled = (run.collector.collect(run.agent) for run in runs)
    assert (~filled.valid).sum() > 0
    metrics = runs[0].agent.learn(clean)
    others = runs[1].agent.learn(fill(filled))
    assert metrics["update/skipped"] == others["update/skipped"] == 0
    assert torch.equal(weights_of(runs[0].agent), weights_of(runs[1].agent))
    for tag, value in metrics.items():
        torch.testing.assert_close(others[tag], value, rtol=0, atol=0, equal_nan=True, msg=tag)


@pytest.mark.parametrize("memory", ["none", "lstm"])
def test_rewards_and_actions_of_resetting_steps_never_matter(build, memory: str) -> None:
    runs = pair_of_runs(build, f"memory={memory}", "normalize_rewards=true")

    def fill(trajectory):
        rewards, actions = trajectory.rewards.clone(), trajectory.actions.clone()
        rewards[~trajectory.valid] = 1e9
        actions[~trajectory.valid] = 1 - actions[~trajectory.valid]
        return dataclasses.replace(trajectory, rewards=rewards, actions=actions)

    assert_learns_the_same(runs, fill)


@of_actor_critics
@pytest.mark.parametrize("action", [1e9, 1e4, -1e4])
@pytest.mark.parametrize("entropy_coefficient", [0.0, 1.0])
def test_continuous_actions_of_resetting_steps_never_matter(
    build, action: float, entropy_coefficient: float
) -> None:
    # As the deviation shrinks or grows, the ratio of an action far out goes to 0 or overflows.
    runs = pair_of_runs(
        build,
        "env.id=neurl/ContinuousTarget-v0",
        "memory=gru",
        "optimizer.learning_rate=0.01",
        f"agent.entropy_coefficient={entropy_coefficient}",
    )

    def fill(trajectory):
        actions = trajectory.actions.clone()
        actions[~trajectory.valid] = action
        return dataclasses.replace(trajectory, actions=actions)

    assert_learns_the_same(runs, fill)


@pytest.mark.parametrize("memory", ["none", "lstm"])
def test_absorbing_observations_never_matter(build, memory: str) -> None:
    runs = pair_of_runs(
        build, "env.id=neurl/Recall-v0", f"memory={memory}", "normalize_observations=true"
    )

    def fill(trajectory):
        # The final observation of a terminated episode is read, but its value counts as zero.
        observations = trajectory.observations.clone()
        observations[:-1][~trajectory.valid] = 1e6
        return dataclasses.replace(trajectory, observations=observations)

    assert_learns_the_same(runs, fill)


def test_the_value_of_a_cut_observation_matters(build) -> None:
    """The counterpart: filled in the same way, truncated episodes must notice."""
    runs = pair_of_runs(build, "env.id=neurl/Counting-v0", "+env.kwargs.ending=truncated")
    clean, filled = (run.collector.collect(run.agent) for run in runs)
    observations = filled.observations.clone()
    observations[:-1][~filled.valid] += 1.0
    runs[0].agent.learn(clean)
    runs[1].agent.learn(dataclasses.replace(filled, observations=observations))
    assert not torch.equal(weights_of(runs[0].agent), weights_of(runs[1].agent))


@of_actor_critics
def test_the_value_s_loss_has_its_coefficient(build, spy_on_steps) -> None:
    found = {}
    for coefficient in (0.25, 2.0):
        run = build(f"agent.value_coefficient={coefficient}")
        agent, losses = run.agent, []

        def note(*inputs: Any, agent=agent, losses=losses, **scheduled: torch.Tensor) -> None:
            losses.append(agent.losses(*inputs, **scheduled).losses)

        spy_on_steps(agent, note)
        learn_once(run)
        found[coefficient] = {name: loss.item() for name, loss in losses[0].items()}
    assert found[2.0]["critic"] == pytest.approx(8 * found[0.25]["critic"])
    assert found[2.0]["actor"] == found[0.25]["actor"]


# Parts


@of_actor_critics
@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("memory", ["none", "lstm"])
def test_every_parameter_is_in_exactly_one_part(build, shared: bool, memory: str) -> None:
    agent = build(f"share_backbone={str(shared).lower()}", f"memory={memory}").agent
    parts = agent.parts()
    listed = [id(parameter) for parameters in parts.values() for parameter in parameters]
    backbones = ["actor"] if shared else ["actor", "critic"]
    extractors, memories = (
        [f"{backbone}.{kind}" for backbone in backbones] for kind in ("extractor", "memory")
    )
    assert list(parts) == [*extractors, *memories, "policy_head", "value_head", "auxiliary"]
    assert len(listed) == len(set(listed))
    assert set(listed) == {id(parameter) for parameter in agent.parameters()}
    networks = agent.networks
    assert (networks.actor is networks.critic) == networks.shares_backbone == shared
    filled = [*extractors, *(memories if memory == "lstm" else []), "policy_head", "value_head"]
    assert [part for part, parameters in parts.items() if parameters] == filled
    assert list(dict.fromkeys(agent.optimizer.part_of)) == filled


@of_actor_critics
def test_every_part_is_trained_and_reported(build) -> None:
    run = build("memory=lstm")
    before = [parameter.detach().clone() for parameter in run.agent.parameters()]
    metrics = learn_once(run)
    learn_once(run)
    for parameter, kept in zip(run.agent.parameters(), before, strict=True):
        assert not torch.equal(parameter, kept)
    for part, parameters in run.agent.parts().items():
        assert not parameters or metrics[f"gradient_norm/{part}"] > 0
    assert all(value.shape == () and not value.requires_grad for value in metrics.values())
