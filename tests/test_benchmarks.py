"""The benchmarks run, and do the work they say; no figure is checked here."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks import ours, replay
from benchmarks.floor import Operations
from benchmarks.peers.worker import Clock
from benchmarks.side_by_side import Workers, in_turn
from benchmarks.solve import solve_table
from benchmarks.throughput import (
    COMPARISONS,
    PHASES,
    breakdown_table,
    compare,
    comparison_table,
    floor_table,
    resets_table,
    sizes_table,
)
from benchmarks.whole_runs import RUNS, costs_table, train
from benchmarks.words import throughput_overrides
from benchmarks.work import (
    PEERS,
    SOLVE,
    THROUGHPUT,
    Criticising,
    Measurement,
    Replaying,
    Throughput,
)

SMALL = Throughput(num_envs=4, rollout_length=8, num_epochs=1, num_minibatches=2)
RESULT = {
    "env_steps": 100,
    "seconds": 2.0,
    "peak_memory_mib": 300.0,
    "phases": dict.fromkeys(PHASES, 0.5),
    "parameters": 9155,
    "compile_seconds": 0.0,
}


ON_POLICY = {name: work for name, work in THROUGHPUT.items() if isinstance(work, Throughput)}
WITH_REPLAY = {name: work for name, work in THROUGHPUT.items() if isinstance(work, Replaying)}


@pytest.mark.parametrize("work", ON_POLICY.values(), ids=ON_POLICY)
def test_work_is_built_as_it_is_described(work: Throughput) -> None:
    config, agent, collector = ours.build(
        throughput_overrides(replace(work, compiled=False)), seed=0
    )
    assert collector.environments.num_envs == work.num_envs
    assert config.agent.rollout_length == work.rollout_length
    states = 2 * work.memory_size  # an LSTM's hidden and cell state
    assert agent.actor.memory.state_size == states
    assert agent.networks.critic.memory.state_size == states
    if work.memory_size:
        assert agent.learner.sequence_length == (work.sequence_length or work.rollout_length)
        assert agent.networks.shares_backbone == work.shared_memory
        assert not torch.any(collector.collect(agent).observations[..., [1, 3]])


@pytest.mark.parametrize("work", WITH_REPLAY.values(), ids=WITH_REPLAY)
def test_work_with_a_replay_is_built_as_it_is_described(work: Replaying) -> None:
    config, agent, collector = ours.build(
        throughput_overrides(replace(work, compiled=False)), seed=0
    )
    assert (collector.environments.num_envs, config.agent.train_frequency) == (1, 4)
    assert config.agent.replay_ratio * work.steps_per_iteration == 1  # an update every four steps
    batch_sizes = (config.agent.batch_size, agent.options.batch_size)
    assert batch_sizes == (work.batch_size, work.batch_size)
    assert config.agent.epsilon == config.agent.final_epsilon == work.epsilon
    trained = sum(p.numel() for part in agent.parts().values() for p in part)
    assert config.precision == ("bf16" if work.half_precision else "float32")
    assert trained == (1_687_206 if work.images else 320 + 4160 + 130)  # stable-baselines3's


@pytest.mark.parametrize(
    ("name", "trained"),
    [
        (
            "sac",
            67_330 + 2 * 67_329 + 1,
        ),  # policy, two critics, temperature: as the peers' networks
        ("td3", 67_073 + 2 * 67_329),
        ("recurrent-sac", 2 * 68_096 + 33_282 + 2 * 33_281 + 1),  # skrl's has one LSTM more
    ],
)
def test_work_with_critics_trains_what_the_peers_do(name: str, trained: int) -> None:
    work = THROUGHPUT[name]
    assert isinstance(work, Criticising)
    config, agent, collector = ours.build(throughput_overrides(work), seed=0)
    assert sum(p.numel() for part in agent.parts().values() for p in part) == trained
    assert (config.agent.batch_size, config.agent.replay_ratio) == (work.batch_size, 1)
    if work.memory_size:
        assert config.agent.sequence_length == work.sequence_length
        assert not torch.any(collector.collect(agent).observations[..., 2])


def test_the_arithmetic_of_a_gradient_step_is_counted() -> None:
    """Against the sum of its products; the fused LSTM, which PyTorch does not count, by hand."""
    work = Criticising("td3", learning_starts=20, batch_size=8, hidden_size=16)
    measured = ours.measure_throughput(work, rollouts=2, warmup=2, seed=0)
    actor, critics = 3 * 16 + 16 * 16 + 16, 2 * (4 * 16 + 16 * 16 + 16)
    critic_step = actor + critics + 2 * critics + (critics - 2 * 4 * 16)  # no gradient of inputs
    assert measured.operations > 2 * 8 * critic_step
    assert measured.operations < 2 * 8 * (critic_step + 2 * actor + 2 * critics)
    lstm, inputs = torch.nn.LSTM(3, 16), torch.zeros(5, 2, 3)
    with Operations() as operations:
        lstm(inputs)[0].sum().backward()
    assert operations.get_total_flops() == 3 * (2 * 5 * 2 * 64 * (3 + 16))


def test_a_peer_s_arithmetic_is_counted_per_gradient_step() -> None:
    """The mean of two, as TD3 trains its actor in every second."""
    clock = Clock(counts=True)
    update = clock.around(lambda columns: torch.ones(3, 4) @ torch.ones(4, columns))
    for columns in (1, 5, 9):
        update(columns)
    measured = clock.measurement(Criticising("td3"), iterations=1, warmup=2, parameters=[])
    assert measured.operations == 2 * 3 * 4 * (1 + 5) / 2
    assert measured.floor_per_second == measured.operations_per_second / measured.operations > 0


def test_what_comes_before_learning_is_not_measured() -> None:
    work = Replaying(learning_starts=64, buffer_size=1_000, batch_size=8)
    measured = ours.measure_throughput(work, rollouts=5, warmup=2, seed=0)
    assert sum(measured.phases.values()) == pytest.approx(measured.seconds)
    assert 10 < measured.env_steps <= 20  # five times four, less the steps that reset


@pytest.mark.parametrize("memory_size", [0, 16])
def test_phases_add_up_to_the_time_measured(memory_size: int) -> None:
    work = replace(SMALL, memory_size=memory_size)
    measured = ours.measure_throughput(work, rollouts=2, warmup=1, seed=0)
    assert set(measured.phases) == set(PHASES)
    assert sum(measured.phases.values()) == pytest.approx(measured.seconds)
    assert min(measured.phases.values()) >= 0
    assert 0 < measured.env_steps <= 2 * work.steps_per_iteration
    assert measured.peak_memory_mib > 50
    if not memory_size:  # 4-64-64-2 and 4-64-64-1, with biases
        assert measured.parameters == (320 + 4160 + 130) + (320 + 4160 + 65)


@pytest.mark.parametrize("name", SOLVE)
def test_solving_stops_at_the_first_evaluation_that_is_good_enough(name: str) -> None:
    easy = replace(SOLVE[name], threshold=1.0, evaluation_interval=256, episodes=2)
    solved = ours.measure_solve(easy, seed=0)
    assert len(solved.returns) == 1
    assert 256 <= solved.env_steps_or_never <= 512
    assert 0 < solved.seconds_or_never < 60


def test_a_spent_budget_is_not_solved() -> None:
    hopeless = replace(SOLVE["ppo"], threshold=1e9, budget=300, episodes=2)
    solved = ours.measure_solve(hopeless, seed=0)
    assert solved.env_steps is None
    assert len(solved.returns) == 1  # the one at the end


def test_rollouts_with_ends_keep_the_stream_s_promises() -> None:
    _, agent, collector = ours.build(throughput_overrides(SMALL), seed=0)
    template = collector.collect(agent)
    generator = np.random.default_rng(0)
    rollout = ours.with_ends(template, generator, probability=0.3)
    assert rollout.terminated.any()
    assert torch.equal(rollout.is_first[2:], rollout.terminated[:-1])
    assert not (rollout.terminated & ~rollout.valid).any()
    assert ours.with_ends(template, generator, probability=0.0).valid.all()


def test_sides_take_turns_at_going_first() -> None:
    sides = ["ours", "skrl", "sheeprl"]
    assert [in_turn(sides, number)[0] for number in range(4)] == [*sides, "ours"]
    assert all(sorted(in_turn(sides, number)) == sorted(sides) for number in range(4))


class Recorded(Workers):
    """Answers every request alike and keeps it."""

    def __init__(self) -> None:
        super().__init__(peers_python=Path())
        self.asked: list[tuple[str, str]] = []

    def run(self, side: str, *arguments: str | int) -> dict[str, Any]:
        self.asked.append((side, str(arguments[1])))
        return dict(RESULT)


def test_each_peer_is_asked_for_what_it_can_do() -> None:
    workers = Recorded()
    names = ["ppo-compiled", "recurrent-ppo-separate"]
    measured = compare(workers, names, ["skrl", "stable-baselines3"], rounds=2)
    first = [("ours", "ppo-compiled"), ("skrl", "ppo"), ("stable-baselines3", "ppo")]
    assert workers.asked[:3] == first
    assert workers.asked[5:8] == [*first[1:], first[0]]
    assert set(measured["recurrent-ppo-separate"]) == {"ours", "stable-baselines3"}
    assert all(len(results) == 2 for sides in measured.values() for results in sides.values())


def test_a_peer_s_clock_runs_from_the_end_of_the_warm_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three updates of 1 s, 2 s of something else before each: two iterations take 6 s."""
    ticks = iter([2.0, 3.0, 5.0, 6.0, 8.0, 9.0])
    monkeypatch.setattr("time.perf_counter", lambda: next(ticks))
    clock = Clock()
    update = clock.around(lambda value, *, factor: value * factor)
    assert [update(value, factor=2) for value in (1, 2, 3)] == [2, 4, 6]
    layer = torch.nn.Linear(4, 2)
    measured = clock.measurement(SMALL, iterations=2, warmup=1, parameters=layer.parameters())
    assert measured.seconds == 6.0
    assert measured.phases == {"update": 2.0, "everything else": 4.0}
    assert measured.env_steps == 2 * 4 * 8
    assert measured.parameters == 10
    with pytest.raises(RuntimeError, match="3 were made"):
        clock.measurement(SMALL, iterations=3, warmup=1, parameters=[])


