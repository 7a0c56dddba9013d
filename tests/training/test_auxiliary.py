"""Auxiliary losses in an agent: built from words, trained beside its own, or refused in words."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor, nn

from conf.composing.command_line import load
from networks.autoencoding.losses import AuxiliaryLoss, Reading
from networks.inputs import make_input
from training.building.build import build_agent
from training.building.extractors import build_autoencoder, build_extractor

PAGE = Path(__file__).resolve().parents[2] / "docs" / "autoencoders.md"
SMALL = [
    "device=cpu",
    "env.num_envs=2",
    "agent.rollout_length=8",
    "env.id=CartPole-v1",
    "env.time_limit=5",
]


def weights(module: nn.Module) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in module.parameters()])


@pytest.mark.parametrize(
    "words",
    [
        ["agent=ppo", "agent.num_minibatches=2"],
        ["agent=ppo", "agent.num_minibatches=2", "memory=lstm", "memory.sequence_length=4"],
        ["agent=a2c", "share_backbone=true", "normalize_observations=true"],
    ],
    ids=["ppo", "ppo lstm", "a2c shared"],
)
def test_any_agent_learns_beside_any_losses(build_run, words: list[str]) -> None:
    names = ["reconstruction", "vae", "next_latent"]
    run = build_run([*SMALL, f"auxiliary=[{','.join(names)}]", *words])
    before = {name: weights(loss) for name, loss in run.agent.auxiliary.by_backbone.items()}
    for _ in range(2):
        metrics = run.agent.learn(run.collector.collect(run.agent))
    for name in names:
        assert 0 < metrics[f"loss/{name}"] < 100
    assert metrics["update/skipped"] == 0
    for name, loss in run.agent.auxiliary.by_backbone.items():
        assert not torch.equal(weights(loss), before[name])


def test_reconstruction_alone_trains_an_extractor(build_run) -> None:
    words = ["agent=a2c", "auxiliary=reconstruction", "gradients.extractor=[auxiliary]"]
    rates = ["optimizer.learning_rate=3e-3", "optimizer.max_grad_norm=null"]
    run = build_run([*SMALL, *words, *rates])
    before = weights(run.agent.networks.actor.extractor)
    found = [
        run.agent.learn(run.collector.collect(run.agent))["loss/reconstruction"].item()
        for _ in range(30)
    ]
    assert np.mean(found[-5:]) < 0.3 * np.mean(found[:3])
    assert not torch.equal(weights(run.agent.networks.actor.extractor), before)


def test_the_rules_of_sac_ae(build_run) -> None:
    run = build_run([*SMALL, "auxiliary=sac_ae", "share_backbone=true", "agent=a2c"])
    assert run.config.gradients.extractor == ["critic", "auxiliary"]
    (group,) = run.config.optimizer.groups.items()
    assert group == ("auxiliary", {"weight_decay": 1e-7})
    loss = run.agent.auxiliary.by_backbone["actor"]["reconstruction"]
    assert loss.latent_decay == 1e-6
    metrics = run.agent.learn(run.collector.collect(run.agent))
    assert 0 < metrics["loss/reconstruction"] < 100


class Own(nn.Module):
    """An extractor of a user's own, of which nothing is known."""

    def __init__(self, input_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.output_size = input_shape[0]

    def forward(self, rows: Tensor) -> Tensor:
        return rows


class Watching(AuxiliaryLoss):
    """Keeps what it is given."""

    needs_next = True
    kept: list[Reading] = []  # noqa: RUF012

    def __init__(self, source: Any) -> None:
        super().__init__()
        self.source = source
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, reading: Reading) -> Tensor:
        Watching.kept.append(reading)
        return self.scale.square()


OF_ROLLOUTS = ["agent.rollout_length=8", "agent.num_minibatches=2"]
OF_A_REPLAY = [
    "agent=dqn",
    "agent.buffer_size=200",
    "agent.batch_size=16",
    "agent.learning_starts=16",
]


