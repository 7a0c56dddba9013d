"""Trains, evaluates and predicts in turn, and counts what is alive in between."""

import ctypes
import gc
import itertools
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from tests.playing import evaluate
from training.evaluation.policy import Policy
from training.stream.loop import iterations

HEADS = ("mse", "huber", "two_hot", "hl_gauss")
AGENTS: dict[str, tuple[str, ...]] = {
    "ppo": HEADS,
    "a2c": HEADS,
    "dqn": (*HEADS, "c51", "quantile"),
    "pqn": HEADS,
}
MEMORIES = ("none", "rnn", "gru", "lstm", "mingru", "lru", "mlstm", "gtrxl")
ALL = [
    (agent, memory, head)
    for agent, heads in AGENTS.items()
    for memory, head in itertools.product(MEMORIES, heads)
]
"""Every agent with every memory and every value head that it takes."""
FEW = [
    *((agent, "none", "mse") for agent in AGENTS),
    *(("ppo", memory, HEADS[n % 4]) for n, memory in enumerate(MEMORIES)),
    *(("dqn", memory, AGENTS["dqn"][n % 6]) for n, memory in enumerate(MEMORIES)),
]
"""Every agent, every memory and every value head."""

_ROLLOUTS = ["env.num_envs=2", "agent.rollout_length=32"]
_EPOCHS = [*_ROLLOUTS, "agent.num_epochs=1", "agent.num_minibatches=1"]
_SMALL = {
    "ppo": _EPOCHS,
    "a2c": _ROLLOUTS,
    "pqn": _EPOCHS,
    "dqn": [
        "env.num_envs=1",
        "agent.train_frequency=32",
        "agent.replay_ratio=0.0625",  # two gradient steps
        "agent.learning_starts=64",
        "agent.batch_size=8",
        "agent.buffer_size=256",
        "agent.sequence_length=8",
        "agent.target_update_interval=8",
    ],
}


def words(agent: str, memory: str, head: str) -> list[str]:
    """Return the overrides of a small run."""
    given = [f"agent={agent}", f"memory={memory}", f"value_head={head}", *_SMALL[agent]]
    given += [] if memory == "none" else ["memory.hidden_size=16"]
    return [*given, "extractor.hidden_sizes=[16]", "device=cpu", "num_threads=1"]


class Work:
    """What a user does with an agent, again and again."""

    def __init__(self, run: SimpleNamespace, other_environments: Any) -> None:
        self._run, self._others = run, other_environments
        self._policy = Policy(run.config, run.agent)
        self._observation = np.zeros(run.agent.actor.inputs.observation_shape, np.float32)
        self._seeds = list(range(other_environments.num_envs))

    def train(self, rounds: int) -> None:
        """Collect and learn so many times."""
        endless = iterations(
            self._run.agent,
            self._run.collector,
            total_env_steps=10**9,
            is_watched=lambda steps: False,
        )
        for _ in itertools.islice(endless, rounds):
            pass

    def predict(self, calls: int) -> None:
        """Call the policy with one observation."""
        for _ in range(calls):
            self._policy.predict(self._observation)

    def evaluate(self, times: int) -> None:
        """Play two episodes, of at most 20 steps."""
        for _ in range(times):
            evaluate(
                self._run.agent,
                self._others,
                episodes=2,
                seeds=self._seeds,
                generator=np.random.default_rng(0),
                deterministic=True,
                max_episode_steps=20,
            )

    def phases(self) -> Iterator[tuple[str, Callable[[int], None], int]]:
        """Name each kind of work, with the repetitions in which the policy acts 400 times."""
        yield "train", self.train, 13
        yield "predict", self.predict, 400
        yield "evaluate", self.evaluate, 20


class _Allocated(ctypes.Structure):
    """`struct mallinfo2` of glibc's <malloc.h>."""

    _fields_ = [
        (f"unread_{index}" if name is None else name, ctypes.c_size_t)
        for index, name in enumerate([*[None] * 4, "mapped", None, None, "used", None, None])
    ]


def alive() -> dict[str, int]:
    """Count tensors, Python's memory blocks (arrays are some) and bytes taken from the C library.

    Where the C library is not glibc, its bytes are left out.
    """
    gc.collect()
    counts = {
        "tensors": sum(issubclass(type(each), torch.Tensor) for each in gc.get_objects()),
        "blocks": sys.getallocatedblocks(),
    }
    library = ctypes.CDLL(None)
    if hasattr(library, "mallinfo2"):
        library.mallinfo2.restype = _Allocated
        found = library.mallinfo2()
        counts["bytes"] = found.used + found.mapped
    return counts


def resident() -> float:
    """Return the resident memory of this process in MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 1e6