def test_a_worker_that_fails_is_reported(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="invalid choice"):
        Workers(peers_python=Path(sys.executable)).run("ours", "throughput", "no-such-work")


def results(*env_steps: int) -> list[dict[str, Any]]:
    return [RESULT | {"env_steps": steps} for steps in env_steps]


def test_ratios_are_of_the_same_round() -> None:
    """A machine twice as slow in one round changes neither that round's ratio nor the median."""
    sides = {
        "ours": results(400, 200, 400),
        "stable-baselines3": results(100, 50, 100),
        "skrl": results(200, 80, 200),
    }
    alone = {"ours": results(100)}
    first, second = comparison_table({"ppo": sides, "resets": alone}).splitlines()[2:]
    assert first.startswith("| ppo | 200 | 50 (4.00 x) | 100 (2.00 x) | **2.00** (2.00 to 2.50), ")
    assert second == "| resets | 50 | - | - | - | - |"


def test_a_disturbed_round_does_not_count_in_the_best() -> None:
    sides = {"ours": results(400, 100), "skrl": results(40, 160), "sheeprl": results(150, 150)}
    (row,) = comparison_table({"ppo": sides}).splitlines()[2:]
    assert row.endswith("| 2.50, skrl |")


def test_sizes_are_shown_for_every_side() -> None:
    sides = {"ours": results(1), "skrl": [RESULT | {"parameters": 12}]}
    assert "| ppo | 300 (9,155) | 300 (12) | 0.0 | - |" in sizes_table({"ppo": sides})


