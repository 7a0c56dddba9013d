"""Chunks of checkpoints: written once, shared, whole or refused, and of one course alone."""

import errno
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

import training.saving.files
from tests.training.failing_disk import Crash, Disk
from training.runs.progression import Progression
from training.runs.resume import open_run
from training.saving.archive import Archive
from training.saving.checkpoint import (
    MANIFEST,
    Checkpoint,
    DamagedCheckpoint,
    load_checkpoint,
    open_checkpoint,
    part_of,
    save_checkpoint,
    sealed,
)

CHUNK = 8
"""Numbers in a full chunk."""


class Log:
    """Stands for experience: the latest numbers of a course, each with the course's own mark."""

    def __init__(self, capacity: int = 64) -> None:
        self.capacity, self.first, self.numbers = capacity, 0, torch.zeros(0)
        self.read: list[str] = []

    def add(self, count: int, course: int = 0) -> "Log":
        end = self.first + len(self.numbers)
        new = torch.arange(end, end + count) + 1000.0 * course
        numbers = torch.cat([self.numbers, new])
        dropped = max(0, len(numbers) - self.capacity) // CHUNK * CHUNK
        self.first, self.numbers = self.first + dropped, numbers[dropped:]
        return self

    def state_dict(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        return {"newest": self.numbers[-1:].clone()}, {"first": self.first}

    def chunks(self) -> Mapping[str, Callable[[], Mapping[str, Tensor]]]:
        def reader(name: str, start: int) -> Callable[[], Mapping[str, Tensor]]:
            def read() -> Mapping[str, Tensor]:
                self.read.append(name)
                return {"numbers": self.numbers[start : start + CHUNK]}

            return read

        found = {}
        for start in range(0, len(self.numbers), CHUNK):
            length = min(CHUNK, len(self.numbers) - start)
            name = str((self.first + start) // CHUNK)
            found[name if length == CHUNK else f"{name}-{length}"] = reader(name, start)
        return found

    def load(
        self,
        tensors: Mapping[str, Tensor],
        state: Mapping[str, Any],
        chunks: Mapping[str, Mapping[str, Tensor]],
    ) -> None:
        self.first = state["first"]
        self.numbers = torch.cat([torch.zeros(0), *(part["numbers"] for part in chunks.values())])
        assert torch.equal(self.numbers[-1:], tensors["newest"])


class Course:
    """A process that trains: it saves what it knows, and may be gone on from by another."""

    def __init__(self, directory: Path, *, course: int = 0, keep: int = 2) -> None:
        self.directory, self.course, self.keep = directory, course, keep
        self.log, self.known, self.step = Log(), {}, 0

    @classmethod
    def after(cls, directory: Path, *, course: int, keep: int = 2) -> "Course":
        """Go on from what is there."""
        gone_on = cls(directory, course=course, keep=keep)
        opened = open_checkpoint(directory)
        gone_on.log.load(opened.tensors, opened.state["log"], opened.chunks)
        gone_on.step, gone_on.known = opened.state["step"], opened.chunks.entries
        return gone_on

    def save(self, count: int) -> "Course":
        self.log.add(count, self.course)
        self.step += 1
        tensors, state = self.log.state_dict()
        self.known = save_checkpoint(
            self.directory,
            tensors=tensors,
            state={"log": state, "step": self.step},
            step=self.step,
            keep=self.keep,
            chunks=self.log.chunks(),
            known=self.known,
        )
        return self


def numbers_in(directory: Path) -> list[float]:
    log, opened = Log(), open_checkpoint(directory)
    log.load(opened.tensors, opened.state["log"], opened.chunks)
    return log.numbers.tolist()


def numbers(*courses: tuple[int, int, int]) -> list[float]:
    """What courses left: each its mark, its first number and where it ended."""
    return [1000.0 * mark + number for mark, *bounds in courses for number in range(*bounds)]


def sizes(directory: Path) -> dict[str, int]:
    return {path.name: path.stat().st_size for path in directory.iterdir()}


def chunk_files(directory: Path) -> set[str]:
    return {name for name in sizes(directory) if name.startswith("chunk-")}


def the(directory: Path, label: str) -> Path:
    """The only file with a label, whatever its sum."""
    (path,) = (path for path in directory.iterdir() if path.name.rpartition("-")[0] == label)
    return path


def test_what_was_saved_is_opened(tmp_path: Path) -> None:
    course = Course(tmp_path)
    for count in (3, 20, 1, 40, 8, 100):
        course.save(count)
        assert numbers_in(tmp_path) == course.log.numbers.tolist()
    assert len(course.log.numbers) < 172  # it went round


def test_a_checkpoint_without_chunks_is_as_it_always_was(tmp_path: Path) -> None:
    for name, chunks in (("one", {}), ("other", None)):
        save_checkpoint(tmp_path / name, tensors={}, state={}, step=1, chunks=chunks)
    assert sizes(tmp_path / "one") == sizes(tmp_path / "other")
    assert len(open_checkpoint(tmp_path / "one").chunks) == 0


def test_a_checkpoint_costs_what_is_new(tmp_path: Path, monkeypatch) -> None:
    """Neither what is written nor what is summed up grows with what is held."""
    written: list[tuple[str, int]] = []
    original = training.saving.files.write

    def write(path: Path, data: bytes, **how: Any) -> None:
        written.append((path.name, len(data)))
        original(path, data, **how)

    monkeypatch.setattr(training.saving.files, "write", write)
    course, costs = Course(tmp_path), []
    course.log.capacity = 1000
    for _ in range(60):
        written.clear()
        course.log.read.clear()
        course.save(12)
        costs.append(sum(size for name, size in written if name.startswith("chunk-")))
        assert len(course.log.read) <= 3
    assert len(course.log.numbers) == 720
    # Two chunks at most are new or longer than they were, and the ring went round.
    assert max(costs[10:]) <= max(costs[1:4])
    assert len(chunk_files(tmp_path)) <= 1 + 90 + 2


def test_files_that_stand_are_never_touched(tmp_path: Path) -> None:
    course = Course(tmp_path).save(24)
    before = {name: (tmp_path / name).stat() for name in chunk_files(tmp_path)}
    course.save(8).save(8)
    for name, stat in before.items():
        after = (tmp_path / name).stat()
        assert (after.st_ino, after.st_mtime_ns) == (stat.st_ino, stat.st_mtime_ns)


def test_one_chunk_at_a_time_is_in_memory(tmp_path: Path, monkeypatch) -> None:
    course, events = Course(tmp_path), []
    original = training.saving.files.write

    def write(path: Path, data: bytes, **how: Any) -> None:
        events.append(f"write {path.name.rpartition('-')[0]}")
        original(path, data, **how)

    monkeypatch.setattr(training.saving.files, "write", write)
    course.log.read = events
    course.save(20)
    assert events[:6] == ["0", "write chunk-0", "1", "write chunk-1", "2", "write chunk-2-4"]
    reads, read = [], Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: reads.append(path.name) or read(path))
    chunks = open_checkpoint(tmp_path).chunks
    assert sum(name.startswith("chunk") for name in reads) == len(chunks) > 2  # all are verified
    reads.clear()
    next(iter(chunks.values()))
    assert len(reads) == 1  # and none is kept


def test_weights_are_read_without_chunks(tmp_path: Path) -> None:
    Course(tmp_path).save(20)
    for name in chunk_files(tmp_path):
        (tmp_path / name).unlink()
    _, state = load_checkpoint(tmp_path)
    assert state["step"] == 1
    with pytest.raises(DamagedCheckpoint, match=r"chunk-0-.*\.safetensors is missing"):
        open_checkpoint(tmp_path)


# ---- what stays, what goes


def test_kept_checkpoints_share_chunks_and_the_rest_goes(tmp_path: Path) -> None:
    course = Course(tmp_path, keep=3)
    for _ in range(12):
        course.save(10)
    named: set[str] = set()
    found = [tmp_path / MANIFEST, *tmp_path.glob("manifest-*.json")]
    for path in found:
        chunks = json.loads(path.read_text())["chunks"].values()
        named.update(name for name, _ in chunks)
    assert len(found) == 3
    assert chunk_files(tmp_path) == named
    assert len(named) < 8 + 2 * 4
    course.keep = 1
    course.save(1)
    assert chunk_files(tmp_path) == {name for name, _ in course.known.values()}


def test_a_course_that_was_left_is_never_mixed_in(tmp_path: Path) -> None:
    """The newest checkpoint is damaged: the run goes on from before it, and differs from there."""
    Course(tmp_path, keep=3).save(20).save(20).save(20)
    the(tmp_path, "tensors-3").write_bytes(b"")
    with pytest.warns(RuntimeWarning, match="the one before it is used"):
        other = Course.after(tmp_path, course=1, keep=3)
    left = chunk_files(tmp_path)
    other.save(20)  # chunks 4, 5 and 6 have other contents than the files of those names
    assert numbers_in(tmp_path) == numbers((0, 0, 40), (1, 40, 60))
    old = {name for name in left if name.startswith(("chunk-5-", "chunk-6-"))}
    assert len(old) == 2
    new = {name for name in chunk_files(tmp_path) if name.startswith(("chunk-5-", "chunk-6-"))}
    assert len(new - old) == 2
    other.save(4)
    assert numbers_in(tmp_path) == numbers((0, 0, 40), (1, 40, 64))
    assert not old & chunk_files(tmp_path)


def test_a_process_knows_nothing_that_it_did_not_open(tmp_path: Path) -> None:
    Course(tmp_path).save(20)
    fresh = Course(tmp_path, course=1).save(20)
    assert numbers_in(tmp_path) == numbers((1, 0, 20))
    assert chunk_files(tmp_path) == {name for name, _ in fresh.known.values()}


@pytest.mark.parametrize("harm", ["gone", "cut"])
def test_a_known_file_that_is_not_what_it_was_is_written_again(tmp_path: Path, harm: str) -> None:
    course = Course(tmp_path, keep=1).save(20)
    path = the(tmp_path, "chunk-1")
    if harm == "gone":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-1])
    course.save(1)
    assert numbers_in(tmp_path) == numbers((0, 0, 21))


