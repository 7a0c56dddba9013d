"""The workloads, as settings that every side reads; imports none of the libraries.

Workers run in separate interpreters: they share only this file and the JSON they print.
"""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path


@dataclass(frozen=True)
class Throughput:
    """PPO on CartPole-v1 or Atari Pong, with learning; the settings of every side."""

    num_envs: int = 8
    rollout_length: int = 128
    num_epochs: int = 4
    num_minibatches: int = 4
    learning_rate: float = 3e-4
    hidden_size: int = 64  # of each of two tanh layers, separate for actor and critic
    memory_size: int = 0  # LSTM units; 0: no memory, and velocities visible
    shared_memory: bool = False  # one LSTM shared by actor and critic
    sequence_length: int = 0  # steps of backpropagation through time; 0: the whole rollout
    compiled: bool = False  # only ours
    native: bool = False  # only ours: the environment's own vector form instead of sync
    images: bool = False  # Pong, four frames of 84 x 84, one NatureCNN for actor and critic
    half_precision: bool = False  # only ours: features in bfloat16

    @property
    def steps_per_iteration(self) -> int:
        """Count the environment steps of one rollout."""
        return self.num_envs * self.rollout_length


@dataclass(frozen=True)
class Replaying:
    """DQN on CartPole-v1 or Atari Pong, with learning; the settings of every side."""

    num_envs: int = 1
    train_frequency: int = 4  # environment steps per gradient step
    batch_size: int = 64
    buffer_size: int = 100_000
    learning_starts: int = 1_000  # environment steps; steps before are not measured
    target_update_interval: int = 1_000  # environment steps
    epsilon: float = 0.05  # constant
    learning_rate: float = 1e-3
    hidden_size: int = 64  # of each of two ReLU layers
    compiled: bool = False  # only ours
    images: bool = False  # Pong, four frames of 84 x 84, NatureCNN
    half_precision: bool = False  # only ours: features in bfloat16

    @property
    def steps_per_iteration(self) -> int:
        """Count the environment steps between two updates."""
        return self.num_envs * self.train_frequency


@dataclass(frozen=True)
class Criticising:
    """SAC or TD3 on Pendulum-v1, a gradient step per step; the settings of every side."""

    agent: str  # sac or td3
    num_envs: int = 1
    batch_size: int = 256
    buffer_size: int = 100_000
    learning_starts: int = 1_000  # environment steps; steps before are not measured
    learning_rate: float = 1e-3
    hidden_size: int = 256  # of each of two ReLU layers
    memory_size: int = 0  # LSTM units; 0: no memory, and velocities visible
    sequence_length: int = 0  # of each of the batch's sequences, with a memory
    compiled: bool = False  # only ours
    half_precision: bool = False  # only ours: hidden layers in bfloat16

    @property
    def steps_per_iteration(self) -> int:
        """Count the environment steps between two updates."""
        return self.num_envs


AnyWork = Throughput | Replaying | Criticising


@dataclass(frozen=True)
class Solve:
    """Training until an evaluation's mean reaches the threshold, or the budget is spent."""

    preset: str  # ours; peers have the same numbers, from rl-baselines3-zoo
    hide_velocity: bool = False  # then with separate LSTMs for actor and critic
    from_replay: bool = False  # DQN; else PPO
    budget: int = 100_000  # environment steps, over which schedules run
    evaluation_interval: int = 2_560  # environment steps; evaluations are not timed
    episodes: int = 10
    threshold: float = 475.0


