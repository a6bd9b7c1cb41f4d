"""Runs with data workers that are asked to stop at drawn moments."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from disturbed import LOCAL_RANKS, logs_of
from inspection import damages, differences, newest_point, remains
from launching import MAIN, Launch, launched, main_arguments, read_json
from moments import START, TRAINING, progress_of, stage_of, training_of
from patience import Patience, TrialError, happens, wait_until
from processes import Processes, children

from sms_dist.base.process import DONE
from sms_dist.run.paths import METRICS, RunPaths

HANG_SECONDS = 60.0  # after which it counts as never granted
NUM_WORKERS = 2  # of each rank
SPREAD_SECONDS = 4.0  # of moments, counted from the start of work
SETTINGS = (
    "data.name=card",
    "data.loader=streaming",
    f"data.workers={NUM_WORKERS}",
    "candidates.count=2",
    "pretrain.epochs=8",
    "retrain.epochs=8",
)
FORMS = {
    "alone": None,
    "launched": 2,
}  # launcher/main.py as it is; sms_dist/start/local_ranks.py, ranks
WAYS = ("SIGTERM", "SIGTERM", "SIGTERM", "SIGUSR1", "stop file")


@dataclass
class Request:
    """To stop, and what came of it."""

    form: str
    way: str
    stage: str
    workers: int  # alive, of all ranks
    seconds: float  # until all processes were gone
    status: int | None
    training: str | None  # that was under way,
    steps: int | None  # and of its recovery point afterwards
    is_durable: bool

    @property
    def came_too_late(self) -> bool:
        """Nothing was left to train, and the run was finished before it could stop."""
        return self.status == DONE and self.stage not in TRAINING


class Run:
    """A run folder of one form."""

    def __init__(self, form: str, folder: Path, shards: Path) -> None:
        self.form, self.folder = form, folder
        self.requests: list[Request] = []
        self._arguments = main_arguments(folder, *SETTINGS, f"data.path={shards}")

    @contextmanager
    def launched(self) -> Iterator[Launch]:
        ranks, program, words = FORMS[self.form], MAIN, []
        if ranks:
            program = LOCAL_RANKS
            words = ["--standalone", f"--nproc-per-node={ranks}", MAIN]
        with launched(program, [*words, *self._arguments], logs_of(self.folder)) as launch:
            yield launch

    def finish(self, moment: random.Random, times: int, tell: Callable[[Request], None]) -> None:
        """Ask it to stop so many times at most, and let it go on until it is finished."""
        while not self.start(moment if len(self.requests) < times else None):
            tell(self.requests[-1])

    def start(self, moment: random.Random | None = None) -> bool:
        """Start it, and ask it to stop if there is a moment to draw; whether it is finished."""
        since = time.time()
        with self.launched() as launch:
            if moment is not None and self._works(launch, since, moment.random() * SPREAD_SECONDS):
                self.requests.append(self._ask(launch, moment.choice(WAYS), since))
                return self.requests[-1].came_too_late
            wait_until(lambda: launch.process.poll() is not None, Patience(self.folder))
            if status := launch.process.wait():
                raise TrialError(f"{self.folder}: status {status}, though nobody has asked for it")
        return True

    def _works(self, launch: Launch, since: float, seconds: float) -> bool:
        """Whether it still does, so many seconds after its data workers came."""
        processes, patience = Processes(launch), Patience(self.folder)

        def has_come() -> bool:
            is_there = stage_of(self.folder, 0, since) != START
            return is_there and len(self._workers(processes)) >= NUM_WORKERS * (
                FORMS[self.form] or 1
            )

        wait_until(lambda: has_come() or launch.process.poll() is not None, patience)
        return not happens(lambda: launch.process.poll() is not None, seconds)

    def _workers(self, processes: Processes) -> set[int]:
        ranks = processes.ranks().values() if FORMS[self.form] else [processes.agent]
        return {child for rank in ranks for child in children(rank)}

    def _ask(self, launch: Launch, way: str, since: float) -> Request:
        processes = Processes(launch)
        workers, stage = len(self._workers(processes)), stage_of(self.folder, 0, since)
        found = progress_of(self.folder, 0)
        training = training_of(found) if found and stage in TRAINING else None
        before, asked = _num_stored(self.folder), time.time()
        if way == "stop file":
            RunPaths(self.folder).stop.touch()
        else:
            os.kill(launch.process.pid, signal.Signals[way])
        is_over = happens(
            lambda: launch.process.poll() is not None and not processes.all(), HANG_SECONDS
        )
        seconds = time.time() - asked
        point = newest_point(self.folder, training) if training else None
        is_durable = (
            training is None
            or (point is not None and point[1] >= asked)
            or _num_stored(self.folder) > before
        )
        status = launch.process.poll() if is_over else None
        steps = point[0] if point else None
        return Request(self.form, way, stage, workers, seconds, status, training, steps, is_durable)

    def faults(self, reference: dict[str, str] | None) -> list[str]:
        """What is wrong with the finished run."""
        found = [*damages(self.folder), *remains(self.folder)]
        if reference is not None:
            found += differences(self.folder, reference)
        for request in self.requests:
            if request.steps is not None and request.steps not in self._resumed_at(request):
                found.append(f"no start went on from step {request.steps} of {request.training}")
        return found

    def _resumed_at(self, request: Request) -> list[int]:
        name = (request.training or "").replace("_candidate", "/candidate")
        found: list[int] = read_json(self.folder / name / METRICS).get("resumed_at", [])
        return found


def _num_stored(folder: Path) -> int:
    return len(list(folder.glob("**/weights.safetensors")))
