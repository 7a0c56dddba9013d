"""The project around the library: names that others use too, packaging, pinned versions."""

import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import neurl_guard

ROOT = Path(__file__).resolve().parents[1]


def install(site: Path, *, distribution: str, package: str, packaged: bool = True) -> None:
    """Lay a foreign distribution into `site` as an installer would."""
    (site / package).mkdir(parents=True)
    (site / package / "__init__.py").write_text("raise AssertionError('must not be imported')\n")
    if packaged:
        metadata = site / f"{distribution.replace('-', '_')}-1.0.dist-info"
        metadata.mkdir()
        (metadata / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n"
        )
        (metadata / "top_level.txt").write_text(f"{package}\n")  # Python 3.10 reads nothing else
        (metadata / "RECORD").write_text(f"{package}/__init__.py,,\n{metadata.name}/METADATA,,\n")


def check_in_fresh_process(*path: Path) -> subprocess.CompletedProcess[str]:
    """Run the guard as an entry point does, with `path` before everything else."""
    script = textwrap.dedent(
        f"""
        import sys
        from pathlib import Path
        sys.path[:0] = {[str(entry) for entry in path]!r}
        from neurl_guard import check_imports
        check_imports(Path({str(ROOT)!r}))
        print(sorted({{"torch", "numpy", "gymnasium"}} & set(sys.modules)))
        """
    )
    return subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        cwd=path[0],
        env={key: value for key, value in os.environ.items() if key != "PYTHONPATH"},
        check=False,
    )


def test_our_own_packages_pass_and_nothing_is_loaded() -> None:
    result = check_in_fresh_process(ROOT)
    assert (result.returncode, result.stdout.strip()) == (0, "[]"), result.stderr


def test_a_distribution_that_shadows_ours_is_named(tmp_path: Path) -> None:
    install(tmp_path, distribution="openai-agents", package="agents")
    result = check_in_fresh_process(tmp_path, ROOT)
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert "'agents'" in line
    assert "'openai-agents'" in line
    assert "pip uninstall openai-agents" in line


def test_a_folder_of_no_distribution_is_named_by_its_place(tmp_path: Path) -> None:
    install(tmp_path, distribution="", package="envs", packaged=False)
    result = check_in_fresh_process(tmp_path, ROOT)
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert str(tmp_path / "envs") in line
    assert "PYTHONPATH" in line


def test_a_checkout_that_python_does_not_see_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neurl_guard, "PACKAGES", ("a_package_that_is_nowhere",))
    message = neurl_guard.shadowed(ROOT)
    assert message is not None
    assert "pip install -e ." in message


def test_guard_and_wheel_know_every_package() -> None:
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    packages -= {"benchmarks", "tests"}
    assert packages <= set(neurl_guard.PACKAGES)
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    included = re.search(r"only-include = \[(.*?)\]", text, re.DOTALL)
    assert included is not None
    assert packages <= set(re.findall(r'"(\w+)"', included[1]))


def test_publishing_is_refused() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert "Private :: Do Not Upload" in text
    assert "[tool.hatch.build.targets.wheel.hooks.custom]" in text


def test_every_dependency_has_a_tested_version() -> None:
    """A name in pyproject.toml without a line in constraints.txt would float."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    project = text[text.index("[project]") : text.index("[tool.hatch")]
    wanted = set(re.findall(r'^ +"([A-Za-z0-9-]+)[\[><=]', project, re.MULTILINE))
    wanted |= set(re.findall(r'\["([A-Za-z0-9-]+)[\[><=]', project))
    wanted -= {"neurl"}  # extras of its own
    assert len(wanted) > 10
    assert wanted <= set(pins("constraints.txt"))


def pins(name: str) -> dict[str, list[str]]:
    """The lines of a constraints file by the distribution that they name."""
    found: dict[str, list[str]] = {}
    for line in (ROOT / name).read_text(encoding="utf-8").splitlines():
        if re.match(r"[A-Za-z]", line):
            found.setdefault(re.split(r"[=<>]", line)[0], []).append(line)
    return found


def test_peers_have_versions_of_their_own_and_share_ours() -> None:
    """Both sides are measured with the same torch; SheepRL's moviepy needs pillow < 12."""
    ours, theirs = pins("constraints.txt"), pins("constraints-peers.txt")
    shared = ours.keys() & theirs.keys()
    assert {name for name in shared if ours[name] != theirs[name]} == {"pillow"}
    assert {"torch", "gymnasium", "numpy", "ale-py"} <= shared
    (pillow,) = theirs["pillow"]
    assert int(re.split(r"[=.]+", pillow)[1]) < 12


def test_make_installs_peers_by_their_own_versions() -> None:
    result = subprocess.run(
        ["make", "--dry-run", "--always-make", "peers"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    (install,) = (line for line in result.stdout.splitlines() if "-m pip install" in line)
    assert "--constraint constraints-peers.txt" in install
    wanted = set(re.sub(r"\[.*?\]", "", install.partition("peers.txt")[2]).replace("'", "").split())
    assert wanted <= set(pins("constraints-peers.txt"))


def test_make_help_lists_every_target() -> None:
    result = subprocess.run(
        ["make", "--no-print-directory"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for target in ("setup", "train", "test", "lint", "types", "bench", "peers"):
        assert f"make {target} " in result.stdout
