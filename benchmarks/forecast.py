"""Forecasts of small runs against the runs: seconds, and memory of a rank.

python benchmarks/forecast.py

Rates are measured first, with one process and with two, as in `sms-dist measure`; then each run is
forecast and started. Nothing else may work on the machine: a forecast does not know of it. Two
minutes and a half on two cores.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # runs from a clone, not installed

from benchmarks.rows import Row, Target, report
from data import DATASETS
from data.writer import labelled, write
from launcher.commands.run import command
from launcher.forecasts import forecasts
from launcher.measuring.measure import measure
from sms_dist.config_file import load
from sms_dist.forecast.forecast import Forecast
from sms_dist.forecast.rates import text

OFF = Target(at_most=0.2)
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
    write(folder, "cifar10", DATASETS["cifar10"].info.classes, splits, 500, lambda line: None)


def run(num_ranks: int, words: Sequence[str], folder: Path) -> tuple[float, float]:
    """Seconds from the command to its end, and the peak memory of a rank in bytes."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    begin = time.perf_counter()
    process = subprocess.Popen(
        command(num_ranks, [*words, "--run-dir", str(folder)]),
        env=environment,
        stdout=subprocess.DEVNULL,
    )
    _, status, used = os.wait4(process.pid, 0)  # of it and of all that it waited for
    assert status == 0, f"{folder} failed"
    return time.perf_counter() - begin, used.ru_maxrss * 1024


def rows_of(what: str, found: Forecast, seconds: float, memory: float) -> list[Row]:
    ratio, told = found.seconds / seconds, found.memory_bytes / memory
    times = f"forecast {found.seconds:.1f} s, took {seconds:.1f} s: ratio {ratio:.2f}"
    bytes_ = f"forecast {found.memory_bytes / 2**20:.0f} MiB, took {memory / 2**20:.0f} MiB"
    return [
        Row("forecast", f"time, {what}", "the run", "off", [abs(ratio - 1)], OFF, times),
        Row("forecast", f"memory, {what}", "the run", "off", [abs(told - 1)], OFF, bytes_),
    ]


@click.command()
@click.option("--seconds", default=1.0, show_default=True, help="For each rate.")
@click.option("--only", type=int, help="The number of one case, from 0. [default: all]")
@click.option("--json", "file", type=Path, help="Write the rows there.")
def main(seconds: float, only: int | None, file: Path | None) -> None:
    rows: list[Row] = []
    cases = [(base, case) for base, some in CASES.items() for case in some]
    chosen = cases if only is None else [cases[only]]
    with tempfile.TemporaryDirectory(prefix="forecast_") as name:
        root = Path(name)
        synthetic(root / "images")
        place = (f"data.path={root / 'images'}",)
        for base in dict.fromkeys(base for base, _ in chosen):
            general = [*base, *(place if "data.name=cifar10" in base else ())]
            some = [case for own, case in chosen if own == base]
            processes = range(1, max(case.num_ranks for case in some) + 1)
            rates = root / "rates.yaml"
            rates.write_text(text(measure(_words(general), processes, seconds, 50, root), ()))
            for case in some:
                settings = [*general, *case.settings]
                ((_, found),) = forecasts(load(None, settings), [case.num_ranks], rates, None).rows
                taken = run(case.num_ranks, _words(settings), root / f"run_{len(rows)}")
                model = load(None, general).model.name
                rows += rows_of(f"{model}, {case.what}", found, *taken)
                click.echo(rows[-2].note)
    report(rows, file)


def _words(settings: Sequence[str]) -> list[str]:
    return [word for setting in settings for word in ("--set", setting)]


if __name__ == "__main__":
    main()
