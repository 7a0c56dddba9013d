"""stable-baselines3's PPO, DQN, SAC, TD3, sb3-contrib's RecurrentPPO; their time to solve too."""

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import gymnasium
import numpy as np
from sb3_contrib import RecurrentPPO
from stable_baselines3 import DQN, PPO, SAC, TD3
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_atari_env, make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import (
    VecEnv,
    VecFrameStack,
    VecNormalize,
    sync_envs_normalization,
)
from torch import nn

from benchmarks.peers.worker import Clock, run
from benchmarks.work import (
    VELOCITIES,
    AnyWork,
    Criticising,
    Measurement,
    Replaying,
    Solve,
    Solved,
    Throughput,
)

EVALUATION_SEED = 1_000_000  # different from every training seed


class HideVelocity(gymnasium.ObservationWrapper[Any, Any, Any]):
    """Zeroes CartPole's velocities, as rl-baselines3-zoo does."""

    def __init__(self, env: gymnasium.Env[Any, Any]) -> None:
        super().__init__(env)
        self._mask = np.ones(4, dtype=np.float32)
        self._mask[list(VELOCITIES)] = 0.0

    def observation(self, observation: np.ndarray) -> np.ndarray:
        """Multiply by the mask: a new array each time."""
        return observation * self._mask


class Evaluation(BaseCallback):
    """Evaluates between update and rollout, with the clock stopped; ends when solved."""

    def __init__(self, *, work: Solve, environments: VecEnv) -> None:
        super().__init__()
        self._work = work
        self._environments = environments
        self._seconds = 0.0
        self.returns: list[float] = []
        self.solved: tuple[int, float] | None = None

    def _on_training_start(self) -> None:
        self._running_since = time.perf_counter()

    def _on_rollout_start(self) -> None:
        if self.num_timesteps and self.num_timesteps % self._work.evaluation_interval == 0:
            self._evaluate()

    def _on_training_end(self) -> None:
        if self.solved is None:
            self._evaluate()

    def _on_step(self) -> bool:
        return self.solved is None

    def _evaluate(self) -> None:
        self._seconds += time.perf_counter() - self._running_since
        if isinstance(self._environments, VecNormalize):
            sync_envs_normalization(self.training_env, self._environments)
        mean, _ = evaluate_policy(
            self.model, self._environments, n_eval_episodes=self._work.episodes, deterministic=True
        )
        self.returns.append(float(mean))
        if mean >= self._work.threshold:
            self.solved = (self.num_timesteps, self._seconds)
        self._running_since = time.perf_counter()


def make_environments(*, num_envs: int, hide_velocity: bool, seed: int) -> VecEnv:
    """Make CartPole environments in one process, with the monitor that counts returns."""
    wrapper = HideVelocity if hide_velocity else None
    return make_vec_env("CartPole-v1", n_envs=num_envs, seed=seed, wrapper_class=wrapper)


def make_games(*, num_envs: int, seed: int) -> VecEnv:
    """Make Pong environments in one process with the peer's own preprocessing, channels first."""
    import ale_py

    gymnasium.register_envs(ale_py)
    # No sticky actions, and only the wrapper's frame skip.
    keywords = {"repeat_action_probability": 0.0, "frameskip": 1}
    wrapping = {"terminal_on_life_loss": False}
    games = make_atari_env(
        "ALE/Pong-v5", n_envs=num_envs, seed=seed, env_kwargs=keywords, wrapper_kwargs=wrapping
    )
    return VecFrameStack(games, n_stack=4)


def images_model(work: Throughput, seed: int) -> PPO:
    """Build the peer's agent for images: one NatureCNN for actor and critic."""
    return PPO(
        "CnnPolicy",
        make_games(num_envs=work.num_envs, seed=seed),
        learning_rate=work.learning_rate,
        n_steps=work.rollout_length,
        n_epochs=work.num_epochs,
        batch_size=work.steps_per_iteration // work.num_minibatches,
        seed=seed,
        device="cpu",
    )


def throughput_model(work: Throughput, seed: int) -> PPO | RecurrentPPO:
    """Build the peer's agent with its defaults, except for the workload's settings."""
    if work.images:
        return images_model(work, seed)
    environments = make_environments(
        num_envs=work.num_envs, hide_velocity=work.memory_size > 0, seed=seed
    )
    layers = [work.hidden_size, work.hidden_size]
    network: dict[str, Any] = {"net_arch": {"pi": layers, "vf": layers}}
    if work.memory_size:
        network |= {
            "lstm_hidden_size": work.memory_size,
            "shared_lstm": work.shared_memory,
            "enable_critic_lstm": not work.shared_memory,
        }
    algorithm, policy = (RecurrentPPO, "MlpLstmPolicy") if work.memory_size else (PPO, "MlpPolicy")
    return algorithm(
        policy,
        environments,
        learning_rate=work.learning_rate,
        n_steps=work.rollout_length,
        n_epochs=work.num_epochs,
        batch_size=work.steps_per_iteration // work.num_minibatches,
        policy_kwargs=network,
        seed=seed,
        device="cpu",
    )


