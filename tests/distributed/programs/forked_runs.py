"""Runs in forks of one process that has imported everything, with trouble at a chosen operation.

A line of JSON on stdin is a run, a line on stdout its exit status: see `forking.Runs.run`.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
import traceback
from base64 import b64encode
from dataclasses import asdict
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "run"))
# What every run needs, and what torch and the digits import only when they are used.
import torch._dynamo  # noqa: F401
from disk_trap import CRASHED, REAL_OPEN, Operation, Trap

import sms_dist.start.session  # noqa: F401
from sms_dist.start.rank import main


def fill(root: Path) -> None:
    """Leave no free block on the device."""
    for size in (1 << 20, 1 << 12):
        try:
            with REAL_OPEN(root / "filler", "ab", buffering=0) as filler:
                while filler.write(bytes(size)) == size:
                    pass
        except OSError:
            continue


def protect(root: Path) -> None:
    """Make the folder read-only: with a mount on top, for the lock is open and being written."""
    subprocess.run(["mount", "--bind", root, root], check=True)
    subprocess.run(["mount", "-o", "remount,bind,ro", root], check=True)


TROUBLES = {  # -> what happens to the folder in which the run folder lies
    "die": lambda root: os._exit(CRASHED),
    "fill": fill,
    "limit": lambda root: resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000)),
    "protect": protect,
    "remove": lambda root: shutil.rmtree(root / "run", ignore_errors=True),
}


class Onlooker:
    """Writes down the operations, and makes trouble before the first one that is meant: the last
    that is written down."""

    def __init__(self, root: Path, log: Path, trouble: str | None, before: str) -> None:
        self._root, self._trouble, self._before = root, trouble, before
        self._is_over = False
        self._log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)

    def look(self, operation: Operation) -> None:
        if self._is_over:
            return
        entry = asdict(operation) | {"data": b64encode(operation.data).decode()}
        os.write(self._log, json.dumps(entry).encode() + b"\n")
        if self._trouble and self._before in f"{operation.kind} {operation.path}":
            self._is_over = True
            TROUBLES[self._trouble](self._root)


def run(job: dict[str, Any]) -> None:
    for stream, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(f"{job['logs']}.{name}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)
    root, log = Path(job["root"]), Path(f"{job['logs']}.operations")
    onlooker = Onlooker(root, log, job["trouble"], job["before"])
    try:
        with Trap(root, look=onlooker.look).set():
            main(job["arguments"])  # ends the process
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(1)


for line in sys.stdin:
    job = json.loads(line)
    pid = os.fork()
    if pid == 0:
        run(job)
    _, status = os.waitpid(pid, 0)
    print(os.waitstatus_to_exitcode(status), flush=True)
