"""Runs two ranks, this process and one forked from it: `two_ranks.py [words of train.py]`.

With words they train; the exit code is the larger one. Without, each learns from its half of the
data and prints, as JSON by case, how far its weights are from those of one process that learns from
all of it, and whether the ranks' weights are the same bits.
"""

import json
import os
import runpy
import socket
import sys
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from omegaconf import DictConfig

from agents.agent import Agent
from agents.trajectory import Trajectory
from conf.composing.command_line import load
from networks import ranks
from networks.normalization import RunningNormalization
from training.building.build import build_agent

SIZE, LENGTH, NUMBERS = 8, 16, 3
WHOLE = ["agent.num_minibatches=1", "agent.num_epochs=2", f"agent.rollout_length={LENGTH}"]
STATISTICS = ["normalize_observations=true", "normalize_rewards=true"]
COMMON = [
    "device=cpu",
    f"env.num_envs={SIZE}",
    "extractor.hidden_sizes=[16]",
    "optimizer=sgd",  # Adam makes much of rounding errors
    "optimizer.learning_rate=0.1",
]
EXACT = ("loss/", "value/mean", "value/explained", "policy/", "gradient_norm/", "update/")
CASES: dict[str, list[str]] = {
    "ppo": [*WHOLE, "agent.target_kl=10.0", "agent.entropy_coefficient=0.01", *STATISTICS],
    "ppo gru two_hot": [*WHOLE, *STATISTICS, "memory=gru", "value_head=two_hot"],
    "ppo next_latent": [*WHOLE, "auxiliary=next_latent", "share_backbone=true"],
    "a2c": ["agent=a2c", f"agent.rollout_length={LENGTH}", "agent.normalize_advantages=true"],
    "pqn": ["agent=pqn", *WHOLE, "normalize_rewards=true"],
}


def stream(seed: int) -> Trajectory:
    """Draw a rollout of `SIZE` environments; half of the first rank's steps only reset."""
    draw = np.random.default_rng(seed)
    ended = draw.random((LENGTH, SIZE)) < np.where(np.arange(SIZE) < SIZE // 2, 0.4, 0.05)
    is_first = np.concatenate([np.ones((1, SIZE), bool), np.zeros((LENGTH, SIZE), bool)])
    for step in range(1, LENGTH):
        ended[step] &= ~ended[step - 1]
        is_first[step + 1] = ended[step - 1]
    cut = ended & (draw.random(ended.shape) < 0.5)
    observations = draw.normal(2.0, 3.0, (LENGTH + 1, SIZE, NUMBERS)).astype(np.float32)
    arrays = {
        "observations": observations,
        "is_first": is_first,
        "actions": draw.integers(0, 2, (LENGTH, SIZE)),
        "rewards": draw.normal(size=(LENGTH, SIZE)).astype(np.float32),
        "terminated": ended & ~cut,
        "truncated": cut,
    }
    tensors: dict[str, Any] = {name: torch.from_numpy(each) for name, each in arrays.items()}
    return Trajectory(**tensors, state=torch.zeros(SIZE, 0))


def own(trajectory: Trajectory) -> Trajectory:
    """Return this rank's environments."""
    size = SIZE // ranks.size()
    where = slice(ranks.rank() * size, (ranks.rank() + 1) * size)
    shares = {
        name: part[where] if name == "state" else part[:, where]
        for name, part in vars(trajectory).items()
        if isinstance(part, torch.Tensor)
    }
    return replace(trajectory, **shares)


def learnt(config: DictConfig) -> tuple[Agent, dict[str, torch.Tensor]]:
    """Build an agent and learn from two rollouts, or from this rank's part of them."""
    box = spaces.Box(-100, 100, (NUMBERS,))
    agent = build_agent(config, box, spaces.Discrete(2), num_envs=SIZE // ranks.size())
    for number in range(2):
        trajectory = own(stream(number))
        state = torch.from_numpy(agent.initial_state(SIZE // ranks.size()))
        agent.update_progress(LENGTH * SIZE * number, total_env_steps=1000)
        metrics = agent.learn(replace(trajectory, state=state))
    return agent, metrics


def is_shared(tensor: torch.Tensor) -> bool:
    """Tell whether all ranks hold the same bits."""
    return torch.equal(ranks.largest(tensor), tensor) and torch.equal(
        ranks.largest(-tensor), -tensor
    )


def difference(mine: dict[str, torch.Tensor], others: dict[str, torch.Tensor]) -> float:
    """Return the largest one."""
    numbers = {k: v for k, v in others.items() if v.shape == mine[k].shape and v.numel()}
    return max(float((v.double() - mine[k].double()).abs().max()) for k, v in numbers.items())


def compared(alone: Agent, metrics: dict[str, torch.Tensor], config: DictConfig) -> dict[str, Any]:
    """Compare what one process has come to with what the ranks come to."""
    shared, found = learnt(config)
    mine, others = shared.state_dict(), alone.state_dict()
    told = [tag for tag in metrics if tag.startswith(EXACT)]
    return {
        "distance": difference(mine, others),
        "is_shared": all(is_shared(part) for parts in shared.parts().values() for part in parts),
        "tags": len(told),
        "metrics": difference({k: found[k] for k in told}, {k: metrics[k] for k in told}),
    }


def merged(normalization: RunningNormalization) -> RunningNormalization:
    """Merge two batches for each rank, or those of both; one is empty."""
    draw = np.random.default_rng(0)
    batches = [torch.from_numpy(draw.normal(3 * n, 1 + n, (5 * n, 2))) for n in range(4)]
    for pair in (batches[:2], batches[2:]):
        normalization.update(torch.cat(pair) if ranks.size() == 1 else pair[ranks.rank()])
    return normalization


def compare(cases: dict[str, DictConfig]) -> None:
    """Learn alone, then as a rank."""
    torch.set_num_threads(1)
    alone = {name: learnt(config) for name, config in cases.items()}
    whole = merged(RunningNormalization((2,)))
    with ranks.joined("gloo"):
        found = {name: compared(*alone[name], config) for name, config in cases.items()}
        statistics = merged(RunningNormalization((2,))).state_dict()
        found["statistics"] = {"distance": difference(statistics, whole.state_dict())}
        found["text"] = {"is_shared": ranks.text_of_first("from the first") == "from the first"}
        found["rank"] = {"is": ranks.rank(), "sum": ranks.total(ranks.rank() + 1)}
    sys.stdout.write(f"{json.dumps(found)}\n")  # at once: the other process writes too


def exit_code(work: Callable[[], Any]) -> int:
    """Return what a process that does this would exit with."""
    try:
        work()
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
            return 1
        return end.code or 0
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def as_two(work: Callable[[], Any]) -> int:
    """Do this in two processes, which meet at a free port; return the larger exit code."""
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        port = place.getsockname()[1]
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2"}
    child = os.fork()
    os.environ["RANK"] = "0" if child else "1"
    code = exit_code(work)
    sys.stdout.flush()
    sys.stderr.flush()
    if not child:
        os._exit(code)
    return max(code, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))


if __name__ == "__main__":
    if len(sys.argv) == 1:
        cases = {name: load([*COMMON, *words]) for name, words in CASES.items()}
        torch.optim.SGD([torch.zeros(1)], lr=0.1)  # the first one loads for a second
        sys.exit(as_two(lambda: compare(cases)))
    sys.argv[0] = str(Path(__file__).resolve().parents[2] / "train.py")
    sys.exit(as_two(lambda: runpy.run_path(sys.argv[0], run_name="__main__")))
