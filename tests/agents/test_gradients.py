"""Which loss trains what, measured in the gradient steps of every agent; freezing, paces."""

import dataclasses
import itertools
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from networks.autoencoding.losses import AuxiliaryLoss, Reading, Source, mean_of_valid
from tests.agents.conftest import StepSpy, gradients_of


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
NEXT = ["auxiliary=next_latent", "auxiliary.next_latent.hidden_sizes=[5]"]
OF_DQN = ["agent.sequence_length=4", "agent.target_update_interval=2"]
OF_REPLAY = ("dqn", "ddpg", "td3", "sac")

SEPARATE = {
    "actor.extractor": "actor",
    "critic.extractor": "critic",
    "actor.memory": "actor",
    "critic.memory": "critic",
    "policy_head": "actor",
    "value_head": "critic",
}
SHARED = {
    "actor.extractor": "actor critic",
    "actor.memory": "actor critic",
    "policy_head": "actor",
    "value_head": "critic",
}
OF_CRITICS = SHARED | {
    "actor.extractor": "critic", "actor.memory": "critic", "temperature": "temperature",
}  # fmt: skip
VALUES = {"actor.extractor": "critic", "actor.memory": "critic", "value_head": "critic"}
ONE, TWO = "share_backbone=true", "share_backbone=false"
AUXILIARY_TOO = {
    "actor.extractor": "actor auxiliary",
    "critic.extractor": "critic auxiliary",
    "auxiliary": "auxiliary",
}
PRIVILEGED = ["pomdp=mask_velocity", "critic.observation=full", "memory=gru"]
MEMORY_TOO = {
    "actor.extractor": "actor critic auxiliary",
    "actor.memory": "actor critic auxiliary",
    "auxiliary": "auxiliary",
}
SHARED_TOO = {"actor.extractor": "actor critic auxiliary", "auxiliary": "auxiliary"}
VALUES_TOO = {"actor.extractor": "critic auxiliary", "auxiliary": "auxiliary"}

