"""skrl's PPO, with models as in its documentation.

In its recurrent PPO the user writes the network, resets inside sequences included. Its speed would
be that of our network, so it is not measured.
"""

from typing import Any

import gymnasium
from gymnasium.vector import AutoresetMode
from skrl.agents.torch.ppo import PPO
from skrl.envs.wrappers.torch import wrap_env
from skrl.memories.torch import RandomMemory
from skrl.models.torch import CategoricalMixin, DeterministicMixin, Model
from skrl.trainers.torch import SequentialTrainer
from skrl.utils import set_seed
from torch import Tensor, nn

from benchmarks.peers.worker import Clock, run
from benchmarks.work import Measurement, Throughput


def layers(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    """Two tanh layers and a linear one."""
    return nn.Sequential(
        nn.Linear(inputs, hidden),
        nn.Tanh(),
        nn.Linear(hidden, hidden),
        nn.Tanh(),
        nn.Linear(hidden, outputs),
    )


class Policy(CategoricalMixin, Model):
    """Logits of the actions."""

    def __init__(self, *, hidden_size: int, **spaces: Any) -> None:
        Model.__init__(self, **spaces)
        CategoricalMixin.__init__(self)
        self.net = layers(self.num_observations, hidden_size, self.num_actions)

    def compute(self, inputs: dict[str, Any], role: str) -> tuple[Tensor, dict[str, Any]]:
        """Map observations to logits."""
        return self.net(inputs["observations"]), {}


class Value(DeterministicMixin, Model):
    """The value of an observation."""

    def __init__(self, *, hidden_size: int, **spaces: Any) -> None:
        Model.__init__(self, **spaces)
        DeterministicMixin.__init__(self)
        self.net = layers(self.num_observations, hidden_size, 1)

    def compute(self, inputs: dict[str, Any], role: str) -> tuple[Tensor, dict[str, Any]]:
        """Map observations to values."""
        return self.net(inputs["observations"]), {}


def build(work: Throughput) -> tuple[Any, PPO]:
    """Build environments and agent with skrl's defaults, except for the workload's settings."""
    environments = wrap_env(
        gymnasium.make_vec(
            "CartPole-v1",
            num_envs=work.num_envs,
            vectorization_mode="sync",
            # In the other mode it would count, and train on, reset steps.
            vector_kwargs={"autoreset_mode": AutoresetMode.SAME_STEP},
        )
    )
    common: dict[str, Any] = {
        "observation_space": environments.observation_space,
        "action_space": environments.action_space,
        "device": "cpu",
    }
    models = {
        "policy": Policy(hidden_size=work.hidden_size, **common),
        "value": Value(hidden_size=work.hidden_size, **common),
    }
    settings = {
        "rollouts": work.rollout_length,
        "learning_epochs": work.num_epochs,
        "mini_batches": work.num_minibatches,
        "learning_rate": work.learning_rate,
        "value_clip": 0.0,  # 0: none, as in all libraries
        "experiment": {"write_interval": 0, "checkpoint_interval": 0},  # 0: never
    }
    memory = RandomMemory(memory_size=work.rollout_length, num_envs=work.num_envs, device="cpu")
    return environments, PPO(models=models, memory=memory, cfg=settings, **common)


def measure_throughput(work: Throughput, *, iterations: int, warmup: int, seed: int) -> Measurement:
    """Train for `warmup + iterations` rollouts and time the last ones."""
    set_seed(seed)
    environments, agent = build(work)
    clock = Clock()
    agent.update = clock.around(agent.update)
    settings = {
        "timesteps": (warmup + iterations) * work.rollout_length,
        "headless": True,
        "disable_progressbar": True,
    }
    SequentialTrainer(env=environments, agents=agent, cfg=settings).train()
    parameters = [*agent.policy.parameters(), *agent.value.parameters()]
    return clock.measurement(work, iterations=iterations, warmup=warmup, parameters=parameters)


if __name__ == "__main__":
    run("skrl", measure_throughput)
