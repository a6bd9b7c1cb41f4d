"""Facts about the lock on a run folder, with real processes that hold it, die and come too late."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from sms_dist.run import lock as locks

ROOT = Path(__file__).resolve().parents[2]
QUICK = 0.1  # seconds between two renewals
HOLD = """
import sys, pathlib, time
from sms_dist.run.lock import acquire
tell = lambda reason: print(reason, flush=True)
lock = acquire(pathlib.Path(sys.argv[1]), tell, interval=float(sys.argv[2]))
print("held", flush=True)
time.sleep(1000)
"""
# Processes that all want the lock of a dead one at the same moment; a line with those who got it.
RACE = """
import multiprocessing, os, pathlib, sys
from sms_dist.run.lock import acquire
path, stale, many = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]).read_bytes(), 6
marker = path.with_name(".lock")
fork = multiprocessing.get_context("fork")
start, end, won = fork.Barrier(many + 1), fork.Barrier(many + 1), fork.SimpleQueue()
def taker():
    for _ in range(15):
        start.wait()
        try:
            lock = acquire(path)
            won.put(os.getpid())
        except ValueError:
            lock = None
        end.wait()
        start.wait()
        if lock:
            lock.release()
        end.wait()
takers = [fork.Process(target=taker, daemon=True) for _ in range(many)]
[one.start() for one in takers]
for _ in range(15):
    marker.write_bytes(stale)
    start.wait(); end.wait()
    winners = [won.get()]
    while not won.empty():
        winners.append(won.get())
    print(len(winners), flush=True)
    start.wait(); end.wait()
    assert not path.exists() and not marker.exists()
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run" / "lock.json"


@contextmanager
def holder(
    path: Path, interval: float = QUICK, prefix: tuple[str, ...] = (), **variables: str
) -> Iterator[subprocess.Popen[str]]:
    """Another process that has the lock."""
    process = subprocess.Popen(
        [*prefix, sys.executable, "-c", HOLD, str(path), str(interval)],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | variables,
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def marker(path: Path) -> Path:
    return path.with_name(".lock")


def change(path: Path, **changes: object) -> None:
    """Change what lock.json says of its owner."""
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@contextmanager
def dead(path: Path) -> Iterator[int]:
    """The lock of a process that has just been killed, a zombie, whose number it gives."""
    with holder(path) as first:
        first.kill()
        while locks.read(path).is_gone() is False:  # type: ignore[union-attr]
            time.sleep(0.01)
        yield first.pid


def is_said(reasons: list[str], act: Callable[[], None]) -> str:
    """What the holder is told after something happened."""
    assert reasons == []
    act()
    end = time.monotonic() + 60
    while not reasons:
        assert time.monotonic() < end, "it was not noticed"
        time.sleep(0.01)
    return reasons[0]


def test_a_second_start_is_refused_with_the_first_ones_names(path: Path) -> None:
    with holder(path, SLURM_JOB_ID="17") as first:
        with pytest.raises(ValueError) as error:
            locks.acquire(path, interval=QUICK)
        message = str(error.value)
        assert message.startswith(f"the run folder {path.parent} is in use by process {first.pid}")
        assert f"on host {os.uname().nodename} (job 17) since 2" in message
        assert f"touch {path.parent}/stop" in message
        assert "--run-dir" in message
        assert "\n" not in message
        owner = locks.read(path)
        assert owner is not None
        assert (owner.pid, owner.is_gone()) == (first.pid, False)


def test_a_released_lock_leaves_nothing_behind(path: Path) -> None:
    for _ in range(2):
        lock = locks.acquire(path)
        assert locks.read(path) is not None
        lock.release()
        lock.release()
        assert list(path.parent.iterdir()) == []
        assert locks.read(path) is None


def test_a_killed_process_gives_way_at_once(path: Path) -> None:
    never = 1000.0  # seconds: who waits for a lease to run out hangs, and the test fails
    with holder(path, never) as first:
        first.kill()  # and nobody has waited for it: a zombie still has its number
        while locks.read(path).is_gone() is False:  # type: ignore[union-attr]
            time.sleep(0.01)
        first.wait()
        locks.acquire(path, interval=never).release()
    assert list(path.parent.iterdir()) == []


def test_another_process_with_the_dead_ones_number_does_not_count(path: Path) -> None:
    with dead(path) as pid:
        pass
    text = marker(path).read_text()
    marker(path).write_text(text.replace(f"pid={pid}\n", f"pid={os.getpid()}\n"))
    change(path, pid=os.getpid())
    owner = locks.read(path)
    assert owner is not None
    assert owner.is_gone()
    locks.acquire(path, interval=QUICK).release()


def test_a_stopped_process_loses_the_folder_when_its_lease_has_run_out(path: Path) -> None:
    with holder(path) as first:
        first.send_signal(signal.SIGSTOP)
        lock = locks.acquire(path, interval=QUICK)
        owner = locks.read(path)
        assert owner is not None
        assert owner.pid == os.getpid()
        first.send_signal(signal.SIGCONT)
        assert first.stdout is not None
        assert "has been taken over by process" in first.stdout.readline()
        lock.release()


def test_a_lock_of_another_host_that_is_not_renewed_is_taken_over(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with dead(path) as pid:
        pass
    text = marker(path).read_text()
    marker(path).write_text(text.replace(f"host={os.uname().nodename}", "host=node7"))
    change(path, host="node7", machine="elsewhere", since="2099-01-01 00:00:00 UTC")
    locks.acquire(path, interval=QUICK).release()
    line = capsys.readouterr().err
    assert f"{path.parent} is locked by process {pid} on host node7 since 2099" in line
    assert line.count("\n") == 1


def test_a_process_that_cannot_be_seen_is_at_work_while_it_renews_its_lease(path: Path) -> None:
    apart = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")
    if subprocess.run([*apart, "true"], check=False, capture_output=True).returncode:
        pytest.skip("only root has name spaces of process numbers")
    with holder(path, QUICK, apart):
        owner = locks.read(path)
        assert owner is not None
        assert owner.is_gone() is None
        with pytest.raises(ValueError, match="in use"):
            locks.acquire(path, interval=QUICK)
    locks.acquire(path, interval=QUICK).release()


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"\xff\x00" * 600, b"filelock/2\npid=3\n", b"[" * 5000],
    ids=["empty", "torn", "list", "binary", "foreign", "deep"],
)
def test_files_that_are_no_lock_are_replaced(path: Path, content: bytes) -> None:
    path.parent.mkdir()
    path.write_bytes(content)
    marker(path).write_bytes(content)
    assert locks.read(path) is None
    locks.acquire(path, interval=0.5).release()


