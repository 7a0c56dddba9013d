"""Environment steps per second with learning, against stable-baselines3, skrl and SheepRL.

    make bench
    python -m benchmarks.throughput --peers-python PYTHON --work ppo resets --rounds 5

All sides do the same work on one thread, each measurement in its own process, in turn.
Imports, set-up, warm-up and compilation are excluded; environment, acting, update and episode
statistics are included.
"""

from collections.abc import Iterable, Sequence
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
from benchmarks.work import MEMORIES, PEERS, Measurement

# A row of the comparison: our workload, the peers', and the number of iterations:
# rollouts or, with a replay buffer, the steps between two updates.
COMPARISONS = {
    "ppo": ("ppo", "ppo", 30),
    "ppo-compiled": ("ppo-compiled", "ppo", 30),
    "ppo-native-compiled": ("ppo-native-compiled", "ppo", 30),
    "ppo-images": ("ppo-images", "ppo-images", 3),
    "ppo-images-bf16": ("ppo-images-bf16", "ppo-images", 3),
    "recurrent-ppo-shared": ("recurrent-ppo-shared", "recurrent-ppo-shared", 8),
    "recurrent-ppo-compiled": ("recurrent-ppo-compiled", "recurrent-ppo-shared", 8),
    "recurrent-ppo-sequences": ("recurrent-ppo-sequences", "recurrent-ppo-sequences", 8),
    "recurrent-ppo-separate": ("recurrent-ppo-separate", "recurrent-ppo-separate", 8),
    "dqn": ("dqn", "dqn", 5_000),
    "dqn-compiled": ("dqn-compiled", "dqn", 5_000),
    "dqn-images": ("dqn-images", "dqn-images", 200),
    "dqn-images-bf16": ("dqn-images-bf16", "dqn-images", 200),
    "dqn-images-compiled": ("dqn-images-compiled", "dqn-images", 200),
    "sac": ("sac", "sac", 1_000),
    "sac-compiled": ("sac-compiled", "sac", 1_000),
    "sac-bf16": ("sac-bf16", "sac", 1_000),
    "recurrent-sac": ("recurrent-sac", "recurrent-sac", 200),
    "td3": ("td3", "td3", 1_000),
    "td3-compiled": ("td3-compiled", "td3", 1_000),
    "td3-bf16": ("td3-bf16", "td3", 1_000),
}
# Rollouts with 8 and with 64 environments: the same number of environment steps.
SCALING = {"recurrent-ppo-shared": 24, "recurrent-ppo-shared-64": 3}
ALONE = ("recurrent-scaling", "resets")
WARMUP = 3  # iterations; with a replay buffer, also those before learning starts
PHASES = ("environment", "acting", "update", "rest")

Sides = dict[str, list[dict[str, Any]]]
"""A row's measurements by side: `ours`, then every peer that supports the workload."""


def compare(
    workers: Workers, names: Iterable[str], peers: Sequence[str], rounds: int
) -> dict[str, Sides]:
    """Measure all sides in turn, in rounds over all rows."""
    measured: dict[str, Sides] = {}
    for number in range(rounds):
        for name in names:
            ours, theirs, iterations = COMPARISONS[name]
            able = ["ours", *(peer for peer in peers if theirs in PEERS[peer])]
            sides = measured.setdefault(name, {side: [] for side in able})
            for side in in_turn(able, number):
                work = ours if side == "ours" else theirs
                one = throughput(workers, side, work, iterations=iterations, seed=number)
                sides[side].append(one)
    return measured


def throughput(
    workers: Workers, side: str, work: str, *, iterations: int, seed: int
) -> dict[str, Any]:
    """Measure one workload with one worker."""
    return workers.run(
        side, "throughput", work, "--iterations", iterations, "--warmup", WARMUP, "--seed", seed
    )


