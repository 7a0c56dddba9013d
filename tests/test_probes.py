"""Probe environments: each isolates one thing that an agent can get wrong, solved in seconds.

Optimal values and returns are those told in `tests.probes`. Budgets were calibrated on seeds 0
to 4, all of which pass with an eighth less; the tests run one.
"""

import itertools
from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch

import neurl
from agents.dqn import DQN
from tests.grid import CHOICES
from training.evaluation.evaluation import Evaluator

WORDS = [
    "device=cpu",
    "num_threads=1",
    "seed=1",
    "env.num_envs=8",
    "extractor.hidden_sizes=[16]",
    "optimizer.learning_rate=1e-2",
    "optimizer.schedule=linear",
]
AGENTS = {
    "ppo": [
        "agent=ppo",
        "agent.rollout_length=16",
        "agent.num_minibatches=1",
        "agent.num_epochs=4",
    ],
    "a2c": ["agent=a2c", "agent.rollout_length=8"],
    "pqn": [
        "agent=pqn",
        "extractor=mlp",
        "optimizer=adam",
        "agent.td_lambda=0.9",
        "agent.rollout_length=16",
        "agent.num_minibatches=1",
        "agent.num_epochs=4",
        "agent.final_epsilon=0.1",
    ],
    "dqn": [
        "agent=dqn",
        "extractor=mlp",
        "agent.learning_starts=224",
        "agent.replay_ratio=0.25",
        "agent.batch_size=16",
        "agent.buffer_size=1_000",
        "agent.target_update_interval=32",
        "agent.sequence_length=8",
        "agent.final_epsilon=0.1",
    ],
}
_CRITICS = [
    "agent.learning_starts=224",
    "agent.replay_ratio=0.25",
    "agent.batch_size=32",
    "agent.buffer_size=1_000",
    "agent.polyak_rate=0.05",
    "agent.sequence_length=8",
    "extractor=flatten",
    "policy_head.hidden_sizes=[16]",
    "value_head.hidden_sizes=[16]",
]
CRITICISING = {name: [f"agent={name}", *_CRITICS] for name in ("ddpg", "td3", "sac")}
"""Agents whose critics read actions."""
CONTINUOUS = "+env.kwargs.continuous=true"
STEPS = {"ddpg": 1500, "td3": 2000, "sac": 2000, "ppo": 3500, "a2c": 6000, "pqn": 2300, "dqn": 1000}
LAMBDAS = {"pqn": "td_lambda"}
"""What agents call it that is no GAE's."""
BY_NOISE = ["agent.noisy=true", "agent.epsilon=0", "agent.final_epsilon=0"]
VARIANTS = {
    "double, dueling": ["agent.double_q=true", "agent.dueling=true"],
    "noisy": BY_NOISE,
    "prioritised, 3 steps": ["agent.prioritized=true", "agent.n_step=3"],
    "rescaled, slow target": [
        "agent.value_rescaling=true",
        "agent.polyak_rate=0.2",
    ],
    "quantile": ["value_head=quantile"],
    "two_hot": ["value_head=two_hot"],
    "rainbow": [
        *BY_NOISE,
        "value_head=c51",
        "agent.double_q=true",
        "agent.dueling=true",
        "agent.prioritized=true",
        "agent.n_step=3",
    ],
}


def forms(known: dict[str, list[str]], *fast: str) -> pytest.MarkDecorator:
    """Every form by its name; what is not named here takes its time under the marker `slow`."""
    params = [
        pytest.param(words, id=name, marks=() if name in fast else pytest.mark.slow)
        for name, words in known.items()
    ]
    return pytest.mark.parametrize("words", params)


RECALL = ["extractor=flatten", "env.num_envs=16"]
RECALL_EFFORT = {**dict.fromkeys(CRITICISING, 2.0), "ppo": 2.3, "a2c": 2.3, "pqn": 2.3, "dqn": 1.7}
Learn = Callable[..., neurl.Policy]


@pytest.fixture(params=AGENTS)
def learn(request) -> Learn:
    return learner(request.param)


