"""Runs as they lie on disk, in few words."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from omegaconf import OmegaConf

from conf.composing.command_line import load

_PLAIN: dict[tuple[str, ...], Any] = {}  # composing takes longer than everything else here


def configuration(words: tuple[str, ...]) -> dict[str, Any]:
    if words not in _PLAIN:
        _PLAIN[words] = OmegaConf.to_container(load(words))
    return json.loads(json.dumps(_PLAIN[words]))


@pytest.fixture
def leave(tmp_path: Path) -> Callable[..., Path]:
    """Leaves a run below the directory of the test."""

    def leave(name: str, *words: str, score: float | None = 1.0, **changes: Any) -> Path:
        directory = tmp_path / name
        directory.mkdir(parents=True)
        config = configuration(words)
        config["run_dir"] = str(directory)
        (directory / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
        summary = {
            "status": "finished",
            "env_steps": 1000,
            "training_seconds": 2.0,
            "steps_per_second": 500.0,
            "parameters": {"total": 77, "actor": 77},
            "evaluation": None if score is None else {"return_mean": score},
            **changes,
        }
        (directory / "summary.json").write_text(json.dumps(summary))
        return directory

    return leave