def measure_scaling(workers: Workers, rounds: int) -> dict[str, list[dict[str, Any]]]:
    """Measure ours with 8 and with 64 environments, alternating."""
    measured: dict[str, list[dict[str, Any]]] = {work: [] for work in SCALING}
    for number in range(rounds):
        for work, iterations in SCALING.items():
            one = throughput(workers, "ours", work, iterations=iterations, seed=number)
            measured[work].append(one)
    return measured


def measure_resets(workers: Workers, rounds: int) -> dict[str, list[dict[str, Any]]]:
    """Measure our update on rollouts with and without episode ends, for every memory."""
    measured: dict[str, list[dict[str, Any]]] = {memory: [] for memory in MEMORIES}
    for number in range(rounds):
        for memory in MEMORIES:
            measured[memory].append(workers.run("ours", "resets", memory, "--seed", number))
    return measured


def comparison_table(measured: dict[str, Sides]) -> str:
    """Show medians; a ratio is taken within a round, and its median over rounds is shown.

    The last column compares each side's best round: disturbance only slows a side down.
    """
    peers = peers_in(measured)
    rows = []
    for name, sides in measured.items():
        rates = {side: [one.steps_per_second for one in parsed(sides[side])] for side in sides}
        ratios = {
            peer: [mine / its for mine, its in zip(rates["ours"], rates[peer], strict=True)]
            for peer in peers
            if peer in rates
        }
        cells = [
            f"{median(rates[peer]):,.0f} ({median(ratios[peer]):.2f} x)" if peer in rates else "-"
            for peer in peers
        ]
        fastest = [against_the_fastest(ratios), best_against_best(rates)]
        rows.append([name, f"{median(rates['ours']):,.0f}", *cells, *fastest])
    header = ["steps/s", "ours", *(f"{peer} (ours is)" for peer in peers)]
    return table([*header, "ours against the fastest (range)", "best against best"], rows)


def against_the_fastest(ratios: dict[str, list[float]]) -> str:
    """Return the fastest peer, and our ratio to it."""
    if not ratios:
        return "-"
    fastest = min(ratios, key=lambda peer: median(ratios[peer]))
    rounds = ratios[fastest]
    return f"**{median(rounds):.2f}** ({min(rounds):.2f} to {max(rounds):.2f}), {fastest}"


def best_against_best(rates: dict[str, list[float]]) -> str:
    """Divide our best round by the best round of any peer."""
    best = {side: max(rounds) for side, rounds in rates.items()}
    ours = best.pop("ours")
    if not best:
        return "-"
    fastest = max(best, key=lambda peer: best[peer])
    return f"{ours / best[fastest]:.2f}, {fastest}"


def sizes_table(measured: dict[str, Sides]) -> str:
    """Show peak memory, the number of trained parameters, and compilation time.

    The first round compiles with an empty cache, later ones with a warm cache.
    """
    peers = peers_in(measured)
    rows = []
    for name, sides in measured.items():
        results = {side: parsed(sides[side]) for side in sides}
        cells = [
            f"{median(one.peak_memory_mib for one in results[side]):.0f} "
            f"({results[side][0].parameters:,})"
            if side in results
            else "-"
            for side in ("ours", *peers)
        ]
        cold, *warm = (one.compile_seconds for one in results["ours"])
        rows.append([name, *cells, f"{cold:.1f}", f"{median(warm):.1f}" if warm else "-"])
    compiling = ["compiling ours, s", "again, s"]
    return table(["peak MiB (parameters)", "ours", *peers, *compiling], rows)


def peers_in(measured: dict[str, Sides]) -> list[str]:
    """List the peers of any row, in the order of `PEERS`."""
    return [peer for peer in PEERS if any(peer in sides for sides in measured.values())]


def breakdown_table(measured: dict[str, Sequence[dict[str, Any]]]) -> str:
    """Show our time by phase: its share, and microseconds per environment step."""
    rows = []
    for name, results in measured.items():
        ours = parsed(results)
        cells = []
        for phase in PHASES:
            share = median(one.phases[phase] / one.seconds for one in ours)
            cost = median(one.phases[phase] / one.env_steps for one in ours)
            cells.append(f"{share:.0%} ({cost * 1e6:.1f} us)")
        rows.append([name, *cells])
    return table(["ours", *PHASES], rows)


