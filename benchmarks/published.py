"""Published scores to reach or exceed: rows of data, none of them ours.

A row runs a preset, `conf/experiment/<experiment>.yaml`. It passes if the mean over its
seeds of the final evaluation reaches `bar`. Sources: rl-baselines3-zoo (`benchmark.md`), SLM-Lab
v5 (`docs/BENCHMARKS.md`), nnabla-rl (its reproductions), CleanRL (its documentation), sb3-contrib
(its documentation), POPGym (Morad et al. 2023), recurrent-ppo-truncated-bptt (MarcoMeter), MinAtar
(Young & Tian 2019), bsuite (Osband et al. 2020), Ni et al. (2022, arXiv:2110.05038).
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """One task with a budget, and its published score."""

    experiment: str
    what: str  # the algorithm and the network
    task: str
    budget: int  # environment steps, pre-training included
    published: str  # with its source
    bar: float  # of the mean over seeds of the final evaluation
    best_bar: float | None = None  # of every seed's best evaluation
    control: str | None = None  # overrides that remove the row's feature
    control_bar: float | None = None  # maximum: above it the task does not need the feature
    episodes: int = 100  # of the final evaluation


ROWS = {
    "L1": Row(
        experiment="cartpole",
        what="PPO, MLP",
        task="CartPole-v1",
        budget=100_000,
        published="500 +- 0 (rl-baselines3-zoo)",
        bar=475,
    ),
    "L2": Row(
        experiment="cartpole_a2c",
        what="A2C, MLP",
        task="CartPole-v1",
        budget=500_000,
        published="500 +- 0 (rl-baselines3-zoo)",
        bar=475,
    ),
    "L3": Row(
        experiment="lunarlander",
        what="PPO, MLP",
        task="LunarLander-v3",
        budget=1_000_000,
        published="242 +- 32 (rl-baselines3-zoo, v2)",
        bar=200,
    ),
    "L4": Row(
        experiment="pendulum",
        what="PPO, MLP, continuous actions",
        task="Pendulum-v1",
        budget=300_000,
        published="-174.9 (SLM-Lab)",
        bar=-200,
    ),
    "L5": Row(
        experiment="cartpole_dqn",
        what="DQN, MLP; the best of its evaluations, as published",
        task="CartPole-v1",
        budget=50_000,
        published="500 +- 0 (rl-baselines3-zoo)",
        bar=475,
        best_bar=475,
    ),
    "L6": Row(
        experiment="cartpole_c51",
        what="C51, MLP",
        task="CartPole-v1",
        budget=500_000,
        published="481 +- 21, training return (CleanRL)",
        bar=460,
    ),
    "L7": Row(
        experiment="cartpole_quantile",
        what="QR-DQN, MLP",
        task="CartPole-v1",
        budget=50_000,
        published="386 +- 64 over 5 seeds (sb3-contrib)",
        bar=340,
    ),
    "L8": Row(
        experiment="lunarlander_dqn",
        what="double DQN, prioritised replay, MLP",
        task="LunarLander-v3",
        budget=300_000,
        published="265.9 (SLM-Lab)",
        bar=200,
    ),
    "L9": Row(
        experiment="pendulum_sac",
        what="SAC, MLP",
        task="Pendulum-v1",
        budget=20_000,
        published="-157 +- 89 (rl-baselines3-zoo), -151 (SLM-Lab)",
        bar=-175,
    ),
    "L10": Row(
        experiment="pendulum_td3",
        what="TD3, MLP",
        task="Pendulum-v1",
        budget=20_000,
        published="-152 +- 90 (rl-baselines3-zoo)",
        bar=-175,
    ),
    "L10-DDPG": Row(
        experiment="pendulum_ddpg",
        what="DDPG, MLP",
        task="Pendulum-v1",
        budget=20_000,
        published="-152 +- 94 (rl-baselines3-zoo)",
        bar=-175,
    ),
    "L11": Row(
        experiment="halfcheetah_sac",
        what="SAC, MLP",
        task="HalfCheetah-v5",
        budget=100_000,
        published="5233 +- 297 (nnabla-rl, v2)",
        bar=4500,
        episodes=10,
    ),
    "L12": Row(
        experiment="minatar_breakout_dqn",
        what="DQN, CNN",
        task="MinAtar/Breakout-v0",
        budget=500_000,
        published="8.3 over 30 seeds, training return (Young & Tian 2019)",
        bar=7.5,
    ),
    "L20": Row(
        experiment="minatar_breakout_dqn_autoencoder",
        what="DQN, CNN with reconstruction as an auxiliary loss",
        task="MinAtar/Breakout-v0",
        budget=500_000,
        published="8.3, DQN alone, training return (Young & Tian 2019)",
        bar=7.5,
    ),
    "L13": Row(
        experiment="minigrid_doorkey",
        what="PPO, CNN",
        task="MiniGrid-DoorKey-5x5-v0",
        budget=100_000,
        published="0.964 +- 0.006 (rl-baselines3-zoo, MLP)",
        bar=0.93,
    ),
    "L19": Row(
        experiment="minigrid_autoencoder",
        what="PPO on 8 numbers of an autoencoder, learnt from 50,000 random steps and frozen",
        task="MiniGrid-DoorKey-5x5-v0",
        budget=250_000,
        published="0.964 without an autoencoder, at 100,000 steps (rl-baselines3-zoo)",
        bar=0.90,
    ),
    "MinAtar": Row(
        experiment="minatar_breakout",
        what="PPO, CNN",
        task="MinAtar/Breakout-v0",
        budget=500_000,
        published="8.3, DQN, training return (Young & Tian 2019)",
        bar=8.3,
    ),
    "L14": Row(
        experiment="cartpole_no_velocity",
        what="PPO, LSTM",
        task="CartPole-v1 without velocities",
        budget=100_000,
        published="500 +- 0 (rl-baselines3-zoo)",
        bar=450,
        best_bar=475,
        control="memory=none",
        control_bar=200,
    ),
    "L14-DQN": Row(
        experiment="cartpole_no_velocity_dqn",
        what="DQN, LSTM; the best of its evaluations",
        task="CartPole-v1 without velocities",
        budget=100_000,
        published="500 +- 0, PPO (rl-baselines3-zoo)",
        bar=450,
        best_bar=475,
        control="memory=none",
        control_bar=200,
    ),
    "L17": Row(
        experiment="memory_length",
        what="DQN, GRU; 0.9 is 95% right",
        task="bsuite memory_len, length 10",
        budget=110_000,  # 10,000 episodes of 11 steps
        published="solved by a recurrent actor-critic, not by DQN without memory (bsuite)",
        bar=0.9,
        control="memory=none",
        control_bar=0.1,  # guessing gives 0
        episodes=1_000,
    ),
    "L15": Row(
        experiment="repeat_previous",
        what="PPO, GRU",
        task="popgym-RepeatPreviousEasy-v0",
        budget=3_000_000,
        published="1.000 +- 0 at 15,000,000 steps (POPGym)",
        bar=0.9,
        control="memory=none",
        control_bar=-0.4,  # guessing one of four cards gives -0.5
    ),
    "L16": Row(
        experiment="cartpole_no_velocity_200",
        what="PPO, LSTM",
        task="CartPole-v1 without velocities, 200 steps at most",
        budget=410_000,
        published="192.8 +- 2.9 over 10 seeds (recurrent-ppo-truncated-bptt)",
        bar=187,
    ),
    "L18": Row(
        experiment="pendulum_velocity_only_td3",
        what="TD3, LSTM",
        task="Pendulum-v1 showing its velocity alone",
        budget=20_000,
        published="-184 +- 43 (Ni et al. 2022)",
        bar=-230,
        control="memory=none agent.batch_size=256",
        control_bar=-600,
    ),
    "Masked-SAC": Row(
        experiment="pendulum_no_velocity_sac",
        what="SAC, GRU",
        task="Pendulum-v1 without its velocity",
        budget=30_000,
        published="-217.9, recurrent PPO at 100,000 steps",
        bar=-217.9,
        control="memory=none agent.batch_size=256",
        control_bar=-600,
    ),
}