# ---- damage


@pytest.fixture
def three(tmp_path: Path) -> Path:
    """Three checkpoints: chunk 0 is in all of them, chunk 3 in the newest alone."""
    Course(tmp_path, keep=3).save(12).save(8).save(12)
    return tmp_path


HARMS: dict[str, Callable[[Path], Any]] = {
    "a bit": lambda path: path.write_bytes(path.read_bytes()[:-1] + b"\x01"),
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "empty": lambda path: path.write_bytes(b""),
    "gone": Path.unlink,
    "another's": lambda path: shutil.copy(the(path.parent, "chunk-1"), path),
    "a directory": lambda path: (path.unlink(), path.mkdir()),
}


@pytest.mark.parametrize("harm", HARMS)
def test_a_damaged_chunk_costs_the_checkpoints_that_need_it(three: Path, harm: str) -> None:
    HARMS[harm](the(three, "chunk-3"))
    with pytest.warns(RuntimeWarning, match=r"chunk-3.*the one before it is used \(manifest-2"):
        assert numbers_in(three) == numbers((0, 0, 20))
    assert load_checkpoint(three)[1]["step"] == 3  # weights need none


@pytest.mark.parametrize("harm", HARMS)
def test_a_chunk_that_all_need_leaves_none(three: Path, harm: str) -> None:
    HARMS[harm](the(three, "chunk-0"))
    with pytest.raises(DamagedCheckpoint, match=r"chunk-0.*none of the 3 checkpoints there is w"):
        open_checkpoint(three)