def floor_table(measured: dict[str, Sides]) -> str:
    """Show gradient steps per second beside their floor, where operations were counted.

    The floor is the time of the side's own arithmetic at the speed of one large product.
    """
    rows = []
    for name, sides in measured.items():
        for side, results in sides.items():
            counted = [one for one in parsed(results) if one.operations]
            if not counted:
                continue
            numbers = (
                f"{median(one.operations for one in counted) / 1e9:.2f}",
                f"{median(one.operations_per_second for one in counted) / 1e9:.0f}",
                f"{median(one.floor_per_second for one in counted):.1f}",
                f"{median(one.steps_per_second for one in counted):.1f}",
                f"**{median(one.steps_per_second / one.floor_per_second for one in counted):.0%}**",
            )
            rows.append([f"{name}, {side}", *numbers])
    header = ["gradient steps", "GFLOP each", "GFLOP/s of a product", "floor, 1/s", "measured, 1/s"]
    return table([*header, "share"], rows) if rows else ""


def scaling_table(measured: dict[str, list[dict[str, Any]]]) -> str:
    """Show steps per second by the number of environments."""
    rates = {
        name: [one.steps_per_second for one in parsed(results)]
        for name, results in measured.items()
    }
    few, many = rates.values()
    ratio = median(b / a for a, b in zip(few, many, strict=True))
    rows = [[name, f"{median(rate):,.0f}"] for name, rate in rates.items()]
    return table(["environments", "steps/s"], [*rows, ["64 against 8", f"**{ratio:.2f}**"]])


def resets_table(measured: dict[str, list[dict[str, Any]]]) -> str:
    """Show the update's time with an episode end every 30 steps, against none."""
    rows = [
        [
            memory,
            f"{median(one['with_resets'] for one in results) * 1e3:.1f}",
            f"{median(one['without_resets'] for one in results) * 1e3:.1f}",
            f"**{median(one['with_resets'] / one['without_resets'] for one in results):.2f}**",
        ]
        for memory, results in measured.items()
    ]
    return table(["update, ms", "resets every 30 steps", "no resets", "ratio"], rows)


def parsed(results: Sequence[dict[str, Any]]) -> list[Measurement]:
    """Read workers' JSON."""
    return [Measurement(**result) for result in results]


def main() -> None:
    """Run the requested measurements and print Markdown."""
    parser = argument_parser(__doc__)
    choices = [*COMPARISONS, *ALONE]
    parser.add_argument("--work", nargs="+", choices=choices, default=choices, metavar="WORK")
    parser.add_argument("--peers", nargs="+", choices=PEERS, default=list(PEERS), metavar="PEER")
    parser.add_argument("--rounds", type=int, default=3, help="medians are over these (default 3)")
    given = parser.parse_args()
    compared = [name for name in given.work if name in COMPARISONS]
    if compared:
        require_peers(given.peers_python)
    workers = Workers(peers_python=given.peers_python)
    raw: dict[str, Any] = {}
    print(f"{machine()}; one thread, medians of {given.rounds} rounds\n")
    if compared:
        raw |= compare(workers, compared, given.peers, given.rounds)
        print(comparison_table(raw), sizes_table(raw), sep="\n\n", end="\n\n")
        print(breakdown_table({name: raw[name]["ours"] for name in raw}))
        print("", floor_table(raw), sep="\n")
    if "recurrent-scaling" in given.work:
        raw["recurrent-scaling"] = measure_scaling(workers, given.rounds)
        print("", scaling_table(raw["recurrent-scaling"]), sep="\n")
    if "resets" in given.work:
        raw["resets"] = measure_resets(workers, given.rounds)
        print("", resets_table(raw["resets"]), sep="\n")
    save(given.json, raw)


if __name__ == "__main__":
    main()
