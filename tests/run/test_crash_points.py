"""A process dies, or the power fails, at every operation on the disk: what is left can be used."""

from __future__ import annotations

import os
import re
import shutil
import signal
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from disk_trap import CRASHED, Operation, Trap
from power_cut import STATES, Disk

from sms_dist.base.files import write_text
from sms_dist.config import Config
from sms_dist.run import journal, lock, store
from sms_dist.run.checkpoint_files import RankCheckpoints
from sms_dist.run.journal import Journal, OtherEvent
from sms_dist.run.paths import RunPaths
from sms_dist.run.run_folder import environment, open_run

Done = Callable[[], None]  # tells that what came before has to be lasting
WEIGHTS = {"weights.safetensors": {"a": torch.arange(600.0)}}
IDENTITY = {"phase": 1}


@dataclass(frozen=True)
class Trial:
    """`work` is interrupted somewhere; `check` looks at what is left, given how often it said done.

    `begin` makes what is there before.
    """

    begin: Callable[[Path], None]
    work: Callable[[Path, Done], None]
    check: Callable[[Path, int], None]


def make_root(root: Path) -> None:
    (root / "run").mkdir()


def make_remains(root: Path) -> None:
    """What a save left that died, and a folder whose manifest somebody removed."""
    for name in (".candidate_0.12.tmp", "candidate_0"):
        (root / "run" / "phase_1" / name).mkdir(parents=True)
        (root / "run" / "phase_1" / name / "weights.safetensors").write_bytes(b"half")


def save(root: Path, done: Done) -> None:
    store.save(root / "run" / "phase_1" / "candidate_0", WEIGHTS, {"metrics.json": {"loss": 1}})
    done()


def check_saved(root: Path, times: int) -> None:
    (root / "run").mkdir(exist_ok=True)  # opened before anything is saved
    folder = root / "run" / "phase_1" / "candidate_0"
    assert store.is_complete(folder) or not times
    if not store.is_complete(folder):
        save(root, lambda: None)
    loaded = store.load_tensors(folder, "weights.safetensors")
    assert torch.equal(loaded["a"], WEIGHTS["weights.safetensors"]["a"])
    assert store.load_document(folder, "metrics.json") == {"loss": 1}
    assert [path.name for path in folder.parent.iterdir()] == ["candidate_0"]


def make_text(root: Path) -> None:
    (root / "summary.json").write_text("old")


def replace_text(root: Path, done: Done) -> None:
    for text in ("new", "newer"):
        write_text(root / "summary.json", text)
        done()


def check_text(root: Path, times: int) -> None:
    assert (root / "summary.json").read_text() in ("old", "new", "newer")[times:]


def append(root: Path, done: Done) -> None:
    log = Journal(root / "journal.jsonl")
    for number in range(3):
        log.write(OtherEvent(event="epoch", number=number, note="x" * 50))
        done()


def check_journal(root: Path, times: int) -> None:
    found = [event.as_json()["number"] for event in journal.read(root / "journal.jsonl")]
    assert found == list(range(len(found)))
    assert len(found) >= times
    Journal(root / "journal.jsonl").write(OtherEvent(event="begun", number=len(found)))
    assert len(journal.read(root / "journal.jsonl")) == len(found) + 1


def nothing(root: Path) -> None:
    pass


def enter(root: Path, done: Done) -> None:
    open_run(RunPaths(root / "runs" / "x"), Config(seed=3), environment())
    done()


def make_run(root: Path) -> None:
    enter(root, lambda: None)
    progress = RunPaths(root / "runs" / "x").progress
    progress.mkdir()
    (progress / "group_0.json").write_text("{}")


def check_entered(root: Path, times: int) -> None:
    paths = RunPaths(root / "runs" / "x")
    is_resume = paths.config.is_file()
    assert is_resume or not times
    assert open_run(paths, Config(seed=3), environment()) is is_resume
    assert sorted(path.name for path in paths.root.iterdir()) == ["config.yaml", "environment.json"]
    with pytest.raises(ValueError, match="seed: 3 -> 4"):
        open_run(paths, Config(seed=4), environment())


