"""skrl's PPO, SAC, TD3 and recurrent SAC (`SAC_RNN`), with models as in its documentation.

In its recurrent PPO the user writes the network, resets inside sequences included. Its speed would
be that of our network, so it is not measured. In its recurrent SAC no example resets at the ends of
Pendulum's episodes; `benchmarks/peers/skrl_models.py` tells what is wrong with its states.
"""

from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode
from skrl.agents.torch.ppo import PPO
from skrl.agents.torch.sac import SAC, SAC_RNN
from skrl.agents.torch.td3 import TD3
from skrl.envs.wrappers.torch import wrap_env
from skrl.memories.torch import RandomMemory
from skrl.resources.noises.torch import GaussianNoise
from skrl.trainers.torch import SequentialTrainer
from skrl.utils import set_seed

from benchmarks.peers.skrl_models import (
    TORQUE,
    Critic,
    DeterministicPolicy,
    GaussianPolicy,
    Policy,
    Value,
)
from benchmarks.peers.worker import Clock, run
from benchmarks.work import Criticising, Measurement, Throughput

NOTHING_BESIDE = {"write_interval": 0, "checkpoint_interval": 0}  # 0: never
POSITIONS = np.array([1.0, 1.0, 0.0], dtype=np.float32)  # Pendulum's last number is its velocity


def spaces(environments: Any) -> dict[str, Any]:
    """Return the arguments that models and agents share."""
    return {
        "observation_space": environments.observation_space,
        "action_space": environments.action_space,
        "device": "cpu",
    }


def ppo(work: Throughput) -> tuple[Any, PPO]:
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
    common = spaces(environments)
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
        "experiment": NOTHING_BESIDE,
    }
    memory = RandomMemory(memory_size=work.rollout_length, num_envs=work.num_envs, device="cpu")
    return environments, PPO(models=models, memory=memory, cfg=settings, **common)


def criticising(work: Criticising) -> tuple[Any, SAC | SAC_RNN | TD3]:
    """Build environment and agent with skrl's defaults, except for the workload's settings."""
    environment = gymnasium.make("Pendulum-v1")
    if work.memory_size:
        space = environment.observation_space
        environment = gymnasium.wrappers.TransformObservation(
            environment, lambda observation: observation * POSITIONS, space
        )
    environment = wrap_env(environment)
    common = spaces(environment)
    critics = ("critic_1", "critic_2", "target_critic_1", "target_critic_2")
    models: dict[str, Any] = {name: Critic(work, **common) for name in critics}
    settings: dict[str, Any] = {
        "batch_size": work.batch_size,
        "learning_rate": work.learning_rate,
        # SAC_RNN loses its states with random actions, and fails.
        "random_timesteps": 0 if work.memory_size else work.learning_starts,
        "learning_starts": work.learning_starts,
        "experiment": NOTHING_BESIDE,
    }
    if work.agent == "sac":
        models["policy"] = GaussianPolicy(work, **common)
        algorithm = SAC_RNN if work.memory_size else SAC
    else:
        models |= {
            name: DeterministicPolicy(work, **common) for name in ("policy", "target_policy")
        }
        algorithm = TD3
        for name, scale in (("exploration", 0.1), ("smooth_regularization", 0.2)):
            settings[f"{name}_noise"] = GaussianNoise
            settings[f"{name}_noise_kwargs"] = {"mean": 0.0, "std": scale * TORQUE}
        settings["smooth_regularization_clip"] = 0.5 * TORQUE
    memory = RandomMemory(memory_size=work.buffer_size, num_envs=work.num_envs, device="cpu")
    return environment, algorithm(models=models, memory=memory, cfg=settings, **common)


def measure_throughput(
    work: Throughput | Criticising, *, iterations: int, warmup: int, seed: int
) -> Measurement:
    """Train for `warmup + iterations` rollouts, or gradient steps, and time the last ones."""
    set_seed(seed)
    steps = (warmup + iterations) * (work.steps_per_iteration // work.num_envs)
    if isinstance(work, Criticising):
        (environments, agent), steps = criticising(work), steps + work.learning_starts
        trained = ["policy", "critic_1", "critic_2"]
    else:
        (environments, agent), trained = ppo(work), ["policy", "value"]
    clock = Clock(counts=isinstance(work, Criticising))
    agent.update = clock.around(agent.update)
    settings = {"timesteps": steps, "headless": True, "disable_progressbar": True}
    SequentialTrainer(env=environments, agents=agent, cfg=settings).train()
    parameters = [each for name in trained for each in agent.models[name].parameters()]
    if isinstance(agent, SAC | SAC_RNN):
        parameters.append(agent.log_entropy_coefficient)
    return clock.measurement(work, iterations=iterations, warmup=warmup, parameters=parameters)


if __name__ == "__main__":
    run("skrl", measure_throughput)
