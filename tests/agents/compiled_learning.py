"""Learns with and without `compile=true` and prints the largest difference of the weights.

A process of its own: the annotations that tests execute cannot be traced. Whatever compiles anew
after the first rollout raises.

    python tests/agents/compiled_learning.py MEMORY [BACKEND]
"""

import functools
import sys

import torch

from conf.compose import load
from training.build import build_agent, build_collector, build_environments

ROLLOUTS = 4


def learn(memory: str, compile: bool) -> torch.Tensor:
    """Weights after a few rollouts of CartPole, whose resets fall differently in each."""
    config = load(
        [
            "device=cpu",
            f"memory={memory}",
            f"compile={str(compile).lower()}",
            "agent.rollout_length=16",
            "agent.num_minibatches=2",
            "agent.num_epochs=2",
            "env.num_envs=4",
            "optimizer.learning_rate=0.01",
        ]
    )
    environments = build_environments(config, num_envs=4)
    agent = build_agent(
        config,
        environments.single_observation_space,
        environments.single_action_space,
        num_envs=4,
    )
    collector = build_collector(config, environments)
    agent.learn(collector.collect(agent))
    with torch.compiler.set_stance("fail_on_recompile" if compile else "default"):
        for _ in range(ROLLOUTS - 1):
            agent.learn(collector.collect(agent))
    environments.close()
    return agent.optimizer.flat


def main(memory: str, backend: str | None = None) -> None:
    torch.set_num_threads(1)
    if backend is not None:
        original = torch.compile

        @functools.wraps(original)
        def compile_with(step, *, options, **kwargs):  # options are the usual backend's
            return original(step, backend=backend, **kwargs)

        torch.compile = compile_with
    print((learn(memory, compile=True) - learn(memory, compile=False)).abs().max().item())


if __name__ == "__main__":
    main(*sys.argv[1:])
