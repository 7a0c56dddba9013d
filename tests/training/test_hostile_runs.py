"""Somebody else's run directory executes nothing and writes nowhere else, by whatever door.

Every forgery is refused in one line, and none of them leaves a file called TRACE anywhere, changes
what lies outside of the run, or stays unnoticed.
"""

import functools
import hashlib
import io
import json
import os
import pickle
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

import neurl
from analysis.comparison import Plan, compare, with_curves
from analysis.grouping import labelled_by_choices
from analysis.runs import find_runs
from analysis.tables import write
from conf.composing.command_line import InvalidConfiguration, launch, load
from evaluate import evaluate as evaluate_here
from train import train as train_here
from training.building.environments import build_environments
from training.evaluation.watching import watch_run
from training.runs.directory import finished
from training.runs.fit import build_policy
from training.runs.refusal import Refusal
from training.runs.session import train_run
from training.saving.checkpoint import read_manifest, sealed
from training.saving.weights import pretraining_behind

ROOT = Path(__file__).resolve().parents[2]


class Evil:
    """Leaves a trace when it is unpickled."""

    def __reduce__(self) -> Any:
        return open, (os.path.abspath("TRACE_pickle"), "w")


@pytest.fixture(scope="module")
def base(train) -> Path:
    return train("agent=dqn", "total_env_steps=64").directory


