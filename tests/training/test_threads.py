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
from training.building.build import build_agent
from training.building.environments import build_environments
from training.pretraining.reconstruction import Reconstruction

SCRIPT = Path(__file__).with_name("weights_by_threads.py")
ROOT = SCRIPT.parents[2]
SETTINGS = ("1", "2", "4")


@pytest.fixture
def several() -> Iterator[None]:
    """The process begins with several threads, as on a machine of several cores."""
    count = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(count)


def test_the_same_seed_learns_the_same_weights_with_any_omp_num_threads(tmp_path) -> None:
    processes = []
    for setting in SETTINGS:
        environment = {name: text for name, text in os.environ.items() if "THREADS" not in name}
        environment |= {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": setting}
        command = [sys.executable, str(SCRIPT), str(tmp_path / setting)]
        processes.append(
            subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environment)
        )
    told = []
    for process in processes:
        output, _ = process.communicate()
        assert process.returncode == 0
        told.append([line for line in output.splitlines() if line.startswith("##")])
    assert [line.split()[1] for line in told[0]] == ["built", "fitted", "trained", "pre-trained"]
    assert told[1:] == told[:1] * 2


def test_weights_are_drawn_alike_on_every_number_of_threads(several) -> None:
    drawn = []
    for count in (1, 4):
        torch.set_num_threads(count)
        policy = neurl.build("device=cpu", "extractor.hidden_sizes=[64, 64]")
        drawn.append(policy.agent.state_dict())
        assert torch.get_num_threads() == 1  # enough for small networks
    assert all(torch.equal(tensor, drawn[1][name]) for name, tensor in drawn[0].items())


def test_a_decoder_is_drawn_alike_on_every_number_of_threads(several) -> None:
    config = load(
        [
            "device=cpu",
            "extractor=autoencoder",
            "extractor.vector_encoder.hidden_sizes=[64, 64]",
            "extractor.pretrain.frames=64",
            "extractor.pretrain.batch_size=16",
        ]
    )
    environments = build_environments(config, num_envs=1)
    spaces = environments.single_observation_space, environments.single_action_space
    environments.close()
    drawn = []
    for count in (1, 4):
        torch.set_num_threads(count)
        task = Reconstruction(config, build_agent(config, *spaces, num_envs=1))
        assert torch.get_num_threads() == count  # drawing leaves it as it was
        drawn.append(task.weights())
    assert drawn[0].keys() == drawn[1].keys()
    assert all(torch.equal(tensor, drawn[1][name]) for name, tensor in drawn[0].items())