def take_and_leave(root: Path, done: Done) -> None:
    lock.acquire(root / "run" / "lock.json").release()


def check_lock(root: Path, times: int) -> None:
    lock.acquire(root / "run" / "lock.json", interval=0.5).release()
    left = [path.name for path in (root / "run").iterdir()]
    # Names that entering the run folder tidies up.
    assert not [name for name in left if not re.fullmatch(r"\.lock\.json\.\w+\.\d+\.tmp", name)]


def points(root: Path) -> RankCheckpoints:
    return RankCheckpoints(root / "run" / "recovery" / "dense", 0, IDENTITY)


def save_points(root: Path, done: Done) -> None:
    mine = points(root)
    for steps in range(1, 4):
        mine.write({"a": torch.full((300,), float(steps))}, {"steps": steps})
        mine.finish()
        done()


def check_points(root: Path, times: int) -> None:
    found = points(root).find(0)
    last = max(found, default=0)
    assert last in (times, times + 1)
    for steps, point in found.items():
        assert torch.equal(points(root).load(point)["a"], torch.full((300,), float(steps)))
    (root / "run").mkdir(exist_ok=True)
    mine = points(root)
    if last:
        mine.go_on_from(found[last])
    mine.write({"a": torch.zeros(3)}, {"steps": 9})
    mine.finish()
    assert points(root).find(0).keys() == {9} | ({last} - {0})


TRIALS = {
    "save": Trial(make_root, save, check_saved),
    "save again": Trial(make_remains, save, check_saved),
    "text": Trial(make_text, replace_text, check_text),
    "journal": Trial(nothing, append, check_journal),
    "new run": Trial(nothing, enter, check_entered),
    "resumed run": Trial(make_run, enter, check_entered),
    "lock": Trial(make_root, take_and_leave, check_lock),
    "recovery points": Trial(make_root, save_points, check_points),
}


def begun(trial: Trial, root: Path) -> Path:
    root.mkdir()
    trial.begin(root)
    return root


def recorded(trial: Trial, root: Path) -> list[Operation | None]:
    """Its operations on the disk, in order; None where it says done."""
    events: list[Operation | None] = []
    with Trap(root, look=events.append).set():
        trial.work(root, lambda: events.append(None))
    return events


def died(trial: Trial, root: Path, at: int, half: bool) -> int:
    """How often the work had said done when the process died at an operation."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        signal.alarm(60)
        try:  # nothing of the test runner may run on in the child
            with Trap(root, crash_at=at, half=half).set():
                trial.work(root, lambda: os.write(writer, b"."))
        except BaseException:
            traceback.print_exc()
        os._exit(0)
    os.close(writer)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == CRASHED
    with os.fdopen(reader, "rb") as told:
        return len(told.read())


@pytest.mark.parametrize("name", TRIALS)
def test_a_process_may_die_at_every_operation(tmp_path: Path, name: str) -> None:
    trial = TRIALS[name]
    whole = recorded(trial, begun(trial, tmp_path / "whole"))
    operations = [event for event in whole if event is not None]
    assert len(operations) > 3
    for at, operation in enumerate(operations):
        for half in (False, True)[: 1 + (operation.kind == "write")]:
            root = begun(trial, tmp_path / f"{at}_{half}")
            times = died(trial, root, at, half)
            trial.check(root, times)


@pytest.mark.parametrize("name", [name for name in TRIALS if name != "lock"])  # not synced: no need
def test_the_power_may_fail_after_every_operation(tmp_path: Path, name: str) -> None:
    trial = TRIALS[name]
    root = begun(trial, tmp_path / "whole")
    disk, times = Disk(root), 0
    for number, event in enumerate(recorded(trial, root)):
        if event is None:
            times += 1
        else:
            disk.apply(event)
        for state in STATES:
            left = tmp_path / "left"
            disk.write(left, state)
            try:
                trial.check(left, times)
            except (AssertionError, ValueError, OSError) as error:
                raise AssertionError(f"after operation {number}, {event}: {state}") from error
            shutil.rmtree(left)
