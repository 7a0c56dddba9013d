"""A wheel holds everything below `neurl`, and works beside a user's folders of the same names."""

import ast
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

import neurl
import neurl_command
from conf.schema import layout
from neurl_guard import PACKAGES
from neurl_wheel import MODULES, lay_out, rewritten

ROOT = Path(__file__).resolve().parents[1]
SMALL = ["device=cpu", "num_threads=1", "env.num_envs=1", "agent.rollout_length=16"]
SMALL += ["agent.num_minibatches=1", "memory=gru", "memory.hidden_size=4"]
IN_THE_WHEEL = f"""
    import sys
    import neurl
    assert "torch" not in sys.modules
    policy = neurl.load("of_checkout")
    actions = [int(policy.predict(row)) for row in __import__("numpy").load("stream.npy")]
    built = neurl.build("agent._target_=neurl.agents.ppo.PPO", *{SMALL!r})
    neurl.fit(built, env_steps=20)
    built.save("of_wheel")
    loaded = sorted(name for name in sys.modules if name.split(".")[0] in {PACKAGES!r})
    print(actions, loaded)
    import agents
"""


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("wheel")
    lay_out(ROOT, place)
    return place


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("from agents.ppo import PPO", "from neurl.agents.ppo import PPO"),
        ("from conf import schema", "from neurl.conf import schema"),
        ("from  envs.x import (\n  agents,\n)", "from  neurl.envs.x import (\n  agents,\n)"),
        ("def é(): from envs import é", "def é(): from neurl.envs import é"),
        ("é = 1; from envs import x; from envs import y",
         "é = 1; from neurl.envs import x; from neurl.envs import y"),
        ("import os, agents.x as p, envs as e", "import os, neurl.agents.x as p, neurl.envs as e"),
        ("import neurl", "import neurl"),
        ("from neurl import Policy", "from neurl import Policy"),
        ("from neurl_command import main", "from neurl.neurl_command import main"),
        ("from neurl_guard import shadowed", "from neurl.neurl_guard import shadowed"),
        ("import_module('envs.games.atari')", "import_module('neurl.envs.games.atari')"),
        ('pkgutil.resolve_name("agents.ppo:PPO")', 'pkgutil.resolve_name("neurl.agents.ppo:PPO")'),
        # What is no import stays.
        ('x = "agents.ppo.PPO"  # from agents.ppo', 'x = "agents.ppo.PPO"  # from agents.ppo'),
        ("from .envs import x", "from .envs import x"),
        ("from agentsx import y\nimport my_envs", "from agentsx import y\nimport my_envs"),
        ("from gymnasium.envs import registration", "from gymnasium.envs import registration"),
    ],
)  # fmt: skip
def test_imports_are_rewritten_in_their_places(source: str, expected: str) -> None:
    assert rewritten(source) == expected


@pytest.mark.parametrize(
    "source", ["x = 1\nimport agents.ppo", "x = 1\nfrom \\\n  agents import y"]
)
def test_an_import_that_cannot_be_rewritten_is_refused(source: str) -> None:
    with pytest.raises(ValueError, match=r"line 2: .*agents"):
        rewritten(source)


def test_the_tree_imports_nothing_by_its_name_in_the_checkout(tree: Path) -> None:
    assert [path.name for path in tree.iterdir()] == ["neurl"]
    for path in tree.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [each.name for each in node.names] if isinstance(node, ast.Import) else []
            names += [str(node.module)] if isinstance(node, ast.ImportFrom) else []
            tops = {name.partition(".")[0] for name in names}
            assert not tops & ({*PACKAGES, *MODULES} - {"neurl"}), path


def test_the_tree_holds_every_file_of_the_packages(tree: Path) -> None:
    for package in PACKAGES:
        ours, theirs = (
            {p.relative_to(top).as_posix() for p in (top / package).rglob("*") if p.is_file()}
            for top in (ROOT, tree / "neurl")
        )
        assert {name for name in ours if "__pycache__" not in name} == theirs
    scripts = {path.stem for path in ROOT.glob("*.py")} - {"hatch_build", "neurl_wheel"}
    assert scripts == {*MODULES}


