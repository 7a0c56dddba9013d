"""Checkpoints: whole or refused, whatever happened to the disk, and never code."""

import errno
import hashlib
import io
import json
import pickle
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tests.training.failing_disk import Crash, Disk
from training.saving.checkpoint import (
    FORMAT,
    MANIFEST,
    DamagedCheckpoint,
    load_checkpoint,
    roll_back,
    save_checkpoint,
    sealed,
)
from training.saving.files import replace, to_json


def contents(number: int) -> dict[str, Any]:
    """Tensors and state that belong together."""
    return {
        "tensors": {"weight": torch.full((3, 2), float(number)), "count": torch.tensor(number)},
        "state": {"env_steps": number, "generator": {"state": 2**127 + number}},
        "step": number,
    }


def number_in(directory: Path) -> int:
    """Which `contents` a checkpoint holds; all of it must."""
    tensors, state = load_checkpoint(directory)
    number = state["env_steps"]
    expected = contents(number)
    assert state == expected["state"]
    assert tensors.keys() == expected["tensors"].keys()
    for name, tensor in expected["tensors"].items():
        assert torch.equal(tensors[name], tensor)
    return number


def files(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    directory = tmp_path / "checkpoints" / "last"
    save_checkpoint(directory, **contents(1))
    return directory


def test_what_was_saved_is_loaded(tmp_path: Path) -> None:
    whole = {
        "float32": torch.randn(3, 4, generator=torch.Generator().manual_seed(0)),
        "float64": torch.tensor([1 / 3], dtype=torch.float64),
        "int64": torch.tensor([-(2**60)]),
        "bool": torch.tensor([True, False]),
        "uint8": torch.arange(256, dtype=torch.uint8),
        "half": torch.tensor([0.5], dtype=torch.bfloat16),
        "number": torch.tensor(7.0),
        "empty": torch.zeros(0),
        "special": torch.tensor([float("nan"), float("inf"), -0.0]),
    }
    save_checkpoint(tmp_path, tensors=whole, state={"list": [1, None, "ü"]}, step=0)
    tensors, state = load_checkpoint(tmp_path)
    assert state == {"list": [1, None, "ü"]}
    assert tensors.keys() == whole.keys()
    for name, tensor in whole.items():
        assert tensors[name].dtype == tensor.dtype
        assert tensors[name].shape == tensor.shape
        np.testing.assert_array_equal(tensors[name].float().numpy(), tensor.float().numpy())


def test_tensors_that_share_memory_are_saved_whole(tmp_path: Path) -> None:
    flat = torch.arange(6.0)
    shared = nn.Linear(2, 2)
    tensors = {
        "flat": flat,
        "view": flat[2:5],
        "alias": flat,
        "strided": flat[::2],
        "transposed": flat.view(2, 3).t(),
        "expanded": torch.tensor([1.0]).expand(4),
        "parameter": shared.weight,
        "again": shared.weight,
    }
    save_checkpoint(tmp_path, tensors=tensors, state={}, step=0)
    loaded, _ = load_checkpoint(tmp_path)
    for name, tensor in tensors.items():
        assert torch.equal(loaded[name], tensor)
        assert not loaded[name].requires_grad


def test_saving_and_loading_alias_nothing(tmp_path: Path) -> None:
    tensors = {"weight": torch.ones(3)}
    save_checkpoint(tmp_path, tensors=tensors, state={}, step=0)
    tensors["weight"].zero_()
    first, _ = load_checkpoint(tmp_path)
    assert (first["weight"] == 1).all()
    first["weight"].zero_()
    assert (load_checkpoint(tmp_path)[0]["weight"] == 1).all()


def test_an_agent_comes_back_with_everything(build, tmp_path: Path) -> None:
    words = ["normalize_observations=true", "normalize_rewards=true", "memory=gru"]
    run, other = (build(*words, "memory.hidden_size=4", f"seed={seed}") for seed in (0, 1))
    for _ in range(2):
        run.agent.learn(run.collector.collect(run.agent))
    state = {name: tensor.clone() for name, tensor in run.agent.state_dict().items()}
    save_checkpoint(tmp_path, tensors=run.agent.state_dict(), state={}, step=0)
    other.agent.load_state_dict(load_checkpoint(tmp_path)[0])
    for name, tensor in other.agent.state_dict().items():
        assert torch.equal(tensor, state[name])
    for tensor in other.agent.state_dict().values():
        tensor.zero_()
    for name, tensor in run.agent.state_dict().items():
        assert torch.equal(tensor, state[name])


def test_saving_again_leaves_the_newest_alone(saved: Path) -> None:
    for number in (2, 2, 1, 3):
        save_checkpoint(saved, **contents(number))
        assert number_in(saved) == number
        assert len(files(saved)) == 3
    manifest = json.loads((saved / MANIFEST).read_text())
    assert manifest["step"] == 3
    sizes = {name: len(data) for name, data in files(saved).items() if name != MANIFEST}
    assert sizes == dict(manifest["files"].values())


def test_the_same_contents_are_the_same_bytes(saved: Path, tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "other", **contents(1))
    assert files(saved) == files(tmp_path / "other")


@pytest.mark.parametrize("kind", ["tensors", "state"])
def test_every_flipped_bit_is_found(saved: Path, kind: str) -> None:
    (path,) = saved.glob(f"{kind}-*")
    whole = path.read_bytes()
    random = np.random.default_rng(0)
    for place in random.integers(0, 8 * len(whole), 200).tolist():
        damaged = bytearray(whole)
        damaged[place // 8] ^= 1 << place % 8
        path.write_bytes(damaged)
        with pytest.raises(DamagedCheckpoint, match="SHA-256"):
            load_checkpoint(saved)
    path.write_bytes(whole)
    assert number_in(saved) == 1


def test_every_changed_byte_of_the_manifest_is_found(saved: Path) -> None:
    path = saved / MANIFEST
    whole = path.read_bytes()
    random = np.random.default_rng(0)
    for place in range(len(whole)):
        damaged = bytearray(whole)
        for byte in {*random.integers(0, 256, 4).tolist(), *b" \t\n0"} - {whole[place]}:
            damaged[place] = byte
            path.write_bytes(damaged)
            with pytest.raises(DamagedCheckpoint):
                load_checkpoint(saved)
    path.write_bytes(whole)
    assert number_in(saved) == 1


@pytest.mark.parametrize("kind", ["tensors", "state", MANIFEST])
def test_truncated_files_are_found(saved: Path, kind: str) -> None:
    (path,) = saved.glob(f"{kind}*")
    whole = path.read_bytes()
    for size in (0, 1, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(DamagedCheckpoint):
            load_checkpoint(saved)


@pytest.mark.parametrize("kind", ["tensors", "state", MANIFEST])
def test_missing_files_are_named(saved: Path, kind: str) -> None:
    (path,) = saved.glob(f"{kind}*")
    path.unlink()
    with pytest.raises(DamagedCheckpoint, match=path.name):
        load_checkpoint(saved)


def test_no_directory_is_no_checkpoint(tmp_path: Path) -> None:
    assert not (tmp_path / "nowhere" / MANIFEST).exists()
    with pytest.raises(DamagedCheckpoint, match="no checkpoint"):
        load_checkpoint(tmp_path / "nowhere")


@pytest.mark.parametrize("kind", ["tensors", "state", MANIFEST])
def test_files_of_another_checkpoint_are_found(saved: Path, tmp_path: Path, kind: str) -> None:
    other = tmp_path / "other"
    save_checkpoint(other, **contents(2))
    (mine,), (theirs,) = saved.glob(f"{kind}*"), other.glob(f"{kind}*")
    kept = mine.read_bytes()
    mine.write_bytes(theirs.read_bytes())
    theirs.write_bytes(kept)
    for directory in (saved, other):
        with pytest.raises(DamagedCheckpoint):
            load_checkpoint(directory)


def files_with(tensors: Any) -> dict[str, Any]:
    return {"files": {"tensors": tensors, "state": tensors}, "chunks": {}}


MANIFESTS: dict[str, Any] = {
    "a list": [],
    "null": None,
    "nothing": {},
    "no files": {"files": {}},
    "a list of files": {"files": ["tensors-1.safetensors"]},
    "no names": files_with([]),
    "numbers for files": files_with(1),
    "a directory": files_with(["..", 0]),
    "no name": files_with(["", 0]),
    "a name with a null byte": files_with(["tensors-\0", 0]),
    "a name that is too long": files_with(["tensors-" + "x" * 300, 0]),
    "a name without a sum": files_with(["tensors-1.safetensors", 0]),
}


@pytest.mark.parametrize("manifest", MANIFESTS.values(), ids=MANIFESTS)
def test_senseless_manifests_are_refused(saved: Path, manifest: Any) -> None:
    is_mapping = isinstance(manifest, dict)
    data = sealed({"format": FORMAT, "step": 1, **manifest}) if is_mapping else to_json(manifest)
    (saved / MANIFEST).write_bytes(data)
    with pytest.raises(DamagedCheckpoint):
        load_checkpoint(saved)


def test_a_manifest_of_another_format_is_refused_by_name(saved: Path) -> None:
    manifest = content_of(saved / MANIFEST)
    (saved / MANIFEST).write_bytes(sealed({**manifest, "format": 1}))
    with pytest.raises(DamagedCheckpoint, match="format 1"):
        load_checkpoint(saved)


def content_of(path: Path) -> dict[str, Any]:
    """A manifest without its own sum."""
    manifest = json.loads(path.read_text())
    del manifest["sha256"]
    return manifest


def forge(directory: Path, **replacements: bytes) -> None:
    """Write a manifest that vouches for other files."""
    manifest = content_of(directory / MANIFEST)
    for kind, data in replacements.items():
        name = f"{kind}-1-{hashlib.sha256(data).hexdigest()}.forged"
        (directory / name).write_bytes(data)
        manifest["files"][kind] = [name, len(data)]
    (directory / MANIFEST).write_bytes(sealed(manifest))


class Canary:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.write_text, (self.path, "sings")


@pytest.mark.parametrize("packing", ["pickle", "torch", "torch legacy", "numpy"])
@pytest.mark.parametrize("kind", ["tensors", "state"])
def test_pickles_are_never_executed(saved: Path, tmp_path, monkeypatch, packing, kind) -> None:
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    canary = tmp_path / "canary"
    buffer = io.BytesIO()
    if packing == "pickle":
        pickle.dump({"weight": Canary(canary)}, buffer)
    elif packing == "numpy":
        np.save(buffer, np.array([Canary(canary)], dtype=object), allow_pickle=True)
    else:
        is_zip = packing == "torch"
        torch.save({"weight": Canary(canary)}, buffer, _use_new_zipfile_serialization=is_zip)
    forge(saved, **{kind: buffer.getvalue()})
    with pytest.raises(DamagedCheckpoint):
        load_checkpoint(saved)
    assert not canary.exists()


@pytest.mark.parametrize("way", ["../../{}", "tensors-/../../../{}", "{root}/{}"])
def test_names_in_the_manifest_lead_nowhere_else(saved: Path, tmp_path: Path, way: str) -> None:
    (saved / "tensors-").mkdir()  # a name may lead through it
    manifest = content_of(saved / MANIFEST)
    original, _ = manifest["files"]["tensors"]
    secret = tmp_path / original
    secret.write_bytes((saved / original).read_bytes())
    name = way.format(original, root=tmp_path)
    assert (saved / name).samefile(secret)
    manifest["files"]["tensors"][0] = name
    (saved / MANIFEST).write_bytes(sealed(manifest))
    with pytest.raises(DamagedCheckpoint):
        load_checkpoint(saved)


def test_a_header_that_claims_too_much_is_refused(saved: Path) -> None:
    header = json.dumps(
        {"weight": {"dtype": "F32", "shape": [2**34], "data_offsets": [0, 2**36]}}
    ).encode()
    forge(saved, tensors=len(header).to_bytes(8, "little") + header)
    with pytest.raises(DamagedCheckpoint):
        load_checkpoint(saved)
    forge(saved, tensors=(2**62).to_bytes(8, "little"))
    with pytest.raises(DamagedCheckpoint):
        load_checkpoint(saved)


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    with monkeypatch.context() as patch:
        yield Disk(patch)


def test_files_are_on_disk_before_they_are_named(disk: Disk, tmp_path: Path) -> None:
    save_checkpoint(tmp_path, **contents(1))
    assert disk.calls == [
        *("write tensors-1", "fsync", "replace"),
        *("write state-1", "fsync", "replace"),
        *("write manifest.json.new", "fsync", "replace"),
        "fsync",  # of the directory: the rename
    ]
    disk.calls.clear()
    save_checkpoint(tmp_path, **contents(2))
    assert disk.calls[-3:] == ["fsync", "unlink", "unlink"]  # what was there, last of all


@pytest.mark.parametrize("next_number", [1, 2], ids=["same step", "next step"])
def test_a_crash_at_any_moment_leaves_a_checkpoint(disk: Disk, tmp_path, next_number) -> None:
    save_checkpoint(tmp_path / "undisturbed", **contents(1))
    disk.calls.clear()
    save_checkpoint(tmp_path / "undisturbed", **contents(next_number))
    moments = len(disk.calls)
    assert moments >= 10
    for moment in range(moments):
        directory = tmp_path / str(moment)
        disk.fail_at(-1, Crash())
        save_checkpoint(directory, **contents(1))
        disk.fail_at(moment, Crash())
        with pytest.raises(Crash):
            save_checkpoint(directory, **contents(next_number))
        assert number_in(directory) in (1, next_number)
        disk.fail_at(-1, Crash())
        save_checkpoint(directory, **contents(3))  # the next start goes on, and tidies up
        assert number_in(directory) == 3
        assert len(files(directory)) == 3


def test_a_crash_before_the_first_leaves_none(disk: Disk, tmp_path: Path) -> None:
    for moment in range(8):
        directory = tmp_path / str(moment)
        disk.fail_at(moment, Crash())
        with pytest.raises(Crash):
            save_checkpoint(directory, **contents(1))
        assert not (directory / MANIFEST).exists()
        with pytest.raises(DamagedCheckpoint):
            load_checkpoint(directory)


def test_a_full_disk_leaves_the_previous_checkpoint_and_nothing_else(disk, saved: Path) -> None:
    before = files(saved)
    for moment in range(9):  # up to the rename
        disk.fail_at(moment, OSError(errno.ENOSPC, "No space left on device"))
        with pytest.raises(OSError, match="No space left"):
            save_checkpoint(saved, **contents(2))
        assert files(saved) == before
        assert number_in(saved) == 1


def replace_json(path: Path, content: dict[str, Any]) -> None:
    replace(path, to_json(content))


def test_json_is_replaced_in_one_piece(disk: Disk, tmp_path: Path) -> None:
    path = tmp_path / "summary.json"
    replace_json(path, {"status": "running"})
    for moment in range(3):
        disk.fail_at(moment, Crash())
        with pytest.raises(Crash):
            replace_json(path, {"status": "finished"})
        assert json.loads(path.read_text()) == {"status": "running"}
    disk.fail_at(-1, Crash())
    replace_json(path, {"status": "finished"})
    assert json.loads(path.read_text()) == {"status": "finished"}
    assert files(tmp_path).keys() == {"summary.json"}


def test_what_is_no_json_is_refused_before_it_is_written(saved: Path) -> None:
    before = files(saved)
    with pytest.raises(TypeError):
        save_checkpoint(saved, tensors={}, state={"tensor": torch.zeros(1)}, step=5)
    assert files(saved) == before


@pytest.fixture
def three(tmp_path: Path) -> Path:
    """The newest of three checkpoints, with the two before it."""
    for number in (1, 2, 3, 4):
        save_checkpoint(tmp_path / "last", **contents(number), keep=3)
    return tmp_path / "last"


def names(directory: Path) -> set[str]:
    """Without the sums."""
    return {re.sub(r"-[0-9a-f]{64}\..*", "", name) for name in files(directory)}


def of(*numbers: int) -> set[str]:
    """Files of older checkpoints."""
    return {name for n in numbers for name in (f"manifest-{n}.json", f"tensors-{n}", f"state-{n}")}


NEWEST = {MANIFEST, "tensors-4", "state-4"}


def test_some_older_checkpoints_are_kept(three: Path) -> None:
    assert names(three) == NEWEST | of(2, 3)
    save_checkpoint(three, **contents(5), keep=1)
    assert names(three) == {MANIFEST, "tensors-5", "state-5"}


@pytest.mark.parametrize("kind", ["tensors-4", "state-4", MANIFEST])
def test_the_newest_whole_one_is_used_and_said(three: Path, kind: str) -> None:
    (path,) = three.glob(f"{kind}*")
    path.write_bytes(b"?" + path.read_bytes()[1:])
    with pytest.warns(RuntimeWarning, match=r"damaged.*the one before it is used"):
        assert number_in(three) == 3
    next(three.glob("state-3*")).unlink()
    with pytest.warns(RuntimeWarning):
        assert number_in(three) == 2
    next(three.glob("tensors-2*")).write_bytes(b"")
    # Of all that is damaged, the newest is told.
    with pytest.raises(DamagedCheckpoint, match=path.name.partition("-")[0]):
        load_checkpoint(three)


def test_saving_after_a_fall_back_leaves_nothing_damaged(three: Path) -> None:
    next(three.glob("tensors-4*")).write_bytes(b"")
    save_checkpoint(three, **contents(3), keep=3)  # the run went on from 3 and came by it again
    assert number_in(three) == 3
    assert not names(three) & of(4)


def test_going_back_drops_a_later_course(three: Path) -> None:
    assert roll_back(three, 3)
    assert number_in(three) == 3
    assert not roll_back(three, 7)
    assert number_in(three) == 3
    save_checkpoint(three, **contents(4), keep=2)
    assert number_in(three) == 4
    assert roll_back(three, 3)


def test_a_crash_at_any_moment_leaves_the_older_ones_too(disk: Disk, tmp_path: Path) -> None:
    for moment in range(20):
        directory = tmp_path / str(moment)
        disk.fail_at(-1, Crash())
        for number in (1, 2):
            save_checkpoint(directory, **contents(number), keep=2)
        disk.fail_at(moment, Crash())
        with suppress(Crash):
            save_checkpoint(directory, **contents(3), keep=2)
        disk.fail_at(-1, Crash())
        newest = number_in(directory)
        assert newest in (2, 3)
        next(directory.glob(f"tensors-{newest}*")).write_bytes(b"")
        with pytest.warns(RuntimeWarning):
            assert number_in(directory) == newest - 1
