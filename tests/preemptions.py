"""Asks runs with data workers to stop, at random moments, and measures how long they take to.

python tests/preemptions.py --times 50

Every request must be granted in time, with status 75, after a recovery point or a finished step.
The run must go on from there, and end with the bits of a run that nobody has asked to stop. A
request after the last training may come too late: the run is finished instead, and another one is
made.
"""

from __future__ import annotations

import json
import random
import signal
import sys
import tempfile
from collections import Counter
from dataclasses import asdict
from pathlib import Path

import click

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE / "distributed"), str(HERE / "trials")]

from asked import FORMS, Request, Run  # noqa: E402
from disturbed import tails  # noqa: E402
from inspection import fingerprint  # noqa: E402
from patience import TrialError  # noqa: E402
from shards import write_digits  # noqa: E402
from tables import markdown, span  # noqa: E402

from sms_dist.base.process import STOPPED  # noqa: E402

LIMIT_SECONDS = 5.0  # in which a request must be granted
MOST_FAULTS = 5  # after which there is no use in more requests


def wrong(request: Request) -> list[str]:
    """What a request did not get that it is to get."""
    found = []
    if request.status != STOPPED and not request.came_too_late:
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
    while _num_counted(requests) < times:
        run = Run(form, folder / f"{form}_{number}", shards)
        try:
            run.finish(moment, times - _num_counted(requests), say)
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


def _num_counted(requests: list[Request]) -> int:
    return sum(not request.came_too_late for request in requests)


def say(request: Request) -> None:
    place = f"{request.form}: {request.way} in {request.stage}"
    point = "" if request.steps is None else f", after {request.steps} steps of {request.training}"
    click.echo(f"{place}: status {request.status} in {request.seconds:.2f} s{point}", err=True)


def table(requests: list[Request]) -> str:
    header = ["form", "asked by", "times", "status 75", "too late", "seconds: min / median / max",
              "workers alive", "in"]  # fmt: skip
    rows = []
    for form, way in sorted({(request.form, request.way) for request in requests}):
        some = [r for r in requests if (r.form, r.way) == (form, way)]
        stages = Counter(request.stage for request in some)
        rows.append([
            form, way, len(some), sum(r.status == STOPPED for r in some),
            sum(r.came_too_late for r in some),
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