def test_a_lock_with_hostile_text_is_none(path: Path) -> None:
    lock = locks.acquire(path)
    assert locks.read(path) is not None
    for changes in ({"host": "a\nb"}, {"pid": -1}, {"pid": 1 << 80}, {"job": "\x1b[2J"}):
        before = path.read_text()
        change(path, **changes)
        assert locks.read(path) is None
        path.write_text(before)
    lock.release()


def test_of_many_that_take_over_one_wins(tmp_path: Path) -> None:
    stale, path = tmp_path / "dead" / "lock.json", tmp_path / "lock.json"
    with holder(stale, locks.INTERVAL) as first:
        pass
    assert first.wait() == -signal.SIGKILL
    won = subprocess.run(
        [sys.executable, "-c", RACE, str(path), str(marker(stale))],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=100,
        check=True,
    )
    assert won.stdout.split() == ["1"] * 15


def test_the_holder_is_told_once_when_the_folder_vanishes(path: Path) -> None:
    reasons: list[str] = []
    lock = locks.acquire(path, reasons.append, interval=QUICK)

    def vanish() -> None:
        path.unlink()
        marker(path).unlink()
        path.parent.rmdir()

    assert f"the run folder {path.parent} is gone" in is_said(reasons, vanish)
    lock.release()
    assert len(reasons) == 1
    assert not path.parent.exists()


def test_the_holder_is_told_who_took_the_folder_and_leaves_their_lock_alone(path: Path) -> None:
    reasons: list[str] = []
    lock = locks.acquire(path, reasons.append, interval=QUICK)

    def take_over() -> None:
        other = path.parent / "other" / "lock.json"
        with holder(other) as theirs:
            owners.append(theirs.pid)
        os.replace(other, path)
        os.replace(marker(other), marker(path))

    owners: list[int] = []
    assert "taken over by process" in is_said(reasons, take_over)
    lock.release()
    owner = locks.read(path)
    assert owner is not None
    assert [owner.pid] == owners


def test_the_holder_may_release_in_the_moment_it_is_told(path: Path) -> None:
    told = threading.Event()

    def on_lost(_: str) -> None:
        lock.release()
        told.set()

    lock = locks.acquire(path, on_lost, interval=QUICK)
    marker(path).unlink()
    assert told.wait(60)


def test_a_folder_that_cannot_be_made_is_refused_like_any_bad_run_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"file/run cannot be used: Not a directory; .*--run-dir"):
        locks.acquire(tmp_path / "file" / "run" / "lock.json")


def test_the_lock_imports_no_torch() -> None:
    code = "import sys, sms_dist.run.lock; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