def test_a_chunk_that_changes_after_it_was_opened_is_refused(three: Path) -> None:
    chunks = open_checkpoint(three).chunks
    HARMS["a bit"](the(three, "chunk-2"))
    assert chunks["0"]["numbers"].tolist() == numbers((0, 0, 8))
    with pytest.raises(DamagedCheckpoint, match="SHA-256"):
        chunks["2"]


@pytest.mark.parametrize(
    "chunks",
    [
        [],
        "chunks",
        {"0": {}},
        {"0": 3},
        {"0": []},
        {"0": [3, 1]},
        {"0": ["../secret", 1]},
        {"0": ["state-3.json", 1]},
        {"0": ["chunk-../../secret.safetensors", 1]},
    ],
    ids=repr,
)
def test_senseless_chunks_are_refused(three: Path, chunks: Any) -> None:
    manifest = json.loads((three / MANIFEST).read_text())
    del manifest["sha256"]
    for path in three.glob("manifest-*.json"):
        path.unlink()
    (three / MANIFEST).write_bytes(sealed({**manifest, "chunks": chunks}))
    if chunks:
        with pytest.raises(DamagedCheckpoint):
            open_checkpoint(three)


# ---- crashes


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    with monkeypatch.context() as patch:
        yield Disk(patch)


def test_chunks_are_on_disk_before_they_are_named(disk: Disk, tmp_path: Path) -> None:
    course = Course(tmp_path, keep=1).save(12)
    disk.calls.clear()
    course.save(5)
    assert [call for call in disk.calls if call != "fsync"] == [
        *("write chunk-1", "replace"),
        *("write chunk-2-1", "replace"),
        *("write tensors-2", "replace"),
        *("write state-2", "replace"),
        *("write manifest.json.new", "replace"),
        *["unlink"] * 3,
    ]
    assert disk.calls.count("fsync") == 6


