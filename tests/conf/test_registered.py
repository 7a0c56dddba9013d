"""An installed package brings its configurations by an entry point, and is trusted for it."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from conf.checking.trust import is_trusted, package_problems, trust_words
from conf.composing.command_line import InvalidConfiguration, check, load
from conf.composing.composer import Composer
from conf.composing.registered import registered

AGENT = """
from dataclasses import dataclass
from agents.a2c import A2C

@dataclass(kw_only=True)
class Options(A2C.Options):
    courage: float

class Brave(A2C):
    Options = Options
"""


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Install a distribution `my-lab`, as an installer lays it out."""
    files = {
        "my_registered_lab/__init__.py": "",
        "my_registered_lab/agents.py": AGENT,
        "my_registered_lab/conf/agent/brave.yaml": "defaults: [a2c]\ncourage: 0.5\n"
        "_target_: my_registered_lab.agents.Brave\n",
        "my_lab-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: my-lab\nVersion: 1.0\n",
        "my_lab-1.0.dist-info/entry_points.txt": "[neurl.configs]\nlab = my_registered_lab.conf\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    for module in ("configuration", "command_line"):  # not one that tests share
        monkeypatch.setattr(f"conf.composing.{module}.Composer", Composer)
    registered.cache_clear()
    yield tmp_path
    registered.cache_clear()
    for name in [name for name in sys.modules if name.startswith("my_registered_lab")]:
        del sys.modules[name]


def test_without_such_packages_nothing_is_registered() -> None:
    assert registered() == {}
    with pytest.raises(InvalidConfiguration, match="brave"):
        load(["agent=brave"])


def test_its_options_are_chosen_without_a_directory(site: Path) -> None:
    config = load(["agent=brave", "agent.courage=2"])
    assert (config.agent._target_, config.agent.courage) == ("my_registered_lab.agents.Brave", 2.0)
    assert list(config.trusted_packages) == []


def test_its_options_are_checked(site: Path) -> None:
    with pytest.raises(InvalidConfiguration, match=r"agent.courage: expected a number"):
        load(["agent=brave", "agent.courage=much"])


def test_ours_come_first(site: Path) -> None:
    (site / "my_registered_lab/conf/agent/ppo.yaml").write_text("_target_: my_lab.Other\n")
    assert load([]).agent._target_ == "agents.ppo.PPO"


def test_the_package_is_trusted_and_no_other(site: Path) -> None:
    assert is_trusted("my_registered_lab.agents.Brave", [])
    assert not is_trusted("my_registered_laboratory.agents.Brave", [])
    assert not package_problems(["my_registered_lab.games"], [])
    assert trust_words(["my_registered_lab.games", "other"], []) == ["trusted_packages=[other]"]


def test_finding_its_folder_imports_nothing(site: Path) -> None:
    (site / "my_registered_lab/__init__.py").write_text("raise AssertionError\n")
    assert registered() == {"my_registered_lab": [site / "my_registered_lab" / "conf"]}


def test_a_folder_that_is_missing_is_refused_by_its_name(site: Path, capsys) -> None:
    entry = site / "my_lab-1.0.dist-info" / "entry_points.txt"
    entry.write_text("[neurl.configs]\nlab = my_registered_lab.configurations\n")
    with pytest.raises(SystemExit):
        check(["seed=1"])
    (line,) = capsys.readouterr().err.splitlines()
    assert "my_registered_lab" in line
    assert "configurations" in line
