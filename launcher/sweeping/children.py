"""Tasks run as child processes, some side by side; a stop ends them and keeps what they have."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Literal

from launcher.commands.run import command
from launcher.sweeping.tasks import Task, state
from sms_dist.exit_status import STOPPED

STOPS = (signal.SIGTERM, signal.SIGHUP)  # as good as Ctrl-C
SECONDS_TO_STOP = 60
SECONDS_BETWEEN_LOOKS = 0.05
LOG = "sweep.log"

Status = Literal["skipped", "done", "failed", "stopped", "not started"]


@dataclass(frozen=True)
class Outcome:
    task: Task
    status: Status
    seconds: float = 0.0
    said: str = ""  # the child's line about its failure


@dataclass
class Child:
    task: Task
    process: subprocess.Popen[bytes]
    log: Path
    log_start: int  # where this start's output begins
    start: float

    def outcome(self, is_stopping: bool) -> Outcome:
        """Of a child that has ended."""
        code, seconds = self.process.returncode, time.monotonic() - self.start
        if code == 0:
            return Outcome(self.task, "done", seconds)
        is_stopped = is_stopping or code == STOPPED
        status: Status = "stopped" if is_stopped else "failed"
        return Outcome(self.task, status, seconds, _told(self.log, self.log_start))


def run_all(
    tasks: Sequence[Task],
    file: Path | None,
    num_jobs: int,
    tell: Callable[[Outcome], None],
    watch: Callable[[Sequence[Task]], None],
) -> list[Outcome]:
    """Run what is not done, at most `num_jobs` at a time; a failure does not stop the others.

    `tell` hears of each outcome, `watch` of the tasks that run now. Ctrl-C (or SIGTERM) stops the
    children; the outcomes then say what has been stopped and what was not started.
    """
    outcomes: list[Outcome] = []
    children: list[Child] = []

    def finish(outcome: Outcome) -> None:
        outcomes.append(outcome)
        tell(outcome)

    for task in tasks:
        if state(task) == "done":
            finish(Outcome(task, "skipped"))
    finished = {outcome.task.folder for outcome in outcomes}
    waiting = [task for task in tasks if task.folder not in finished]
    with _termination_as_interrupt():
        try:
            while waiting or children:
                for task in _startable(waiting, children, num_jobs):
                    waiting.remove(task)
                    children.append(_started(task, file))
                watch([child.task for child in children])
                for child in _ended(children):
                    finish(child.outcome(is_stopping=False))
                for task in _hopeless(waiting, outcomes):
                    waiting.remove(task)
                    finish(Outcome(task, "not started"))
                time.sleep(SECONDS_BETWEEN_LOOKS)
        except KeyboardInterrupt:
            pass  # the outcomes say it
        finally:  # also where something else went wrong: no child is left behind
            for child in _stopped(children):
                finish(child.outcome(is_stopping=True))
            for task in waiting:
                finish(Outcome(task, "not started"))
    return outcomes


def _startable(waiting: Sequence[Task], running: Sequence[Child], num_jobs: int) -> Sequence[Task]:
    """The next tasks, as many as there is room for, whose dense model is not still to come."""
    pending = {task.folder for task in waiting} | {child.task.folder for child in running}
    return [task for task in waiting if task.after not in pending][: num_jobs - len(running)]


def _hopeless(waiting: Sequence[Task], outcomes: Sequence[Outcome]) -> list[Task]:
    """The tasks whose dense model failed."""
    lost = {o.task.folder for o in outcomes if o.status not in ("done", "skipped")}
    return [task for task in waiting if task.after in lost]


def _started(task: Task, file: Path | None) -> Child:
    """In a session of its own, so that Ctrl-C reaches the children only through us."""
    logs = task.paths.logs
    try:
        logs.mkdir(parents=True, exist_ok=True)
        log = (logs / LOG).open("ab")
    except OSError as error:
        raise ValueError(f"the run folder {task.folder} cannot be used: {error.strerror}") from None
    with log:
        process = subprocess.Popen(
            command(task.num_ranks, task.arguments(file)),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={"OMP_NUM_THREADS": "1", **os.environ},
            start_new_session=True,
        )
        return Child(task, process, logs / LOG, log.tell(), time.monotonic())


def _ended(children: list[Child]) -> list[Child]:
    """Those that have ended since the last look; they leave the list."""
    ended = [child for child in children if child.process.poll() is not None]
    children[:] = [child for child in children if child not in ended]
    return ended


def _stopped(children: list[Child]) -> Iterator[Child]:
    """Ask all to stop and wait; whoever does not, or a second Ctrl-C, ends it hard."""
    for child in children:
        child.process.terminate()  # torchrun passes it on to its ranks
    end = time.monotonic() + SECONDS_TO_STOP
    for child in children:
        try:
            child.process.wait(max(end - time.monotonic(), 0))
        except (subprocess.TimeoutExpired, KeyboardInterrupt):
            os.killpg(child.process.pid, signal.SIGKILL)
            child.process.wait()
        yield child


def _told(log: Path, start: int) -> str:
    """The last line that tells of an error, or else the last one."""
    said = log.read_bytes()[start:].decode(errors="replace").splitlines()
    lines = [line.strip() for line in said if line.strip()]
    errors = [line for line in lines if line.startswith("error")]
    return (errors or lines or ["nothing was said"])[-1]


@contextmanager
def _termination_as_interrupt() -> Iterator[None]:
    """SIGTERM and SIGHUP mean the same as Ctrl-C, and leave no children behind."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    heard = [n for n in STOPS if signal.getsignal(n) is not signal.SIG_IGN]  # nohup: not SIGHUP
    old = {number: signal.signal(number, interrupt) for number in heard}
    try:
        yield
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
