"""What a run shows of its networks: which tags, of what, and that looking changes nothing."""

import io
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.envs.registration import register, registry
from PIL import Image
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
from torch import nn

from training.tracking.telemetry import Look, dormant_share, effective_rank, look_at

EXTRACTOR = {"dormant_units", "effective_rank", "feature_norm"}


class Noisy(nn.Module):
    """Draws where it should not, and has no layers that act unit by unit."""

    def __init__(self, input_shape: tuple[int, ...], **_: Any) -> None:
        super().__init__()
        self.layer = nn.Linear(*input_shape, 6)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return self.layer(rows) + 0.01 * torch.randn(len(rows), 6)


class Same(nn.Module):
    """Hands on what it reads."""

    def __init__(self, input_shape: tuple[int, ...], **_: Any) -> None:
        super().__init__()

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return rows


class Camera(gymnasium.Env[Any, Any]):
    """Noise to see, and a number beside it."""

    observation_space = spaces.Dict(
        image=spaces.Box(0, 255, (8, 8, 3), np.uint8), number=spaces.Box(-1, 1, (2,))
    )
    action_space = spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self._observation(), {}

    def step(self, action):
        return self._observation(), 1.0, bool(self.np_random.random() < 0.2), False, {}

    def _observation(self):
        return {
            "image": self.np_random.integers(0, 256, (8, 8, 3), np.uint8),
            "number": self.np_random.uniform(-1, 1, 2).astype(np.float32),
        }


@pytest.fixture
def camera():
    register("test/Camera-v0", entry_point=Camera)
    yield "env.id=test/Camera-v0"
    del registry["test/Camera-v0"]


@pytest.fixture
def look(build_run, small_words):
    """Builds a small run, lets it learn twice, and looks at it."""

    def look(*words: str) -> Any:
        run = build_run(small_words(*words))
        for _ in range(2):
            run.agent.learn(run.collector.collect(run.agent))
        seen = look_at(run.agent, run.collector.trajectory)
        run.scalars, run.pictures = seen.scalars, seen.pictures
        return run

    return look


def tags_of(run: Any, backbone: str) -> set[str]:
    prefix = f"representation/{backbone}/"
    return {tag.removeprefix(prefix) for tag in run.scalars if tag.startswith(prefix)}


MEMORIES = {
    "none": set(),
    "rnn": {"state_norm", "state_saturation"},
    "gru": {"state_norm", "state_saturation"},
    "lstm": {"state_norm", "state_saturation", "cell_norm"},
    **{name: {"state_norm"} for name in ("mingru", "lru", "mlstm", "gtrxl")},
}


@pytest.mark.parametrize("memory", MEMORIES)
def test_each_backbone_has_its_tags(look, memory: str) -> None:
    size = [] if memory == "none" else ["memory.hidden_size=4", "memory.num_layers=2"]
    run = look(f"memory={memory}", *size)
    for backbone in ("actor", "critic"):
        assert tags_of(run, backbone) == EXTRACTOR | MEMORIES[memory]
    shared = look(f"memory={memory}", *size, "share_backbone=true")
    assert tags_of(shared, "actor") == EXTRACTOR | MEMORIES[memory]
    assert not tags_of(shared, "critic")


def test_a_state_without_bounds_does_not_saturate(look) -> None:
    run = look("memory=rnn", "memory.hidden_size=4", "memory.nonlinearity=relu")
    assert tags_of(run, "actor") == EXTRACTOR | {"state_norm"}


def test_what_learns_nothing_represents_nothing(look) -> None:
    run = look(f"extractor._target_={__name__}.Same", "trusted_packages=[tests]")
    assert tags_of(run, "actor") == set()


def test_measures_are_of_the_observations_that_were_learnt_from(look) -> None:
    """All of them, where there are few."""
    run = look("normalize_observations=true")
    actor, stream = run.agent.actor, run.collector.trajectory.step_observations
    with torch.no_grad():
        features = actor.features(stream).flatten(0, 1)
    found = {tag: run.scalars[f"representation/actor/{tag}"] for tag in EXTRACTOR}
    assert found["feature_norm"] == pytest.approx(features.norm(dim=-1).mean().item())
    assert found["effective_rank"] == effective_rank(features).item()
    assert found["dormant_units"] == dormant_share([features.abs().mean(0)]).item()  # one layer


def test_states_are_those_that_acting_carries(look) -> None:
    run = look("memory=lstm", "memory.hidden_size=3")
    agent, trajectory = run.agent, run.collector.trajectory
    state, states = trajectory.state, []
    with torch.no_grad():
        for rows, first in zip(trajectory.observations[:16], trajectory.is_first, strict=False):
            states.append(state)
            _, state = agent.actor(rows[None], state, first[None])
    kept = torch.stack([*states, state])[::2][4:]  # of every second step, the second half
    hidden, cell = kept[..., :3], kept[..., 3:]
    found = {tag: run.scalars[f"representation/actor/{tag}"] for tag in MEMORIES["lstm"]}
    assert found["state_norm"] == pytest.approx(hidden.norm(dim=-1).mean().item(), rel=1e-5)
    assert found["cell_norm"] == pytest.approx(cell.norm(dim=-1).mean().item(), rel=1e-5)
    assert found["state_saturation"] == (hidden.abs() > 0.99).float().mean().item()


