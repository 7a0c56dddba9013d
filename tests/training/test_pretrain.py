"""Pre-training: what it leaves and gives a run, and that interrupting it changes nothing."""

import os
import shutil
import signal
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from safetensors.torch import load_file

import neurl
import training.pretraining.pretraining
import training.runs.run
from conf.composing.command_line import InvalidConfiguration, load
from conf.composing.configuration import read_only
from training.building.environments import build_environments
from training.pretraining.fitting import Fitting
from training.pretraining.pretraining import pretrain_alone
from training.pretraining.reconstruction import Reconstruction
from training.runs.refusal import Refusal
from training.runs.session import train_run
from training.saving.checkpoint import load_checkpoint, part_of
from training.stream.collect import Collector

SMALL = [
    "device=cpu",
    "num_threads=1",
    "env.num_envs=2",
    "extractor=autoencoder",
    "extractor.latent_size=3",
    "extractor.vector_encoder.hidden_sizes=[8]",
    "extractor.pretrain.frames=200",
    "extractor.pretrain.batch_size=16",
    "extractor.pretrain.epochs=3",
    "extractor.pretrain.learning_rate=0.01",
    "tracking.progress=false",
    "seed=3",
]
RUN = [
    "total_env_steps=64",
    "agent.rollout_length=16",
    "agent.num_minibatches=2",
    "agent.num_epochs=1",
    "evaluation.interval=0",
    "evaluation.num_envs=2",
    "evaluation.final_episodes=2",
]


class Killed(BaseException):
    """The process dies here."""


@cache
def composed(words: tuple[str, ...]) -> Any:
    """Composing takes longer than pre-training and training together."""
    return OmegaConf.to_container(load(words))


def play(words: list[str], finished_run: Any, directory: Path) -> Any:
    if directory.exists():  # it may be refused
        load([*words, f"run_dir={directory}"])
    config = read_only({**composed(tuple(words)), "run_dir": str(directory)})
    environments = build_environments(config, num_envs=config.env.num_envs)
    return finished_run(directory, train_run(config, environments))


@pytest.fixture(scope="session")
def run(tmp_path_factory, finished_run) -> Callable[..., Any]:
    """Pre-trains and trains a small run."""

    def run(*words: str, directory: Path | None = None) -> Any:
        given = {word.partition("=")[0] for word in words}
        base = [word for word in [*SMALL, *RUN] if word.partition("=")[0] not in given]
        directory = directory or tmp_path_factory.mktemp("pretrained") / "run"
        return play([*base, *words], finished_run, directory)

    return run


@pytest.fixture(scope="session")
def alone(tmp_path_factory) -> Callable[..., Path]:
    """Pre-trains as `pretrain.py` does."""

    def alone(*words: str, directory: Path | None = None, resume: bool = False) -> Path:
        given = {word.partition("=")[0] for word in words}
        base = [word for word in SMALL if word.partition("=")[0] not in given]
        directory = directory or tmp_path_factory.mktemp("alone") / "here"
        where = [f"resume={directory}"] if resume else [*base, *words, f"run_dir={directory}"]
        config = load(where, "pretrain")
        pretrain_alone(config, build_environments(config, num_envs=1))
        return directory

    return alone


@pytest.fixture(scope="session")
def undisturbed(run) -> Any:
    return run()


