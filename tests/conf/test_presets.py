"""A preset gives way to what is typed beside it, and says so; what is refused was typed."""

import functools
import warnings
from pathlib import Path

import pytest

from conf.compose import InvalidConfiguration, load
from conf.composition import Composer

PRESETS = sorted(
    file.stem
    for file in (Path(__file__).resolve().parents[2] / "conf" / "experiment").glob("*.yaml")
)
OPTIONS = {
    "extractor": ("flatten", "impala_cnn", "nature_cnn", "mlp", "vae"),
    "value_head": ("mse", "hl_gauss"),
    "optimizer": ("sgd", "adamw"),
    "memory": ("none", "lstm"),
    "agent": ("a2c", "ppo", "dqn", "pqn"),
}


@pytest.fixture(autouse=True)
def one_composer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reads the YAML files once."""
    monkeypatch.setattr("conf.compose.Composer", _composer)


_composer = functools.cache(Composer)


@functools.cache
def own(group: str, option: str) -> dict:
    """Return what an option says by itself."""
    needs = ["agent=dqn"] if option in ("c51", "quantile") else []
    return dict(load([f"{group}={option}", *needs])[group])


def notices(words: list[str]) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        load(words)
    return [str(warning.message) for warning in caught]


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_takes_every_option(preset: str) -> None:
    """What stays of the preset is what its own option and the typed one mean alike."""
    for group, options in OPTIONS.items():
        for option in options:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                config = load([f"experiment={preset}", f"{group}={option}"])
            assert config[group].keys() == own(group, option).keys(), (preset, option)
            assert config[group]._target_ == own(group, option)["_target_"]
