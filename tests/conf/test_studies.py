"""Studies and engines are checked like every other configuration."""

from pathlib import Path

import pytest

from conf.composing.command_line import InvalidConfiguration, check, load

CONF = Path(__file__).resolve().parents[2] / "conf"
STUDY = "study=value_losses_ppo_acrobot"
MINE = """
question: Does memory help?
tasks: {mine: [env.id=CartPole-v1]}
arms:
  none: [memory=none]
  gru: [memory=gru]
"""


@pytest.mark.parametrize("engine", [file.stem for file in (CONF / "engine").glob("*.yaml")])
def test_every_engine_composes(engine: str) -> None:
    assert load([f"engine={engine}"], "compare").engine.name == engine


def test_no_study_is_chosen_by_default() -> None:
    config = load([], "compare")
    assert config.study.name is None
    assert config.engine.name == "local"


def test_a_study_of_the_users_own_needs_what_is_its_own_alone(tmp_path: Path) -> None:
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "mine.yaml").write_text(MINE)
    words = [f"--config-dir={tmp_path}", "study=mine", "study.seeds=[0,1]"]
    (run,), _ = check(words, "compare")
    study = run.typed["study"]
    assert (study["name"], study["seeds"], list(study["arms"])) == ("mine", [0, 1], ["none", "gru"])
    assert run.typed["directory"] == "runs/studies/mine"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["study=value_loses_ppo_acrobot"], "did you mean value_losses_ppo_acrobot?"),
        (["study.sedes=[1]"], "study.sedes: unknown key; did you mean study.seeds?"),
        (["study.metric=median"], "study.metric: expected one of last, best, mean, got 'median'"),
        (["study.seeds=[1,1]"], "study.seeds: 1 is given 2 times; a repeated run is no second"),
        (["study.seeds=[]"], "study.seeds: expected at least one seed"),
        (["study.baseline=hubr"], "study.baseline: there is no arm 'hubr'; did you mean huber?"),
        (["~study.tasks.acrobot"], "study.tasks: expected at least one"),
        (["+study.arms.a/b=[memory=none]"], "+study.arms.a/b=[memory=none]"),
        (["+study.arms.x=['seed=1']"], "study.arms.x: seed is set by the study; use study.seeds"),
        (
            ["+study.arms.x=['tracking.progress=true']"],
            "study.arms.x: tracking.progress is set by the study",
        ),
        (["+study.arms.x=[memory=gru]"], "+study.arms.x=\"['memory=gru']\""),
        (["+study.arms.x=['run_dir=a']"], "study.arms.x: run_dir is set by the study; use"),
        (["+study.arms.x=['resume=a']"], "study.arms.x: resume is set by the study"),
        (["+study.arms.x=['total_env_steps=1']"], "study.arms.x: total_env_steps would give arms"),
        (["+study.arms.x=['hydra.mode=RUN']"], "study.arms.x: hydra.mode is set by the study"),
        (["+study.arms={false: []}"], "study.arms: YAML reads on, off, yes and no as False"),
        (["+study.arms.x=memory"], "study.arms.x: expected a list of words such as memory=gru"),
        (["study.protocol=tuned"], "study.tuning.keys: expected at least one"),
        (
            ["study.protocol=tuned", "+study.tuning.keys.seed=1e-3"],
            "study.tuning.keys.seed: expected a range such as interval(1e-4,1e-2)",
        ),
        (
            ["study.protocol=tuned", "+study.tuning.keys.seed='choice(1, 2)'"],
            "study.tuning.keys: seed is set by the study; use study.seeds",
        ),
        (
            ["study.protocol=tuned", "+study.arms.x=['agent.discount=0.9']",
             "+study.tuning.keys={agent.discount: 'interval(0.9, 0.99)'}"],
            "study.arms.x: agent.discount is one of study.tuning.keys, which would replace it",
        ),
        (
            ["study.protocol=tuned", "study.tuning.seeds=[4,9]",
             "+study.tuning.keys={agent.discount: 'interval(0.9, 0.99)'}"],
            "study.tuning.seeds: 4 is one of study.seeds",
        ),
        (["engine=lokal"], "engine: expected one of local, ray, slurm, got 'lokal'"),
        (["engine.jobs=0"], "engine.jobs: expected auto or an integer >= 1, got 0"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(words: list[str], message: str) -> None:
    chosen = [] if words[0].startswith(("study=", "engine")) else [STUDY]
    with pytest.raises(InvalidConfiguration) as refusal:
        load([*chosen, *words], "compare")
    assert message in str(refusal.value)


def test_optuna_is_called_by_its_own_command() -> None:
    for words in (["hydra/sweeper=optuna"], ["optimizer.learning_rate=interval(1e-4,1e-2)"]):
        with pytest.raises((InvalidConfiguration, SystemExit)) as refusal:
            load(words)
        assert "tune.py" in str(refusal.value)
