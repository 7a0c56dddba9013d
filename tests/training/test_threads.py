"""A seed is a run, whatever number of threads the process begins with."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import neurl
from conf.composing.command_line import load
from tests.training import weights_by_threads
from training.building.build import build_agent
from training.building.environments import build_environments

SCRIPT = Path(__file__).with_name("weights_by_threads.py")
ROOT = SCRIPT.parents[2]


@pytest.fixture
def restored() -> Iterator[None]:
    count = torch.get_num_threads()
    yield
    torch.set_num_threads(count)


@pytest.fixture
def several(restored) -> None:
    """The process begins with several threads, as on a machine of several cores."""
    torch.set_num_threads(4)


def test_the_same_seed_learns_the_same_weights_with_any_omp_num_threads(
    tmp_path, capsys, restored
) -> None:
    """Here with one, and in a process of its own, which reads it as it starts, with four."""
    environment = {name: text for name, text in os.environ.items() if "THREADS" not in name}
    environment |= {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "4"}
    command = [sys.executable, str(SCRIPT), str(tmp_path / "4")]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environment
    ) as process:
        weights_by_threads.main(tmp_path / "1")
        outputs = [capsys.readouterr().out, process.communicate()[0]]
    assert process.returncode == 0
    here, there = ([x for x in text.splitlines() if x.startswith("##")] for text in outputs)
    assert [line.split()[1] for line in here] == ["built", "fitted", "trained", "pre-trained"]
    assert there == here


def test_weights_are_drawn_alike_on_every_number_of_threads(several) -> None:
    drawn = []
    for count in (1, 4):
        torch.set_num_threads(count)
        policy = neurl.build("device=cpu", "extractor.hidden_sizes=[64, 64]")
        drawn.append(policy.agent.state_dict())
        assert torch.get_num_threads() == 1  # enough for small networks
    assert all(torch.equal(tensor, drawn[1][name]) for name, tensor in drawn[0].items())


def test_a_decoder_is_drawn_alike_on_every_number_of_threads(several) -> None:
    network = "extractor.vector_encoder.hidden_sizes=[64, 64]"
    config = load(["device=cpu", "agent=autoencoding", network])
    environments = build_environments(config, num_envs=1)
    spaces = environments.single_observation_space, environments.single_action_space
    environments.close()
    drawn = []
    for count in (1, 4):
        torch.set_num_threads(count)
        agent = build_agent(config, *spaces, num_envs=1)
        assert torch.get_num_threads() == count  # drawing leaves it as it was
        drawn.append(agent.decoder.state_dict())
    assert drawn[0].keys() == drawn[1].keys()
    assert all(torch.equal(tensor, drawn[1][name]) for name, tensor in drawn[0].items())


@pytest.mark.parametrize("given", [{}, {"GOMP_SPINCOUNT": "7", "THP_MEM_ALLOC_ENABLE": "0"}])
def test_torch_is_configured_before_it_is_loaded(given, monkeypatch: pytest.MonkeyPatch) -> None:
    """It reads the variables once, as it is loaded."""
    usual = {"GOMP_SPINCOUNT": "2000", "THP_MEM_ALLOC_ENABLE": "1"}
    for name in usual:
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    told = f"*map(os.environ.get, {list(usual)}), 'torch' in sys.modules"
    code = f"import os, sys, neurl; print({told})"
    printed = subprocess.check_output([sys.executable, "-c", code], text=True, cwd=ROOT)
    assert printed.split() == [*(usual | given).values(), "False"]
