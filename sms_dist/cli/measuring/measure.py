"""Starts the processes that measure, as a run would be started, and puts their rates together."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from sms_dist import start
from sms_dist.base import plain
from sms_dist.cli.forecast.rates import Rates

WORKER = Path(__file__).resolve().with_name("worker.py")
LOCAL_RANKS = Path(start.__file__).resolve().with_name("local_ranks.py")
FOUND = "rates.json"  # of worker.py, below its folder


def measure(
    arguments: Sequence[str], processes: Sequence[int], seconds: float, steps: int, root: Path
) -> Rates:
    """With each of these numbers of processes, one after the other.

    `arguments` name the configuration; the processes write below `root`, as runs do.
    """
    found = [_measured(arguments, num, seconds, steps, root) for num in processes]
    hosts = tuple(host for rates in found for host in rates.hosts)
    return found[-1].model_copy(update={"hosts": hosts})


def _measured(
    arguments: Sequence[str], processes: int, seconds: float, steps: int, root: Path
) -> Rates:
    root.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".measure_", dir=root) as name:
        folder = Path(name)
        own = {"folder": folder, "begun": time.time(), "seconds": seconds, "steps": steps}
        words = [word for key, value in own.items() for word in (f"--{key}", str(value))]
        command = [*_start(processes), str(WORKER), *arguments, *words]
        environment = {"OMP_NUM_THREADS": "1", **os.environ}
        done = subprocess.run(command, env=environment, stdout=subprocess.DEVNULL)
        through = time.time()
        if done.returncode != 0:
            raise ValueError(f"measuring with {processes} processes failed: see above")
        document = plain.read_object(folder / FOUND)
        rates = Rates.model_validate(document["rates"])
        (host,) = rates.hosts
        start = {"start_seconds": host.start_seconds + through - document["ended"]}
        return rates.model_copy(update={"hosts": (host.model_copy(update=start),)})


def _start(processes: int) -> list[str]:
    """A single rank needs no torchrun."""
    if processes == 1:
        return [sys.executable]
    return [sys.executable, str(LOCAL_RANKS), "--standalone", f"--nproc-per-node={processes}"]