IMAGES = Replaying(images=True, batch_size=32, buffer_size=10_000, learning_rate=1e-4)
THROUGHPUT: dict[str, AnyWork] = {
    "ppo": Throughput(),
    "ppo-compiled": Throughput(compiled=True),
    "ppo-native-compiled": Throughput(compiled=True, native=True),
    "ppo-images": Throughput(images=True, native=True, learning_rate=2.5e-4),
    "ppo-images-bf16": Throughput(
        images=True, native=True, learning_rate=2.5e-4, half_precision=True
    ),
    "recurrent-ppo-shared": Throughput(memory_size=128, shared_memory=True),
    "recurrent-ppo-compiled": Throughput(memory_size=128, shared_memory=True, compiled=True),
    "recurrent-ppo-sequences": Throughput(memory_size=128, shared_memory=True, sequence_length=16),
    "recurrent-ppo-separate": Throughput(memory_size=128),
    "recurrent-ppo-shared-64": Throughput(memory_size=128, shared_memory=True, num_envs=64),
    "dqn": Replaying(),
    "dqn-compiled": Replaying(compiled=True),
    "dqn-images": IMAGES,
    "dqn-images-bf16": replace(IMAGES, half_precision=True),
    "dqn-images-compiled": replace(IMAGES, compiled=True),
    "sac": Criticising("sac"),
    "sac-compiled": Criticising("sac", compiled=True),
    "sac-bf16": Criticising("sac", compiled=True, half_precision=True),
    "recurrent-sac": Criticising(
        "sac",
        batch_size=32,
        learning_rate=3e-4,
        hidden_size=128,
        memory_size=128,
        sequence_length=64,
    ),
    "td3": Criticising("td3"),
    "td3-compiled": Criticising("td3", compiled=True),
    "td3-bf16": Criticising("td3", compiled=True, half_precision=True),
}
SOLVE = {
    "ppo": Solve("cartpole"),
    "recurrent-ppo": Solve("cartpole_no_velocity", hide_velocity=True),
    "dqn": Solve("cartpole_dqn", from_replay=True, budget=50_000),
}

PEERS = {
    "stable-baselines3": (
        "ppo",
        "ppo-images",
        "recurrent-ppo-shared",
        "recurrent-ppo-separate",
        "dqn",
        "dqn-images",
        "sac",
        "td3",
    ),
    "skrl": ("ppo", "sac", "td3", "recurrent-sac"),
    "sheeprl": ("ppo", "recurrent-ppo-shared", "recurrent-ppo-sequences", "sac"),
}
"""The workloads that each library supports, by package name."""

MEMORIES = ("lstm", "gru", "rnn")

VELOCITIES = (1, 3)  # CartPole's, zeroed in workloads with memory


@dataclass(frozen=True)
class Measurement:
    """One worker's throughput in steady state: imports, set-up and warm-up are excluded."""

    env_steps: int
    seconds: float
    peak_memory_mib: float  # of the whole process, imports included
    phases: dict[str, float]  # seconds by phase; they add up to `seconds`
    parameters: int  # trained, of all networks: equal on all sides
    compile_seconds: float = 0.0
    operations: float = 0.0  # floating-point, of one gradient step's products; 0: not counted
    operations_per_second: float = 0.0  # of a large product of matrices, in the same process

    @property
    def steps_per_second(self) -> float:
        """Environment steps per second, with learning."""
        return self.env_steps / self.seconds

    @property
    def floor_per_second(self) -> float:
        """Gradient steps per second if there were nothing but the arithmetic, at full speed."""
        return self.operations_per_second / self.operations


@dataclass(frozen=True)
class Solved:
    """The result of one seed; steps and seconds are None if the budget was spent first."""

    env_steps: int | None
    seconds: float | None
    returns: list[float]  # the mean of each evaluation, in order

    @property
    def env_steps_or_never(self) -> float:
        """Steps to the first evaluation that reached the threshold; infinite if none did."""
        return float("inf") if self.env_steps is None else self.env_steps

    @property
    def seconds_or_never(self) -> float:
        """Training time until then; infinite if it never was."""
        return float("inf") if self.seconds is None else self.seconds


@dataclass(frozen=True)
class Resets:
    """Seconds of one update, on rollouts that differ only in their episode ends."""

    with_resets: float
    without_resets: float


def report(result: Measurement | Solved | Resets) -> None:
    """Print the result for the harness: one JSON object on the last line."""
    print(json.dumps(asdict(result)), flush=True)


def peak_memory_mib() -> float:
    """Read this process's peak resident set size.

    From /proc if there is one: `getrusage` also counts the parent's memory before `exec`.
    """
    status = Path("/proc/self/status")
    if status.exists():
        fields = dict(line.split(":", 1) for line in status.read_text().splitlines())
        return int(fields["VmHWM"].split()[0]) / 1024
    import resource  # not on Windows
    import sys

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1024**2 if sys.platform == "darwin" else 1024)
