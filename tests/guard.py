"""Guard table: the weights that short trainings end with, bit for bit.

    python -m tests.guard                     # compare with tests/guard.json
    python -m tests.guard --against COMMIT    # compare with what another commit computes here
    python -m tests.guard --write             # write tests/guard.json anew
    python -m tests.guard ppo-gru dqn-none    # some rows only

A move or a refactoring must leave every row as it is. Where arithmetic is meant to change, the
commit says which rows change and why, and writes the table anew.

Other processors and other versions sum in another order, so the table is only compared where it
was written; anywhere else `--against` computes both sides.
"""

import argparse
import hashlib
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

import neurl
from tests.grid import Anything

ROOT = Path(__file__).resolve().parents[1]
TABLE = Path(__file__).with_name("guard.json")
Row = dict[str, str]

_COMMON = ["seed=3", "device=cpu", "num_threads=1"]
_ROLLOUT = ["env.num_envs=4", "agent.rollout_length=32"]
_EPOCHS = [*_ROLLOUT, "agent.num_minibatches=2", "agent.num_epochs=2"]
_OPTIONS = ["optimizer.schedule=linear", "normalize_observations=true"]
PPO = ["agent=ppo", *_EPOCHS]
A2C = ["agent=a2c", "env.num_envs=4", "agent.rollout_length=16"]
PQN = ["agent=pqn", *_EPOCHS]
DQN = [
    "agent=dqn",
    "env.num_envs=2",
    "agent.learning_starts=128",
    "agent.buffer_size=512",
    "agent.batch_size=16",
    "agent.sequence_length=8",
    "agent.train_frequency=8",
]
CRITICS = [*DQN[1:], "policy_head.hidden_sizes=[32]", "value_head.hidden_sizes=[32]"]
COPIED = [*DQN, "agent.target_update_interval=64"]
_SMALL_CNN = ["extractor.filters=[4,8]", "extractor.hidden_sizes=[16]"]

CARTPOLE = "env.id=CartPole-v1"
PENDULUM = "env.id=Pendulum-v1"
CHAIN = "env=memory_length"

ON_IDS: dict[str, list[str]] = {
    # agents x memories
    **{
        f"{name}-{memory}": [*words, CARTPOLE, f"memory={memory}"]
        for name, words in (("ppo", PPO), ("a2c", A2C), ("pqn", PQN), ("dqn", COPIED))
        for memory in ("none", "rnn", "gru", "lstm")
    },
    # options of memories and backbones
    "ppo-lstm-two-layers-shared": [*PPO, CHAIN, "memory=lstm", "memory.num_layers=2",
                                   "share_backbone=true", "memory.sequence_length=8"],
    "ppo-rnn-relu": [*PPO, CHAIN, "memory=rnn", "memory.nonlinearity=relu"],
    "ppo-shared-previous-inputs": [*PPO, CARTPOLE, "memory=gru", "share_backbone=true",
                                   "env.previous_action=true", "env.previous_reward=true"],
    # value heads
    "ppo-huber": [*PPO, CARTPOLE, "value_head=huber"],
    "ppo-two-hot": [*PPO, CARTPOLE, "value_head=two_hot", "agent.discount=0.9"],
    "a2c-hl-gauss": [*A2C, CARTPOLE, "value_head=hl_gauss", "agent.discount=0.9"],
    "pqn-hl-gauss": [*PQN, CARTPOLE, "value_head=hl_gauss", "agent.discount=0.9"],
    "dqn-c51": [*COPIED, CARTPOLE, "value_head=c51", "value_head.support=[0,50]"],
    "dqn-c51-learnt-support": [*COPIED, CARTPOLE, "value_head=c51"],
    "dqn-quantile": [*COPIED, CARTPOLE, "value_head=quantile"],
    "dqn-two-hot": [*COPIED, CARTPOLE, "value_head=two_hot"],
    # parts of DQN
    "dqn-double-dueling-n-step": [*COPIED, CARTPOLE, "agent.double_q=true", "agent.dueling=true",
                                  "agent.n_step=3"],
    "dqn-prioritized-noisy": [*COPIED, CARTPOLE, "agent.prioritized=true", "agent.noisy=true"],
    "dqn-polyak": [*DQN, CARTPOLE, "agent.polyak_rate=0.05"],
    "dqn-recurrent-all": [*COPIED, CHAIN, "memory=gru", "agent.prioritized=true", "agent.burn_in=4",
                          "agent.n_step=3", "agent.double_q=true", "agent.value_rescaling=true"],
    "dqn-zero-states": [*COPIED, CHAIN, "memory=lstm", "agent.stored_state=false"],
    # options of PPO, optimizers, normalisation, precision
    "ppo-options": [*PPO, CARTPOLE, *_OPTIONS, "agent.target_kl=0.01", "agent.value_clip_range=0.2",
                    "normalize_rewards=true", "agent.entropy_coefficient=0.01"],
    "a2c-rmsprop-tf": [*A2C, CARTPOLE, "optimizer=rmsprop_tf", *_OPTIONS],
    "ppo-groups": [*PPO, CARTPOLE, "memory=gru", "optimizer=adamw",
                   "+optimizer.groups.memory.learning_rate=1e-4"],
    "pqn-lambda": [*PQN, CARTPOLE, "memory=lstm", "normalize_rewards=true"],
    "ppo-bf16": [*PPO, CARTPOLE, "precision=bf16"],
    "dqn-bf16": [*COPIED, CARTPOLE, "precision=bf16"],
    # continuous actions
    "ppo-pendulum": [*PPO, PENDULUM, "normalize_rewards=true", "agent.discount=0.9"],
    "a2c-pendulum-gru": [*A2C, PENDULUM, "memory=gru"],
    "sac": ["agent=sac", *CRITICS, PENDULUM],
    "sac-discrete-gru": ["agent=sac", *CRITICS, CARTPOLE, "memory=gru"],
    "sac-redq": ["agent=sac", *CRITICS, PENDULUM, "agent.num_critics=4", "agent.critic_subset=2",
                 "agent.prioritized=true", "agent.n_step=3", "value_head=hl_gauss"],
    "sac-crossq": ["agent=sac", *CRITICS, PENDULUM, "agent.target_networks=false",
                   "value_head.normalization=batch_renorm"],
    "td3": ["agent=td3", *CRITICS, PENDULUM],
    "td3-lstm-burn-in": ["agent=td3", *CRITICS, PENDULUM, "memory=lstm", "agent.burn_in=4"],
    "ddpg-gru-shared": ["agent=ddpg", *CRITICS, PENDULUM, "memory=gru", "share_backbone=true"],
    "ppo-masked": [*PPO, CARTPOLE, "pomdp=mask_velocity", "memory=lstm"],
}  # fmt: skip
"""Rows of environments that have ids."""