def learner(agent: str) -> Learn:
    def learn(probe: str, *words: str, effort: float | None = None) -> neurl.Policy:
        if effort is None:
            effort = RECALL_EFFORT[agent] if probe == "Recall" else 1.0
        words = tuple(w.replace("gae_lambda", LAMBDAS.get(agent, "gae_lambda")) for w in words)
        given = {word.partition("=")[0].lstrip("+") for word in words}
        if "extractor=flatten" in words:
            given.add("extractor.hidden_sizes")
        words = tuple(w for w in words if agent != "dqn" or not w.startswith("agent.gae_lambda"))
        own = {**AGENTS, **CRITICISING}[agent]
        if agent in CRITICISING:
            given.add("extractor.hidden_sizes")
        kept = [w for w in [*WORDS, *own] if w.partition("=")[0].lstrip("+") not in given]
        policy = neurl.build(f"env.id=neurl/{probe}-v0", *kept, *words)
        neurl.fit(policy, env_steps=int(effort * STEPS[agent]))
        return policy

    return learn


def values(policy: neurl.Policy, observations: Sequence[float]) -> list[float]:
    """V of each observation as an episode's first; that of the best action, of actions' values."""
    agent = policy.agent
    backbone, head = agent.networks.critic, agent.networks.value_head
    rows = torch.tensor(observations)[None, :, None]  # [T=1, B, 1]
    size = len(observations)
    with torch.no_grad():
        summary, _ = backbone(
            rows, backbone.memory.initial_state(size), torch.ones(1, size, dtype=torch.bool)
        )
        found = head.value(head(summary))[0]
        if isinstance(agent, DQN) and agent.scale is not None:
            found = agent.scale.inverse(found)
        return (found if found.ndim == 1 else found.amax(-1)).tolist()


def score(policy: neurl.Policy, episodes: int = 100) -> float:
    """Mean return of the most likely actions."""
    evaluator = Evaluator(policy.environments(num_envs=10), seed=0, deterministic=True)
    try:
        return evaluator(policy.agent, episodes=episodes, index=0).return_mean
    finally:
        evaluator.environments.close()


def act(policy: neurl.Policy, observations: Sequence[float]) -> np.ndarray:
    return policy.predict(np.array(observations, np.float32)[:, None])


@pytest.mark.parametrize(
    ("learn", "head"),
    [
        ("pqn", "huber"),
        ("dqn", "huber"),
        # They learn values of two observations below, which is more.
        *(
            pytest.param("ppo", head, marks=pytest.mark.slow)
            for head in ("mse", "huber", "two_hot")
        ),
        *(pytest.param("a2c", head, marks=pytest.mark.slow) for head in ("mse", "hl_gauss")),
    ],
    indirect=["learn"],
)
def test_values_learn_a_constant(learn: Learn, head: str) -> None:
    policy = learn("ConstantReward", f"value_head={head}")
    assert values(policy, [0.0]) == pytest.approx([1.0], abs=0.05)


@pytest.mark.slow  # they discount what another observation follows below, which is more
def test_values_learn_what_observations_tell(learn: Learn) -> None:
    policy = learn("ObservationReward")
    assert values(policy, [-1.0, 1.0]) == pytest.approx([-1.0, 1.0], abs=0.05)


MASKED = ["pomdp=mask", "pomdp.mask.dimensions=[0]"]


@pytest.mark.parametrize(
    ("learn", "observation"),
    [("ppo", "same"), ("ppo", "full"), ("a2c", "full")],
    indirect=["learn"],
)
def test_only_a_privileged_critic_knows_what_is_hidden(learn: Learn, observation: str) -> None:
    policy = learn("ObservationReward", *MASKED, f"critic.observation={observation}")
    seen = [-1.0, 1.0] if observation == "full" else [0.0, 0.0]
    assert values(policy, seen) == pytest.approx(seen, abs=0.1)


@pytest.mark.parametrize(
    ("learn", "discount"),
    [
        ("ppo", 0.9),
        ("a2c", 0.5),
        ("pqn", 0.5),
        ("dqn", 0.9),
        pytest.param("ppo", 0.5, marks=pytest.mark.slow),
    ],
    indirect=["learn"],
)
def test_values_are_discounted(learn: Learn, discount: float) -> None:
    policy = learn("DelayedReward", f"agent.discount={discount}")
    assert values(policy, [0.0, 1.0]) == pytest.approx([discount, 1.0], abs=0.05)


