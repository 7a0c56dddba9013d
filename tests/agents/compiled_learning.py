"""Learns with and without `compile=true` and prints the largest difference of the weights.

A process of its own: the annotations that tests execute cannot be traced. Whatever compiles anew
after the first rollout raises.

    python tests/agents/compiled_learning.py MEMORY [BACKEND [AGENT,AGENT... [named]]]

AGENT: its name, and further words of a command line after spaces. BACKEND: "" for the usual one.
named: the gradient steps read the observation as a dictionary of its parts. The environment is
CartPole, or what the words say, as `env.id=test/Camera-v0`, which shows images.
"""

import dataclasses
import functools
import sys

import torch
from gymnasium.envs.registration import register
from torch import nn

from conf.composing.command_line import load
from training.building.build import build_agent, build_collector, build_environments
from training.tracking.telemetry import look_at

ROLLOUTS = 4


OF_EPOCHS = ["agent.num_minibatches=2", "agent.num_epochs=2"]


class Joined(nn.Module):
    """Reads the parts of an observation side by side, or all of it at once."""

    def forward(self, observations: torch.Tensor | dict[str, torch.Tensor]) -> torch.Tensor:
        if isinstance(observations, dict):
            return torch.cat(list(observations.values()), dim=-1)
        return observations


def learn(memory: str, agent_name: str, *, named: bool, compile: bool) -> torch.Tensor:
    """Weights after a few rollouts, whose resets fall differently in each."""
    agent_name, *words = agent_name.split()
    config = load(
        [
            "device=cpu",
            f"memory={memory}",
            f"agent={agent_name}",
            f"compile={'force' if compile else 'false'}",
            "agent.rollout_length=16",
            *(OF_EPOCHS if agent_name in ("ppo", "pqn") else []),
            "env.num_envs=4",
            "optimizer.learning_rate=0.01",
            *words,
        ]
    )
    environments = build_environments(config, num_envs=4)
    agent = build_agent(
        config,
        environments.single_observation_space,
        environments.single_action_space,
        num_envs=4,
    )
    if named:
        agent.actor.inputs = agent.critic.inputs = Joined()
    collector = build_collector(config, environments)

    def learn_once() -> None:
        trajectory = collector.collect(agent)
        if named:
            position, velocity = trajectory.observations.split([1, 3], dim=-1)
            parts = {"position": position, "the/rest": velocity}
            trajectory = dataclasses.replace(trajectory, observations=parts)
        agent.learn(trajectory)
        look_at(agent, trajectory)  # must not make the step be compiled anew

    learn_once()
    with torch.compiler.set_stance("fail_on_recompile" if compile else "default"):
        for _ in range(ROLLOUTS - 1):
            learn_once()
    environments.close()
    return agent.optimizer.flat


def main(memory: str, backend: str = "", agents: str = "ppo", named: str = "") -> None:
    torch.set_num_threads(1)
    register("test/Camera-v0", entry_point="tests.training.cameras:Camera")
    if backend:
        original = torch.compile

        @functools.wraps(original)
        def compile_with(step, *, options, **kwargs):  # other options are the usual backend's
            own = {k: v for k, v in options.items() if k == "guard_filter_fn"}
            return original(step, backend=backend, options=own or None, **kwargs)

        torch.compile = compile_with
    differences = []
    for agent in agents.split(","):
        learn_as = functools.partial(learn, memory, agent, named=named == "named")
        difference = learn_as(compile=True) - learn_as(compile=False)
        differences.append(difference.abs().max().item())
    print(max(differences))


if __name__ == "__main__":
    main(*sys.argv[1:])
