"""Steps and seconds to solve CartPole, against stable-baselines3 and sb3-contrib.

    make solve
    python -m benchmarks.solve --peers-python PYTHON --work ppo --seeds 1 2 3 4 5

Both sides train with rl-baselines3-zoo's hyper-parameters on one thread, in turn, with the same
evaluation: every 2,560 environment steps, 10 episodes, deterministic, statistics frozen, not timed.
"""

from statistics import median
from typing import Any

from benchmarks.side_by_side import (
    Workers,
    argument_parser,
    in_turn,
    machine,
    require_peers,
    save,
    table,
)
from benchmarks.work import SOLVE, Solved

SIDES = ("ours", "stable-baselines3")


def measure(workers: Workers, work: str, seeds: list[int]) -> dict[str, dict[str, dict[str, Any]]]:
    """Train both sides in turn, seed after seed."""
    measured: dict[str, dict[str, dict[str, Any]]] = {}
    for number, seed in enumerate(seeds):
        measured[str(seed)] = {
            side: workers.run(side, "solve", work, "--seed", seed)
            for side in in_turn(SIDES, number)
        }
    return measured


def solve_table(work: str, measured: dict[str, dict[str, dict[str, Any]]]) -> str:
    """Show every seed, then the medians; an unsolved seed counts as infinite."""
    results = {
        seed: {side: Solved(**result) for side, result in sides.items()}
        for seed, sides in measured.items()
    }
    rows = [
        [f"seed {seed}", *(cell for side in SIDES for cell in cells(sides[side]))]
        for seed, sides in results.items()
    ]
    middle = [
        text
        for side in SIDES
        for text in (
            count(median(one[side].env_steps_or_never for one in results.values())),
            duration(median(one[side].seconds_or_never for one in results.values())),
        )
    ]
    header = [f"{side}, {unit}" for side in SIDES for unit in ("steps", "s")]
    return table([work, *header], [*rows, ["**median**", *middle]])


def cells(result: Solved) -> list[str]:
    """Show one seed's steps and seconds."""
    return [count(result.env_steps_or_never), duration(result.seconds_or_never)]


def count(steps: float) -> str:
    """Show a number of steps."""
    return "not solved" if steps == float("inf") else f"{steps:,.0f}"


def duration(seconds: float) -> str:
    """Show a number of seconds."""
    return "-" if seconds == float("inf") else f"{seconds:.1f}"


def main() -> None:
    """Run the requested measurements and print Markdown."""
    parser = argument_parser(__doc__)
    parser.add_argument("--work", nargs="+", choices=SOLVE, default=list(SOLVE), metavar="WORK")
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    given = parser.parse_args()
    require_peers(given.peers_python)
    workers = Workers(peers_python=given.peers_python)
    print(f"{machine()}; one thread, evaluations not timed\n")
    raw = {}
    for work in given.work:
        raw[work] = measure(workers, work, given.seeds)
        print(solve_table(work, raw[work]), end="\n\n", flush=True)
    save(given.json, raw)


if __name__ == "__main__":
    main()
