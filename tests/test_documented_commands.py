"""Every command in README.md and docs/ composes, and its networks read what it has them read."""

import contextlib
import re
import shlex
import sys
import types
import warnings
from collections.abc import Iterator
from pathlib import Path

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces

import neurl
from analysis.studies.ranges import with_ranges
from conf.composing.command_line import check
from conf.composing.configuration import read_only
from neurl_command import COMMANDS as SCRIPTS
from training.building.build import build_agent
from training.building.environments import build_environments
from training.building.extractors import build_extractor

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
COMMAND = re.compile(rf"(?:python|neurl) ({'|'.join(SCRIPTS)})(?:\.py)?( [^`\n]*)?")
FILE = re.compile(r"^```(?:python|yaml)\n(# (my_lab/\S+)\n.*?)^```", re.DOTALL | re.MULTILINE)
WRONG_ON_PURPOSE = {"agent.clip_rang=0.1"}
OF_NETWORKS = ("extractor", "+extractor", "auxiliary", "decoder", "experiment=minigrid")
CONFIGURATIONS = {  # of the reader's own
    "extractor/mine.yaml": "_target_: my_package.networks.Net\nwidth: 7\n",
    "study/mine.yaml": "question: Does memory help?\ntasks: {mine: [env.id=CartPole-v1]}\n"
    "arms: {none: [memory=none], gru: [memory=gru]}\n",
    "auxiliary/inverse.yaml": "inverse: {_target_: my_package.losses.InverseModel, weight: 0.1, "
    "weight_schedule: constant, hidden_size: 64}\n",
}


def commands() -> Iterator[tuple[str, tuple[str, ...]]]:
    for page in PAGES:
        for script, rest in COMMAND.findall(page.read_text()):
            words = tuple(shlex.split(rest.strip(), comments=True))
            if "..." not in rest and not WRONG_ON_PURPOSE & {*words}:
                yield script, words


def choices(words: tuple[str, ...]) -> tuple[str, ...]:
    """What is left of a command without the words that fit any other."""
    return tuple(word for word in words if not word.startswith(("run_dir=", "seed=", "total_env")))


COMMANDS = sorted(
    {(script, choices(words)): (script, words) for script, words in commands()}.values()
)


def snippet(page: str, name: str) -> type:
    """Return a class as a page of the documentation writes it."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / page).read_text(), re.DOTALL)
    (source,) = (block for block in blocks if f"class {name}(" in block)
    names: dict[str, type] = {"__name__": "my_package"}  # type: ignore[dict-item]
    exec("import math\nimport torch\nfrom torch import nn\n" + source, names)
    return names[name]


def image(*shape: int) -> spaces.Box:
    return spaces.Box(0, 255, shape, np.uint8)


def readers_modules() -> list[str]:
    return [name for name in sys.modules if name.partition(".")[0] in ("my_package", "my_lab")]


class Mine(gymnasium.Env):
    """An environment of the reader's own, of which only the spaces count here."""

    action_space = spaces.Discrete(2)

    def __init__(self, space: spaces.Space) -> None:
        self.observation_space = space


def write_files(place: Path) -> None:
    """Write the reader's packages: `my_package`, and `my_lab` as the how-to pages show it."""
    files = {f"my_package/conf/{name}": text for name, text in CONFIGURATIONS.items()}
    files |= {"my_package/__init__.py": "", "my_package/conf/__init__.py": ""}
    for page in PAGES:
        files |= {name: text for text, name in FILE.findall(page.read_text())}
    for name, text in files.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text(text)