def test_a_crash_at_any_moment_leaves_a_whole_checkpoint_and_no_rest(
    disk: Disk, tmp_path: Path
) -> None:
    """The process that goes on differs: what the dead one left must not be taken for its own."""
    moments, directory = 0, tmp_path / "undisturbed"
    course = Course(directory).save(12).save(12)
    disk.calls.clear()
    course.save(12)
    moments = len(disk.calls)
    assert moments > 15
    for moment in range(moments):
        directory = tmp_path / str(moment)
        disk.fail_at(-1, Crash())
        course = Course(directory).save(12).save(12)
        disk.fail_at(moment, Crash())
        with pytest.raises(Crash):
            course.save(12)
        disk.fail_at(-1, Crash())
        saved = numbers_in(directory)
        assert saved in (numbers((0, 0, 24)), numbers((0, 0, 36)))
        other = Course.after(directory, course=1).save(12)
        end = len(saved)
        assert numbers_in(directory) == numbers((0, 0, end), (1, end, end + 12))
        other.save(12)
        assert numbers_in(directory) == numbers((0, 0, end), (1, end, end + 24))
        named = {
            name
            for path in directory.glob("manifest*.json")
            for name, _ in json.loads(path.read_text())["chunks"].values()
        }
        assert chunk_files(directory) == named
        assert len(list(directory.glob("manifest*"))) == 2
        assert not list(directory.glob("*.new"))


def test_a_full_disk_leaves_what_was_there_and_says_how_much_is_needed(
    disk: Disk, tmp_path: Path
) -> None:
    course = Course(tmp_path).save(12)
    before = sizes(tmp_path)
    for moment in range(6):
        disk.fail_at(moment, OSError(errno.ENOSPC, "No space left on device"))
        with pytest.raises(OSError, match=r"checkpoint of \d[\d,]* bytes not saved: No space") as e:
            course.save(1000)
        said = int(str(e.value).split(" bytes")[0].split("of ")[1].replace(",", ""))
        assert said > 4 * len(course.log.numbers) - 12
        assert sizes(tmp_path) == before
        assert numbers_in(tmp_path) == numbers((0, 0, 12))
        course.log, course.step = Log().add(12), 1
    disk.fail_at(-1, Crash())
    course.save(20)
    assert numbers_in(tmp_path) == numbers((0, 0, 32))


# ---- a run's archive


class Learner:
    """An agent as far as an archive knows it."""

    def __init__(self) -> None:
        self.log: Log | None = Log()
        self.behaviour = None
        self.weight = torch.zeros(1)

    def state_dict(self) -> dict[str, Tensor]:
        return {"weight": self.weight}

    def experience(self) -> Log | None:
        return self.log


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[SimpleNamespace]:
    agent: Any = Learner()
    state: dict[str, Any] = {"identity": {"threads": 1}}

    def save(step: int) -> None:
        at = Progression(env_steps=step)
        of.archive.save_last(at, {}, state, must_succeed=True)

    of = SimpleNamespace(
        agent=agent, save=save, archive=Archive(tmp_path, agent, keep_last=2), directory=tmp_path
    )
    yield of


def test_an_archive_keeps_experience_in_last_alone(archive: SimpleNamespace) -> None:
    archive.agent.log.add(20)
    archive.save(20)
    opened: Checkpoint = open_checkpoint(archive.directory / "checkpoints" / "last")
    log = Log()
    log.load(part_of(opened.tensors, "experience"), opened.state["experience"], opened.chunks)
    assert log.numbers.tolist() == numbers((0, 0, 20))
    assert part_of(opened.tensors, "agent").keys() == {"weight"}


def test_an_archive_names_again_what_it_wrote_or_went_on_from(archive: SimpleNamespace) -> None:
    archive.agent.log.add(20)
    archive.save(20)
    archive.agent.log.add(20)
    archive.agent.log.read.clear()
    archive.save(40)
    assert archive.agent.log.read == ["2", "3", "4"]
    other = Archive(archive.directory, archive.agent, keep_last=2)
    other.go_back(Progression(env_steps=40), open_run(archive.directory))
    archive.archive = other
    archive.agent.log.read.clear()
    archive.save(60)
    assert archive.agent.log.read == []


def test_an_agent_without_experience_has_none_in_its_checkpoints(archive: SimpleNamespace) -> None:
    archive.agent.log = None
    archive.save(20)
    opened = open_checkpoint(archive.directory / "checkpoints" / "last")
    assert "experience" not in opened.state
    assert len(opened.chunks) == 0


def test_a_run_with_damaged_experience_alone_says_what_its_weights_are_good_for(
    archive: SimpleNamespace,
) -> None:
    archive.agent.log.add(20)
    archive.save(20)
    directory = archive.directory / "checkpoints" / "last"
    the(directory, "chunk-0").write_bytes(b"")
    with pytest.raises(DamagedCheckpoint, match=rf"init_from={archive.directory} starts a new run"):
        open_run(archive.directory)
    next(directory.glob("state-*")).write_bytes(b"")
    with pytest.raises(DamagedCheckpoint) as caught:
        open_run(archive.directory)
    assert "init_from" not in str(caught.value)
