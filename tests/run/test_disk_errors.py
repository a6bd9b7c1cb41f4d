"""Facts about what is said of a disk that fails, on real full devices where there are any."""

from __future__ import annotations

import errno
import hashlib
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from sms_dist.base.files import json_text, sync, write_error, write_text
from sms_dist.run import store
from sms_dist.run.journal import Journal, OtherEvent, read
from sms_dist.run.progress import ProgressWriter, read_all

ROOT = Path(__file__).resolve().parents[2]
FULL = Path("/dev/full")  # a device on which every write fails for want of space
needs_full = pytest.mark.skipif(not FULL.exists(), reason="there is no /dev/full here")


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Files may be no larger, as under a quota; how much of a write fits is written."""
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, old[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)


def save(folder: Path) -> None:
    store.save(folder, {"weights.safetensors": {"a": torch.zeros(5000)}}, {"metrics.json": {}})


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, ["no space left on its device (", "B free)", "free some"]),
        (errno.EDQUOT, ["quota is used up", "have it raised"]),
        (errno.EIO, ["the disk failed", "looked at"]),
        (errno.EROFS, ["read-only"]),
        (errno.EACCES, ["permission denied", "right to write"]),
        (errno.ESTALE, ["file server", "mount it again"]),
        (errno.EMFILE, ["Too many open files"]),
    ],
)
def test_each_error_has_its_way_out(tmp_path: Path, number: int, words: list[str]) -> None:
    path = tmp_path / "run" / "dense"
    line = str(write_error(OSError(number, os.strerror(number)), path))
    assert line.startswith(f"{path} could not be written: ")
    assert all(word in line for word in words), line
    assert line.endswith("then give the same command again; the last good state is untouched")
    assert "\n" not in line


def test_a_folder_that_is_gone_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=rf"summary.json could not .*: {tmp_path}/x is gone;"):
        write_text(tmp_path / "x" / "y" / "summary.json", "text")
    assert not (tmp_path / "x").exists()


def test_a_save_that_does_not_fit_leaves_nothing_and_can_be_repeated(tmp_path: Path) -> None:
    folder = tmp_path / "phase_1" / "soup"
    with (
        largest_file(10_000),
        pytest.raises(ValueError, match=r"soup could not .*ulimit"),
    ):
        save(folder)
    assert list(folder.parent.iterdir()) == []
    save(folder)
    assert store.load_document(folder, "metrics.json") == {}


def test_a_text_that_does_not_fit_leaves_the_old_one_alone(tmp_path: Path) -> None:
    path = tmp_path / "summary.json"
    write_text(path, "old")
    with largest_file(1000), pytest.raises(ValueError, match=r"summary.json could not be written"):
        write_text(path, "x" * 2000)
    assert [entry.name for entry in tmp_path.iterdir()] == ["summary.json"]
    assert path.read_text() == "old"


@needs_full
def test_a_full_journal_is_named(tmp_path: Path) -> None:
    (tmp_path / "journal.jsonl").symlink_to(FULL)
    with pytest.raises(ValueError, match=r"journal.jsonl could not be written: no space left"):
        Journal(tmp_path / "journal.jsonl").write(OtherEvent(event="start"))


def test_an_event_that_did_not_fit_is_not_read_and_the_next_one_is(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    log = Journal(path)
    log.write(OtherEvent(event="start"))
    with largest_file(path.stat().st_size + 30), pytest.raises(ValueError, match=r"journal\.jsonl"):
        log.write(OtherEvent(event="epoch", note="x" * 50))
    assert [event.event for event in read(path)] == ["start"]
    log.write(OtherEvent(event="done"))
    assert [event.event for event in read(path)] == ["start", "done"]


def test_a_journal_that_was_removed_is_not_begun_anew(tmp_path: Path) -> None:
    log = Journal(tmp_path / "journal.jsonl")
    log.write(OtherEvent(event="start"))
    log.path.unlink()
    with pytest.raises(ValueError, match=r"journal.jsonl could not be written: it is gone"):
        log.write(OtherEvent(event="done"))
    assert not log.path.exists()


def test_progress_that_cannot_be_written_is_said_once_and_shown_when_it_can(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run" / "progress"
    writer = ProgressWriter(folder, 0)
    for step in range(3):
        writer.update(force=True, step=step)
    line = capsys.readouterr().err
    assert line.startswith(f"warning: {folder}/group_0.json could not be written: ")
    assert line.endswith("; the run goes on without it\n")
    assert line.count("\n") == 1
    folder.parent.mkdir()
    writer.update(force=True, step=3)
    assert read_all(folder)[0].step == 3
    folder.parent.rename(tmp_path / "moved")
    writer.update(force=True, step=4)
    assert capsys.readouterr().err == line


@pytest.mark.parametrize("content", ["", "{", "[]", '{"place": 1}', "\0" * 40])
def test_progress_that_a_power_cut_spoiled_is_left_out(tmp_path: Path, content: str) -> None:
    ProgressWriter(tmp_path, 1).update(step=1)
    (tmp_path / "group_0.json").write_text(content)
    assert list(read_all(tmp_path)) == [1]


# Curves whose second and third epoch do not fit.
CURVES = """
import pathlib, resource, sys
from sms_dist.run.logbook import CandidateBoard
board = CandidateBoard(pathlib.Path(sys.argv[1]))
for epoch in (1, 2, 3, 4):
    limit = 30 if epoch in (2, 3) else resource.RLIM_INFINITY
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    board.epoch(epoch, loss=1.0, learning_rate=0.1, accuracy=0.5, samples_per_second=1.0)
board.close()
"""


def test_curves_that_do_not_fit_are_said_once_and_go_on_when_they_do(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder = tmp_path / "curves"
    command = [sys.executable, "-c", CURVES, str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"warning: {folder} could not be written: ")
    points = EventAccumulator(str(folder)).Reload().Scalars("train/loss")
    assert [point.step for point in points] == [1, 4]


@pytest.mark.parametrize(
    ("content", "problem"),
    [(b"", "is no safetensors file"), (b"\xff" * 20, "is no safetensors file")],
)
def test_a_foreign_file_with_a_fitting_manifest_is_one_line(
    tmp_path: Path, content: bytes, problem: str
) -> None:
    folder = tmp_path / "dense"
    folder.mkdir()
    described = {"x": {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}}
    (folder / "manifest.json").write_text(json_text(described))
    (folder / "x").write_bytes(content)
    for load, words in ((store.load_tensors, problem), (store.load_document, "is not JSON")):
        with pytest.raises(ValueError, match=rf"dense/x {words}.*remove the folder") as error:
            load(folder, "x")
        assert "\n" not in str(error.value)


def test_a_folder_that_may_be_written_but_not_read_is_no_error(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may read everywhere")
    tmp_path.chmod(0o300)
    sync(tmp_path)
