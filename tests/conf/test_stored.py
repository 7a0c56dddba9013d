"""What a run directory holds is read as plain data, within limits, or not at all."""

import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from omegaconf import OmegaConf

from conf.checking.validation import checked
from conf.composing.command_line import InvalidConfiguration, load
from conf.composing.stored import MAX_BYTES, read_json, read_yaml

BOMB = "a0: &a0 [0, 0]\n" + "".join(f"a{n + 1}: &a{n + 1} [*a{n}, *a{n}]\n" for n in range(40))
REFUSED = {
    "an alias bomb": BOMB,
    "an anchor": "a: &x 1",
    "an object of Python's": "a: !!python/object/apply:os.getcwd []",
    "a tag": "a: !mine b",
    "a tag of YAML's own": "a: !!binary aGk=",
    "deep lists": "[" * 60 + "]" * 60,
    "very deep lists": "[" * 1_000_000,
    "very deep mappings": "{a: " * 1_000_000,
    "too many values": "a: [" + "1, " * 110_000 + "]",
    "too much": "a: " + "x" * MAX_BYTES,
    "a key twice": "a: 1\na: 2",
    "a list as a key": "? [a]\n: 1",
    "two documents": "a: 1\n---\na: 2",
    "a number without end": "a: " + "9" * 10_000,
    "no yaml": "a: [",
    "a control character": "a: \x00",
}


@pytest.mark.parametrize("text", REFUSED.values(), ids=REFUSED)
def test_yaml_that_no_run_writes_is_not_read(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(ValueError) as refusal:
        read_yaml(path)
    assert 0 < len(str(refusal.value)) < 300
    assert "\n" not in str(refusal.value)


def test_json_is_read_within_limits(tmp_path: Path) -> None:
    path = tmp_path / "summary.json"
    for text in ("[" * 200_000, "9" * 10_000, " " * (MAX_BYTES + 1), "\xff", ""):
        path.write_bytes(text.encode("latin-1"))
        with pytest.raises(ValueError):
            read_json(path)
    path.write_text('{"a": [1, 2.5, null, "x"]}')
    assert read_json(path) == {"a": [1, 2.5, None, "x"]}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with a name")
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "config.yaml")
    for path in (tmp_path / "config.yaml", tmp_path):
        with pytest.raises(ValueError, match="is no file"):
            read_yaml(path)


def test_what_a_run_writes_is_read_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    words = ["optimizer.learning_rate=1e-5", "pomdp=mask_velocity", "+env.kwargs.day='2020-01-01'"]
    config = load(words)
    path.write_text(OmegaConf.to_yaml(config))
    plain: Any = OmegaConf.to_container(config)
    assert read_yaml(path) == plain == yaml.load(path.read_text(), yaml.SafeLoader)
    assert checked(read_yaml(path)) == (plain, [])


INTERPOLATIONS = [
    "${seed}",
    "${oc.env:HOME}",
    "${oc.create:{_target_: shutil.copyfile}}",
    "\\${seed}",
    "\\\\\\${seed}",
    "text before ${seed}",
]


@pytest.mark.parametrize("text", INTERPOLATIONS)
def test_a_checked_configuration_holds_nothing_to_resolve(text: str) -> None:
    plain: Any = OmegaConf.to_container(load([]))
    for place in ({"x": text}, {"x": [[{"y": text}]]}):
        _, problems = checked({**plain, "env": {**plain["env"], "kwargs": place}})
        (problem,) = problems
        assert problem.startswith("env.kwargs.x")
        assert "without ${" in problem


def test_an_override_is_resolved_once() -> None:
    assert load(["+env.kwargs.x=${seed}", "seed=3"]).env.kwargs.x == 3
    with pytest.raises(InvalidConfiguration, match=r"env\.kwargs\.x: expected a resolved value"):
        load([r"+env.kwargs.x='\${seed}'"])


def test_a_checked_configuration_is_plain_data() -> None:
    plain: Any = OmegaConf.to_container(load([]))
    for value in (Path("x"), b"x", object(), 10**400):
        _, problems = checked({**plain, "seed": value})
        (problem,) = problems
        assert problem.startswith("seed: ")
