"""The runs of a sweep as subprocesses, some side by side; a stop ends all of them."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import RLock, Timer
from typing import Literal

from rich.console import Console
from rich.text import Text

from sms_dist.base.process import STOPPED
from sms_dist.cli.commands.run import command
from sms_dist.cli.sweeping.grid import SweepRun, result, state

STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
SECONDS_TO_STOP = 60
LOG = "sweep.log"

Status = Literal["skipped", "done", "failed", "stopped", "not started"]


@dataclass(frozen=True)
class Outcome:
    run: SweepRun
    status: Status
    seconds: float = 0.0
    error: str = ""  # the last line of the output about it

    @property
    def line(self) -> str:
        duration = f"  {self.seconds / 60:5.1f} min" if self.seconds else ""
        score = f"  {result(self.run)}" if self.status in ("done", "skipped") else ""
        return f"{self.status:<11}{duration}{score}".rstrip()


def run_all(
    runs: Sequence[SweepRun], file: Path | None, num_jobs: int, console: Console
) -> list[Outcome]:
    """Run what is not done, at most `num_jobs` at a time, and print a line about each.

    A failure does not stop the others, but runs that need its dense model are not started. Ctrl-C
    (or SIGTERM) stops the subprocesses, a second one ends them hard; the outcomes tell it.
    """
    outcomes: dict[Path, Outcome] = {}
    width = max(len(run.point.label) for run in runs)

    def finish(outcome: Outcome) -> None:
        outcomes[outcome.run.folder] = outcome
        number = f"{len(outcomes):>{len(str(len(runs)))}}/{len(runs)}"
        line = f"[{number}] {outcome.run.point.label:<{width}}  {outcome.line}"
        console.print(line, markup=False, highlight=False, soft_wrap=True)

    for run in runs:
        if state(run) == "done":
            finish(Outcome(run, "skipped"))
    waiting = [run for run in runs if run.folder not in outcomes]
    running: dict[Future[Outcome], SweepRun] = {}
    children = _Children()
    with children.signals(), ThreadPoolExecutor(num_jobs) as pool, console.status("") as now:
        try:
            while waiting or running:
                pending = {run.folder for run in (*waiting, *running.values())}
                for run in list(waiting):
                    needed = outcomes.get(run.after) if run.after else None
                    is_hopeless = needed is not None and needed.status not in ("done", "skipped")
                    if is_hopeless or (children.is_stopping and not running):
                        finish(Outcome(run, "not started"))
                    elif (
                        len(running) < num_jobs
                        and run.after not in pending
                        and not children.is_stopping
                    ):
                        running[pool.submit(children.execute, run, file)] = run
                    else:
                        continue
                    waiting.remove(run)
                labels = "; ".join(run.point.label for run in running.values())
                now.update(Text(f"running: {labels}"))
                # a signal that the system hands to another thread is looked at once a second
                for future in wait(running, 1, FIRST_COMPLETED).done:
                    finish(future.result())
                    del running[future]
        finally:
            if running:  # something else went wrong: no subprocess is left behind
                children.stop()
    return list(outcomes.values())


def ending(outcomes: Sequence[Outcome]) -> list[str]:
    """Return how many there are of each status, where to look for failures, how to go on."""
    counts = Counter(outcome.status for outcome in outcomes)
    lines = [", ".join(f"{count} {status}" for status, count in counts.items())]
    lines += [
        f"failed: {o.run.point.label}: {o.error} (see {o.run.paths.logs / LOG})"
        for o in outcomes
        if o.status == "failed"
    ]
    if counts.keys() & {"failed", "stopped", "not started"}:
        lines.append("the same command goes on with what is not done")
    return lines


class _Children:
    """The subprocesses that run; threads start and await them, a signal stops all."""

    def __init__(self) -> None:
        self.is_stopping = False
        self._processes: list[subprocess.Popen[bytes]] = []
        self._lock = RLock()  # a signal may interrupt its own handler
        self._timer = Timer(SECONDS_TO_STOP, self.stop)

    def execute(self, run: SweepRun, file: Path | None) -> Outcome:
        """Run it to its end; ValueError if its folder cannot be used."""
        log, start = run.paths.logs / LOG, time.monotonic()
        try:
            log.parent.mkdir(parents=True, exist_ok=True)
            output = log.open("ab")
        except OSError as error:
            problem = f"the run folder {run.folder} cannot be used: {error.strerror}"
            raise ValueError(problem) from None
        with output:
            offset = output.tell()
            with self._lock:
                if self.is_stopping:
                    return Outcome(run, "not started")
                process = subprocess.Popen(
                    command(run.num_ranks, run.arguments(file)),
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    env={"OMP_NUM_THREADS": "1", **os.environ},
                    start_new_session=True,  # Ctrl-C reaches it only through us
                )
                self._processes.append(process)
            code = process.wait()
        seconds = time.monotonic() - start
        if code == 0:
            return Outcome(run, "done", seconds)
        status: Status = "stopped" if self.is_stopping or code == STOPPED else "failed"
        return Outcome(run, status, seconds, _error(log, offset))

    def stop(self, *signal_and_frame: object) -> None:
        """Ask all to stop; whoever does not in time, or the second call, ends them hard."""
        with self._lock:
            is_second, self.is_stopping = self.is_stopping, True
            if not is_second:
                self._timer.start()
            for process in self._processes:
                if is_second and process.poll() is None:
                    with suppress(ProcessLookupError):  # ended by itself just now
                        os.killpg(process.pid, signal.SIGKILL)
                process.terminate()  # torchrun passes it on to its ranks

    @contextmanager
    def signals(self) -> Iterator[None]:
        """Stop on SIGINT, SIGTERM and SIGHUP."""
        heard = [n for n in STOPS if signal.getsignal(n) is not signal.SIG_IGN]  # nohup: not SIGHUP
        old = {number: signal.signal(number, self.stop) for number in heard}
        try:
            yield
        finally:
            self._timer.cancel()
            for number, handler in old.items():
                signal.signal(number, handler)


def _error(log: Path, offset: int) -> str:
    """Return the last line that begins with "error", or else the last one."""
    output = log.read_bytes()[offset:].decode(errors="replace").splitlines()
    lines = [line.strip() for line in output if line.strip()]
    errors = [line for line in lines if line.startswith("error")]
    return (errors or lines or ["nothing was said"])[-1]
