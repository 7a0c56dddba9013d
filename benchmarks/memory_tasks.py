"""Environment steps per second of the memory tasks, with random actions, on one core.

python -m benchmarks.memory_tasks
"""

import time

import gymnasium
import numpy as np

from envs import MEMORY_TASKS

NUM_ENVS = 256
SECONDS = 1.0


def steps_per_second(id: str, num_envs: int = NUM_ENVS, seconds: float = SECONDS) -> float:
    """Measures the native form, after some steps of warm-up."""
    task = gymnasium.make_vec(id, num_envs=num_envs, vectorization_mode="vector_entry_point")
    random = np.random.default_rng(0)
    task.reset(seed=0)
    batches = random.integers(task.single_action_space.n, size=(64, num_envs))  # type: ignore[attr-defined]
    for actions in batches:
        task.step(actions)
    begun, steps = time.perf_counter(), 0
    while time.perf_counter() - begun < seconds:
        for actions in batches:
            task.step(actions)
        steps += batches.size
    return steps / (time.perf_counter() - begun)


def main() -> None:
    """Prints a row for each task."""
    for name in MEMORY_TASKS:
        print(f"| `{name}` | {steps_per_second(f'neurl/{name}-v0') / 1e6:.1f} M |")


if __name__ == "__main__":
    main()