Case = tuple[dict[str, str], list[str], dict[str, str]]
"""What losses train, as a rule; words; what is different with these."""
OF_POLICIES: dict[str, Case] = {
    "separate": (SEPARATE, [TWO], {}),
    "separate gru": (SEPARATE, [TWO, "memory=gru"], {}),
    "shared": (SHARED, [ONE], {}),
    "shared lstm": (SHARED, [ONE, "memory=lstm"], {}),
    "critic alone": (
        SHARED, [ONE, "memory=gru", "gradients.extractor=[critic]"], {"actor.extractor": "critic"},
    ),
    "memory by the actor": (
        SHARED, [ONE, "memory=gru", "gradients.memory=[actor]"], {"actor.memory": "actor"},
    ),
    "crossed": (
        SHARED,
        [ONE, "memory=lstm", "gradients.extractor=[critic]", "gradients.memory=[actor]"],
        {"actor.extractor": "critic", "actor.memory": "actor"},
    ),
    "separate, critic alone": (
        SEPARATE, [TWO, "gradients.extractor=[critic]"], {"actor.extractor": ""},
    ),
    "nothing": (SHARED, [ONE, "gradients.extractor=[]"], {"actor.extractor": ""}),
    "one path alone": (
        SEPARATE, [TWO, "memory=gru", "gradients.critic.memory=[]"], {"critic.memory": ""},
    ),
    "auxiliary": (SHARED, [*AUXILIARY, ONE], SHARED_TOO),
    "auxiliary, separate": (SEPARATE, [*AUXILIARY, TWO, "memory=rnn"], AUXILIARY_TOO),
    "auxiliary alone": (
        SHARED,
        [*AUXILIARY, ONE, "gradients.extractor=[auxiliary]"],
        {**SHARED_TOO, "actor.extractor": "auxiliary"},
    ),
    "autoencoder's rules": (
        SHARED,
        [*AUXILIARY, ONE, "memory=gru", "gradients.extractor=[critic,auxiliary]"],
        {**SHARED_TOO, "actor.extractor": "critic auxiliary"},
    ),
    "frozen": (
        SEPARATE,
        [TWO, "extractor.freeze=true"],
        {"actor.extractor": "", "critic.extractor": ""},
    ),
    "privileged critic": (SEPARATE, [TWO, *PRIVILEGED], {}),
    "privileged critic, auxiliary": (SEPARATE, [TWO, *PRIVILEGED, *AUXILIARY], AUXILIARY_TOO),
    "lambda discrepancy": (
        SHARED, [ONE, "memory=gru", "auxiliary=lambda_discrepancy"], MEMORY_TOO,
    ),
    "lambda discrepancy, frozen": (
        SHARED,
        [ONE, "memory=lstm", "auxiliary=lambda_discrepancy", "extractor.freeze=true"],
        {**MEMORY_TOO, "actor.extractor": ""},
    ),
}  # fmt: skip
OF_VALUES: dict[str, Case] = {
    "default": (VALUES, [], {}),
    "gru": (VALUES, ["memory=gru"], {}),
    "no critic": (VALUES, ["gradients.extractor=[]"], {"actor.extractor": ""}),
    "memory alone": (VALUES, ["memory=lstm", "gradients.extractor=[]"], {"actor.extractor": ""}),
    "auxiliary": (VALUES, AUXILIARY, VALUES_TOO),
    "auxiliary, rnn": (VALUES, [*AUXILIARY, "memory=rnn"], VALUES_TOO),
    "auxiliary alone": (
        VALUES,
        [*AUXILIARY, "memory=gru", "gradients.extractor=[auxiliary]"],
        {**VALUES_TOO, "actor.extractor": "auxiliary"},
    ),
    "next latent": (VALUES, [*NEXT, "memory=gru"], VALUES_TOO),
    "dueling": (VALUES, ["agent.dueling=true", "value_head.hidden_sizes=[4]"], {}),
    "frozen": (VALUES, ["extractor.freeze=true", "memory=gru"], {"actor.extractor": ""}),
}
LAYERS = ["extractor=mlp", "extractor.hidden_sizes=[5]"]
SEPARATE_CRITICS = SEPARATE | {"temperature": "temperature"}
OF_ACTION_CRITICS: dict[str, Case] = {
    "separate": (SEPARATE_CRITICS, [TWO, *LAYERS], {}),
    "separate gru": (SEPARATE_CRITICS, [TWO, *LAYERS, "memory=gru", "agent.burn_in=2"], {}),
    "shared": (OF_CRITICS, [ONE, *LAYERS], {}),
    "shared lstm": (OF_CRITICS, [ONE, *LAYERS, "memory=lstm", "agent.n_step=2"], {}),
    "shared, opened": (
        OF_CRITICS,
        [ONE, *LAYERS, "memory=gru", "gradients.actor.memory=[actor,critic]"],
        {"actor.memory": "actor critic"},
    ),
    "auxiliary": (
        OF_CRITICS,
        [ONE, *LAYERS, *AUXILIARY, "agent.prioritized=true"],
        {"actor.extractor": "critic auxiliary", "auxiliary": "auxiliary"},
    ),
    "auxiliary, separate": (
        SEPARATE_CRITICS, [TWO, *LAYERS, *AUXILIARY, "memory=rnn"], AUXILIARY_TOO,
    ),
    "quantile": (SEPARATE_CRITICS, [TWO, *LAYERS, "value_head=quantile"], {}),
    "privileged critic": (
        SEPARATE_CRITICS, [TWO, *LAYERS, *PRIVILEGED, "agent.burn_in=2"], {},
    ),
    "privileged critic that remembers": (
        SEPARATE_CRITICS,
        [TWO, *LAYERS, *PRIVILEGED, "memory@critic.memory=lstm", "critic.memory.hidden_size=4"],
        {},
    ),
    "frozen": (
        SEPARATE_CRITICS,
        [TWO, *LAYERS, "extractor.freeze=true"],
        {"actor.extractor": "", "critic.extractor": ""},
    ),
}  # fmt: skip
OF_SEVERAL_CRITICS: dict[str, Case] = {
    "no target networks": (
        SEPARATE_CRITICS,
        [TWO, *LAYERS, "agent.target_networks=false", "value_head.normalization=batch_renorm"],
        {},
    ),
    "subset": (
        OF_CRITICS,
        [ONE, *LAYERS, "memory=gru", "agent.num_critics=3", "agent.critic_subset=2",
         "value_head.normalization=layer", "value_head.residual=true"],
        {},
    ),
    "dropped quantiles, dropout": (
        SEPARATE_CRITICS,
        ["value_head=quantile", "agent.dropped_quantiles=2", "value_head.dropout=0.1"],
        {},
    ),
}  # fmt: skip
OF_SAC: dict[str, Case] = {
    "discrete": (SEPARATE_CRITICS, ["env.id=CartPole-v1", "env.time_limit=7"], {}),
    "fixed temperature": (SEPARATE_CRITICS, ["agent.temperature=0.2"], {"temperature": ""}),
}
MANY = [
    "memory=gru",
    "agent.burn_in=2",
    "agent.noisy=true",
    "agent.dueling=true",
    "agent.double_q=true",
    "agent.n_step=3",
    "agent.prioritized=true",
    "agent.value_rescaling=true",
    *AUXILIARY,
]
OF_DQN_ALONE: dict[str, Case] = {
    "many parts": (VALUES, MANY, VALUES_TOO),
    "c51": (VALUES, ["value_head=c51", "agent.double_q=true"], {}),
    "quantile": (VALUES, ["value_head=quantile", "memory=lstm", "agent.stored_state=false"], {}),
}
CASES = [
    pytest.param(kind, *case, id=f"{kind}-{name}")
    for kinds, cases in (
        (("ppo", "a2c"), OF_POLICIES), (("dqn", "pqn"), OF_VALUES), (("dqn",), OF_DQN_ALONE),
        (("ddpg", "td3", "sac"), OF_ACTION_CRITICS),
        (("td3", "sac"), OF_SEVERAL_CRITICS), (("sac",), OF_SAC),
    )
    for kind, (name, case) in itertools.product(kinds, cases.items())
]  # fmt: skip


