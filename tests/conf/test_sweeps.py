"""A job of a sweep is one run, and exactly the one that was asked for, whatever flag says it."""

import re
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import hydra
import pytest
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from conf.composing.command_line import check, launch

CARRIED = {"--config-dir", "-cd", "--config-name", "-cn"}
REFUSED = {"--config-path", "-cp", "--experimental-rerun"}
OF_NO_RUN = {
    *("--help", "-h", "--hydra-help", "--version", "--shell-completion", "-sc", "--info", "-i"),
    *("--cfg", "-c", "--resolve", "--package", "-p"),
}
OF_THE_SWEEP = {"--multirun", "-m", "--run", "-r"}
Started = tuple[DictConfig, list[str]]
Sweep = Callable[..., list[Started]]


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Sweep:
    """Starts a command line; returns what ran: its configuration and, of jobs, their own words."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(HydraConfig.instance(), "cfg", None)  # and afterwards what it was
    files = {
        "memory/mine.yaml": "_target_: networks.memory.NoMemory\nsequence_length: 1\n",
        "other.yaml": "defaults: [config, _self_]\ntotal_env_steps: 123\n",
        "experiment/mode.yaml": "# @package _global_\n"
        "hydra: {mode: MULTIRUN, sweeper: {params: {seed: '1,2'}}}",
        "hidden.yaml": "defaults: [config, _self_]\nhydra: {mode: MULTIRUN}\nenv: {time_limit: 7}",
    }  # fmt: skip
    for name, text in files.items():
        (tmp_path / "mine" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "mine" / name).write_text(text)

    def run(*argv: str) -> list[Started]:
        started: list[Started] = []
        monkeypatch.setattr(sys, "argv", ["train.py", *argv])
        launch(
            lambda config: started.append((config, [])),
            job=lambda config, words: started.append((config, words)),
        )
        return started

    return run


def test_every_flag_of_hydras_is_known_here(
    start: Sweep, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        start("--hydra-help")
    lines = re.findall(r"^(--[a-z-]+)(?:,(-[a-z]+))? :", capsys.readouterr().out, re.M)
    flags = {flag for names in lines for flag in names if flag}
    assert flags == CARRIED | REFUSED | OF_NO_RUN | OF_THE_SWEEP


OF_HYDRA_1_3 = pytest.mark.skipif(
    not hydra.__version__.startswith("1.3."), reason="1.4 refuses a mode that an option chooses"
)
MINE = ["--config-dir", "mine"]


@pytest.mark.parametrize(
    ("argv", "key", "value"),
    [
        (["-m", "seed=1,2", *MINE, "memory=mine"], "memory._target_", "networks.memory.NoMemory"),
        (["-m", "seed=1,2", "-cd=mine", "memory=mine"], "memory.sequence_length", 1),
        (["-m", "seed=1,2", *MINE, "--config-name", "other"], "total_env_steps", 123),
        (["--multirun", "seed=1,2", *MINE, "-cn=other"], "total_env_steps", 123),
        (["-m", "seed=1,2", "hydra.searchpath=[file://mine]", "memory=mine"], "seed", 2),
        (["hydra.mode=MULTIRUN", "seed=1,2", "env.time_limit=5"], "env.time_limit", 5),
        (["-r", "hydra.mode=MULTIRUN", "seed=1,2"], "seed", 2),
        pytest.param([*MINE, "experiment=mode"], "seed", 2, marks=OF_HYDRA_1_3),
        ([*MINE, "-cn", "hidden", "seed=1,2"], "env.time_limit", 7),
        (["-m", "seed=1,2", "hydra.sweep.dir=x", "run_dir='a ${seed}, b'"], "run_dir", "a 2, b"),
        (["-m", "seed=1,2", "+env.kwargs.port=${hydra:job.num}"], "env.kwargs.port", 1),
        (["-m", "seed=1,2", "hydra/launcher=basic", "hydra.verbose=true"], "seed", 2),
        (["-m", "seed=1,2", "+hydra.job.env_set.WORD=said"], "seed", 2),
        (["-m", "seed=1,2", "hydra.output_subdir=.kept"], "seed", 2),
        (["-m", "seed=1,2", "memory=gru", "run_dir=${hydra:runtime.choices.memory}${seed}"],
         "run_dir", "gru2"),
    ],
)  # fmt: skip
def test_a_job_is_what_was_asked_for(
    start: Sweep, argv: list[str], key: str, value: object
) -> None:
    jobs = start(*argv)
    assert len(jobs) == 2
    config, words = jobs[-1]
    assert OmegaConf.select(config, key) == value
    ((alone, of_a_job),) = start(*words)  # one run, no sweep
    assert (alone, of_a_job) == (config, [])


def test_what_one_option_lacks_is_left_out_of_its_jobs(start: Sweep) -> None:
    with pytest.warns(UserWarning) as said:
        jobs = start("-m", "memory=none,lstm", "memory.hidden_size=32", "seed=1,2")
    notice = "memory.hidden_size=32: left out where memory=none has no such key"
    assert [str(warning.message) for warning in said] == [notice]
    sizes = [config.memory.get("hidden_size") for config, _ in jobs]
    assert sizes == [None, None, 32, 32]
    for config, words in jobs:
        assert any("hidden_size" in word for word in words) == ("hidden_size" in config.memory)
        assert [alone for alone, _ in start(*words)] == [config]


def test_what_no_option_has_is_refused(start: Sweep, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (
        ["memory=none,lstm", "memory.hiden_size=3"],
        ["seed=1,2", "memory.hidden_size=3"],
    ):
        with pytest.raises(SystemExit) as ended:
            start("-m", *words)
        assert ended.value.code == 2
        assert "unknown key" in capsys.readouterr().err


def test_a_preset_gives_way_in_every_job(start: Sweep) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # the jobs will say it
        jobs = start("-m", "experiment=minatar_breakout", "extractor=cnn,mlp,impala_cnn")
    kinds = [config.extractor._target_.rpartition(".")[2] for config, _ in jobs]
    assert kinds == ["CNN", "MLP", "ImpalaCNN"]
    assert "layers" not in jobs[1][0].extractor
    with pytest.warns(UserWarning, match=r"left out .*extractor\.layers"):
        assert [alone for alone, _ in start(*jobs[1][1])] == [jobs[1][0]]


def test_a_sweep_without_processes_of_its_own_takes_the_same(
    start: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `evaluate.py -m` does."""
    found: list[DictConfig] = []
    monkeypatch.setattr(sys, "argv", ["evaluate.py", "-m", "run=a,b", "evaluation.episodes=3"])
    launch(found.append, "evaluate")
    assert [(config.run, config.evaluation.episodes) for config in found] == [("a", 3), ("b", 3)]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["-m", "seed=1,2", "--cfg", "job"], "--multirun, --cfg: only one of them at a time"),
        (["--resolve"], "--resolve: goes with --cfg job or --help"),
        (["-m", "hydra.sweeper.params={seed: '1,2'}"], "hydra.sweeper.params: belongs in a file"),
        (["-m", "+hydra.sweeper.params.seed='1,2'"], "hydra.sweeper.params.seed: belongs in"),
        (["--config-path", "x"], "--config-path: would replace the defaults"),
        (["--experimental-rerun", "x"], "--experimental-rerun: not supported"),
    ],
)
def test_flags_that_cannot_be_are_refused(
    argv: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        check(argv)
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith(message)