def test_compiling_with_an_empty_cache_is_told_apart() -> None:
    seconds = [RESULT | {"compile_seconds": number} for number in (30.0, 3.0, 2.0, 4.0)]
    assert sizes_table({"ppo-compiled": {"ours": seconds}}).endswith("| 30.0 | 3.0 |")


def test_a_work_begins_with_an_empty_cache_and_finds_it_again(monkeypatch) -> None:
    caches = []

    def run(command: list[str], *, env: dict[str, str], **options: Any) -> Any:
        caches.append(Path(env["TORCHINDUCTOR_CACHE_DIR"]))
        caches[-1].mkdir(exist_ok=True)
        return subprocess.CompletedProcess(command, 0, stdout="{}\n")

    monkeypatch.setattr(subprocess, "run", run)
    workers = Workers(peers_python=Path())
    for work in ("dqn-compiled", "ppo-compiled", "dqn-compiled"):
        assert workers.run("ours", "throughput", work) == {}
    other, first, again = caches[1], caches[0], caches[2]
    assert first == again != other
    assert Workers(peers_python=Path()).run("ours", "throughput", "dqn-compiled") == {}
    assert caches[3] != first


def test_what_is_not_training_is_told_apart() -> None:
    def runs(beside: float) -> list[dict[str, float]]:
        return [{"process": 12.0, "training": training, "beside": beside} for training in (8, 10)]

    table = costs_table({"everything": runs(2.0), "nothing": runs(1.1)})
    assert "| everything | 12.00 | 9.00 | 2.00 | 0.90 | 10.1% |" in table
    assert "| nothing | 12.00 | 9.00 | 1.10 | 0.00 | 0.0% |" in table