class OneStep:
    """A gradient step of an agent, always from the same weights and on the same experience."""

    def __init__(self, run: Any) -> None:
        self.agent, self.losses = run.agent, run.agent.losses
        spy = StepSpy(self.agent)
        while not spy.calls:  # an agent may wait for something to learn from
            self.agent.learn(run.collector.collect(self.agent))
        self.agent.choose_losses(2)  # all of them, with a policy delay of 2
        (self.call, *_), self.weights = spy.calls, self.agent.optimizer.flat.clone()
        has_auxiliary = len(self.agent.auxiliary) > 0
        self.names = [*self.agent.trains, *(["auxiliary"] if has_auxiliary else [])]

    def __call__(self, *names: str) -> list[Tensor]:
        """Gradients of some losses: all others are multiplied by zero."""
        agent = self.agent

        def some(*inputs: Any, **scheduled: Tensor) -> Any:
            found = self.losses(*inputs, **scheduled)
            kept = {name: loss * (name in names) for name, loss in found.losses.items()}
            return dataclasses.replace(found, losses=kept)

        agent.losses = some
        agent.auxiliary.weights = lambda _: [float("auxiliary" in names)] * len(agent.auxiliary)
        agent.gradient_step.begin(agent.progress, agent.env_steps, measures=False)
        result = agent.gradient_step(*self.call.inputs, **self.call.scheduled)
        agent.optimizer.flat.copy_(self.weights)
        return gradients_of(agent, result)

    def parts(self, *names: str) -> set[str]:
        """Parts in which the gradient of some losses is not zero."""
        pairs = zip(self.agent.optimizer.trainable, self(*names), strict=True)
        moved = {id(parameter) for parameter, gradient in pairs if gradient.any()}
        parts = self.agent.parts().items()
        return {part for part, own in parts if any(id(parameter) in moved for parameter in own)}


@pytest.mark.parametrize(("kind", "rule", "words", "changes"), CASES)
def test_losses_train_what_is_declared_and_nothing_else(
    build, kind: str, rule: dict[str, str], words: list[str], changes: dict[str, str]
) -> None:
    gain = ["policy_head.gain=1.0"] if kind in ("ppo", "a2c") else []
    run = build(f"agent={kind}", *gain, *(OF_DQN if kind in OF_REPLAY else []), *words)
    step = OneStep(run)
    found = {name: step.parts(name) for name in step.names}
    with_weights = {part for part, parameters in run.agent.parts().items() if parameters}
    declared = {part: losses.split() for part, losses in {**rule, **changes}.items()}
    assert with_weights <= declared.keys()
    assert found == {
        name: {part for part in with_weights if name in declared[part]} for name in step.names
    }
    # All of them at once, in one backward pass or several, are the sum of each alone.
    for together, *apart in zip(step(*step.names), *map(step, step.names), strict=True):
        torch.testing.assert_close(together, sum(apart), rtol=1e-4, atol=1e-6)


ALONE = {name: OF_VALUES[name] for name in ("default", "auxiliary, rnn", "frozen")} | OF_DQN_ALONE


@pytest.mark.parametrize("words", [words for _, words, _ in ALONE.values()], ids=ALONE)
def test_the_target_network_takes_no_gradient_and_shares_inputs_alone(build, words) -> None:
    run = build("agent=dqn", *OF_DQN, *words, "normalize_observations=true")
    step, agent = OneStep(run), run.agent
    target = agent.learner.target_network
    own = [p for name, p in target.named_parameters() if ".inputs." not in name]
    assert own
    assert not any(parameter.requires_grad for parameter in own)
    for parameter in own:
        parameter.requires_grad_(True)  # asking for it does not bring it about
    found = agent.losses(*step.call.inputs)
    losses = sum([*found.losses.values(), *agent.auxiliary(found.readings).values()])
    if losses.requires_grad:
        gradients = torch.autograd.grad(losses, own, allow_unused=True)
        assert not any(gradient is not None for gradient in gradients)

    trained = {id(p) for parameters in agent.parts().values() for p in parameters}
    assert not trained & {id(parameter) for parameter in own}
    others = nn.ModuleList([agent.actor, agent.networks.value_head]).state_dict(keep_vars=True)
    common = {n for n, t in target.state_dict(keep_vars=True).items() if t is others[n]}
    inside = ("0.inputs.", "0.normalization.")
    assert common == {name for name in others if name.startswith(inside)}
    assert any(name.startswith("0.normalization.") for name in common)
