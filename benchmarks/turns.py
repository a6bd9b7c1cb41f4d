"""Takes the time of several ways of doing the same thing, in turn: ratios are of the same turn."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
Ways = Mapping[str, Callable[[], object]]
# glibc keeps freed tensors of up to 32 MiB; by default it gives them back after each step, and the
# kernel clears fresh pages for the next one (docs/performance.md).
KEEP_FREED_MEMORY = {"MALLOC_TRIM_THRESHOLD_": "2147483647", "MALLOC_MMAP_THRESHOLD_": "33554432"}
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), **KEEP_FREED_MEMORY}


@dataclass(frozen=True)
class Turns:
    """Seconds of each way, one for each turn."""

    seconds: Mapping[str, Sequence[float]]

    def times(self, way: str, baseline: str) -> list[float]:
        """How many times the baseline's time it takes, in each turn."""
        pairs = zip(self.seconds[way], self.seconds[baseline], strict=True)
        return [own / base for own, base in pairs]

    def faster(self, way: str, baseline: str) -> list[float]:
        """How many times as fast as the baseline it is, in each turn."""
        return self.times(baseline, way)


def in_turn(ways: Ways, turns: int, before: Callable[[], object] = gc.collect) -> Turns:
    """Time every way once in each turn, after one turn that does not count.

    `before` is called before each of them, outside the clock. The order changes from turn to turn:
    nothing always comes after the same.
    """
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    names = list(ways)
    for turn in range(turns + 1):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            before()
            start = time.perf_counter()
            ways[name]()
            taken = time.perf_counter() - start
            if turn:
                seconds[name].append(taken)
    return Turns(seconds)


@contextmanager
def peak_memory() -> Iterator[Callable[[], float]]:
    """Gives a function that tells, after the block, by how many MiB memory was above its start."""
    start, most, is_over = _resident(), [0.0], threading.Event()

    def watch() -> None:
        while not is_over.wait(0.0005):
            most[0] = max(most[0], _resident() - start)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield lambda: most[0]
    finally:
        is_over.set()
        thread.join()


def on_ranks(
    num_ranks: int, script: str, *arguments: object, variables: Mapping[str, str] = ENVIRONMENT
) -> Any:
    """Return the JSON value that rank 0 of a script of ours prints last, under torchrun."""
    words = ["--standalone", f"--nproc-per-node={num_ranks}", str(ROOT / "benchmarks" / script)]
    command = [sys.executable, "-m", "torch.distributed.run", *words, *map(str, arguments)]
    outside = {name: value for name, value in os.environ.items() if name not in ENVIRONMENT}
    environment = outside | variables
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def _resident() -> float:
    """MiB of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20
