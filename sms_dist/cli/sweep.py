"""The runs of a sweep: as subprocesses on this host, or as Slurm's job arrays."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import RLock, Timer
from typing import Literal, get_args

import click

from sms_dist.base import plain
from sms_dist.base.process import STOPPED
from sms_dist.cli.commands.run import command
from sms_dist.cli.grid import SweepRun
from sms_dist.cli.slurm import jobs, submission
from sms_dist.cli.slurm.cluster import ClusterConfig
from sms_dist.cli.slurm.script import Array, array_script, check_folder
from sms_dist.reports import scores
from sms_dist.run.paths import RunPaths
from sms_dist.run.schema import Summary, parsed

STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
SECONDS_TO_STOP = 60
LOG = "sweep.log"
DENSE, READY, WAITING = "dense models", "points", "points that wait for dense models"
LIST = "runs.txt"

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


def result(run: SweepRun) -> str:
    """Return the final test score of a finished run: mIoU 58.73%; "-" where it is not known."""
    try:
        summary = parsed(Summary, plain.read_json(run.paths.summary), "summary.json")
    except ValueError:
        return "-"
    name = summary.score
    return f"{scores.score(name).label} {scores.text(summary.final.test(name), name)}"


def run_all(runs: Sequence[SweepRun], file: Path | None, num_jobs: int) -> list[Outcome]:
    """Run what is not done, at most `num_jobs` at a time, and print a line about each.

    Dense models come first. A failure does not stop the others, but runs that need its dense model
    are not started. Ctrl-C (or SIGTERM) stops the subprocesses, a second one kills them; the
    outcomes tell it.
    """
    outcomes: dict[Path, Outcome] = {}
    width = max(len(run.point.label) for run in runs)

    def finish(outcome: Outcome) -> None:
        outcomes[outcome.run.folder] = outcome
        number = f"{len(outcomes):>{len(str(len(runs)))}}/{len(runs)}"
        click.echo(f"[{number}] {outcome.run.point.label:<{width}}  {outcome.line}")

    for run in runs:
        if run.state == "done":
            finish(Outcome(run, "skipped"))
    children = _Children()
    with children.signals(), ThreadPoolExecutor(num_jobs) as pool:
        for is_dense in (True, False):
            pending = set()
            for run in runs:
                if run.point.is_dense is not is_dense or run.folder in outcomes:
                    continue
                if run.after is None or outcomes[run.after].status in ("done", "skipped"):
                    pending.add(pool.submit(children.execute, run, file))
                else:
                    finish(Outcome(run, "not started"))
            try:
                while pending:
                    # a signal that the system hands to another thread is looked at once a second
                    done, pending = wait(pending, 1, FIRST_COMPLETED)
                    for future in done:
                        finish(future.result())
            finally:
                if pending:  # something else went wrong: no subprocess is left behind
                    children.stop()
    return list(outcomes.values())


def ending(outcomes: Sequence[Outcome]) -> list[str]:
    """Return how many there are of each status, where to look for failures, how to go on."""
    counts = Counter(outcome.status for outcome in outcomes)
    order = [status for status in get_args(Status) if counts[status]]
    lines = [", ".join(f"{counts[status]} {status}" for status in order)]
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
        if self.is_stopping:
            return Outcome(run, "not started")
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
        """Ask all to stop; the second call, or the timer, kills those that have not."""
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


def submit_all(
    runs: Sequence[SweepRun],
    cluster: ClusterConfig,
    at_most: int | None,
    is_fresh: bool,
    dry_run: bool,
) -> Iterator[str]:
    """Submit what is neither done nor in the queue as job arrays; yield a line about each.

    `dry_run`: yield the scripts, each with its runs as comments. ValueError for the first run that
    could not be a job, before anything is submitted.
    """
    for run in runs:
        check_folder(run.folder.absolute())
        submission.check(run.config, cluster, run.paths, is_fresh)
    done = {run.folder for run in runs if run.state == "done"}
    queue = jobs.my_queue() if any(jobs.recorded(run.paths) for run in runs) else set()
    numbers = {run.folder: jobs.queued(run.paths, queue) for run in runs}
    queued = {folder: number for folder, number in numbers.items() if number is not None}
    arrays: dict[str, list[SweepRun]] = {DENSE: [], READY: [], WAITING: []}
    for run in runs:
        if run.folder not in done and run.folder not in queued:
            is_ready = run.after is None or run.after in done
            arrays[DENSE if run.point.is_dense else READY if is_ready else WAITING].append(run)
    root = RunPaths(runs[0].folder.parent.absolute())  # of the sweep's own files
    if not dry_run:
        labels = {run.folder: run.point.label for run in runs}
        yield from (f"done: {label}" for folder, label in labels.items() if folder in done)
        yield from (f"in the queue: job {job}, {labels[at]}" for at, job in queued.items())
        is_new = any(arrays.values())
        if is_new and not submission.take(root.snapshot, None, has_code=True, is_fresh=is_fresh):
            yield f"the code of the first submission is kept: {root.snapshot}"
    dense_array = ""
    for kind, members in arrays.items():
        if not members:
            continue
        folder = _new_folder(root.logs)
        array = Array(folder / LIST, len(members), at_most)
        place = submission.place(cluster, root.snapshot, members[0].options)
        script = array_script(cluster, place, array, job_name=members[0].config.name)
        if dry_run:
            yield script.rstrip()
            yield from (f"# {kind}, {i}: {run.folder}" for i, run in enumerate(members))
            continue
        for run in members:
            submission.prepare(run.paths, run.config, has_code=False, is_fresh=is_fresh)
        file = jobs.write_script(script, folder)
        lines = "".join(f"{run.folder.absolute()}\n" for run in members)
        (folder / LIST).write_text(lines, encoding="utf-8")
        dependency = None
        if kind == WAITING:
            needed = [run.after for run in members if run.after]
            if needed == [run.folder for run in arrays[DENSE]]:
                dependency = f"aftercorr:{dense_array}"  # one each: may start when its own is done
            else:
                needs = dict.fromkeys(queued.get(after) or dense_array for after in needed)
                dependency = jobs.afterok(tuple(needs))
        number = jobs.submit(file, dependency)
        if kind == DENSE:
            dense_array = number
        for index, run in enumerate(members):
            submission.record(run.paths, f"{number}_{index}")
        yield f"Submitted batch job {number}: {len(members)} {kind}"


def _new_folder(logs: Path) -> Path:
    """Return the folder for the script and the logs of the next array; it is not made yet."""
    taken = [path.name.removeprefix("array_") for path in logs.glob("array_*")]
    return logs / f"array_{1 + max((int(name) for name in taken if name.isdigit()), default=0)}"
