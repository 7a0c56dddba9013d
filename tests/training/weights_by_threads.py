"""Prints a hash of the weights that a build, a fit, a run and pre-training come to: `DIRECTORY`."""

import hashlib
import sys
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

import neurl
from conf.composing.command_line import load
from training.building.environments import build_environments
from training.runs.session import train_run
from training.saving.checkpoint import load_checkpoint

WORDS = [
    "device=cpu",
    "env.num_envs=2",
    "agent.rollout_length=16",
    "agent.num_minibatches=2",
    "agent.num_epochs=1",
    "extractor.hidden_sizes=[64, 64]",  # 64 x 64: the smallest whose QR depends on threads
]
PRETRAINED = [
    *WORDS[:-1],
    "extractor=autoencoder",
    "extractor.vector_encoder.hidden_sizes=[64, 64]",
    "extractor.pretrain.frames=64",
    "extractor.pretrain.batch_size=16",
    "extractor.pretrain.epochs=1",
    "tracking=none",
    "total_env_steps=64",
    "evaluation.interval=0",
    "evaluation.num_envs=1",
    "evaluation.final_episodes=1",
]


def tell(name: str, tensors: Mapping[str, Tensor]) -> None:
    data = b"".join(tensors[key].contiguous().numpy().tobytes() for key in sorted(tensors))
    print("##", name, hashlib.sha256(data).hexdigest()[:16])


def main(directory: Path) -> None:
    count = torch.get_num_threads()
    policy = neurl.build(*WORDS)
    tell("built", policy.agent.state_dict())
    neurl.build(*WORDS[:-1], "extractor.hidden_sizes=[800, 800]")  # has more threads
    neurl.fit(policy, env_steps=64)
    tell("fitted", policy.agent.state_dict())
    torch.set_num_threads(count)  # as the process began
    config = load([*PRETRAINED, f"run_dir={directory}/run"])
    train_run(config, build_environments(config, num_envs=2))
    tell("trained", load_checkpoint(directory / "run" / "checkpoints" / "last")[0])
    before = directory / "run" / "pretraining" / "checkpoints" / "best"
    tell("pre-trained", load_checkpoint(before)[0])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
