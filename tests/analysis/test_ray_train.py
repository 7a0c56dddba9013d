"""`engine=ray` of a run: what is asked of Ray Train, and what is refused before."""

import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import train
from analysis.studies.engines import ray_train
from training.runs.refusal import Refusal

OPTIONS = {"name": "ray", "jobs": 3, "address": None, "cpus_per_job": 2, "gpus_per_job": 0.5}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Any]:
    """Stand in for Ray, and keep what it is asked for."""
    found: dict[str, Any] = {}

    class Failed(Exception):
        pass

    class Trainer:
        def __init__(self, rank: Any, **arguments: Any) -> None:
            found.update(arguments, rank=rank)

        def fit(self) -> Any:
            if found.get("is_lost"):
                raise Failed
            return SimpleNamespace(return_value=found.get("code", 0))

    kept = {name: (lambda **given: given) for name in ("ScalingConfig", "RunConfig")}
    modules = {
        "ray.train": SimpleNamespace(**kept, TrainingFailedError=Failed),
        "ray.train.torch": SimpleNamespace(TorchTrainer=Trainer, TorchConfig=lambda **of: of),
    }
    monkeypatch.setattr(ray_train, "connect", lambda address, log_to_driver: None)
    monkeypatch.setattr(ray_train, "needed", lambda name, extra: modules[name])
    monkeypatch.chdir(tmp_path)
    return found


def test_each_rank_gets_the_words_and_its_cores(asked: dict[str, Any], tmp_path: Path) -> None:
    ray_train.train_on_ray(OPTIONS, ["env=pendulum"])
    wants = {"CPU": 2, "GPU": 0.5}
    expected = {"num_workers": 3, "use_gpu": True, "resources_per_worker": wants}
    assert asked["scaling_config"] == expected
    settings = asked["train_loop_config"]
    assert settings == {"words": ["env=pendulum"], "place": str(tmp_path)}
    assert asked["rank"] is ray_train.be_a_rank
    assert os.listdir(tmp_path) == []  # Ray Train's records are gone


@pytest.mark.parametrize(
    ("ended", "told", "exit_code"),
    [
        ({"code": 2}, "the first rank ended with code 2, see above", 2),
        ({"code": 143}, "ended with code 143", 143),
        ({"code": -9}, "ended with code 137", 137),
        ({"is_lost": True}, "a worker was lost; resume=RUN_DIR resumes", 1),
    ],
)
def test_a_rank_that_fails_is_told_in_a_line(
    asked: dict[str, Any], ended: dict[str, Any], told: str, exit_code: int
) -> None:
    asked.update(ended)
    with pytest.raises(Refusal, match=told) as refusal:
        ray_train.train_on_ray(OPTIONS, [])
    assert refusal.value.exit_code == exit_code


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["engine=slurm", "engine.jobs=2"], "engine: a run of several processes is started by"),
        (["engine=ray"], "by torchrun, or by engine=ray engine.jobs=2"),
        (["engine=ray", "engine.job=2"], "engine.job: unknown key; did you mean engine.jobs?"),
        (["engine=ray", "engine.jobs=2", "agent.clip_rang=1"], "did you mean agent.clip_range?"),
    ],
)
@pytest.mark.usefixtures("asked")
def test_a_wrong_word_is_refused_before_ray_starts(
    words: list[str],
    told: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["train.py", *words])
    with pytest.raises(SystemExit) as end:
        train.main()
    assert end.value.code == 2
    assert told in capsys.readouterr().err
