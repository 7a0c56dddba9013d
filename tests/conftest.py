"""Executes the annotations of the mathematics under test: shapes and types are checked."""

import functools
import gc
import json
import os
import pickle
import signal
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from omegaconf import DictConfig
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
from threadpoolctl import threadpool_limits

from conf.composing.composer import Composer
from tests import annotations, counting  # noqa: F401 (registers environments)
from tests.rereading import read_once

KEPT_COMPOSITIONS = 400

# Before the first import of either package; the rest of the library runs as users run it.
annotations.install(["agents", "networks"])

# Small networks are fastest on one thread, and a fixed number keeps sums in one order.
torch.set_num_threads(1)
threadpool_limits(limits=1, user_api="blas")  # as runs do: several wait for the other process

# Jobs in the background ignore Ctrl-C, and so would what they start: tests of it would wait.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Looking for cycles after every 700 new objects, as is usual, was a tenth of the time.
gc.set_threshold(50_000, 20, 20)


def pytest_collection_finish() -> None:
    """Spares the garbage collector what stays to the end."""
    gc.collect()
    gc.freeze()


def pytest_runtest_setup() -> None:
    annotations.begin_test()


@pytest.fixture(autouse=True, scope="session")
def idle_disk() -> Iterator[None]:
    """No power fails here: what a disk must have seen, and when, is for tests that count calls."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", os.fstat)  # which takes open files alone, as it does
        yield


@pytest.fixture(autouse=True, scope="session")
def shared_composers() -> Iterator[None]:
    """Composes what two tests ask for once: that takes longer than most of what is tested."""
    known: dict[str, Composer] = {}

    def composer(
        config_name: str, directory: str | None = None, root: str | None = None
    ) -> Composer:
        if directory is not None or root not in (None, config_name):
            return Composer(config_name, directory, root)
        if config_name not in known or len(known[config_name]._composed) > KEPT_COMPOSITIONS:
            known[config_name] = Composer(config_name)
        return known[config_name]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("conf.composing.configuration.Composer", composer)
        patch.setattr("conf.composing.command_line.Composer", composer)
        patch.setattr("analysis.studies.study.Composer", composer)
        yield


@pytest.fixture(autouse=True, scope="session")
def shared_files() -> Iterator[None]:
    """Reads each file of `conf` and parses each override once, in place of once a composition."""
    with pytest.MonkeyPatch.context() as patch:
        read_once(functools.partial(patch.setattr, raising=False))
        yield


@pytest.fixture(autouse=True, scope="session")
def shared_copies() -> Iterator[None]:
    """Reads copies of what was composed from a pickle, which takes a fifth of the time."""
    known: dict[int, tuple[DictConfig, bytes]] = {}

    def copied(config: DictConfig) -> DictConfig:
        if len(known) > KEPT_COMPOSITIONS:
            known.clear()
        if id(config) not in known:  # which is kept, and so no other has its id
            known[id(config)] = config, pickle.dumps(config)
        return pickle.loads(known[id(config)][1])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("conf.composing.composer.deepcopy", copied)
        yield


@functools.cache
def composed(words: tuple[str, ...]) -> bytes:
    """Composing takes longer than most of what is tested, and reading a pickle is no copying."""
    from conf.composing.command_line import load

    return pickle.dumps(load(words))


@pytest.fixture
def build_run() -> Iterator[Callable[..., Any]]:
    """Builds what a command line asks for: `config, environments, agent, collector`.

    With `environments` it is built for these, in place of those that the words name.
    """
    from training.building.build import build_agent, build_collector
    from training.building.environments import build_environments

    made = []

    def build(words: Sequence[str], *, environments: Any = None) -> SimpleNamespace:
        config = pickle.loads(composed(tuple(words)))
        if environments is None:
            environments = build_environments(config, num_envs=config.env.num_envs)
            made.append(environments)
        agent = build_agent(
            config,
            environments.single_observation_space,
            environments.single_action_space,
            num_envs=config.env.num_envs,
        )
        collector = build_collector(config, environments)
        return SimpleNamespace(
            config=config, environments=environments, agent=agent, collector=collector
        )

    yield build
    for environments in made:
        environments.close()


class FinishedRun:
    """What a run left in its directory."""

    def __init__(self, directory: Path, score: float | None = None) -> None:
        self.directory = directory
        self.score = score

    @property
    def summary(self) -> dict[str, Any]:
        return json.loads((self.directory / "summary.json").read_text())

    def weights(self, name: str = "last") -> dict[str, torch.Tensor]:
        manifest = json.loads((self.directory / "checkpoints" / name / "manifest.json").read_text())
        file, _ = manifest["files"]["tensors"]
        return load_file(self.directory / "checkpoints" / name / file)

    def scalars(self) -> dict[str, list[tuple[int, float]]]:
        """Points `(env_steps, value)` by TensorBoard tag, in the order of their writing."""
        found: dict[str, list[tuple[int, float]]] = {}
        for path in sorted(self.directory.glob("events.out.tfevents.*")):
            for event in EventFileLoader(str(path)).Load():
                for value in event.summary.value:
                    if value.metadata.plugin_data.plugin_name not in ("", "scalars"):
                        continue
                    number = value.simple_value or sum(value.tensor.float_val)
                    found.setdefault(value.tag, []).append((event.step, number))
        return found


@pytest.fixture(scope="session")
def finished_run() -> type[FinishedRun]:
    return FinishedRun
