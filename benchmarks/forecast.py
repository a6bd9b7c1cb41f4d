"""Forecasts of small runs against the runs: seconds, and memory of a rank.

python benchmarks/forecast.py

Rates are measured as `sms-dist measure` does, with the processes of each run; then the run is
started, and rates are measured again. A forecast knows nothing of what else works on the machine,
so each run is compared to the mean of the forecasts with the rates of before and of after it; both
are shown, and the share of the cores that other work took: with more than a few percent the figures
say nothing. One run is also forecast from what another one has recorded. Five minutes on two idle
cores.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

import click
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # runs from a clone, not installed

from benchmarks.rows import Row, Target, report
from benchmarks.turns import ENVIRONMENT
from sms_dist import data
from sms_dist.cli.commands.run import command
from sms_dist.cli.forecast import Forecast, forecasts
from sms_dist.cli.measure import measure
from sms_dist.cli.rates import read_rates, text
from sms_dist.config import DataConfig
from sms_dist.config.file import load
from sms_dist.data.prepare.writer import labelled, write
from sms_dist.run import journal

OFF = Target(at_most=0.2)
STEPS = 12  # of an epoch that is measured, at most
IMAGES = {"train": 1000, "test": 300}


@dataclass(frozen=True)
class Case:
    what: str
    num_ranks: int
    settings: tuple[str, ...]


DIGITS = ("data.name=digits", "data.batch_size=64", "records.tensorboard=false")
CASES = {
    DIGITS: (
        Case("1 rank, m=3, 3 phases of 10 epochs", 1, ("pretrain.epochs=20",)),
        Case(
            "2 groups, m=3 (ragged), 2 phases of 15 epochs",
            2,
            ("pretrain.epochs=20", "pruning.phases=2", "retrain.epochs=15"),
        ),
        Case(
            "one group of 2, m=2, 3 phases of 8 epochs",
            2,
            ("pretrain.epochs=10", "candidates.count=2", "retrain.epochs=8",
             "engine.ranks_per_candidate=2"),
        ),
    ),
    ("data.name=cifar10", "data.batch_size=64", "model.name=resnet20"): (
        Case(
            "2 groups, m=2, 1 phase of 2 epochs",
            2,
            ("pretrain.epochs=2", "candidates.count=2", "pruning.phases=1", "retrain.epochs=2"),
        ),
        Case(
            "one group of 2, m=1, 2 phases of 1 epoch",
            2,
            ("pretrain.epochs=1", "candidates.count=1", "pruning.phases=2", "retrain.epochs=1",
             "engine.ranks_per_candidate=2"),
        ),
    ),
}  # fmt: skip


def synthetic(folder: Path) -> None:
    """Shards of random images, in CIFAR-10's form."""
    numbers = np.random.default_rng(0)

    def images(num: int):
        for i in range(num):
            yield f"{i:06d}", numbers.integers(0, 256, (3, 32, 32), dtype=np.uint8), i % 10

    splits = {name: labelled(images(num)) for name, num in IMAGES.items()}
    classes = data.described(DataConfig(name="cifar10")).classes
    write(folder, "cifar10", classes, splits, 500, lambda line: None)


@dataclass(frozen=True)
class Run:
    """A case that was run."""

    case: Case
    settings: Sequence[str]
    folder: Path
    seconds: float  # from the command to its end
    memory: float  # bytes of a rank, at its peak
    others: str  # what else worked meanwhile


