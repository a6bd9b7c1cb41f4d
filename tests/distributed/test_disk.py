"""What a run says of a disk that fails it, and that it ends with the same bits once it can."""

from __future__ import annotations

import os
import subprocess
from contextlib import contextmanager

import pytest
from forking import Runs
from launching import last_soup

from sms_dist.reports.runs import read_run
from sms_dist.run import lock as locks
from sms_dist.run.paths import RunPaths

SETTINGS = ("candidates.count=2", "records.every_seconds=null", "records.every_steps=20")
AGAIN = "then give the same command again; the last good state is untouched"
FULL = ["no space left on its device (0.0 of 4.0 MiB free)", f"free some, {AGAIN}"]
# Kind of trouble, the operation before which it comes, the status, what the error has to say. One
# run folder suffers it all, one start after the other.
TROUBLES = [
    ("fill", "open {run}/.config.yaml", 2, ["run/config.yaml", *FULL]),
    ("fill", "open {run}/recovery/dense/b/.rank_0.safetensors", 1, ["recovery/dense", *FULL]),
    ("die", "rename {run}/.dense", 99, []),
    ("fill", "open {run}/.dense", 1, ["run/dense", *FULL]),
    ("limit", "open {run}/recovery/phase_1", 1, ["larger than a file may be", "ulimit -f", AGAIN]),
    ("fill", "open {run}/phase_1/.candidate_1", 1, ["run/phase_1/candidate_1", *FULL]),
    ("protect", "open {run}/phase_1/.soup", 1, ["run/phase_1/soup", "read-only", AGAIN]),
    ("fill", "open {run}/phase_1/.soup", 1, ["run/phase_1/soup", *FULL]),
    ("fill", "mkdir {run}/recovery/phase_2_candidate_0", 1, ["phase_2_candidate_0", *FULL]),
    ("die", "write {run}/phase_2/.candidate_0", 99, []),
    ("limit", "write {run}/journal.jsonl", 1, ["run/journal.jsonl", "ulimit -f", AGAIN]),
    ("fill", "open {run}/.summary.json", 1, ["run/summary.json", *FULL]),
]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return Runs(tmp_path_factory.mktemp("forked") / "logs")


@contextmanager
def small_disk(folder, size):
    """A file system of its own."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("only root may mount a small file system")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def mend(trouble, disk):
    if trouble == "protect":
        subprocess.run(["umount", "--lazy", str(disk)], check=True)
    (disk / "filler").unlink(missing_ok=True)


def remains(run):
    """What was not finished; but for progress, which is replaced all the time."""
    return {path for path in run.rglob(".*.tmp") if path.parent.name != "progress"}


def check_readable(run):
    """No torn file, and nothing left over of what could not be written."""
    paths = RunPaths(run)
    if paths.config.is_file() and paths.journal.is_file():
        read_run(run)


def test_whatever_the_disk_does_the_run_goes_on_and_ends_with_the_same_bits(runs, tmp_path):
    undisturbed = tmp_path / "undisturbed"
    undisturbed.mkdir()
    assert runs.run(undisturbed, *SETTINGS).status == 0
    with small_disk(tmp_path / "disk", "4m") as disk:
        run = disk / "run"
        for trouble, before, status, words in TROUBLES:
            before, old = before.format(run=run), remains(run)
            ended = runs.run(disk, *SETTINGS, trouble=trouble, before=before)
            assert ended.status == status, (trouble, before, ended.err)
            said = [line for line in ended.err.splitlines() if not line.startswith("warning:")]
            assert len(said) == bool(words), (trouble, before, ended.err)
            assert all(word in said[0] for word in words), (words, ended.err)
            mend(trouble, disk)
            check_readable(run)
            if trouble in ("fill", "limit"):
                assert remains(run) <= old, "they eat the space that is left"
        assert runs.run(disk, *SETTINGS).status == 0
        assert last_soup(run) == last_soup(undisturbed / "run")
        check_readable(run)


def test_a_second_start_is_refused_and_touches_nothing(runs, tmp_path):
    lock = locks.acquire(tmp_path / "run" / "lock.json")
    ended = runs.run(tmp_path, *SETTINGS)
    assert ended.status == 2
    (line,) = ended.err.splitlines()
    assert f"{tmp_path}/run is in use by process {os.getpid()} on host" in line
    assert {path.name for path in (tmp_path / "run").iterdir()} == {".lock", "lock.json"}
    lock.release()


def test_a_run_folder_that_vanishes_ends_the_run_and_is_not_made_again(runs, tmp_path):
    ended = runs.run(tmp_path, *SETTINGS, trouble="remove", before="/phase_1/.candidate_0")
    assert ended.status == 1
    (line,) = ended.err.splitlines()
    assert "run/phase_1/candidate_0 could not be written" in line
    assert f"{tmp_path}/run is gone" in line
    assert not (tmp_path / "run").exists()