def pretrained(directory: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    return load_checkpoint(directory / "pretraining" / "weights")


def extractors(tensors: dict[str, torch.Tensor]) -> list[dict[str, torch.Tensor]]:
    return [part_of(tensors, f"agent.{part}.extractor") for part in ("actor", "critic")]


def assert_same(tensors: Any, expected: Any) -> None:
    assert tensors.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(tensors[name], tensor), name


# ---- what it leaves and gives


def test_a_frozen_encoder_is_the_one_that_was_pretrained(undisturbed) -> None:
    """In actor and critic, after training: not a bit has moved."""
    tensors, state = pretrained(undisturbed.directory)
    encoder = part_of(tensors, "encoder")
    for extractor in extractors(undisturbed.weights()):
        assert_same(extractor, encoder)
    assert any(name.startswith("decoder.") for name in tensors)
    facts = state["pretraining"]
    assert facts["frames"] == 200
    assert facts["env_steps"] == undisturbed.summary["pretraining_env_steps"] >= 200
    seconds = undisturbed.summary["pretraining_seconds"]
    assert 0 < state["seconds"] <= seconds
    _, first = undisturbed.scalars()["time/training_seconds"][0]
    assert first == pytest.approx(seconds + undisturbed.summary["training_seconds"])
    assert state["extractor"]["latent_size"] == 3
    assert facts["best_epoch"] > 0
    assert facts["measures"]["held_out_loss"] > 0
    left = {path.name for path in (undisturbed.directory / "pretraining").iterdir()}
    assert left == {"weights"}


def test_it_learns(undisturbed) -> None:
    curves = undisturbed.scalars()
    for tag in ("held_out_loss", "squared_error", "pca_squared_error"):
        assert [step for step, _ in curves[f"pretraining/{tag}"]] == [0, 1, 2, 3]
    assert [step for step, _ in curves["pretraining/loss"]] == [1, 2, 3]
    losses = [value for _, value in curves["pretraining/held_out_loss"]]
    assert losses[-1] < 0.7 * losses[0]
    assert len({value for _, value in curves["pretraining/pca_squared_error"]}) == 1


def test_an_encoder_may_be_trained_on(run) -> None:
    here = run("extractor.freeze=false")
    assert [path.name for path in (here.directory / "pretraining").iterdir()] == ["weights"]
    encoder = part_of(pretrained(here.directory)[0], "encoder")
    for extractor in extractors(here.weights()):
        assert any(not torch.equal(extractor[name], tensor) for name, tensor in encoder.items())
    (path,) = (here.directory / "checkpoints" / "last").glob("tensors-0-*")
    begun = load_file(path)
    for extractor in extractors(begun):  # as the run began it had the encoder
        assert_same(extractor, encoder)


def test_normalisation_is_given_the_frames_statistics(run) -> None:
    here = run("normalize_observations=true")
    tensors, _ = pretrained(here.directory)
    count = float(tensors["normalization.count"])
    assert 150 < count < 200  # those that are not held out
    begun = here.weights()["agent.actor.normalization.count"]
    assert float(begun) == count + here.summary["env_steps"]


def test_a_shared_backbone_and_parts_are_pretrained_too(run, parts) -> None:
    here = run("share_backbone=true", f"env.id={parts}")
    encoder = part_of(pretrained(here.directory)[0], "encoder")
    assert_same(part_of(here.weights(), "agent.actor.extractor"), encoder)
    assert "pretraining/pca_squared_error" in here.scalars()


def test_another_critic_keeps_its_own(run) -> None:
    own = ["extractor@critic.extractor=mlp", "critic.extractor.freeze=true"]
    here = run(*own)
    encoder = part_of(pretrained(here.directory)[0], "encoder")
    assert_same(part_of(here.weights(), "agent.actor.extractor"), encoder)


def test_a_run_s_policy_may_collect(undisturbed, run, train) -> None:
    here = run(f"extractor.pretrain.source={undisturbed.directory}", "seed=4")
    assert here.summary["pretraining_env_steps"] >= 200
    other = train("total_env_steps=64", "env=pendulum", "env.time_limit=20")
    with pytest.raises(
        Refusal, match=r"extractor\.pretrain\.source=.*: the policy reads"
    ) as caught:
        run(f"extractor.pretrain.source={other.directory}")
    assert caught.value.exit_code == 2


def test_images_are_drawn(run) -> None:
    pytest.importorskip("minigrid")
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

    dense = ["extractor@extractor.encoder=mlp", "extractor.encoder.hidden_sizes=[8]"]
    words = [*dense, "extractor.pretrain.epochs=1", "total_env_steps=32", "evaluation.num_envs=1"]
    here = run("env=minigrid", *words, "env.time_limit=10", "evaluation.final_episodes=1")
    found = [
        value
        for path in here.directory.glob("events.*")
        for event in EventFileLoader(str(path)).Load()
        for value in event.summary.value
        if value.tag == "images/reconstruction"
    ]
    assert len(found) == 2  # before and after the only epoch
    assert found[0].metadata.summary_description == "observations above their reconstructions"


# ---- interruptions


@pytest.fixture
def die(monkeypatch) -> Callable[..., None]:
    """Lets pre-training die at its n-th call of something; never again after `die()`."""

    def die(owner: Any = None, name: str = "", call: int = 0) -> None:
        monkeypatch.undo()
        if owner is None:
            return
        original, calls = getattr(owner, name), [0]

        def count(*arguments: Any, **options: Any) -> Any:
            calls[0] += 1
            if calls[0] == call:
                raise Killed
            return original(*arguments, **options)

        monkeypatch.setattr(owner, name, count)

    return die


POINTS = {
    "in the second epoch": (Fitting, "_pass", 2),
}
MORE_POINTS = {
    "collecting": (Collector, "collect", 3),
    "before the first epoch": (Fitting, "_measure", 1),
    "saving the first progress": (training.pretraining.pretraining, "save_checkpoint", 1),
    "measuring": (Fitting, "_measure", 3),
    "saving progress": (training.pretraining.pretraining, "save_checkpoint", 3),
    "drawing": (Reconstruction, "pictures", 2),
    "saving weights": (training.pretraining.pretraining, "save_checkpoint", 5),
    "before they are read": (training.pretraining.pretraining, "load_checkpoint", 1),
}


@pytest.mark.parametrize(
    "point", [*POINTS, *(pytest.param(name, marks=pytest.mark.faults) for name in MORE_POINTS)]
)
def test_a_run_that_died_in_pretraining_ends_as_if_it_had_not(
    point, undisturbed, run, go_on, die, tmp_path
) -> None:
    directory = tmp_path / "run"
    die(*{**POINTS, **MORE_POINTS}[point])
    with pytest.raises(Killed):
        run(directory=directory)
    die()
    here = go_on(directory)
    tensors, state = pretrained(directory)
    expected, told = pretrained(undisturbed.directory)
    assert 0 < state["seconds"] <= here.summary["pretraining_seconds"]
    assert_same(tensors, expected)
    assert state["pretraining"] == told["pretraining"]
    assert_same(here.weights(), undisturbed.weights())
    curves = {k: v for k, v in here.scalars().items() if not k.startswith("time/")}
    others = {k: v for k, v in undisturbed.scalars().items() if not k.startswith("time/")}
    assert curves == others
    assert {path.name for path in (directory / "pretraining").iterdir()} == {"weights"}


def test_a_run_that_died_after_pretraining_does_not_pretrain_again(
    undisturbed, run, go_on, die, tmp_path, capsys
) -> None:
    directory = tmp_path / "run"
    die(training.runs.run.Run, "_after", 1)
    with pytest.raises(Killed):
        run(directory=directory)
    die()
    shutil.rmtree(directory / "pretraining")  # nothing of it is needed
    capsys.readouterr()
    here = go_on(directory)
    assert "pre-training" not in capsys.readouterr().out
    assert_same(here.weights(), undisturbed.weights())
    steps = here.summary["pretraining_env_steps"]
    assert steps == undisturbed.summary["pretraining_env_steps"] > 0


@pytest.mark.parametrize(
    ("number", "when"), [(signal.SIGINT, "collecting"), (signal.SIGTERM, "fitting")]
)
def test_a_signal_is_heard(number, when, undisturbed, run, go_on, monkeypatch, tmp_path) -> None:
    owner, name = (Collector, "collect") if when == "collecting" else (Fitting, "_pass")
    original = getattr(owner, name)

    def ask(*arguments: Any, **options: Any) -> Any:
        os.kill(os.getpid(), number)
        return original(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, ask)
        with pytest.raises(
            Refusal, match="interrupted in pre-training; continue with resume="
        ) as caught:
            run(directory=tmp_path / "run")
    assert caught.value.exit_code == 128 + number
    assert signal.getsignal(number) is not signal.SIG_IGN
    assert_same(go_on(tmp_path / "run").weights(), undisturbed.weights())


def test_damaged_progress_begins_anew(undisturbed, run, go_on, die, tmp_path) -> None:
    directory = tmp_path / "run"
    die(Fitting, "_pass", 3)
    with pytest.raises(Killed):
        run(directory=directory)
    die()
    for path in (directory / "pretraining" / "progress").glob("tensors-*"):
        path.write_bytes(path.read_bytes()[:-1])
    with pytest.warns(RuntimeWarning, match="pre-training begins anew"):
        here = go_on(directory)
    assert_same(here.weights(), undisturbed.weights())


def test_a_full_disk_costs_frames_and_progress_not_the_run(
    undisturbed, run, monkeypatch, tmp_path
) -> None:
    def fail(*arguments: Any, **options: Any) -> None:
        raise OSError(28, "No space left on device")

    save = training.pretraining.pretraining.save_checkpoint

    def fail_in_progress(directory: Path, **content: Any) -> Any:
        return (fail if directory.name == "progress" else save)(directory, **content)

    monkeypatch.setattr(training.pretraining.pretraining, "save_checkpoint", fail_in_progress)
    with pytest.warns(RuntimeWarning, match="No space left"):
        here = run(directory=tmp_path / "run")
    assert_same(here.weights(), undisturbed.weights())


def test_a_loss_that_is_no_number_ends_it(run, monkeypatch, tmp_path) -> None:
    with pytest.raises(Refusal, match="held-out loss is") as caught:
        run("extractor.pretrain.learning_rate=1e30", directory=tmp_path / "run")
    assert caught.value.exit_code == 1
    assert not (tmp_path / "run" / "pretraining" / "weights").exists()


def test_only_the_same_configuration_goes_on(run, go_on, die, tmp_path) -> None:
    directory = tmp_path / "run"
    die(Fitting, "_pass", 2)
    with pytest.raises(Killed):
        run(directory=directory)
    die()
    with pytest.raises(InvalidConfiguration, match=r"extractor\.latent_size"):
        go_on(directory, "extractor.latent_size=4")
    with pytest.raises(InvalidConfiguration, match=r"holds a run already; resume it: resume="):
        run(directory=directory)
    path = directory / "config.yaml"
    path.write_text(path.read_text().replace("epochs: 3", "epochs: 2"))
    with pytest.raises(Refusal, match="is not the one that the checkpoint was written with"):
        go_on(directory)


# ---- as a step of its own


def test_weights_serve_again(alone, run, undisturbed) -> None:
    directory = alone()
    tensors, state = pretrained(directory)
    assert_same(tensors, pretrained(undisturbed.directory)[0])
    here = run(f"extractor.weights={directory}")
    for extractor in extractors(here.weights()):
        assert_same(extractor, part_of(tensors, "encoder"))
    assert not (here.directory / "pretraining").exists()
    assert (
        here.summary["pretraining_env_steps"] == undisturbed.summary["pretraining_env_steps"]
    )  # they were spent, once
    assert here.summary["pretraining_seconds"] == state["seconds"]


def test_weights_bring_the_normalisation_that_they_were_trained_behind(alone, run) -> None:
    directory = alone("normalize_observations=true")
    statistics = part_of(pretrained(directory)[0], "normalization")
    with pytest.raises(Refusal, match=r"^extractor\.weights=.*set normalize_observations=true$"):
        run(f"extractor.weights={directory}")
    here = run(f"extractor.weights={directory}", "normalize_observations=true")
    counted = here.weights()["agent.actor.normalization.count"]
    assert float(counted) == float(statistics["count"]) + here.summary["env_steps"]


def test_what_cannot_be_pretrained_leaves_nothing_behind(run, tmp_path, train) -> None:
    other = train("total_env_steps=64", "env=pendulum", "env.time_limit=20")
    for number, word in enumerate(
        (
            "extractor.pretrain.frames=10000000000000",
            f"extractor.pretrain.source={other.directory}",
        )
    ):
        directory = tmp_path / str(number)
        with pytest.raises(Refusal) as caught:
            run(word, directory=directory)
        assert "\n" not in str(caught.value)
        assert not list(directory.glob("*"))


def test_a_finished_run_needs_nothing_of_pretraining(run, go_on, tmp_path) -> None:
    here = run(directory=tmp_path / "run")
    for file in (here.directory / "pretraining" / "weights").glob("tensors*"):
        file.write_bytes(b"damaged")
    assert go_on(here.directory, "total_env_steps=96").summary["env_steps"] >= 96


def test_a_step_of_its_own_goes_on(alone, die, tmp_path, undisturbed) -> None:
    die(Fitting, "_pass", 2)
    with pytest.raises(Killed):
        alone(directory=tmp_path / "here")
    die()
    alone(directory=tmp_path / "here", resume=True)
    expected = pretrained(undisturbed.directory)[0]
    assert_same(pretrained(tmp_path / "here")[0], expected)
    alone(directory=tmp_path / "here", resume=True)  # over: nothing is done again
    assert_same(pretrained(tmp_path / "here")[0], expected)


def test_what_is_no_run_is_not_taken_for_one(alone, undisturbed) -> None:
    directory = alone()
    with pytest.raises(InvalidConfiguration, match=r"it was begun by pretrain\.py"):
        load([f"resume={directory}"])
    with pytest.raises(InvalidConfiguration, match=r"it was begun by train\.py"):
        load([f"resume={undisturbed.directory}"], "pretrain")
    with pytest.raises(ValueError, match=r"it was begun by pretrain\.py"):
        neurl.load(directory)


# ---- from Python


def test_policies_know_nothing_of_pretraining(undisturbed, alone) -> None:
    policy = neurl.load(undisturbed.directory)
    assert policy.predict([0.0, 0.0, 0.0, 0.0]) in (0, 1)
    neurl.fit(policy, env_steps=32)
    directory = alone()
    words = [word for word in SMALL if "frames" not in word]
    built = neurl.build(*words, *RUN[1:4], f"extractor.weights={directory}")
    encoder = part_of(pretrained(directory)[0], "encoder")
    assert_same(dict(built.agent.actor.extractor.state_dict()), encoder)
    neurl.fit(built, env_steps=32)
    unlearnt = neurl.build(*SMALL, *RUN[1:4])
    with pytest.raises(ValueError, match=r"neurl\.fit has no directory to pre-train in"):
        neurl.fit(unlearnt, env_steps=32)
