"""SheepRL's `ppo`, `ppo_recurrent` and `sac`, run by its own command line.

Its algorithms are one function each, from the configuration to the last checkpoint. Each calls a
`train` of its own module for the gradient steps of an iteration (`sac` for each gradient step): a
clock around that is the only change. With the presets of `sac`, target networks follow every second
gradient step.
"""

import os
import sys
from importlib import import_module
from tempfile import TemporaryDirectory
from typing import Any

from sheeprl import cli
from torch import nn

from benchmarks.peers.worker import Clock, run
from benchmarks.work import Criticising, Measurement, Throughput

NOTHING_BESIDE = [  # nothing recorded, written or tested
    "env.capture_video=false",
    "algo.run_test=false",
    "metric.log_level=0",
    "metric.disable_timer=true",
    "checkpoint.every=0",
    "checkpoint.save_last=false",
    "buffer.memmap=false",
    "model_manager.disabled=true",
    "fabric.accelerator=cpu",
]


def criticising(work: Criticising) -> list[str]:
    """Write the workload as SheepRL's overrides; the rest stays at SheepRL's presets."""
    return [
        "exp=sac",
        "env.id=Pendulum-v1",
        f"algo.per_rank_batch_size={work.batch_size}",
        f"buffer.size={work.buffer_size}",
        f"algo.learning_starts={work.learning_starts}",
        f"algo.replay_ratio={1 / work.steps_per_iteration}",
        f"algo.hidden_size={work.hidden_size}",
        *(
            f"algo.{part}.optimizer.lr={work.learning_rate}"
            for part in ("actor", "critic", "alpha")
        ),
    ]


def on_policy(work: Throughput) -> list[str]:
    """Write the workload as SheepRL's overrides; the rest stays at SheepRL's presets."""
    common = [
        f"algo.rollout_steps={work.rollout_length}",
        f"algo.update_epochs={work.num_epochs}",
        f"algo.optimizer.lr={work.learning_rate}",
        "algo.normalize_advantages=true",
        "algo.max_grad_norm=0.5",
        # No layer before the actor's and the critic's own, or before the memory.
        "algo.mlp_keys.encoder=[state]",
        "algo.encoder.mlp_layers=0",
        "algo.mlp_layers=2",
        f"algo.dense_units={work.hidden_size}",
        "algo.dense_act=torch.nn.Tanh",
        "algo.layer_norm=false",
    ]
    if not work.memory_size:
        batch_size = work.steps_per_iteration // work.num_minibatches
        return ["exp=ppo", f"algo.per_rank_batch_size={batch_size}", *common]
    return [
        "exp=ppo_recurrent",
        "env.mask_velocities=true",
        "algo.optimizer._target_=torch.optim.Adam",
        f"algo.rnn.lstm.hidden_size={work.memory_size}",
        f"algo.per_rank_sequence_length={work.sequence_length or work.rollout_length}",
        f"algo.per_rank_num_batches={work.num_minibatches}",
        *common,
    ]


def measure_throughput(
    work: Throughput | Criticising, *, iterations: int, warmup: int, seed: int
) -> Measurement:
    """Train for `warmup + iterations` rollouts, or gradient steps, and time the last ones."""
    total = (warmup + iterations) * work.steps_per_iteration
    if isinstance(work, Criticising):
        # The first gradient step comes with the last step before learning.
        name, words, total = "sac", criticising(work), total + work.learning_starts - 1
    else:
        name, words = "ppo_recurrent" if work.memory_size else "ppo", on_policy(work)
    algorithm: Any = import_module(f"sheeprl.algos.{name}.{name}")
    clock = Clock(counts=isinstance(work, Criticising))
    trained: list[nn.Module] = []
    timed = clock.around(algorithm.train)

    def train(fabric: Any, agent: nn.Module, *rest: Any) -> Any:
        trained[:] = [agent]
        return timed(fabric, agent, *rest)

    algorithm.train = train
    environments = ["env.sync_env=true", f"env.num_envs={work.num_envs}"]
    run_cli([*words, *environments, *NOTHING_BESIDE, f"algo.total_steps={total}", f"seed={seed}"])
    (agent,) = trained
    parameters = [each for each in agent.parameters() if each.requires_grad]  # not the targets'
    return clock.measurement(work, iterations=iterations, warmup=warmup, parameters=parameters)


def run_cli(words: list[str]) -> None:
    """Run SheepRL's command line in its own folder: it writes logs into the current one."""
    sys.argv[1:] = words
    before = os.getcwd()
    with TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            cli.run()
        finally:
            os.chdir(before)


if __name__ == "__main__":
    run("sheeprl", measure_throughput)