def test_a_whole_run_is_timed() -> None:
    small = ["total_env_steps=1_024", "agent.rollout_length=32", "evaluation.final_episodes=1"]
    seconds = train([*small, "evaluation.num_envs=1", *RUNS["nothing"]])
    assert 0 < seconds["training"] < seconds["process"]
    assert 0 < seconds["beside"] < seconds["process"] - seconds["training"]


def test_gradient_steps_are_shown_beside_their_floor() -> None:
    """2 GFLOP at 200 GFLOP/s: 100 gradient steps per second, of which 50 were measured."""
    counted = RESULT | {"operations": 2e9, "operations_per_second": 2e11}
    rows = floor_table({"sac": {"ours": [counted], "skrl": [RESULT]}}).splitlines()[2:]
    assert rows == ["| sac, ours | 2.00 | 200 | 100.0 | 50.0 | **50%** |"]
    assert not floor_table({"ppo": {"ours": [RESULT]}})


def test_tables_show_shares_costs_and_seeds() -> None:
    assert "25% (5000.0 us)" in breakdown_table({"ppo": [RESULT]})
    resets = {"lstm": [{"with_resets": 0.012, "without_resets": 0.010}]}
    assert "| lstm | 12.0 | 10.0 | **1.20** |" in resets_table(resets)
    solved = {"env_steps": 2560, "seconds": 1.25, "returns": [500.0]}
    never = {"env_steps": None, "seconds": None, "returns": [9.0]}
    table = solve_table("ppo", {"1": {"ours": solved, "stable-baselines3": never}})
    assert "| seed 1 | 2,560 | 1.2 | not solved | - |" in table


def test_every_comparison_names_work_that_exists() -> None:
    can = {work for works in PEERS.values() for work in works}
    assert can <= set(THROUGHPUT)
    assert {ours for ours, _, _ in COMPARISONS.values()} <= set(THROUGHPUT)
    assert {theirs for _, theirs, _ in COMPARISONS.values()} == can
    assert Measurement(**RESULT).steps_per_second == 50


def test_the_replay_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay, "WINDOWS", 2000)
    assert "32 sequences x 80 steps" in replay.measure_sequences(200, 1)
    assert "stacks of 4" in replay.measure_sequences(200, 1, stack=4)
    assert "drawn and updated" in replay.measure_priorities(1)
    assert "single steps" in replay.measure_single_steps(1)
    assert "x observation, action and scalars" in replay.measure_memory(200)