ON_SPACES: dict[str, tuple[str, str, list[str]]] = {
    "ppo-cnn-box": ("image hwc", "box", [*PPO, "extractor=cnn", *_SMALL_CNN]),
    "ppo-cnn-reconstruction": ("image chw", "bits", [*PPO, "extractor=cnn", *_SMALL_CNN,
                               "share_backbone=true", "auxiliary=reconstruction"]),
    "a2c-impala-choices": ("image hwc", "choices", [*A2C, "extractor=impala_cnn", *_SMALL_CNN]),
    "ppo-dict-nested": ("nested", "discrete", [*PPO, "extractor=dict", "memory=gru"]),
    "dqn-dict-camera": ("camera", "choices", [*COPIED, "extractor=dict",
                        "+extractor@extractor.keys.camera=cnn",
                        "extractor.keys.camera.filters=[4]"]),
    "dqn-stack": ("stack", "discrete", [*COPIED, "extractor=cnn", *_SMALL_CNN,
                  "env.frame_stack=3"]),
    "dqn-next-latent": ("codes grid", "bits", [*COPIED, "extractor=cnn", *_SMALL_CNN, "memory=gru",
                        "auxiliary=next_latent"]),
    "pqn-vae": ("truth grid", "discrete", [*PQN, "extractor=cnn", *_SMALL_CNN, "auxiliary=vae"]),
    "dqn-sac-ae": ("image hwc", "discrete", [*COPIED, "extractor=cnn", *_SMALL_CNN,
                   "auxiliary=sac_ae"]),
    "ppo-codes": ("choices", "choices", [*PPO]),
}  # fmt: skip
"""Rows by spaces of observations and actions."""

IN_RUNS: dict[str, list[str]] = {
    "run-ppo": [*PPO, CARTPOLE, "memory=gru"],
    "run-pretrained": [*PPO, CARTPOLE, "extractor=autoencoder", "extractor.pretrain.frames=512",
                       "extractor.pretrain.epochs=2", "extractor.freeze=true"],
}  # fmt: skip
"""Rows of `python train.py`, evaluations included."""

NAMES = [*ON_IDS, *ON_SPACES, *IN_RUNS]


def computed(name: str) -> Row:
    """Train one row; return a digest of its weights, and its mean return."""
    if name in IN_RUNS:
        return _of_run(IN_RUNS[name])
    make = _maker(name)
    policy = neurl.build(*_words(name), *_COMMON, env=make)
    score = neurl.fit(policy, make, env_steps=1_024)
    return {"weights": _digest(policy), "return": repr(score)}


