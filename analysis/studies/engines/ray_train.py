"""One run of several ranks on a Ray cluster, whose nodes share a disk: Ray Train starts them.

Each rank is a process of its own, as torchrun starts it, beside the worker of Ray Train.
"""

import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

from analysis.studies.engines.engine import ROOT, die_with_parent, needed
from analysis.studies.engines.ray import connect
from training.runs.refusal import Refusal


def train_on_ray(options: Mapping[str, Any], words: Sequence[str]) -> None:
    """Train one run, whose command line these words are, with `engine.jobs` ranks.

    Args:
        options: of conf/engine/ray.yaml.

    Raises:
        Refusal: it cannot start there, or a rank has ended with an error.
    """
    if options["name"] != "ray" or not isinstance(options["jobs"], int):
        told = "a run of several processes is started by torchrun, or by engine=ray engine.jobs=2"
        raise Refusal(f"engine: {told}", 2)
    connect(options["address"], log_to_driver=True)
    train, torch = needed("ray.train", "ray"), needed("ray.train.torch", "ray")
    has_gpu, place = options["gpus_per_job"] > 0, os.getcwd()
    wants = {"CPU": options["cpus_per_job"]} | ({"GPU": options["gpus_per_job"]} if has_gpu else {})
    scaling = train.ScalingConfig(
        num_workers=options["jobs"], use_gpu=has_gpu, resources_per_worker=wants
    )
    with tempfile.TemporaryDirectory(prefix=".ray-", dir=place) as records:
        trainer = torch.TorchTrainer(
            be_a_rank,
            train_loop_config={"words": list(words), "place": place},
            torch_config=torch.TorchConfig(backend="gloo"),
            scaling_config=scaling,
            run_config=train.RunConfig(storage_path=records),
        )
        try:
            code = trainer.fit().return_value  # of the first rank, which ends with the others
        except train.TrainingFailedError as error:
            raise Refusal("engine=ray: a worker was lost; resume=RUN_DIR resumes", 1) from error
    if code:
        code = code if code > 0 else 128 - code  # of a signal
        raise Refusal(f"engine=ray: the first rank ended with code {code}, see above", code)


def be_a_rank(settings: dict[str, Any]) -> int:
    """Run train.py as one of the ranks, which meet at a port of the first one's machine.

    Returns:
        Its exit code, negative if a signal ended it: Ray tells errors in pages of tracebacks.
    """
    import torch
    from torch import distributed

    context = needed("ray.train", "ray").get_context()
    port = torch.zeros((), dtype=torch.int64)
    if context.get_world_rank() == 0:
        with socket.socket() as free:
            free.bind(("", 0))
            port.fill_(free.getsockname()[1])
    distributed.broadcast(port, 0)
    place = {
        "RANK": context.get_world_rank(),
        "WORLD_SIZE": context.get_world_size(),
        "LOCAL_RANK": context.get_local_rank(),
        "LOCAL_WORLD_SIZE": context.get_local_world_size(),
        "MASTER_PORT": int(port),
    }
    return subprocess.call(
        [sys.executable, "-u", str(ROOT / "train.py"), *settings["words"]],
        cwd=settings["place"],
        env={**os.environ, **{name: str(number) for name, number in place.items()}},
        preexec_fn=die_with_parent,
    )