@pytest.mark.parametrize(
    ("learn", "gae_lambda", "effort"),
    [
        ("ppo", 0.0, 1.7),
        ("ppo", 1.0, 1.7),
        ("a2c", 0.9, 1.7),
        pytest.param("ppo", 0.9, 1.7, marks=pytest.mark.slow),
        pytest.param("a2c", 1.0, 1.7, marks=pytest.mark.slow),
        ("pqn", 0.9, 2.6),
    ],
    indirect=["learn"],
)
def test_truncation_keeps_the_value_of_what_would_follow(
    learn: Learn, gae_lambda: float, effort: float
) -> None:
    """Reward 1 for ever, cut every 10 steps, discount 0.9: the value is 1 / (1 - 0.9)."""
    words = ["agent.discount=0.9", f"agent.gae_lambda={gae_lambda}"]
    policy = learn("Endless", *words, effort=effort)
    assert values(policy, [1.0]) == pytest.approx([10.0], abs=0.3)


ENDLESS = {
    "plain": [],
    "3 steps, double": ["agent.n_step=3", "agent.double_q=true"],
    "rescaled quantiles": ["value_head=quantile", "agent.value_rescaling=true"],
}


@forms(ENDLESS, "3 steps, double")
def test_replayed_truncations_keep_it_too(words: list[str]) -> None:
    policy = learner("dqn")("Endless", "agent.discount=0.9", *words, effort=1.7)
    assert values(policy, [1.0]) == pytest.approx([10.0], abs=0.1)


HISTOGRAMS = pytest.mark.parametrize(
    ("learn", "head"), [("ppo", "hl_gauss"), ("a2c", "two_hot")], indirect=["learn"]
)


@HISTOGRAMS
def test_histograms_learn_what_observations_tell(learn: Learn, head: str) -> None:
    policy = learn("ObservationReward", f"value_head={head}")
    assert values(policy, [-1.0, 1.0]) == pytest.approx([-1.0, 1.0], abs=0.05)


@HISTOGRAMS
def test_histograms_of_values_are_discounted(learn: Learn, head: str) -> None:
    policy = learn("DelayedReward", f"value_head={head}", "agent.discount=0.5", effort=2)
    assert values(policy, [0.0, 1.0]) == pytest.approx([0.5, 1.0], abs=0.05)


@pytest.mark.parametrize(
    ("learn", "head"),
    [
        ("ppo", "hl_gauss"),
        ("a2c", "two_hot"),
        ("pqn", "two_hot"),
        ("dqn", "hl_gauss"),
        pytest.param("dqn", "c51", marks=pytest.mark.slow),
        pytest.param("dqn", "two_hot", marks=pytest.mark.slow),
    ],
    indirect=["learn"],
)
def test_histograms_follow_values_out_of_their_support(learn: Learn, head: str) -> None:
    """Returns grow with the values they are bootstrapped from: the support grows after them."""
    words = ["agent.discount=0.7", "agent.gae_lambda=0.5", "optimizer.learning_rate=0.1"]
    policy = learn("Endless", f"value_head={head}", *words)
    assert values(policy, [1.0]) == pytest.approx([1 / 0.3], abs=0.15)
    low, high = policy.agent.networks.value_head.support.limits.tolist()
    assert -low == high
    assert 1 / 0.3 < high < 8  # begun at 2 to 3: of rewards of 1 and values of 0


@pytest.mark.parametrize(
    "learn",
    # Of the others, which see both flags below, termination wins, which is more.
    ["a2c", *(pytest.param(agent, marks=pytest.mark.slow) for agent in ("ppo", "pqn"))],
    indirect=True,
)
def test_termination_cuts_it(learn: Learn) -> None:
    """The mean over 1 to 10 steps to go of (1 - 0.5^n) / (1 - 0.5)."""
    words = [
        "agent.discount=0.5",
        "agent.gae_lambda=1.0",
        "+env.kwargs.ending=terminated",
    ]
    expected = np.mean([(1 - 0.5**n) / 0.5 for n in range(1, 11)])
    assert values(learn("Endless", *words), [1.0]) == pytest.approx([expected], abs=0.05)


@pytest.mark.parametrize("learn", ["ppo", "pqn"], indirect=True)
def test_both_flags_are_a_termination(learn: Learn) -> None:
    words = [
        "agent.discount=0.5",
        "agent.gae_lambda=1.0",
        "+env.kwargs.ending=both",
    ]
    expected = np.mean([(1 - 0.5**n) / 0.5 for n in range(1, 11)])
    assert values(learn("Endless", *words), [1.0]) == pytest.approx([expected], abs=0.05)