@pytest.mark.parametrize(
    "words",
    [
        OF_ROLLOUTS,
        [*OF_ROLLOUTS, "memory=gru"],
        OF_A_REPLAY,
        [*OF_A_REPLAY, "memory=gru", "agent.sequence_length=4", "agent.burn_in=2"],
    ],
    ids=["ppo", "ppo gru", "dqn", "dqn gru"],
)
def test_what_follows_is_of_the_same_episode(build_run, words: list[str]) -> None:
    """An environment that observes its episode and step; every valid step leads to the next."""
    Watching.kept.clear()
    run = build_run(
        [
            *SMALL[:2],
            "env.id=neurl/Counting-v0",
            *words,
            "+auxiliary.watching._target_=tests.training.test_auxiliary.Watching",
            "+auxiliary.watching.weight=1.0",
            "+auxiliary.watching.weight_schedule=constant",
            "trusted_packages=[tests]",
        ]
    )
    # The class of the module that was imported by name, which need not be this one.
    loss = run.agent.auxiliary.by_backbone["actor"]["watching"]
    for _ in range(3 if "agent=dqn" not in words else 20):
        run.agent.learn(run.collector.collect(run.agent))
    resets = 0
    for reading in type(loss).kept:
        now, following = reading.rows, reading.next_rows
        valid = reading.valid.flatten()
        assert torch.equal(following[valid][:, 0], now[valid][:, 0])  # the episode
        assert torch.equal(following[valid][:, 1], now[valid][:, 1] + 1)  # the step
        assert (following[~valid][:, 0] != now[~valid][:, 0]).all()
        assert torch.equal(following[~valid][:, 1], torch.zeros(int((~valid).sum())))
        assert reading.actions.shape[:2] == reading.features.shape[:2]
        assert reading.features.requires_grad
        assert not reading.next_features.requires_grad
        resets += int((~valid).sum())
    # A single step that only resets is never drawn from a replay.
    assert (resets > 0) == (words != OF_A_REPLAY)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            [
                "auxiliary=vae",
                "extractor=flatten",
                "extractor._target_=tests.training.test_auxiliary.Own",
                "trusted_packages=[tests]",
            ],
            r"auxiliary\.vae: Own has no `outline` .*: decoder@auxiliary\.vae\.decoder=dense",
        ),
    ],
)
def test_what_cannot_be_decoded_is_refused_in_one_line(words: list[str], message: str) -> None:
    config = load([*SMALL, *words])
    with pytest.raises(ValueError, match=message) as caught:
        build_agent(config, spaces.Box(-1, 1, (4,)), spaces.Discrete(2), num_envs=2)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("space", "words", "features"),
    [
        (spaces.Box(-1, 1, (3,)), [], 32),
        (spaces.Discrete(4), ["extractor.latent_size=5"], 5),
        (spaces.Box(0, 255, (13, 9, 3), np.uint8), [], 32),
        (
            spaces.MultiDiscrete(np.full((7, 7, 2), 3)),
            ["extractor@extractor.encoder=impala_cnn"],
            32,
        ),
        (
            spaces.Dict(
                camera=spaces.Box(0, 255, (3, 9, 8), np.uint8),
                goal=spaces.Box(-1, 1, (2,)),
                code=spaces.Discrete(3),
            ),
            [],
            32,
        ),
        (
            spaces.Dict(goal=spaces.Box(-1, 1, (2,)), code=spaces.Discrete(3)),
            ["extractor@extractor.encoder=dict"],
            32,
        ),
        (
            spaces.Dict(goal=spaces.Box(-1, 1, (2,)), code=spaces.Discrete(3)),
            ["extractor@extractor.encoder=mlp"],
            32,
        ),
    ],
)
def test_an_encoder_for_every_observation_and_a_decoder_back(space, words, features: int) -> None:
    config = load(["extractor=vae", *words]).extractor
    inputs = make_input(space)
    own = {key: value for key, value in config.items() if key != "freeze"}
    encoder, width = build_extractor("extractor", own, inputs.shape, inputs.layout)
    assert width == features
    network = build_autoencoder("extractor", config, inputs, encoder)
    space.seed(0)
    samples = [space.sample() for _ in range(3)]
    if isinstance(space, spaces.Dict):
        raw: Any = {k: torch.as_tensor(np.stack([s[k] for s in samples])) for k in space.spaces}
    else:
        raw = torch.as_tensor(np.stack(samples))
    rows = inputs(raw)
    loss, metrics = network.loss(rows, torch.Generator().manual_seed(0))
    loss.backward()
    assert metrics.keys() == {"kl", "reconstruction", "squared_error"}
    again = network.reconstruct(rows)
    if isinstance(again, dict):
        assert {k: v.shape for k, v in again.items()} == {k: v.shape for k, v in rows.items()}
        assert network.pictures(rows).keys() == set(space.spaces) & {"camera"}
    else:
        assert again.shape == rows.shape


def test_an_autoencoder_of_an_unknown_encoder_needs_a_decoder() -> None:
    words = ["extractor=autoencoder", "extractor@extractor.encoder=flatten"]
    own = "extractor.encoder._target_=tests.training.test_auxiliary.Own"
    config = load([*words, own, "trusted_packages=[tests]"]).extractor
    inputs = make_input(spaces.Box(-1, 1, (3,)))
    options = {key: value for key, value in config.items() if key != "freeze"}
    encoder, _ = build_extractor("extractor", options, (3,), None)
    with pytest.raises(ValueError, match=r"^extractor: Own .*decoder@extractor\.decoder=dense$"):
        build_autoencoder("extractor", config, inputs, encoder)


def test_only_a_whole_extractor_is_frozen() -> None:
    words = ["extractor@extractor.encoder=autoencoder", "extractor.encoder.pretrain.frames=0"]
    config = load(["extractor=autoencoder", *words]).extractor
    own = {key: value for key, value in config.items() if key != "freeze"}
    with pytest.raises(ValueError, match=r"extractor\.encoder\.freeze: only a whole extractor"):
        build_extractor("extractor", own, (3,), None)


def block(language: str) -> str:
    """The block of that language in the documentation that is a whole file."""
    found = re.findall(rf"```{language}\n(# my_package/.*?)```", PAGE.read_text(), re.DOTALL)
    assert len(found) == 1
    return found[0]


def test_the_documented_loss_of_ones_own(build_run, tmp_path: Path, monkeypatch) -> None:
    folder = tmp_path / "my_losses_package"
    (folder / "conf" / "auxiliary").mkdir(parents=True)
    (folder / "__init__.py").touch()
    (folder / "losses.py").write_text(block("python"))
    yaml = block("yaml").replace("my_package", "my_losses_package")
    (folder / "conf" / "auxiliary" / "inverse.yaml").write_text(yaml)
    monkeypatch.syspath_prepend(tmp_path)
    run = build_run(
        [
            *SMALL,
            f"hydra.searchpath=[file://{folder / 'conf'}]",
            "trusted_packages=[my_losses_package]",
            "auxiliary=inverse",
            "agent=a2c",
        ]
    )
    before = weights(run.agent.auxiliary)
    metrics = run.agent.learn(run.collector.collect(run.agent))
    assert 0 < metrics["loss/inverse"] < 10
    assert not torch.equal(weights(run.agent.auxiliary), before)