def test_help_in_the_wheel_names_its_command(tree: Path) -> None:
    text = (tree / "neurl" / "conf" / "config.yaml").read_text(encoding="utf-8")
    assert "\n        neurl train resume=RUN_DIR" in text
    assert "train.py" not in text
    assert "_target_: agents.ppo.PPO" in (tree / "neurl/conf/agent/ppo.yaml").read_text()


def test_a_user_has_folders_of_our_names(tree: Path, tmp_path: Path) -> None:
    """And a policy of the checkout acts the same in the wheel, and the other way round."""
    for package in PACKAGES:
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text("print('a package of the user')\n")
    policy = neurl.build(*SMALL)
    policy.save(tmp_path / "of_checkout")
    stream = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)
    np.save(tmp_path / "stream.npy", stream)
    expected = [int(policy.predict(row)) for row in stream]
    ended = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(IN_THE_WHEEL)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(tree)])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.splitlines()[-2:] == [f"{expected} []", "a package of the user"]
    assert "neurl." not in (tmp_path / "of_wheel" / "config.yaml").read_text()
    assert neurl.load(tmp_path / "of_wheel").predict(stream[0]) in (0, 1)


def test_what_users_are_told_fits_the_wheel(monkeypatch: pytest.MonkeyPatch) -> None:
    assert layout.command("train", "a=1", "b=[1, 2]") == "python train.py a=1 'b=[1, 2]'"
    assert layout.installing("onnx").endswith("-e '.[onnx]'")
    monkeypatch.setattr(layout, "PREFIX", "neurl.")
    assert layout.command("train", "a=1", "b=[1, 2]") == "neurl train a=1 'b=[1, 2]'"
    assert layout.installing("onnx") == "pip install 'neurl[onnx]'"


class TestCommand:
    """`neurl NAME words` runs the script of that name."""

    @pytest.fixture
    def ran(self, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, list[str]]]:
        seen: list[tuple[str, list[str]]] = []
        monkeypatch.setattr(
            "runpy.run_path", lambda path, run_name: seen.append((path, sys.argv[1:]))
        )
        return seen

    def call(self, monkeypatch: pytest.MonkeyPatch, *words: str) -> None:
        monkeypatch.setattr("sys.argv", ["neurl", *words])
        neurl.main()

    def test_it_runs_the_script_beside_it(self, monkeypatch, ran) -> None:
        self.call(monkeypatch, "evaluate", "run=last", "seed=1")
        assert ran == [(str(ROOT / "evaluate.py"), ["run=last", "seed=1"])]

    def test_it_knows_every_script(self) -> None:
        launching = {p.stem for p in ROOT.glob("*.py") if re.search(r"\blaunch\b", p.read_text())}
        assert {*neurl_command.COMMANDS} == launching

    @pytest.mark.parametrize("words", [(), ("--help",), ("-h",)])
    def test_help_lists_the_commands(self, monkeypatch, capsys, words) -> None:
        self.call(monkeypatch, *words)
        listed = re.findall(r"^  (\w+) +\w", capsys.readouterr().out, re.MULTILINE)
        assert listed == [*neurl_command.COMMANDS]

    def test_the_version_says_where_it_is(self, monkeypatch, capsys) -> None:
        self.call(monkeypatch, "--version")
        assert re.fullmatch(
            rf"neurl (\d+\.\d+\.\d+|not installed) \({re.escape(str(ROOT))}\)\n",
            capsys.readouterr().out,
        )

    @pytest.mark.parametrize(
        ("word", "remedy"),
        [
            ("trian", "did you mean train?"),
            ("evaluate.py", "did you mean evaluate?"),
            ("seed=1", "neurl train seed=1"),
            ("xyz", "commands: train, evaluate"),
        ],
    )
    def test_a_wrong_command_gets_a_remedy(self, monkeypatch, capsys, ran, word, remedy) -> None:
        with pytest.raises(SystemExit) as end:
            self.call(monkeypatch, word)
        (line,) = capsys.readouterr().err.splitlines()
        assert end.value.code == 2
        assert repr(word) in line
        assert remedy in line
        assert not ran
