"""Every pair of choices meets once: it trains, goes on exactly, and comes back acting the same."""

import copy
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import DictConfig, OmegaConf

import neurl
from conf.composing.command_line import load
from tests.grid import (
    Combination,
    all_pairs,
    is_legal,
    label,
    pairs,
    pairwise,
    parts,
    product,
    registered,
    words,
)
from tests.support import OBSERVED, OF_AGENTS, TRAINED, cells
from training.building.environments import build_environments
from training.exporting.export import Unexportable, export_run
from training.runs.session import train_run
from training.saving.checkpoint import files_of, load_checkpoint, open_checkpoint

COMBINATIONS = list(pairwise())
NORMALIZED = ("mingru", "lru", "mlstm", "gtrxl")


def whole() -> dict[str, Combination]:
    """Every legal cell of the tables and the product, by its name."""
    every = [*product(), *parts(), *cells(OBSERVED), *cells(TRAINED), *cells(OF_AGENTS)]
    return {name: combination for name, combination in every if is_legal(combination)}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Makes the thousands of cells where they are asked for alone."""
    if "cell" in metafunc.fixturenames:
        found = {} if "not grid" in metafunc.config.option.markexpr else whole()
        metafunc.parametrize("cell", found.values(), ids=found.keys())


@pytest.fixture(scope="module", autouse=True)
def environment() -> Iterator[None]:
    with registered():
        yield


def test_all_pairs_are_among_the_combinations() -> None:
    met = set().union(*(pairs(combination) for combination in COMBINATIONS))
    assert met >= all_pairs()
    assert len(COMBINATIONS) < 112


def train(config: DictConfig, directory: Path) -> None:
    """Train a configured run, or go on with what is in a directory."""
    config = copy.deepcopy(config)
    OmegaConf.set_readonly(config, False)
    config.run_dir = str(directory)
    config.resume = str(directory) if directory.exists() else None
    OmegaConf.set_readonly(config, True)
    train_run(config, build_environments(config, num_envs=2))


def interrupted(run: Path, directory: Path) -> Path:
    """Copy a run as it was after its first update."""
    shutil.copytree(run, directory)
    last = directory / "checkpoints" / "last"
    older = sorted(int(path.stem.partition("-")[2]) for path in last.glob("manifest-*.json"))
    begun, first, *_ = older
    assert begun == 0 < first
    (last / f"manifest-{first}.json").replace(last / "manifest.json")
    kept = {"manifest.json", *files_of(json.loads((last / "manifest.json").read_text()))}
    for path in last.iterdir():
        if path.name not in kept:
            path.unlink()
    return directory


def course(run: Path) -> dict[str, Any]:
    """Numbers that runs which are the same have in common, beside their tensors."""
    summary = json.loads((run / "summary.json").read_text())
    keys = ("env_steps", "updates", "evaluation", "pretraining_env_steps", "train_return_mean")
    return {key: summary[key] for key in keys}


def assert_same(run: Path, other: Path) -> None:
    (tensors, state), (others, expected) = (
        load_checkpoint(each / "checkpoints" / "last") for each in (run, other)
    )
    assert tensors.keys() == others.keys()
    different = [name for name, tensor in tensors.items() if not torch.equal(tensor, others[name])]
    assert different == []
    assert state["generator"] == expected["generator"]
    assert state["history"] == expected["history"]
    assert state.get("experience") == expected.get("experience")
    assert_same_experience(run, other)
    assert repr(course(run)) == repr(course(other))  # of nan as well


def assert_same_experience(run: Path, other: Path) -> None:
    found, expected = (
        open_checkpoint(each / "checkpoints" / "last").chunks for each in (run, other)
    )
    _, state = load_checkpoint(run / "checkpoints" / "last")
    assert bool(expected) == ("experience" in state)
    assert found.keys() == expected.keys()
    for name, chunk in expected.items():
        assert chunk.keys() == found[name].keys()
        for key, tensor in chunk.items():
            assert torch.equal(found[name][key], tensor), (name, key)


def assert_acts_alike(run: Path, other: Path) -> None:
    first, second = neurl.load(run), neurl.load(other)
    environments = first.environments(num_envs=3)
    observations, _ = environments.reset(seed=0)
    for step in range(6):
        actions = first.predict(observations, deterministic=step % 2 == 0)
        np.testing.assert_array_equal(
            actions, second.predict(observations, deterministic=step % 2 == 0)
        )
        assert environments.action_space.contains(actions)
        observations, *_ = environments.step(actions)
        mask = np.array([step == 2, False, step == 3])
        first.reset(mask)
        second.reset(mask)
    environments.close()


def assert_works(combination: Combination, directory: Path) -> None:
    """Train, interrupt half-way, go on in networks built anew, compare all bits, load, act."""
    config = load([*words(combination), f"run_dir={directory / 'run'}"])
    train(config, directory / "run")
    other = interrupted(directory / "run", directory / "other")
    train(config, other)
    assert_same(other, directory / "run")
    assert_acts_alike(other, directory / "run")


@pytest.mark.parametrize("combination", COMBINATIONS, ids=label)
def test_combination_trains_goes_on_and_comes_back(
    combination: Combination, tmp_path: Path
) -> None:
    assert_works(combination, tmp_path)


@pytest.mark.grid
def test_every_cell_of_the_support_table(cell: Combination, tmp_path: Path) -> None:
    assert_works(cell, tmp_path)


@pytest.mark.grid
@pytest.mark.parametrize("combination", COMBINATIONS, ids=label)
def test_every_combination_is_exported(combination: Combination, tmp_path: Path) -> None:
    """By its file alone, a policy acts as its run does; exporting refuses a larger difference."""
    run = tmp_path / "run"
    line = words(combination)
    if combination["memory"] in NORMALIZED:
        # Four units are almost equal at times, and normalising them enlarges rounding.
        line[line.index("memory.hidden_size=4")] = "memory.hidden_size=32"
    train(load([*line, f"run_dir={run}"]), run)
    asked = {"run": str(run), "checkpoint": "last", "directory": None, "trusted_packages": []}
    asked["tolerance"] = 1e-5
    format = "onnx"
    if combination["precision"] == "bf16":
        with pytest.raises(Unexportable, match=r"^format=onnx: precision=bf16 .*use format=torch$"):
            export_run(SimpleNamespace(format=format, **asked))
        format = "torch"
    assert export_run(SimpleNamespace(format=format, **asked)).difference <= 1e-5