def _words(name: str) -> list[str]:
    return ON_IDS[name] if name in ON_IDS else ON_SPACES[name][2]


def _maker(name: str) -> Callable[[], Any] | None:
    if name in ON_IDS:
        return None
    observations, actions, _ = ON_SPACES[name]
    return partial(Anything, observations=observations, actions=actions, size=9)


def _of_run(words: Sequence[str]) -> Row:
    with tempfile.TemporaryDirectory() as directory:
        run = f"{directory}/run"
        own = ["total_env_steps=1_000", "evaluation.interval=500", "evaluation.final_episodes=5"]
        command = [sys.executable, "train.py", *words, *_COMMON, *own, f"run_dir={run}"]
        subprocess.run(
            [*command, "tracking.progress=false"], cwd=ROOT, check=True, stdout=subprocess.DEVNULL
        )
        summary = json.loads(Path(run, "summary.json").read_text())
        score = repr(summary["evaluation"]["return_mean"])
        return {"weights": _digest(neurl.load(run)), "return": score}


def _digest(policy: Any) -> str:
    """Digest the weights, whatever their names and order."""
    parts = policy.agent.parts().values()
    arrays = {id(each): each.detach().numpy() for part in parts for each in part}
    digests = sorted(hashlib.sha256(array.tobytes()).hexdigest() for array in arrays.values())
    return hashlib.sha256("".join(digests).encode()).hexdigest()[:16]


def machine() -> dict[str, str]:
    """Describe what sums are computed with."""
    model = platform.processor()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((line.partition(": ")[2] for line in lines if "model name" in line), model)
    return {
        "processor": model,
        "capability": torch.backends.cpu.get_cpu_capability(),
        "blas": os.environ.get("OPENBLAS_CORETYPE", ""),
        "torch": torch.__version__,
        "numpy": np.__version__,
    }


def table(names: Sequence[str]) -> dict[str, Row]:
    """Compute rows, one after another."""
    rows = {}
    for name in names:
        torch.set_num_threads(1)
        rows[name] = computed(name)
        print(f"{name:30} {rows[name]['weights']}  {rows[name]['return']}", flush=True)
    return rows


def of_commit(commit: str, names: Sequence[str]) -> dict[str, Row]:
    """Compute rows with the code, and the guard, of another commit."""
    with tempfile.TemporaryDirectory() as directory:
        checkout, path = f"{directory}/checkout", f"{directory}/guard.json"
        git = ["git", "-C", str(ROOT), "worktree"]
        subprocess.run([*git, "add", "--quiet", "--detach", checkout, commit], check=True)
        try:
            # Rows are written into a table, which is empty.
            Path(path).write_text(json.dumps({"machine": machine(), "rows": {}}))
            command = [sys.executable, "-m", "tests.guard", "--write", "--table", path, *names]
            subprocess.run(command, cwd=checkout, check=True, stdout=subprocess.DEVNULL)
        finally:
            subprocess.run([*git, "remove", "--force", checkout], check=True)
        rows: dict[str, Row] = json.loads(Path(path).read_text())["rows"]
        return rows


def stored(path: Path, names: Sequence[str]) -> dict[str, Row]:
    """Read rows of the table; exit where it was written on another machine."""
    content = json.loads(path.read_text())
    if content["machine"] != machine():
        print(
            f"The table was written on {content['machine']}, this is {machine()}: compare with "
            "--against COMMIT",
            file=sys.stderr,
        )
        sys.exit(2)
    return {name: row for name, row in content["rows"].items() if name in names}


def main() -> None:
    """Compare, or write."""
    parser = argparse.ArgumentParser(description="Compare the weights of short trainings.")
    parser.add_argument("names", nargs="*", metavar="ROW", help="rows (default: all)")
    parser.add_argument("--against", metavar="COMMIT", help="compute what to compare with")
    parser.add_argument("--write", action="store_true", help="write the table anew")
    parser.add_argument("--table", metavar="FILE", default=TABLE, type=Path, help="where it is")
    given = parser.parse_args()
    names = given.names or NAMES
    if unknown := [name for name in names if name not in NAMES]:
        parser.error(f"no such row: {', '.join(unknown)}")
    if given.write:
        kept = {} if names == NAMES else stored(given.table, NAMES)
        content = {"machine": machine(), "rows": kept | table(names)}
        given.table.write_text(json.dumps(content, indent=1) + "\n")
        return
    before = of_commit(given.against, names) if given.against else stored(given.table, names)
    after = table(names)
    changed = [name for name in names if before.get(name) != after[name]]
    print(f"{len(names) - len(changed)} of {len(names)} rows are equal", end="")
    print(f"; others: {', '.join(changed)}" if changed else "")
    sys.exit(1 if changed else 0)


if __name__ == "__main__":
    main()
