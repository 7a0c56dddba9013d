"""Pre-training: what its run leaves and gives the agent's; interrupting it changes nothing."""

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import gymnasium
import pytest
import torch
from omegaconf import OmegaConf
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

import neurl
import training.runs.session
from conf.composing.command_line import InvalidConfiguration, load
from conf.composing.configuration import read_only
from training.building.environments import build_environments
from training.runs.refusal import Refusal
from training.runs.run import Run
from training.runs.session import pretraining_of, train_run
from training.saving.archive import Archive
from training.saving.checkpoint import load_checkpoint, part_of
from training.saving.weights import read_tensors
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
    "evaluation.interval=50",
    "evaluation.episodes=2",
    "evaluation.num_envs=2",
    "evaluation.final_episodes=2",
]
ALONE = [
    *(word for word in SMALL if "pretrain" not in word),
    "agent=autoencoding",
    "agent.learning_starts=20",
    "agent.batch_size=16",
    "total_env_steps=200",
    *(word for word in RUN if "evaluation" in word),
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


def runner(base: list[str], tmp_path_factory: Any, finished_run: Any) -> Callable[..., Any]:
    def run(*words: str, directory: Path | None = None) -> Any:
        given = {word.partition("=")[0] for word in words}
        own = [word for word in base if word.partition("=")[0] not in given]
        directory = directory or tmp_path_factory.mktemp("pretrained") / "run"
        return play([*own, *words], finished_run, directory)

    return run


@pytest.fixture(scope="session")
def run(tmp_path_factory, finished_run) -> Callable[..., Any]:
    """Pre-trains and trains a small run."""
    return runner([*SMALL, *RUN], tmp_path_factory, finished_run)


@pytest.fixture(scope="session")
def alone(tmp_path_factory, finished_run) -> Callable[..., Any]:
    """Trains a small run of agent=autoencoding."""
    return runner(ALONE, tmp_path_factory, finished_run)


@pytest.fixture(scope="session")
def undisturbed(run) -> Any:
    return run()


def best(directory: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    return load_checkpoint(directory / "checkpoints" / "best")


def encoder_of(directory: Path) -> dict[str, torch.Tensor]:
    return part_of(best(directory)[0], "agent.actor.extractor")


def extractors(tensors: dict[str, torch.Tensor]) -> list[dict[str, torch.Tensor]]:
    return [part_of(tensors, f"agent.{part}.extractor") for part in ("actor", "critic")]


def assert_same(tensors: Any, expected: Any) -> None:
    assert tensors.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(tensors[name], tensor), name


# ---- what it leaves and gives


def test_a_frozen_encoder_is_the_best_one_of_the_run_before(undisturbed, finished_run) -> None:
    """In actor and critic, after training: not a bit has moved."""
    encoder = encoder_of(undisturbed.directory / "pretraining")
    for extractor in extractors(undisturbed.weights()):
        assert_same(extractor, encoder)
    before = finished_run(undisturbed.directory / "pretraining", 0.0)
    summary, own = undisturbed.summary, before.summary
    assert own["status"] == "finished"
    assert own["env_steps"] == summary["pretraining_env_steps"] >= 200
    assert own["training_seconds"] == summary["pretraining_seconds"] > 0
    _, first = undisturbed.scalars()["time/training_seconds"][0]
    assert first >= own["training_seconds"]
    assert not list(before.directory.rglob("chunk-*"))  # frames are large


def test_it_learns_and_keeps_the_smallest_held_out_loss(undisturbed, finished_run) -> None:
    before = finished_run(undisturbed.directory / "pretraining", 0.0)
    curves = before.scalars()
    losses = [value for _, value in curves["evaluation/held_out_loss"]]
    assert len(losses) == 5
    assert losses[-1] < 0.7 * losses[0]
    assert before.summary["best"]["held_out_loss"] == pytest.approx(min(losses), rel=1e-5)
    returns = {value for _, value in curves["evaluation/return"]}
    assert len(returns) == 1  # of the same episodes each time
    updates = before.summary["updates"]
    assert updates == pytest.approx(3 * 200 / 16, abs=2)


def test_its_best_weights_are_given_and_not_its_last(undisturbed, alone, tmp_path: Path) -> None:
    """Of the run above they are the same: here another run's stand for the best."""
    source, other = tmp_path / "run", alone("seed=5").directory
    shutil.copytree(undisturbed.directory / "pretraining", source)
    shutil.rmtree(source / "checkpoints" / "best")
    shutil.copytree(other / "checkpoints" / "best", source / "checkpoints" / "best")
    given = read_tensors("init_from", source)
    assert_same(part_of(given, "agent.actor.extractor"), encoder_of(other))


def test_its_episodes_are_not_the_agent_s(undisturbed) -> None:
    config = load([*SMALL, *RUN, "run_dir=x"])
    assert pretraining_of(config, Path("x")).seed not in (config.seed, None)


def test_an_encoder_may_be_trained_on(run) -> None:
    here = run("extractor.freeze=false", "checkpoint.keep_last=9")
    encoder = encoder_of(here.directory / "pretraining")
    for extractor in extractors(here.weights()):
        assert any(not torch.equal(extractor[name], tensor) for name, tensor in encoder.items())
    (path,) = (here.directory / "checkpoints" / "last").glob("tensors-0-*")
    begun = load_file(path)
    for extractor in extractors(begun):  # as the run began it had the encoder
        assert_same(extractor, encoder)


def test_normalisation_is_given_the_frames_statistics(run) -> None:
    here = run("normalize_observations=true")
    count = best(here.directory / "pretraining")[0]["agent.actor.normalization.count"]
    assert float(count) > 0
    begun = here.weights()["agent.actor.normalization.count"]
    assert float(begun) == float(count) + here.summary["env_steps"]


def test_a_shared_backbone_and_parts_are_pretrained_too(run, parts) -> None:
    here = run("share_backbone=true", f"env.id={parts}")
    encoder = encoder_of(here.directory / "pretraining")
    assert_same(part_of(here.weights(), "agent.actor.extractor"), encoder)


def test_another_critic_keeps_its_own(run) -> None:
    own = ["extractor@critic.extractor=mlp", "critic.extractor.freeze=true"]
    here = run(*own)
    encoder = encoder_of(here.directory / "pretraining")
    assert_same(part_of(here.weights(), "agent.actor.extractor"), encoder)


def test_a_run_s_policy_may_collect(undisturbed, run, train) -> None:
    here = run(f"extractor.pretrain.source={undisturbed.directory}", "seed=4")
    assert here.summary["pretraining_env_steps"] >= 200
    other = train("total_env_steps=64", "env=pendulum", "env.time_limit=20")
    with pytest.raises(
        Refusal, match=r"^extractor\.pretrain: agent\.source=.*: the policy reads"
    ) as caught:
        run(f"extractor.pretrain.source={other.directory}")
    assert caught.value.exit_code == 2


@pytest.fixture
def grids() -> Iterator[str]:
    """Grids of codes, of few columns: eigenvectors are computed with every evaluation."""
    gymnasium.register("test/Grids-v0", "tests.training.cameras:Camera", kwargs={"shows": "codes"})
    yield "test/Grids-v0"
    del gymnasium.registry["test/Grids-v0"]


def test_images_are_drawn(run, grids: str) -> None:
    dense = ["extractor@extractor.encoder=mlp", "extractor.encoder.hidden_sizes=[8]"]
    words = [*dense, "extractor.pretrain.epochs=1", "total_env_steps=32", "evaluation.num_envs=1"]
    here = run(f"env.id={grids}", *words, "evaluation.final_episodes=1")
    found = [
        value
        for path in (here.directory / "pretraining").glob("events.*")
        for event in EventFileLoader(str(path)).Load()
        for value in event.summary.value
        if value.tag == "images/reconstruction"
    ]
    assert len(found) == 5  # with each evaluation
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
    "learning": (Run, "_after", 9),
    "before its weights are read": (training.runs.session, "take_pretrained", 1),
}
MORE_POINTS = {
    "before it begins": (Run, "train", 1),
    "evaluating": (Run, "_evaluate", 3),
    "saving the best": (Archive, "save_best", 2),
    "at its end": (Run, "_finish", 1),
}


@pytest.mark.parametrize(
    "point", [*POINTS, *(pytest.param(name, marks=pytest.mark.faults) for name in MORE_POINTS)]
)
def test_a_run_that_died_in_pretraining_ends_as_if_it_had_not(
    point, undisturbed, run, go_on, die, tmp_path, finished_run
) -> None:
    directory = tmp_path / "run"
    die(*{**POINTS, **MORE_POINTS}[point])
    with pytest.raises(Killed):
        run(directory=directory)
    die()
    here = go_on(directory)
    assert_same(here.weights(), undisturbed.weights())
    for place in (".", "pretraining"):
        found, expected = (
            finished_run(each / place, 0.0) for each in (directory, undisturbed.directory)
        )
        assert_same(best(found.directory)[0], best(expected.directory)[0])
        curves, others = (
            {k: v for k, v in each.scalars().items() if not k.startswith("time/")}
            for each in (found, expected)
        )
        assert curves == others
        for key in ("env_steps", "updates", "best", "pretraining_env_steps"):
            assert found.summary[key] == expected.summary[key]


def test_an_agent_under_way_needs_nothing_of_pretraining(run, go_on, tmp_path, capsys) -> None:
    here = run(directory=tmp_path / "run")
    steps = here.summary["pretraining_env_steps"]
    shutil.rmtree(here.directory / "pretraining")
    capsys.readouterr()
    again = go_on(here.directory, "total_env_steps=96")
    assert "pre-train" not in capsys.readouterr().out
    assert again.summary["pretraining_env_steps"] == steps > 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_heard(number, undisturbed, run, go_on, monkeypatch, tmp_path) -> None:
    original = Collector.collect

    def ask(*arguments: Any, **options: Any) -> Any:
        os.kill(os.getpid(), number)
        return original(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Collector, "collect", ask)
        with pytest.raises(
            Refusal, match="interrupted in pre-training; continue with resume="
        ) as caught:
            run(directory=tmp_path / "run")
    assert caught.value.exit_code == 128 + number
    assert signal.getsignal(number) is not signal.SIG_IGN
    assert_same(go_on(tmp_path / "run").weights(), undisturbed.weights())


def test_gradients_that_are_no_numbers_end_it(run, tmp_path) -> None:
    with pytest.raises(Refusal, match="no gradient was finite") as caught:
        run("extractor.pretrain.learning_rate=1e30", directory=tmp_path / "run")
    assert caught.value.exit_code == 1
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_only_the_same_configuration_goes_on(run, go_on, die, tmp_path) -> None:
    directory = tmp_path / "run"
    die(Run, "_after", 2)
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


def test_what_cannot_be_pretrained_leaves_nothing_behind(run, tmp_path, train) -> None:
    other = train("total_env_steps=64", "env=pendulum", "env.time_limit=20")
    words = (
        "extractor.pretrain.frames=10000000000000",
        f"extractor.pretrain.source={other.directory}",
    )
    for number, word in enumerate(words):
        directory = tmp_path / str(number)
        with pytest.raises(Refusal, match=r"^extractor\.pretrain: ") as caught:
            run(word, directory=directory)
        assert "\n" not in str(caught.value)
        assert not list(directory.glob("*"))


# ---- as a run of its own


def test_weights_serve_again(alone, run) -> None:
    before = alone()
    encoder = encoder_of(before.directory)
    here = run(f"extractor.weights={before.directory}")
    for extractor in extractors(here.weights()):
        assert_same(extractor, encoder)
    assert not (here.directory / "pretraining").exists()
    # They were spent, once.
    assert here.summary["pretraining_env_steps"] == before.summary["env_steps"]
    assert here.summary["pretraining_seconds"] == before.summary["training_seconds"]


def test_weights_bring_the_normalisation_that_they_were_trained_behind(alone, run) -> None:
    directory = alone("normalize_observations=true").directory
    count = best(directory)[0]["agent.actor.normalization.count"]
    with pytest.raises(Refusal, match=r"^extractor\.weights=.*set normalize_observations=true$"):
        run(f"extractor.weights={directory}")
    here = run(f"extractor.weights={directory}", "normalize_observations=true")
    counted = here.weights()["agent.actor.normalization.count"]
    assert float(counted) == float(count) + here.summary["env_steps"]


def test_it_ends_at_a_loss_and_returns_what_a_sweep_maximises(alone) -> None:
    here = alone("evaluation.stop_at=100")
    assert here.summary["env_steps"] < 150
    assert here.summary["stopped_at"] == 100
    assert here.score == -here.summary["evaluation"]["held_out_loss"]


# ---- from Python


def test_policies_know_nothing_of_pretraining(undisturbed, alone) -> None:
    policy = neurl.load(undisturbed.directory)
    assert policy.predict([0.0, 0.0, 0.0, 0.0]) in (0, 1)
    neurl.fit(policy, env_steps=32)
    directory = alone().directory
    words = [word for word in SMALL if "frames" not in word]
    built = neurl.build(*words, *RUN[1:4], f"extractor.weights={directory}")
    assert_same(dict(built.agent.actor.extractor.state_dict()), encoder_of(directory))
    neurl.fit(built, env_steps=32)
    unlearnt = neurl.build(*SMALL, *RUN[1:4])
    with pytest.raises(ValueError, match=r"neurl\.fit has no directory to pre-train in"):
        neurl.fit(unlearnt, env_steps=32)