@pytest.fixture(scope="module", autouse=True)
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A place where what the pages speak of is there: a package, environments, paths."""
    place = tmp_path_factory.mktemp("reader")
    write_files(place)
    (place / "docs").symlink_to(ROOT / "docs")
    for name in ("PATH", "DIRECTORY", "RUN_DIR"):
        (place / name).mkdir()
    (place / "DIRECTORY" / "experiment").mkdir()
    (place / "runs" / "RUN").mkdir(parents=True)
    (place / "runs" / "RUN" / "config.yaml").touch()  # run=last
    (place / "DIRECTORY" / "experiment" / "best.yaml").write_text("# @package _global_\nseed: 1\n")
    goal = spaces.Dict(position=spaces.Box(-1, 1, (2,)), speed=spaces.Box(-1, 1, (2,)))
    camera = spaces.Dict(camera=image(64, 64, 3), speed=spaces.Box(-1, 1, (2,)))
    made = {"MyImages": image(64, 64, 3), "MyRobot": camera, "MyGoals": spaces.Dict(goal=goal)}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.syspath_prepend(place)
        for name in readers_modules():
            patch.delitem(sys.modules, name)  # another test's
        networks, losses = types.ModuleType("my_package.networks"), types.ModuleType("losses")
        networks.Net = snippet("networks.md", "Net")  # type: ignore[attr-defined]
        losses.InverseModel = snippet("autoencoders.md", "InverseModel")  # type: ignore[attr-defined]
        patch.setitem(sys.modules, "my_package.networks", networks)
        patch.setitem(sys.modules, "my_package.losses", losses)
        agents = types.ModuleType("agents")
        agents.MyDQN = snippet("configuration.md", "MyDQN")  # type: ignore[attr-defined]
        patch.setitem(sys.modules, "my_package.agents", agents)
        for name, space in made.items():
            gymnasium.register(f"{name}-v0", lambda space=space: Mine(space))
        yield place
        for name in made:
            del gymnasium.registry[f"{name}-v0"]
    gymnasium.registry.pop("Corridor-v0", None)
    for name in readers_modules():
        del sys.modules[name]


def test_there_are_commands_of_every_kind() -> None:
    assert {script for script, _ in COMMANDS} == {*SCRIPTS}
    assert len(COMMANDS) > 80


@pytest.mark.parametrize(
    ("script", "words"),
    COMMANDS,
    ids=lambda part: part if isinstance(part, str) else " ".join(part),
)
def test_a_command_can_be_run(script: str, words: tuple[str, ...]) -> None:
    """As far as that goes without files: whatever goes on with a run is left out."""
    if any(word.startswith("resume=") for word in words):
        return
    for word in words:
        if word.startswith("init_from="):
            Path(word.partition("=")[2]).mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # where a preset gives way
        given = with_ranges(words) if script == "tune" else words
        runs, _ = check(given, "config" if script == "train" else script)
    if not runs:  # it shows help
        return
    config = read_only(runs[0].typed)
    of_networks = script == "train" and any(w.startswith(OF_NETWORKS) for w in words)
    if of_networks and "-m" not in words and "layout=chw" not in " ".join(words):
        assert_networks_can_be_built(config)


def assert_networks_can_be_built(config) -> None:
    try:
        environments = build_environments(config, num_envs=1)
    except ValueError as error:
        if "cannot be made" in str(error) or "env.packages" in str(error):
            return  # an extra that is not installed
        raise
    with contextlib.closing(environments):
        build_agent(
            config,
            environments.single_observation_space,
            environments.single_action_space,
            num_envs=config.env.num_envs,
        )


def test_what_the_how_to_pages_write_trains(reader: Path) -> None:
    """The reader's environment, extractor, memory and agent of their own, at once."""
    words = ["agent=a2c", "agent._target_=my_lab.agents.Optimist", "agent.pessimism=0.3"]
    words += ["extractor=waves", "memory=leaky", "env.id=Corridor-v0", "env.packages=[my_lab]"]
    words += [f"hydra.searchpath=[file://{reader / 'my_lab' / 'conf'}]"]
    policy = neurl.build(*words, "trusted_packages=[my_lab]", "env.num_envs=2")
    before = {name: each.clone() for name, each in policy.agent.named_parameters()}
    neurl.fit(policy, env_steps=40)
    assert {"actor.extractor.angles.weight", "actor.memory.decay"} <= set(before)
    for name, weights in policy.agent.named_parameters():
        assert not torch.equal(weights, before[name]), name


def test_the_class_that_reads_parts_does() -> None:
    module = types.ModuleType("my_package.product")
    module.Product = snippet("networks.md", "Product")  # type: ignore[attr-defined]
    sys.modules["my_package.product"] = module
    options = {"_target_": "my_package.product.Product", "width": 5}
    extractor, width = build_extractor("extractor", options, {"camera": (8, 8, 1), "speed": (2,)})
    assert width == 5
    parts = {"camera": torch.ones(3, 8, 8, 1), "speed": torch.zeros(3, 2)}
    assert extractor(parts).shape == (3, 5)
