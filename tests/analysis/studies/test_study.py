"""The jobs of a study: their words, their directories, what is left to do for each."""

import json
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from analysis.studies.study import Job, Study, fingerprint, is_finished, refuse_shortened
from conf.checking.refusals import InvalidConfiguration
from conf.composing.command_line import load

CONF = Path(__file__).resolve().parents[3] / "conf"
SHIPPED = sorted(file.stem for file in (CONF / "study").glob("*.yaml"))
QUICK = "value_losses_ppo_acrobot"
TASK = ["task=cartpole"]
ARMS = {"none": ["memory=none"], "gru": ["memory=gru"]}


def study(directory: Path, **changes: Any) -> Study:
    """Composes a study on CartPole."""
    options = {
        **{"name": "mine", "question": "", "tasks": {"cartpole": TASK}, "arms": ARMS},
        **{"seeds": [0, 1], "baseline": None, "total_env_steps": None, "metric": "last"},
        **{"protocol": "fixed", "tuning": {}},
    }
    return Study(options | changes, directory)


def leave(job: Job, status: str, env_steps: int, total: int) -> None:
    """Leaves the files of a run."""
    job.directory.mkdir(parents=True)
    (job.directory / "config.yaml").write_text(f"total_env_steps: {total}\n")
    summary = {"status": status, "env_steps": env_steps}
    (job.directory / "summary.json").write_text(json.dumps(summary))


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[] if n == QUICK else pytest.mark.slow) for n in SHIPPED]
)
def test_every_arm_of_a_shipped_study_composes(name: str, tmp_path: Path) -> None:
    options = OmegaConf.to_container(load([f"study={name}"], "compare").study)
    shipped = Study(options, tmp_path)  # type: ignore[arg-type]
    runs = len(shipped.options["seeds"]) * len(shipped.options["tasks"])
    assert len(shipped.jobs()) == runs * len(shipped.options["arms"])
    assert len({job.directory for job in shipped.jobs()}) == len(shipped.jobs())


def test_every_shipped_study_keeps_the_rules_of_studies() -> None:
    assert all(load([f"study={name}"], "compare").study.question for name in SHIPPED)


def test_jobs_are_runs_of_tasks_arms_and_seeds(tmp_path: Path) -> None:
    made = study(tmp_path, total_env_steps=5_000)
    jobs = made.jobs()
    assert [(job.arm, job.seed) for job in jobs] == [
        ("none", 0),
        ("gru", 0),
        ("none", 1),
        ("gru", 1),
    ]
    assert jobs[1].words == (
        *("task=cartpole", "memory=gru", "num_threads=1", "total_env_steps=5000"),
        *("seed=0", "tracking.progress=false"),
    )
    assert jobs[1].directory == tmp_path / made.cells[1].folder / "seed0"
    assert load(jobs[1].words).memory._target_ == "networks.memory.GRU"
    edited = study(tmp_path, arms={"gru": ["memory=gru", "memory.hidden_size=8"], "none": []})
    assert edited.cells[0].folder != made.cells[1].folder


def test_a_longer_budget_resumes_unless_something_is_scheduled(tmp_path: Path) -> None:
    short, long = (
        study(tmp_path, total_env_steps=steps, arms={"a": ["optimizer.schedule=constant"], "b": []})
        for steps in (1_000, 2_000)
    )
    assert short.cells[0].fingerprint == long.cells[0].fingerprint
    assert short.cells[1].fingerprint != long.cells[1].fingerprint  # its learning rate falls


def test_only_what_is_trained_makes_another_configuration() -> None:
    def mark(*words: str) -> str:
        config: Any = OmegaConf.to_container(load([*TASK, *words]))
        return fingerprint(config)

    assert mark() == mark("seed=3", "run_dir=x", "tracking=none")
    assert mark() != mark("agent.discount=0.9")


def test_every_problem_is_reported_with_its_arm(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfiguration) as refusal:
        study(tmp_path, arms={"a": ["memory=grru"], "b": ["agent.clip_rang=1"], "c": []})
    assert len(refusal.value.problems) == 2
    assert refusal.value.problems[0].startswith("study.arms.a: memory: expected one of")
    assert refusal.value.problems[1].startswith("study.arms.b: agent.clip_rang: unknown key")


def test_arms_that_are_the_same_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfiguration, match=r"a, b are the same configuration on cartpole"):
        study(tmp_path, arms={"a": ["memory=none"], "b": []})


def test_the_best_weights_are_not_compared_as_the_last(tmp_path: Path) -> None:
    arms = {"a": ["evaluation.checkpoint=best"]}
    with pytest.raises(InvalidConfiguration, match=r"add evaluation\.checkpoint=last"):
        study(tmp_path, arms=arms)
    study(tmp_path, arms=arms, metric="best")


def test_frames_of_pretraining_count(tmp_path: Path) -> None:
    arms = {"ae": ["extractor=autoencoder", "extractor.pretrain.frames=20_000"], "mlp": []}
    made = study(tmp_path, arms=arms, total_env_steps=50_000)
    assert [cell.env_steps for cell in made.cells] == [30_000, 50_000]
    with pytest.raises(InvalidConfiguration) as refusal:
        study(tmp_path, arms=arms | {"bad": ["memory=grru"]}, total_env_steps=20_000)
    frames, memory = refusal.value.problems
    assert frames == "study.arms.ae: extractor.pretrain.frames=20000 leaves no steps of 20000"
    assert memory.startswith("study.arms.bad: memory: expected one of")


def test_tuned_values_replace_words(tmp_path: Path) -> None:
    made = study(tmp_path)
    before = {cell.fingerprint for cell in made.cells}
    made.choose({("cartpole", "gru"): ["agent.discount=0.9"]})
    assert "agent.discount=0.9" in made.cells[1].words
    assert made.cells[0].fingerprint in before
    assert made.cells[1].fingerprint not in before


@pytest.mark.parametrize(
    ("status", "env_steps", "is_over"),
    [
        ("finished", 1_024, True),
        ("finished", 512, False),  # of a smaller budget
        ("interrupted", 1_024, False),
        ("failed", 512, False),
    ],
)
def test_what_is_left_to_do(status: str, env_steps: int, is_over: bool, tmp_path: Path) -> None:
    job = Job("task", "arm", 0, (), tmp_path / "run", 1_000)
    assert not is_finished(job)
    leave(job, status, env_steps, 1_000)
    assert is_finished(job) is is_over
    refuse_shortened([job])


def test_a_damaged_summary_is_no_end(tmp_path: Path) -> None:
    job = Job("task", "arm", 0, (), tmp_path / "run", 1_000)
    leave(job, "finished", 1_000, 1_000)
    (job.directory / "summary.json").write_text("[")
    assert not is_finished(job)


def test_a_damaged_configuration_is_no_end(tmp_path: Path) -> None:
    """Else a run would be left out of every report, and never trained again."""
    job = Job("task", "arm", 0, (), tmp_path / "run", 1_000)
    leave(job, "finished", 1_000, 1_000)
    (job.directory / "config.yaml").write_text("a: [")
    assert not is_finished(job)


def test_a_smaller_budget_than_a_run_has_is_refused(tmp_path: Path) -> None:
    job = Job("task", "arm", 0, (), tmp_path / "run", 1_000)
    leave(job, "finished", 5_000, 5_000)
    with pytest.raises(InvalidConfiguration) as refusal:
        refuse_shortened([job])
    (problem,) = refusal.value.problems
    assert "1,000 is less than the 5,000 of the run" in problem
    assert "name another directory=" in problem
