"""The command in TensorBoard, pasted into a shell, begins the same run once more."""

import shlex
import sys

import pytest
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from conf.composing.command_line import launch, load
from training.building.instantiation import plain
from training.runs.directory import cells_of, command, introduce
from training.tracking.tracking import TensorBoard


@pytest.fixture
def typed(monkeypatch, tmp_path_factory):
    """Lets a command line be the one that started this process."""
    monkeypatch.chdir(tmp_path_factory.mktemp("here"))
    monkeypatch.setattr(HydraConfig.instance(), "cfg", None)  # and afterwards what it was

    def type_words(words: list[str]) -> list[str]:
        found = []
        monkeypatch.setattr(sys, "argv", ["train.py", *words])
        launch(lambda config: found.append(HydraConfig.instance().cfg.hydra))
        monkeypatch.setattr(HydraConfig, "initialized", lambda: True)
        monkeypatch.setattr(HydraConfig, "get", lambda: found[0])
        line = command()
        assert line is not None
        return shlex.split(line)

    return type_words


def test_the_words_are_repeated_but_for_the_place(typed) -> None:
    words = ["memory=lstm", "seed=3", "extractor.hidden_sizes=[32, 8]", "+env.kwargs.g='a b'"]
    line = typed([*words, "run_dir='my runs/x'"])
    assert line[:2] == ["python", "train.py"]
    again, first = load(line[2:]), load(words)
    assert {**again, "run_dir": ""} == {**first, "run_dir": ""}
    assert again.extractor.hidden_sizes == [32, 8]


def test_own_configurations_are_found_again(typed, tmp_path) -> None:
    (tmp_path / "memory").mkdir()
    (tmp_path / "memory" / "mine.yaml").write_text(
        "_target_: networks.memory.NoMemory\nsequence_length: 1\n"
    )
    place = f"hydra.searchpath=[file://{tmp_path}]"
    assert typed([place, "memory=mine"])[2:] == [place, "memory=mine"]
    flags = [f"--config-dir={tmp_path}", "memory=mine"]
    assert typed(flags)[2:] == [
        f"--config-dir={tmp_path}",
        "memory=mine",
    ]


def test_another_configuration_is_named_again(typed, tmp_path) -> None:
    (tmp_path / "other.yaml").write_text("defaults: [config, _self_]\nseed: 7\n")
    words = ["hydra.mode=RUN", "hydra.verbose=true", "memory=gru", "run_dir=x"]
    flags = [f"--config-dir={tmp_path}", "--config-name=other"]
    assert typed([*flags, *words])[2:] == [*flags, "hydra.verbose=true", "memory=gru"]


def test_a_run_is_introduced(tmp_path, typed) -> None:
    typed(["seed=3"])
    config = plain(load(["seed=3", "memory=gru", f"run_dir={tmp_path}"]))
    tensorboard = TensorBoard(tmp_path)
    text = OmegaConf.to_yaml(config)
    introduce(tensorboard, cells_of(config), text, {"torch": "2.13", "numpy": "2.4"})
    tensorboard.close()
    (path,) = tmp_path.iterdir()
    values = {
        value.tag: value
        for event in EventFileLoader(str(path)).Load()
        for value in event.summary.value
    }
    texts = {"run/command", "run/configuration"}
    assert values.keys() == {*texts, "_hparams_/session_start_info", "custom_scalars__config__"}
    assert "    seed: 3\n" in values["run/configuration"].tensor.string_val[0].decode()
    text = values["run/command"].tensor.string_val[0].decode()
    assert text.startswith("    python train.py seed=3\n\n")
    assert "| torch | 2.13 |\n| numpy | 2.4 |" in text
    content = values["_hparams_/session_start_info"].metadata.plugin_data.content
    cells = HParamsPluginData.FromString(content).session_start_info.hparams
    assert cells["seed"].string_value == "3"
    assert cells["memory"].string_value == "GRU"
    assert cells["memory.hidden_size"].string_value == "64"
    assert cells["agent.discount"].number_value == 0.99
    first = [(name, cells[name].string_value) for name in sorted(cells)[:4]]
    values = ("PPO", "CartPole-v1", "MLP", "GRU")
    assert first == list(zip(("Agent", "Environment", "Extractor", "Memory"), values, strict=True))
    assert cells["critic.memory"].string_value == "null"
    assert not {"run_dir", "trusted_packages"} & set(cells)
    assert len(cells) > 60


def test_a_run_begun_from_python_says_so(tmp_path) -> None:
    assert command() is None
    tensorboard = TensorBoard(tmp_path)
    introduce(tensorboard, {}, "seed: 1\n", {})
    tensorboard.close()
    (path,) = tmp_path.iterdir()
    assert b"begun from Python" in path.read_bytes()