@pytest.mark.parametrize(
    ("n_step", "expected", "ending"),
    [
        pytest.param(3, 1.65 / 0.9125, "both", id="3 steps, both flags"),
        pytest.param(1, 1 / 0.55, "terminated", id="1 step", marks=pytest.mark.slow),
    ],
)
def test_replayed_terminations_cut_it(n_step: int, expected: float, ending: str) -> None:
    """One of ten steps is the last: v = 1 + 0.5 * 0.9 v, as no step tells how many are left.

    Of three steps: v = (1 + 1.5 + 1.75) / 10 + 0.7 (1.75 + 0.125 v).
    """
    words = ["agent.discount=0.5", f"agent.n_step={n_step}", f"+env.kwargs.ending={ending}"]
    # Large batches, of which ends are one step in ten; the value follows those there happen to be.
    policy = learner("dqn")("Endless", *words, "agent.batch_size=128", effort=1.7)
    assert values(policy, [1.0]) == pytest.approx([expected], abs=0.05)


@forms(VARIANTS, "rainbow", "quantile")
def test_replayed_values_are_discounted_in_every_form(words: list[str]) -> None:
    policy = learner("dqn")("DelayedReward", "agent.discount=0.5", *words, effort=1.3)
    assert values(policy, [0.0, 1.0]) == pytest.approx([0.5, 1.0], abs=0.05)


@forms(VARIANTS, "noisy")
def test_replayed_actions_are_told_apart(words: list[str]) -> None:
    policy = learner("dqn")("ObservationActionReward", *words)
    assert score(policy, episodes=40) > 0.95


PROBED_BELOW = [("ppo", "false"), ("ppo", "true"), ("pqn", "false")]