@dataclass(frozen=True)
class Clock:
    """When something began, by all that the cores had done until then, and this script of it."""

    wall: float
    busy: float
    own: float

    @classmethod
    def now(cls) -> Clock:
        first = Path("/proc/stat").read_text().splitlines()[0].split()[1:9]
        user, nice, system, _, _, irq, softirq, steal = map(int, first)  # man 5 proc
        busy = (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")
        times = os.times()
        return cls(
            time.monotonic(), busy, sum(times[:4])
        )  # children, too, once they are waited for

    def others(self) -> str:
        """The share of all cores since then that was not for us, in words."""
        now = Clock.now()
        cores = (os.cpu_count() or 1) * (now.wall - self.wall)
        share = (now.busy - self.busy - (now.own - self.own)) / cores
        return f"other work took {max(0.0, share):.0%} of the cores"


def run(case: Case, settings: Sequence[str], folder: Path) -> Run:
    environment = os.environ | ENVIRONMENT
    begin = Clock.now()
    process = subprocess.Popen(
        command(case.num_ranks, [*_words(settings), "--run-dir", str(folder)]),
        env=environment,
        stdout=subprocess.DEVNULL,
    )
    _, status, used = os.wait4(process.pid, 0)  # of it and of all that it waited for
    assert status == 0, f"{folder} failed"
    seconds = time.monotonic() - begin.wall
    return Run(case, settings, folder, seconds, used.ru_maxrss * 1024, begin.others())


def rows_of(what: str, found: Sequence[Forecast], done: Run) -> list[Row]:
    """`found`: with the rates of before the run, and of after it."""
    before, after = (each.seconds for each in found)
    times = f"forecast {before:.1f} s before and {after:.1f} s after, took {done.seconds:.1f} s"
    told = mean(each.memory_bytes for each in found)
    bytes_ = f"forecast {told / 2**20:.0f} MiB, took {done.memory / 2**20:.0f} MiB"
    return [
        _row(f"time, {what}", mean((before, after)) / done.seconds, f"{times}, {done.others}"),
        _row(f"memory, {what}", told / done.memory, bytes_),
    ]


def row_from_another(source: Run, target: Run) -> Row:
    """The time of a run by what another one has recorded, without the start: nobody records it."""
    found = forecast_of(target, source.folder)
    seconds = found.seconds - found.start_seconds
    took = recorded_seconds(target.folder)
    note = f"forecast {seconds:.1f} s, took {took:.1f} s from its first event to its last"
    what = f"time, {target.case.what}, from the folder of: {source.case.what}"
    return _row(what, seconds / took, note)


def recorded_seconds(folder: Path) -> float:
    """From the first event of a run to its last one."""
    events = journal.read(folder / "journal.jsonl")
    first, last = (event.seconds or 0.0 for event in (events[0], events[-1]))
    return last - first


def forecast_of(run: Run, rates: Path) -> Forecast:
    config = load(None, run.settings)
    read, notes = read_rates(rates, config, None)
    ((_, forecast),) = forecasts(config, [run.case.num_ranks], read, None, notes).rows
    return forecast


@click.command()
@click.option("--only", type=int, help="The number of one case, from 0. [default: all]")
@click.option("--json", "file", type=Path, help="Write the rows there.")
def main(only: int | None, file: Path | None) -> None:
    rows: list[Row] = []
    cases = [(base, case) for base, some in CASES.items() for case in some]
    chosen = cases if only is None else [cases[only]]
    with tempfile.TemporaryDirectory(prefix="forecast_") as name:
        root = Path(name)
        synthetic(root / "images")
        for base in dict.fromkeys(base for base, _ in chosen):
            some = [case for own, case in chosen if own == base]
            place = (f"data.path={root / 'images'}",) if "data.name=cifar10" in base else ()
            rows += compared((*base, *place), some, root)
    report(rows, file)


def compared(base: Sequence[str], cases: Sequence[Case], root: Path) -> Iterator[Row]:
    """The runs of a model, each between two measurements."""
    model = load(None, base).model.name
    done: list[Run] = []
    for number, case in enumerate(cases):
        settings, begun = [*base, *case.settings], Clock.now()
        before = measured(settings, case.num_ranks, root / f"{model}_{number}_before.yaml", root)
        done.append(run(case, settings, root / f"{model}_{number}"))
        after = measured(settings, case.num_ranks, root / f"{model}_{number}_after.yaml", root)
        click.echo(f"{model}: {begun.others()}")
        found = [forecast_of(done[-1], file) for file in (before, after)]
        yield from rows_of(f"{model}, {case.what}", found, done[-1])
    if model == "digits_cnn" and len(done) > 1:
        yield row_from_another(done[1], done[0])


def measured(settings: Sequence[str], num_ranks: int, file: Path, root: Path) -> Path:
    """Measure, and return the file of rates."""
    own = [*settings, f"records.root={root}"]
    rates = measure(_words(own), load(None, own), num_ranks, STEPS)
    file.write_text(text(rates, ()))
    return file


def _row(what: str, ratio: float, note: str) -> Row:
    return Row("forecast", what, "the run", "off", [abs(ratio - 1)], OFF, f"{note}: {ratio:.2f} x")


def _words(settings: Sequence[str]) -> list[str]:
    return [word for setting in settings for word in ("--set", setting)]


if __name__ == "__main__":
    main()