def replaying_model(work: Replaying, seed: int) -> DQN:
    """Build the peer's DQN with its defaults, except for the workload's settings."""
    make = make_games if work.images else partial(make_environments, hide_velocity=False)
    network = {} if work.images else {"net_arch": [work.hidden_size, work.hidden_size]}
    return DQN(
        "CnnPolicy" if work.images else "MlpPolicy",
        make(num_envs=work.num_envs, seed=seed),
        learning_rate=work.learning_rate,
        buffer_size=work.buffer_size,
        learning_starts=work.learning_starts,
        batch_size=work.batch_size,
        train_freq=work.train_frequency,
        gradient_steps=1,
        target_update_interval=work.target_update_interval,
        exploration_initial_eps=work.epsilon,
        exploration_final_eps=work.epsilon,
        policy_kwargs=network,
        seed=seed,
        device="cpu",
    )


def criticising_model(work: Criticising, seed: int) -> SAC | TD3:
    """Build the peer's SAC or TD3 with its defaults, except for the workload's settings."""
    return {"sac": SAC, "td3": TD3}[work.agent](
        "MlpPolicy",
        make_vec_env("Pendulum-v1", n_envs=work.num_envs, seed=seed),
        learning_rate=work.learning_rate,
        buffer_size=work.buffer_size,
        learning_starts=work.learning_starts,
        batch_size=work.batch_size,
        train_freq=1,
        gradient_steps=1,
        policy_kwargs={"net_arch": [work.hidden_size, work.hidden_size]},
        seed=seed,
        device="cpu",
    )


def measure_throughput(work: AnyWork, *, iterations: int, warmup: int, seed: int) -> Measurement:
    """Train for `warmup + iterations` rollouts and time the last ones.

    With a replay buffer, a rollout is the steps between two updates, once learning has started.
    """
    model: DQN | PPO | SAC | TD3 | RecurrentPPO
    if isinstance(work, Criticising):
        model, steps_before = criticising_model(work, seed), work.learning_starts
        # Target networks are not trained.
        parameters = [*model.actor.parameters(), *model.critic.parameters()]
        parameters += [model.log_ent_coef] if isinstance(model, SAC) else []
    elif isinstance(work, Replaying):
        model, steps_before = replaying_model(work, seed), work.learning_starts
        parameters = model.q_net.parameters()  # the target network is not trained
    else:
        model, steps_before = throughput_model(work, seed), 0
        parameters = model.policy.parameters()
    clock = Clock(counts=isinstance(work, Criticising))
    model.train = clock.around(model.train)
    model.learn(steps_before + (warmup + iterations) * work.steps_per_iteration)
    return clock.measurement(work, iterations=iterations, warmup=warmup, parameters=parameters)


def linear(initial: float) -> Callable[[float], float]:
    """Decay linearly to 0 over the budget, the zoo's `lin_` schedule."""
    return lambda remaining: remaining * initial


def solve_model(work: Solve, environments: VecEnv, seed: int) -> DQN | PPO | RecurrentPPO:
    """Build the peer's agent with rl-baselines3-zoo's settings: CartPole-v1, CartPoleNoVel-v1."""
    if work.from_replay:
        return DQN(
            "MlpPolicy",
            environments,
            learning_rate=2.3e-3,
            batch_size=64,
            buffer_size=100_000,
            learning_starts=1_000,
            gamma=0.99,
            target_update_interval=10,
            train_freq=256,
            gradient_steps=128,
            exploration_fraction=0.16,
            exploration_final_eps=0.04,
            policy_kwargs={"net_arch": [256, 256]},
            seed=seed,
            device="cpu",
        )
    common: dict[str, Any] = {
        "n_steps": 32,
        "batch_size": 256,
        "n_epochs": 20,
        "gamma": 0.98,
        "gae_lambda": 0.8,
        "ent_coef": 0.0,
        "learning_rate": linear(1e-3),
        "clip_range": linear(0.2),
        "seed": seed,
        "device": "cpu",
    }
    if not work.hide_velocity:
        return PPO("MlpPolicy", environments, **common)
    network = {
        "ortho_init": False,
        "activation_fn": nn.ReLU,
        "lstm_hidden_size": 64,
        "enable_critic_lstm": True,
        "net_arch": {"pi": [64], "vf": [64]},
    }
    return RecurrentPPO("MlpLstmPolicy", environments, policy_kwargs=network, **common)


def measure_solve(work: Solve, *, seed: int) -> Solved:
    """Train until an evaluation reaches the threshold; normalised where the zoo does."""
    hide = work.hide_velocity
    num_envs = 1 if work.from_replay else 8
    environments = make_environments(num_envs=num_envs, hide_velocity=hide, seed=seed)
    evaluation = make_environments(
        num_envs=work.episodes, hide_velocity=hide, seed=EVALUATION_SEED + seed * work.episodes
    )
    if work.hide_velocity:
        environments = VecNormalize(environments, gamma=0.98)
        evaluation = VecNormalize(evaluation, training=False, norm_reward=False)
    model = solve_model(work, environments, seed)
    watch = Evaluation(work=work, environments=evaluation)
    model.learn(work.budget, callback=watch)
    steps, seconds = watch.solved or (None, None)
    return Solved(env_steps=steps, seconds=seconds, returns=watch.returns)


if __name__ == "__main__":
    run("stable-baselines3", measure_throughput, measure_solve)