@pytest.mark.parametrize("agent", ["dqn", "pqn"])
def test_agents_of_values_learn_by_the_network_they_choose(
    agent: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = ("extractor=mlp", "optimizer=adam", "agent.td_lambda=0.9")
    monkeypatch.setitem(AGENTS, agent, [word for word in AGENTS[agent] if word not in chosen])
    policy = learner(agent)("ObservationActionReward")
    assert "LayerNorm" in str(policy.agent.actor)
    assert score(policy, episodes=40) > 0.95


def test_values_in_two_streams_tell_actions_apart() -> None:
    policy = learner("pqn")("ObservationActionReward", "agent.dueling=true", "value_head=hl_gauss")
    assert score(policy) > 0.95


@pytest.mark.parametrize(
    ("learn", "continuous"),
    [
        ("a2c", "true"),
        ("dqn", "false"),
        # They tell below which action is better where, which is more.
        *(pytest.param(*each, marks=pytest.mark.slow) for each in PROBED_BELOW),
    ],
    indirect=["learn"],
)
def test_policies_learn_the_better_action(learn: Learn, continuous: str) -> None:
    policy = learn("ActionReward", f"+env.kwargs.continuous={continuous}")
    assert score(policy) > 0.95


@pytest.mark.parametrize(
    ("learn", "continuous"),
    [*PROBED_BELOW, ("a2c", "false")],
    indirect=["learn"],
)
def test_policies_learn_which_action_is_better_where(learn: Learn, continuous: str) -> None:
    policy = learn("ObservationActionReward", f"+env.kwargs.continuous={continuous}")
    assert score(policy) > 0.95


@pytest.mark.parametrize(("learn", "effort"), [("ppo", 1.7), ("a2c", 2.5)], indirect=["learn"])
def test_policies_learn_precise_actions(learn: Learn, effort: float) -> None:
    policy = learn("ContinuousTarget", effort=effort)
    targets = [-0.9, -0.5, 0.0, 0.5, 0.9]
    assert act(policy, targets)[:, 0].tolist() == pytest.approx(targets, abs=0.15)
    assert score(policy) > -0.02


def test_nothing_is_recalled_without_memory(learn: Learn) -> None:
    assert abs(score(learn("Recall", *RECALL), episodes=400)) < 0.3


MEMORIES = [
    ("a2c", "rnn"), ("pqn", "lstm"), ("ppo", "lru"), ("a2c", "mlstm"), ("pqn", "gtrxl"),
    ("dqn", "mingru"),
]  # fmt: skip
"""Every agent and, with `gru` below, every memory; the others take their time."""


@pytest.mark.parametrize(
    ("learn", "memory"),
    [
        pytest.param(agent, memory, marks=() if (agent, memory) in MEMORIES else pytest.mark.slow)
        for agent, memory in itertools.product(AGENTS, CHOICES["memory"][1:])
    ],
    indirect=["learn"],
)
def test_every_memory_recalls(learn: Learn, memory: str) -> None:
    words = [*RECALL, f"memory={memory}", "memory.hidden_size=16"]
    assert score(learn("Recall", *words)) > 0.95


@pytest.mark.parametrize(
    "words",
    [
        ["memory=rnn", "memory.nonlinearity=relu"],
        ["memory=lstm", "+env.kwargs.continuous=true"],
        ["memory=gru", "+env.kwargs.discrete_observation=true"],
        ["memory=lstm", "share_backbone=true"],
        ["memory=lstm", "memory.sequence_length=8"],
    ],
    ids=["relu", "continuous", "codes", "shared", "truncated gradients"],
)
def test_recalling_does_not_depend_on_the_surroundings(words: list[str]) -> None:
    policy = learner("ppo")("Recall", *RECALL, *words, "memory.hidden_size=16")
    assert score(policy) > 0.95


WITH_GRU = ["memory=gru", "memory.hidden_size=16"]
REPLAYED = {
    "burn-in from zeros": [*WITH_GRU, "agent.burn_in=4", "agent.stored_state=false"],
    "r2d2": [
        "memory=lstm",
        "memory.hidden_size=16",
        "agent.burn_in=4",
        "agent.prioritized=true",
        "agent.double_q=true",
        "agent.dueling=true",
        "agent.n_step=3",
        "agent.value_rescaling=true",
    ],
    "c51": [*WITH_GRU, "value_head=c51"],
    "noisy quantiles": [*WITH_GRU, "value_head=quantile", *BY_NOISE, "agent.burn_in=4"],
}


@forms(REPLAYED, "burn-in from zeros")
def test_memories_recall_what_is_replayed(words: list[str]) -> None:
    # Distributions take longer to tell the actions apart.
    effort = {"effort": 2.3} if any(word.startswith("value_head") for word in words) else {}
    assert score(learner("dqn")("Recall", *RECALL, *words, **effort)) > 0.95


@pytest.mark.slow  # they learn precise actions below, which is more
@pytest.mark.parametrize("agent", CRITICISING)
def test_replayed_policies_learn_the_better_action(agent: str) -> None:
    assert (
        score(learner(agent)("ActionReward", CONTINUOUS)) > 0.6
    )  # the bound itself is infinitely far


@pytest.mark.parametrize("agent", CRITICISING)
def test_replayed_policies_learn_precise_actions(agent: str) -> None:
    policy = learner(agent)("ContinuousTarget", effort=1.5)
    assert score(policy) > -0.03


@pytest.mark.parametrize(
    ("agent", "shares"),
    [
        ("sac", "true"),
        *(
            pytest.param(agent, shares, marks=pytest.mark.slow)
            for agent, shares in itertools.product(CRITICISING, ("false", "true"))
            if (agent, shares) != ("sac", "true")
        ),
    ],
)
def test_replayed_policies_recall(agent: str, shares: str) -> None:
    words = [*WITH_GRU, f"share_backbone={shares}", CONTINUOUS, "optimizer.learning_rate=3e-3"]
    policy = learner(agent)("Recall", *words, "env.num_envs=16", effort=2.5)
    assert score(policy) > 0.7


@pytest.mark.parametrize(
    "agent", ["td3", *(pytest.param(agent, marks=pytest.mark.slow) for agent in ("ddpg", "sac"))]
)
def test_replayed_policies_recall_nothing_without_memory(agent: str) -> None:
    assert abs(score(learner(agent)("Recall", CONTINUOUS, "env.num_envs=16"), episodes=400)) < 0.3


@pytest.mark.parametrize(
    "agent", ["sac", *(pytest.param(agent, marks=pytest.mark.slow) for agent in ("ddpg", "td3"))]
)
def test_replayed_critics_know_what_is_hidden_from_the_policy(agent: str) -> None:
    words = ["critic.observation=full", "normalize_observations=true", CONTINUOUS]
    policy = learner(agent)("ObservationReward", *MASKED, *words, effort=0.6).agent
    twins, actions = torch.tensor([-1.0, 1.0])[None, :, None], torch.zeros(1, 2, 1)
    summary, _ = policy.critic(twins, torch.zeros(2, 0), torch.ones(1, 2, dtype=torch.bool))
    told = policy.networks.value_head.value(policy.critics(summary, actions))[0, :, 0]
    assert told.tolist() == pytest.approx([-1.0, 1.0], abs=0.1)


def test_discrete_sac_learns_which_action_is_better_where() -> None:
    assert score(learner("sac")("ObservationActionReward", "agent.target_entropy=0.1")) > 0.95