def test_weights_have_a_norm_by_part(look) -> None:
    run = look("memory=gru", "memory.hidden_size=4")
    for part, parameters in run.agent.parts().items():
        if parameters:
            flat = torch.cat([each.detach().flatten() for each in parameters])
            assert run.scalars[f"weight_norm/{part}"] == pytest.approx(flat.norm().item())


def test_many_observations_are_thinned_out(look, monkeypatch) -> None:
    monkeypatch.setattr("training.tracking.telemetry._ROWS", 8)
    monkeypatch.setattr("training.tracking.telemetry._STEPS", 4)
    for words in (["memory=none"], ["memory=gru", "memory.hidden_size=4"]):
        run = look("env.num_envs=4", *words)
        seen: list[int] = []
        run.agent.actor.extractor.register_forward_hook(lambda _, i, o, s=seen: s.append(len(o)))
        look_at(run.agent, run.collector.trajectory)
        assert sum(seen) == 8


def test_parts_of_observations_and_pictures_of_them(look, camera: str) -> None:
    words = [camera, "extractor=dict", "auxiliary=reconstruction"]
    cnn = ["+extractor@extractor.keys.image=cnn", "extractor.keys.image.filters=[4]"]
    run = look(*words, *cnn, "memory=gru", "memory.hidden_size=4")
    assert tags_of(run, "critic") == EXTRACTOR | MEMORIES["gru"]
    tags = {"images/reconstruction/image", "images/reconstruction/critic/image"}
    assert run.pictures.keys() == tags
    for picture in run.pictures.values():
        assert picture.shape == (2 * 64, 8 * 64, 3)  # magnified; eight above each other
        assert picture.dtype == torch.uint8


def test_pictures_are_written(train, camera: str) -> None:
    words = ["extractor=dict", "+extractor@extractor.keys.image=cnn"]
    filters = "extractor.keys.image.filters=[4]"
    run = train(camera, *words, filters, "auxiliary=reconstruction", "total_env_steps=60")
    (path,) = run.directory.glob("events.out.tfevents.*")
    found = [v for e in EventFileLoader(str(path)).Load() for v in e.summary.value]
    images = {v.tag: v for v in found if v.metadata.plugin_data.plugin_name == "images"}
    (encoded,) = images["images/reconstruction/image"].tensor.string_val[2:]
    assert Image.open(io.BytesIO(encoded)).size == (512, 128)


@pytest.mark.parametrize(
    "words",
    [
        ["memory=gru", "memory.hidden_size=4", "normalize_observations=true"],
        [f"extractor._target_={__name__}.Noisy", "trusted_packages=[tests]"],
    ],
    ids=["memory", "an extractor that draws"],
)
def test_looking_changes_nothing(train, words: list[str]) -> None:
    words = [*words, "total_env_steps=200", "evaluation.interval=50", "env.time_limit=15"]
    torch.manual_seed(0)  # of the user's own, which no part of ours draws from
    told = train(*words)
    torch.manual_seed(0)
    silent = train(*words, "tracking.representation=false")
    assert told.weights().keys() == silent.weights().keys()
    for name, tensor in told.weights().items():
        assert torch.equal(tensor, silent.weights()[name]), name
    shown, hidden = told.scalars(), silent.scalars()
    added = {"representation", "weight_norm"}
    assert {tag.partition("/")[0] for tag in shown.keys() - hidden.keys()} == added
    own = {tag for tag in hidden if not tag.startswith("time/")}
    assert all(shown[tag] == hidden[tag] for tag in own)
    steps = [step for step, _ in shown["evaluation/return"]]
    assert [step for step, _ in shown["representation/actor/effective_rank"]] == steps


class Broken(nn.Module):
    """Works until it is looked at in a number of rows that no minibatch has."""

    def __init__(self, input_shape: tuple[int, ...], **_: Any) -> None:
        super().__init__()
        self.layer = nn.Linear(*input_shape, 6)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        if len(rows) == 13:
            raise RuntimeError("out of something")
        return self.layer(rows)


def test_what_goes_wrong_is_told_and_training_goes_on(train, monkeypatch) -> None:
    monkeypatch.setattr("training.tracking.telemetry._ROWS", 13)
    words = [f"extractor._target_={__name__}.Broken", "trusted_packages=[tests]"]
    with pytest.warns(RuntimeWarning, match="not measured: out of something"):
        run = train(*words, "total_env_steps=90", "env.time_limit=15")
    assert run.summary["status"] == "finished"


@pytest.mark.parametrize("fault", [KeyError("x"), OSError("no"), AttributeError("y")])
def test_whatever_goes_wrong_with_looking_ends_nothing(monkeypatch, fault) -> None:
    def fail(*_: Any) -> None:
        raise fault

    monkeypatch.setattr("training.tracking.telemetry.measure", fail)
    with pytest.warns(RuntimeWarning, match="networks not measured: "):
        assert look_at(None, None) == Look()