@pytest.fixture
def run(base: Path, tmp_path: Path, monkeypatch) -> Path:
    """A copy to be forged; beside it a folder that must stay as it is."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "precious.txt").write_text("precious")
    return Path(shutil.copytree(base, tmp_path / "run"))


def outside() -> dict[str, str]:
    return {str(p): p.read_text() for p in Path("outside").rglob("*") if p.is_file()}


@functools.cache
def composed(*words: str) -> Any:
    return load(words, "evaluate" if words[0].startswith("run=") else "config")


def evaluate(run: Path, *words: str) -> str:
    small = ["evaluation.episodes=1", "evaluation.num_envs=1"]
    config = OmegaConf.merge(composed("run=x", *small, *words), {"run": str(run)})
    with pytest.raises(Refusal) as told:
        watch_run(config)
    assert told.value.exit_code == 2
    return str(told.value)


def open_policy(run: Path, *words: str) -> str:
    with pytest.raises(ValueError) as told:
        neurl.load(run)
    return str(told.value)


def go_on(run: Path, *words: str) -> str:
    try:
        config = load([f"resume={run}", "total_env_steps=96", *words])
    except InvalidConfiguration as refusal:
        return str(refusal)
    try:
        environments = build_environments(config, num_envs=config.env.num_envs)
    except ValueError as error:
        return str(error)
    with pytest.raises(Refusal) as told:
        train_run(config, environments)
    assert told.value.exit_code == 2
    return str(told.value)


def start_from(path: Path, *words: str) -> str:
    small = composed("extractor.hidden_sizes=[8]", "env.num_envs=1", "agent.num_minibatches=1")
    with pytest.raises(ValueError) as told:
        build_policy(OmegaConf.merge(small, {"init_from": str(path)}), None)
    return str(told.value)


def take_weights(path: Path, *words: str) -> str:
    small = composed("extractor.hidden_sizes=[8]", "env.num_envs=1", "agent.num_minibatches=1")
    with pytest.raises(ValueError) as told:
        build_policy(OmegaConf.merge(small, {"extractor": {"weights": str(path)}}), None)
    return str(told.value)


def skipped(run: Path) -> str:
    runs, lines = find_runs([str(run)])
    assert runs == []
    (line,) = lines
    return line


Door = Callable[..., str]
OPENING: tuple[Door, ...] = (evaluate, open_policy, go_on)


def assert_refused(doors: tuple[Door, ...], run: Path, words: str) -> None:
    before = outside()
    for door in doors:
        line = door(run)
        assert words in line, (door.__name__, line)
        assert "\n" not in line, (door.__name__, line)
        assert "Traceback" not in line
    assert outside() == before
    assert list(Path().rglob("TRACE*")) == []


def configure(run: Path, change: Callable[[dict[str, Any]], None]) -> None:
    path = run / "config.yaml"
    config = yaml.safe_load(path.read_text())
    change(config)
    path.write_text(yaml.safe_dump(config))


# Classes that a configuration names, values that would be resolved.

INNER = {
    "copy": "{_target_: shutil.copyfile, src: config.yaml, dst: TRACE_copy}",
    "numpy": "{_target_: numpy.load, file: evil.npy, allow_pickle: true}",
}


def escaped(text: str, levels: int) -> str:
    for _ in range(levels):
        text = text.replace("\\", "\\\\").replace("${", "\\${")
    return text


@pytest.mark.parametrize(
    ("levels", "inner"), [(0, "copy"), (1, "copy"), (2, "copy"), (3, "copy"), (1, "numpy")]
)
def test_an_interpolation_is_never_resolved(run: Path, levels: int, inner: str) -> None:
    np.save("evil.npy", np.array([Evil()], dtype=object), allow_pickle=True)
    text = escaped(f"${{oc.create:{INNER[inner]}}}", levels)
    wrapper = {"_target_": "gymnasium.wrappers.TransformReward", "func": text}
    configure(run, lambda config: config["env"].update(wrappers=[wrapper]))
    assert_refused((*OPENING, skipped), run, "env.wrappers[0].func: expected a resolved value")


@pytest.mark.parametrize("place", ["env.id", "run_dir", "extractor.activation", "optimizer"])
def test_nor_one_in_any_other_place(run: Path, place: str) -> None:
    def change(config: dict[str, Any]) -> None:
        *parents, last = place.split(".")
        node = config
        for parent in parents:
            node = node[parent]
        node[last] = "${oc.create:" + INNER["copy"] + "}"

    configure(run, change)
    assert_refused(OPENING, run, f"{place}: expected a resolved value")


NPZ = {"_target_": "gymnasium.spaces.box.np.lib.npyio.NpzFile", "fid": "evil.npz"}
WRAPPERS: dict[str, tuple[Any, str]] = {
    "an alias": (
        {
            "_target_": "gymnasium.wrappers.TransformObservation",
            "func": None,
            "observation_space": {
                "_target_": "gymnasium.spaces.Dict",
                "spaces": {**NPZ, "allow_pickle": True},
            },
        },
        "NpzFile",
    ),
    "an alias at once": ({**NPZ, "allow_pickle": True}, "NpzFile"),
    "a function": ({"_target_": "shutil.copyfile", "src": "config.yaml"}, "shutil.copyfile"),
    "a command": ({"_target_": "os.system", "command": "touch TRACE"}, "os.system"),
    "a function inside": (
        {
            "_target_": "gymnasium.wrappers.TransformReward",
            "func": {"_target_": "builtins.exec", "source": "open('TRACE', 'w')"},
        },
        "builtins.exec",
    ),
    "deep inside": (
        {
            "_target_": "gymnasium.wrappers.TransformReward",
            "func": [[{"a": {"_target_": "subprocess.run", "args": ["touch", "TRACE"]}}]],
        },
        "subprocess.run",
    ),
    "hydra's own": (
        {"_target_": "hydra.utils.get_method", "path": "shutil.copyfile"},
        "hydra.utils.get_method",
    ),
    "what writes videos": (
        {
            "_target_": "gymnasium.wrappers.RecordVideo",
            "video_folder": "outside",
        },
        "RecordVideo",
    ),
    "what writes videos, by its module": (
        {
            "_target_": "gymnasium.wrappers.rendering.RecordVideo",
            "video_folder": "outside",
        },
        "RecordVideo",
    ),
    "ours, for another place": (
        {"_target_": "training.tracking.tracking.TensorBoard", "directory": "outside"},
        "TensorBoard",
    ),
    "ours, inside": (
        {
            "_target_": "gymnasium.wrappers.TransformReward",
            "func": {"_target_": "training.tracking.event_files.EventFile", "directory": "outside"},
        },
        "EventFile",
    ),
    "a module as a wrapper": ({"_target_": "torch.nn.Flatten"}, "torch.nn.Flatten is no"),
    "a partial": (
        {"_target_": "gymnasium.wrappers.TimeLimit", "_partial_": True, "max_episode_steps": 3},
        "_partial_",
    ),
    "positions": ({"_target_": "gymnasium.wrappers.TimeLimit", "_args_": [3]}, "_args_"),
}


@pytest.mark.parametrize("case", WRAPPERS)
def test_only_wrappers_wrap(run: Path, case: str) -> None:
    np.savez("evil.npz", a=np.array([Evil()], dtype=object))
    wrapper, words = WRAPPERS[case]
    configure(run, lambda config: config["env"].update(wrappers=[wrapper]))
    assert_refused(OPENING, run, words)


@pytest.mark.parametrize(
    ("place", "target"),
    [
        ("agent", "networks.extractors.MLP"),
        ("extractor", "agents.dqn.DQN"),
        ("extractor", "torch.nn.utils.rnn.PackedSequence"),
        ("memory", "torch.nn.LSTM"),
        ("value_head", "torch.nn.Linear"),
        ("optimizer", "torch.nn.Linear"),
        ("optimizer", "torch.optim.lr_scheduler.LambdaLR"),
    ],
)
def test_a_place_takes_its_own_kind(run: Path, place: str, target: str) -> None:
    def change(config: dict[str, Any]) -> None:
        config[place]["_target_"] = target

    configure(run, change)
    assert_refused((evaluate, open_policy), run, target)


PACKAGE = "open('TRACE_import', 'w').close()\nimport torch\nclass Net(torch.nn.Linear): pass\n"


@pytest.mark.parametrize(
    "change",
    [
        lambda config: config["env"].update(packages=["hostile_package"]),
        lambda config: config["env"].update(packages=["minigrid.hostile_package"]),
        lambda config: config["env"].update(id="hostile_package:Task-v0"),
        lambda config: config.update(extractor={"_target_": "hostile_package.Net"}),
        lambda config: config["env"].update(wrappers=[{"_target_": "hostile_package.Net"}]),
    ],
)
def test_a_run_vouches_for_no_package(run: Path, monkeypatch, change) -> None:
    Path("hostile_package.py").write_text(PACKAGE)
    monkeypatch.syspath_prepend(str(Path.cwd()))
    configure(run, change)
    configure(run, lambda config: config.update(trusted_packages=["hostile_package", "minigrid"]))
    assert_refused(OPENING, run, "hostile_package")
    assert "hostile_package" not in sys.modules


# What the files are, and what is in them.

BOMB = "a0: &a0 [0, 0]\n" + "".join(f"a{n + 1}: &a{n + 1} [*a{n}, *a{n}]\n" for n in range(40))
YAML = {
    "an alias bomb": BOMB,
    "an object": "seed: !!python/object/apply:os.system ['touch TRACE']",
    "a module": "seed: !!python/module:os",
    "depth": "seed: " + "[" * 100_000,
    "breadth": "seed: [" + "1, " * 110_000 + "]",
    "a number": f"seed: {'9' * 10_000}",
    "a key twice": "seed: 1\nseed: 2",
}


@pytest.mark.parametrize("case", YAML)
def test_a_configuration_is_little_and_plain(run: Path, case: str) -> None:
    (run / "config.yaml").write_text(YAML[case])
    assert_refused((*OPENING, skipped), run, "config.yaml is damaged")


def test_a_pipe_is_no_configuration(run: Path) -> None:
    (run / "config.yaml").unlink()
    os.mkfifo(run / "config.yaml")
    assert_refused((*OPENING, skipped), run, "config.yaml is damaged")


SUMMARIES: dict[str, tuple[Any, str]] = {
    "a list": ([1], "holds no mapping"),
    "depth": ("[" * 100_000, "nested too deeply"),
    "infinite": ({"env_steps": float("inf")}, "no number to compare"),
    "huge": ({"env_steps": 10**400}, "it is damaged"),
    "a mapping": ({"training_seconds": {}}, "it is damaged"),
    "a score in words": ({"evaluation": {"return_mean": "best"}}, "it is damaged"),
    "no parameters": ({"parameters": []}, "it is damaged"),
    "pre-training": ({"pretraining_env_steps": "a lot"}, "it is damaged"),
}


@pytest.mark.parametrize("case", SUMMARIES)
def test_a_summary_of_another_shape_is_skipped(run: Path, case: str) -> None:
    content, words = SUMMARIES[case]
    path = run / "summary.json"
    if isinstance(content, dict):
        content = {**json.loads(path.read_text()), **content}
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    assert_refused((skipped,), run, words)
    finished(run, total_env_steps=1, goal=None)  # as a run that goes on is first asked


@pytest.mark.parametrize(
    "change",
    [
        lambda config: config.update(pomdp=[{"a": 1}]),
        lambda config: config.update(env=[1]),
        lambda config: config.update(seed=float("inf")),
        lambda config: config.update(total_env_steps={}),
        lambda config: config.update(seed=10**1000),
    ],
)
def test_a_configuration_of_another_shape_is_skipped(run: Path, change) -> None:
    configure(run, change)
    assert_refused((skipped,), run, "is damaged")


def test_runs_that_name_code_are_compared_and_execute_nothing(run: Path) -> None:
    np.savez("evil.npz", a=np.array([Evil()], dtype=object))
    wrappers = [wrapper for wrapper, _ in WRAPPERS.values()]
    configure(run, lambda config: config["env"].update(wrappers=wrappers))
    runs, _ = find_runs([str(run)])
    labelled = map(with_curves, labelled_by_choices(runs))
    assert write(compare(labelled, Plan()), "text")
    assert list(Path().rglob("TRACE*")) == []


# Checkpoints, with sums that are right.


def forge(run: Path, change: Callable[[dict[str, Any]], None], which: str = "last") -> None:
    """Change the manifest of a checkpoint, and seal it."""
    for path in (run / "checkpoints" / which).glob("manifest-*.json"):
        path.unlink()
    path = run / "checkpoints" / which / "manifest.json"
    manifest = read_manifest(path)
    del manifest["sha256"]
    change(manifest)
    path.write_bytes(sealed(manifest))


def fill(run: Path, kind: str, data: bytes, which: str = "last") -> None:
    """Replace the file of a kind."""

    def change(manifest: dict[str, Any]) -> None:
        name = f"{kind}-0-{hashlib.sha256(data).hexdigest()}.forged"
        (run / "checkpoints" / which / name).write_bytes(data)
        manifest["files"][kind] = [name, len(data)]

    forge(run, change, which)


def state_of(run: Path, which: str = "last") -> dict[str, Any]:
    directory = run / "checkpoints" / which
    name, _ = read_manifest(directory / "manifest.json")["files"]["state"]
    return json.loads((directory / name).read_bytes())


def header(content: dict[str, Any], claimed: int | None = None) -> bytes:
    """Begin a safetensors file."""
    text = json.dumps(content).encode()
    return (len(text) if claimed is None else claimed).to_bytes(8, "little") + text


def safetensor(shape: list[int], end: int) -> bytes:
    return header({"agent.x": {"dtype": "F32", "shape": shape, "data_offsets": [0, end]}})


def pickled(content: Any, **how: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, **how)
    return buffer.getvalue()


def claims() -> dict[str, bytes]:
    """Files that are no safetensors, or say that they hold more than there is."""
    return {
        "a pickle": pickle.dumps(Evil()),
        "a pickle of torch": pickled({"agent.x": Evil()}),
        "an old pickle of torch": pickled({"x": Evil()}, _use_new_zipfile_serialization=False),
        "a header without end": header({}, claimed=2**63 - 1),
        "a long header": header({}, claimed=2**40),
        "a huge tensor": safetensor([2**40], 2**42),
        "a huge shape": safetensor([2**32, 2**32], 4),
        "a shape beyond numbers": safetensor([2**62, 2**62, 2**62], 4),
        "nothing": b"",
    }


@pytest.mark.parametrize("case", claims())
def test_tensors_are_numbers(run: Path, case: str) -> None:
    fill(run, "tensors", claims()[case])
    doors = (*OPENING, start_from, take_weights)
    assert_refused(doors, run, "is damaged")


@pytest.mark.parametrize("data", [pickle.dumps(Evil()), b"[" * 100_000, b"", b"\xff"])
def test_a_state_is_json(run: Path, data: bytes) -> None:
    fill(run, "state", data)
    assert_refused((*OPENING, start_from, take_weights), run, "is damaged")


def renamed(kind: str, name: str) -> Callable[[dict[str, Any]], None]:
    def change(manifest: dict[str, Any]) -> None:
        manifest["files"][kind][0] = name

    return change


MANIFESTS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "a way up": renamed("tensors", "tensors-/../../../outside/precious.txt"),
    "a whole path": renamed("state", "/etc/hostname"),
    "no files": lambda manifest: manifest.update(files=[]),
    "sizes in words": lambda manifest: manifest["files"]["state"].__setitem__(1, "a lot"),
    "a step that is a path": lambda manifest: manifest.update(step="/../../../outside/x"),
    "another format": lambda manifest: manifest.update(format=99),
}


@pytest.mark.parametrize("case", MANIFESTS)
def test_a_manifest_names_its_own_files(run: Path, case: str) -> None:
    forge(run, MANIFESTS[case])
    doors = (*OPENING, start_from, take_weights)
    assert_refused(doors, run, "format" if case == "another format" else "damaged")


@pytest.mark.parametrize("file", ["../../../outside/precious.txt", "/etc/hostname", 3, None])
def test_a_chunk_lies_in_its_checkpoint(run: Path, file: Any) -> None:
    forge(run, lambda manifest: manifest.update(chunks={"x": [file, 8]}))
    assert_refused((go_on,), run, "damaged")


def test_a_deep_manifest_is_damaged(run: Path) -> None:
    for path in (run / "checkpoints" / "last").glob("manifest*.json"):
        path.write_text("[" * 200_000)
    assert_refused((*OPENING, start_from, take_weights), run, "damaged")


STATES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "no identity": lambda state: state.pop("identity"),
    "no threads": lambda state: state["identity"].update(threads="all"),
    "many threads": lambda state: state["identity"].update(threads=10**6),
    "no progression": lambda state: state.update(progression=[]),
    "steps in words": lambda state: state["progression"].update(env_steps="../../outside/x"),
    "another attribute": lambda state: state["progression"].update(__class__="os.system"),
    "another generator": lambda state: state["generator"].update(bit_generator="MT19937"),
    "no curves": lambda state: state.update(tensorboard={"events.out.tfevents.1": "a"}),
    "an object for an array": lambda state: state["collector"].update(environments=[[]]),
    "no collector": lambda state: state.update(collector=3),
}


@pytest.mark.parametrize("case", STATES)
def test_a_state_of_another_making_is_refused(run: Path, case: str) -> None:
    state = state_of(run)
    STATES[case](state)
    fill(run, "state", json.dumps(state).encode())
    before = outside()
    line = go_on(run)
    assert line
    assert "\n" not in line
    assert outside() == before


def test_a_video_lies_in_its_run(run: Path) -> None:
    state = state_of(run)
    fill(run, "state", json.dumps({**state, "env_steps": "/../../../outside/x"}).encode())
    before = outside()
    assert "does not tell its step" in evaluate(run, "video=gif")
    fill(run, "state", json.dumps(state).encode())
    (run / "videos").symlink_to(Path("outside").absolute())
    assert "is a link" in evaluate(run, "video=gif")
    assert outside() == before


@pytest.mark.parametrize("steps", [float("inf"), "many", None, []])
def test_steps_of_pretraining_are_a_number_or_none(run: Path, steps: Any) -> None:
    state = state_of(run)
    state["progression"]["pretraining_env_steps"] = steps
    fill(run, "state", json.dumps(state).encode())
    assert pretraining_behind(run) == (0, 0.0)


# Links.


def link_best(run: Path) -> None:
    shutil.rmtree(run / "checkpoints" / "best")
    (run / "checkpoints" / "best").symlink_to(Path("outside").absolute())


def link_events(run: Path) -> None:
    (path,) = run.glob("events.out.tfevents.*")
    path.unlink()
    os.link("outside/precious.txt", path)


LINKS: dict[str, Callable[[Path], Any]] = {
    "a folder of checkpoints": link_best,
    "curves": link_events,
    "a file to be written": lambda run: (run / "summary.json.new").symlink_to(
        Path("outside/precious.txt").absolute()
    ),
    "a file that is not there": lambda run: (
        run / "checkpoints" / "last" / "tensors-96.safetensors"
    ).symlink_to(Path("outside/new.txt").absolute()),
    "a pipe": lambda run: os.mkfifo(run / "checkpoints" / "pipe"),
}


@pytest.mark.parametrize("case", LINKS)
def test_no_session_writes_through_a_link(run: Path, case: str) -> None:
    LINKS[case](run)
    assert_refused((go_on,), run, "is a link, or no file")


# Files of weights.


def weights() -> dict[str, bytes]:
    itself: dict[str, Any] = {}
    itself["x"] = itself
    array = io.BytesIO()
    np.save(array, np.array([Evil()], dtype=object), allow_pickle=True)
    return {
        **claims(),
        "a module": pickled(torch.nn.Linear(2, 2)),
        "what holds itself": pickled({"x": itself}),
        "an array of objects": array.getvalue(),
        "a tensor of nothing": pickled({"x": torch.zeros(2, device="meta")}),
    }


@pytest.mark.parametrize("case", weights())
def test_a_file_of_weights_holds_numbers(run: Path, monkeypatch, case: str) -> None:
    path = Path("weights.pt").absolute()
    path.write_bytes(weights()[case])
    assert_refused((start_from, take_weights), path, str(path))
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    assert_refused((start_from,), path, str(path))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with a name")
def test_a_pipe_is_no_file_of_weights(run: Path) -> None:
    path = Path("weights.pt").absolute()
    os.mkfifo(path)
    assert_refused((start_from, take_weights), path, "nothing is there")


def test_weights_that_a_run_names_are_not_read_when_it_is_opened(run: Path) -> None:
    """They are in its checkpoint; the path is somebody else's."""

    def change(config: dict[str, Any]) -> None:
        config["extractor"]["weights"] = config["init_from"] = "outside/precious.txt"

    configure(run, change)
    policy = neurl.load(run)
    assert policy.config.extractor.weights is policy.config.init_from is None


# The commands themselves.

COMMANDS: dict[str, Callable[[], Any]] = {
    "evaluate.py run=run": functools.partial(launch, evaluate_here, config_name="evaluate"),
    "train.py resume=run": functools.partial(launch, train_here),
}


@pytest.mark.parametrize("line", COMMANDS)
def test_commands_refuse_in_one_line(run: Path, line: str, monkeypatch, capsys) -> None:
    text = escaped("${oc.create:" + INNER["copy"] + "}", 1)
    wrapper = {"_target_": "gymnasium.wrappers.TransformReward", "func": text}
    configure(run, lambda config: config["env"].update(wrappers=[wrapper]))
    monkeypatch.setattr(sys, "argv", line.split())
    monkeypatch.setattr(HydraConfig.instance(), "cfg", None)  # and afterwards what it was
    capsys.readouterr()
    with pytest.raises(SystemExit) as caught:
        COMMANDS[line]()
    assert caught.value.code == 2
    (refusal,) = capsys.readouterr().err.splitlines()
    assert "env.wrappers[0].func" in refusal
    assert list(Path().rglob("TRACE*")) == []
