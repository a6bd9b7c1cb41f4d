"""What thousands of ranks cost before they work, and while they watch each other.

python benchmarks/scale_ranks.py --plot docs/images/scaling_ranks.svg

For 1, 4, 16 ... 4096 ranks: the plan; one rank's place in the mesh, in torch's fake process group
(nothing travels); requests to the store, counted; a look of rank 0 at everybody's heartbeats.
Linear growth of rank 0's part is what the watchdog costs; nothing may grow faster. Half a minute.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import click

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # runs from a clone, not installed

import torch
import torch.distributed as dist
from torch.distributed import HashStore, Store

from benchmarks.rows import Row, Target, report
from sms_dist.base.process import is_gone, this_process
from sms_dist.cli.plan import planner
from sms_dist.config import Config
from sms_dist.mesh import beats, topology
from sms_dist.mesh.beats import Beat, Board
from sms_dist.mesh.control import Control
from sms_dist.mesh.handshake import compare
from sms_dist.mesh.watchdog import seconds_between_beats

RANKS_PER_CANDIDATE = 4
SILENCE = 60.0  # seconds, the default of engine.silence_seconds
SOON = timedelta(seconds=5)
SERIES = ("plan", "mesh", "groups made", "requests", "requests of rank 0", "look", "look, share")
Found = dict[str, dict[int, float]]  # series -> ranks -> seconds or a number


class Counting:
    """A store that counts what it is asked for, keys that stand for several included."""

    def __init__(self) -> None:
        self.store, self.asked = HashStore(), Counter[str]()

    def __getattr__(self, name: str) -> Callable[..., object]:
        method = getattr(self.store, name)

        def call(*arguments: object) -> object:
            self.asked[name] += 1
            return method(*arguments)

        return call


def seconds(work: Callable[[], object], times: int = 3) -> float:
    """Of the processor; the fastest of several times."""
    taken = []
    for _ in range(times):
        start = time.process_time()
        work()
        taken.append(time.process_time() - start)
    return min(taken)


def mesh(size: int) -> tuple[float, int]:
    """Seconds until a rank in the middle has its place, and process groups it has made."""
    from torch.testing._internal.distributed.fake_pg import FakeStore

    group = min(RANKS_PER_CANDIDATE, size)
    dist.init_process_group("fake", store=FakeStore(), rank=size // 2, world_size=size)
    begin = time.process_time()
    topology.in_mesh(size // group, torch.device("cpu"), Control(None, 0, 1))
    taken = time.process_time() - begin
    made = len(dist.distributed_c10d._world.pg_map) - 1
    dist.destroy_process_group()
    return taken, made


def handshake(size: int) -> tuple[int, int]:
    """Requests to the store of all ranks, and of rank 0, when all agree."""
    facts, store = {"torch": "2.13.0"}, Counting()
    store.store.set("verdict", "[]")
    for rank in range(1, size):
        compare(facts, store, rank, size, SOON)  # type: ignore[arg-type]
    others = store.asked.total()
    compare(facts, store, 0, size, SOON)  # type: ignore[arg-type]
    return store.asked.total(), store.asked.total() - others


def look(size: int) -> tuple[float, float]:
    """Seconds in which rank 0 reads and judges all beats, and their share of the time between."""
    store: Store = HashStore()
    board, listener = Board(store, lambda: None), beats.Listener(range(size))
    for rank in range(size):
        board.post(Beat(rank, 1, this_process(), "phase 1, candidate 2, step 300", moves=300))
    limits = beats.Limits(SILENCE, SILENCE, 1800.0)

    def work() -> None:
        _, beats = board.read(list(listener.silent))
        listener.hear(beats, 1.0)
        beats.fault(listener, limits, is_gone, "another machine")

    taken = seconds(work)
    return taken, taken / seconds_between_beats(SILENCE, size)


def measured(sizes: list[int]) -> Found:
    found: Found = {name: {} for name in SERIES}
    plan = planner(Config())
    for size in sizes:
        values = (
            seconds(lambda size=size: plan(size)),  # type: ignore[misc]
            *mesh(size),
            *handshake(size),
            *look(size),
        )
        for name, value in zip(SERIES, values, strict=True):
            found[name][size] = value
    return found


def rows_of(found: Found) -> list[Row]:
    last, before = sorted(found["plan"])[-1], sorted(found["plan"])[-2]
    times = last / before

    def growth(name: str) -> float:
        return found[name][last] / found[name][before]

    most, linear = Target(at_most=5), Target(at_most=1.05 * times)
    note = f"from {before} to {last} ranks, {times:g} times as many"
    total = found["plan"][last] + found["mesh"][last]
    return [
        Row("scale", f"plan and mesh of {last} ranks, on one of them", "", "s", [total], most),
        Row("scale", f"process groups that each of {last} ranks makes", "", "groups",
            [found["groups made"][last]], Target(at_most=8)),
        Row("scale", "requests of a handshake, all ranks", f"{before} ranks", "x",
            [growth("requests")], linear, note),
        Row("scale", "requests of a handshake, rank 0", f"{before} ranks", "x",
            [growth("requests of rank 0")], Target(at_most=1.05), note),
        Row("scale", f"rank 0 looks at {last} heartbeats", "the time between two looks", "of it",
            [found["look, share"][last]], Target(at_most=0.05)),
    ]  # fmt: skip


def plot(found: Found, file: Path) -> None:
    """Seconds on the left, counts on the right, over the number of ranks."""
    import matplotlib
    from matplotlib.figure import Figure

    from sms_dist.reports.figures import COLORS, MARKERS, STYLE

    shown = {
        "seconds": {"plan": "plan", "mesh": "place in the mesh", "look": "rank 0 looks at all"},
        "number": {
            "groups made": "process groups of a rank",
            "requests": "requests of a handshake",
            "requests of rank 0": "of which rank 0",
        },
    }
    with matplotlib.rc_context(STYLE):
        canvas = Figure(figsize=(8.0, 3.6), layout="constrained")
        for at, (label, series) in zip(canvas.subplots(1, 2), shown.items(), strict=True):
            for (name, words), color, marker in zip(series.items(), COLORS, MARKERS, strict=False):
                points = {ranks: value for ranks, value in found[name].items() if value}
                at.plot(list(points), list(points.values()), label=words, color=color,
                        marker=marker, ms=5, lw=1.5)  # fmt: skip
            at.set_xscale("log", base=2)
            at.set_yscale("log")
            at.set(xlabel="ranks", ylabel=label)
            at.legend(loc="upper left")
        canvas.suptitle("Before work begins, and the watchdog, by the number of ranks", fontsize=11)
        file.parent.mkdir(parents=True, exist_ok=True)
        canvas.savefig(file, metadata={"Date": None})


@click.command()
@click.option("--most", default=4096, show_default=True, help="Ranks; a power of four.")
@click.option("--plot", "picture", type=Path, help="Draw it there.")
@click.option("--json", "file", type=Path, help="Write the rows there.")
def main(most: int, picture: Path | None, file: Path | None) -> None:
    sizes = [4**i for i in range(20) if 4**i <= most]
    found = measured(sizes)
    for name, points in found.items():
        click.echo(f"{name:20}" + "".join(f"{value:>11.4g}" for value in points.values()))
    report(rows_of(found), file)  # before the picture, which is a change of the repository
    if picture is not None:
        plot(found, picture)


if __name__ == "__main__":
    main()
