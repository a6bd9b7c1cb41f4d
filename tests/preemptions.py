"""Asks runs with data workers to stop, at random moments, and measures how long they take to.

python tests/preemptions.py --times 50

Every request must be granted in time, with status 75, after a recovery point or a finished step.
The run must go on from there, and end with the bits of a run that nobody has asked to stop.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import click

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE / "distributed"), str(HERE / "trials")]

from disturbed import LOCAL_RANKS, logs_of, tails  # noqa: E402
from inspection import damages, differences, fingerprint, newest_point, remains  # noqa: E402
from launching import MAIN, Launch, launched, main_arguments, read_json  # noqa: E402
from moments import START, TRAINING, progress_of, stage_of, training_of  # noqa: E402
from patience import Patience, TrialError, happens, wait_until  # noqa: E402
from processes import Processes, children  # noqa: E402
from shards import write_digits  # noqa: E402
from tables import markdown, span  # noqa: E402

from sms_dist.paths import METRICS, RunPaths  # noqa: E402

STOPPED = 75
LIMIT_SECONDS = 5.0  # in which a request must be granted
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
MOST_FAULTS = 5  # after which there is no use in more requests
FORMS = {"alone": None, "launched": 2}  # launcher/main.py as it is; launcher/local_ranks.py, ranks
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

    def finish(self, moment: random.Random, times: int) -> None:
        """Ask it to stop so many times at most, and let it go on until it is finished."""
        while not self.start(moment if len(self.requests) < times else None):
            click.echo(f"{self.folder.name}: {self.requests[-1]}", err=True)

    def start(self, moment: random.Random | None = None) -> bool:
        """Start it, and ask it to stop if there is a moment to draw; whether it is finished."""
        since = time.time()
        with self.launched() as launch:
            if moment is not None and self._works(launch, since, moment.random() * SPREAD_SECONDS):
                self.requests.append(self._ask(launch, moment.choice(WAYS), since))
                return False
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


def wrong(request: Request) -> list[str]:
    """What a request did not get that it is to get."""
    found = []
    if request.status != STOPPED:
        found.append(f"ended with status {request.status}")
    if request.seconds > LIMIT_SECONDS:
        found.append(f"took {request.seconds:.1f} s")
    if not request.is_durable:
        found.append("left no recovery point")
    return [f"{request.form}, {request.way} in {request.stage}: {words}" for words in found]


def trial(
    form: str, times: int, seed: int, folder: Path, shards: Path
) -> tuple[list[Request], list[str]]:
    """So many requests, over as many runs as it takes; and the faults."""
    undisturbed = Run(form, folder / f"{form}_reference", shards)
    undisturbed.start()
    faults = undisturbed.faults(None)
    reference = fingerprint(undisturbed.folder)
    moment, requests, number = random.Random(f"{seed} {form}"), list[Request](), 0
    while len(requests) < times:
        run = Run(form, folder / f"{form}_{number}", shards)
        try:
            run.finish(moment, times - len(requests))
            found = run.faults(reference)
        except TrialError as error:
            found = [f"{error}\n{tails(run.folder)}"]
        found += [fault for request in run.requests for fault in wrong(request)]
        faults += [f"{form} run {number}: {fault}" for fault in found]
        requests += run.requests
        number += 1
        if len(faults) > MOST_FAULTS:
            break
    return requests, faults


def table(requests: list[Request]) -> str:
    header = ["form", "asked by", "times", "status 75", "seconds: min / median / max",
              "workers alive", "in"]  # fmt: skip
    rows = []
    for form, way in sorted({(request.form, request.way) for request in requests}):
        some = [r for r in requests if (r.form, r.way) == (form, way)]
        stages = Counter(request.stage for request in some)
        rows.append([
            form, way, len(some), sum(r.status == STOPPED for r in some),
            span(r.seconds for r in some), min(r.workers for r in some),
            ", ".join(f"{stage} {count}" for stage, count in stages.most_common()),
        ])  # fmt: skip
    return markdown(header, rows)


@click.command()
@click.option("--times", default=50, show_default=True, help="Requests, of all forms together.")
@click.option("--form", type=click.Choice([*FORMS, "both"]), default="both", show_default=True)
@click.option("--seed", default=0, show_default=True, help="Of moments and ways to ask.")
@click.option("--folder", type=Path, help="New folder for the runs. [default: a temporary one]")
@click.option("--json", "document", type=Path, help="File for the results.")
def main(times: int, form: str, seed: int, folder: Path | None, document: Path | None) -> None:
    """Ask runs to stop, and see that they do, and that they come to the same end."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended"))  # and so end what was started
    folder = (folder or Path(tempfile.mkdtemp(prefix="preemptions_"))).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    write_digits(folder / "shards")
    names = list(FORMS) if form == "both" else [form]
    requests, faults = [], []
    for place, name in enumerate(names):
        share = times // len(names) + (place < times % len(names))
        found, its_faults = trial(name, share, seed, folder, folder / "shards")
        requests += found
        faults += its_faults
    document = document or folder / "preemptions.json"
    told = {"requests": [asdict(request) for request in requests], "faults": faults}
    document.write_text(json.dumps(told, indent=1) + "\n")
    click.echo("\n".join([table(requests), "", *faults, f"results: {document}"]))
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
