"""Programs in forks of this process, which has paid for their imports once.

A line of JSON on stdin is a job, a line on stdout its exit status: see `launching.Warm`. A job runs
as a plain process, or on some ranks of this host, in place of torchrun --standalone: as there, the
first rank that fails ends the others. What torchrun itself does with a run is tested elsewhere.
"""

from __future__ import annotations

import json
import os
import random
import resource
import runpy
import shutil
import signal
import subprocess
import sys
import traceback
from base64 import b64encode
from collections.abc import Callable
from contextlib import nullcontext, suppress
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Any

import torch.distributed as dist

HERE = Path(__file__).resolve().parent
sys.path[:1] = [str(HERE.parent), str(HERE.parents[1] / "run")]

from disk_trap import CRASHED, REAL_OPEN, Operation, Trap  # noqa: E402
from launching import free_ports  # noqa: E402

# What every run needs, and what torch, the engines and the digits import only when they are used.
os.environ["DS_ACCELERATOR"] = "cpu"
ANSWERS = os.dup(1)
os.dup2(2, 1)  # deepspeed speaks while it is imported
for needed in ("deepspeed", "sklearn.datasets", "torch._dynamo", "sms_dist.start.session"):
    import_module(needed)

Job = dict[str, Any]


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


def forked(life: Callable[..., object], *arguments: object) -> int:
    """The number of a new process."""
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        random.seed()  # else all forks would ask for the same ports
        life(*arguments)
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def begin(job: Job) -> None:
    """Become the process that was asked for."""
    os.setsid()
    os.close(ANSWERS)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for stream, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(f"{job['logs']}.{name}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)
    os.chdir(job["folder"])
    os.environ.clear()
    os.environ.update(job["environment"])
    sys.exit(run_ranks(job) if job["ranks"] else run(job))


def run(job: Job) -> None:
    program, *_ = sys.argv = job["words"]
    sys.path.insert(0, str(Path(program).parent))
    trap = nullcontext()
    if job["root"]:
        log = Path(f"{job['logs']}.operations")
        onlooker = Onlooker(Path(job["root"]), log, job["trouble"], job["before"])
        trap = Trap(Path(job["root"]), look=onlooker.look).set()
    with trap:
        runpy.run_path(program, run_name="__main__")


def run_rank(job: Job, rank: int, port: int) -> None:
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(job["ranks"]),
        "LOCAL_WORLD_SIZE": str(job["ranks"]),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "TORCHELASTIC_RUN_ID": "warm",
        "TORCHELASTIC_RESTART_COUNT": "0",
        "TORCHELASTIC_USE_AGENT_STORE": "True",  # that of `keep_store`
    }
    run(job)


def keep_store(port: int) -> None:
    store = dist.TCPStore("127.0.0.1", port, is_master=True, wait_for_workers=False)
    while store is not None:
        signal.pause()


def run_ranks(job: Job) -> int:
    (port,) = free_ports(1)
    store = forked(keep_store, port)
    ranks = {forked(run_rank, job, rank, port) for rank in range(job["ranks"])}
    failure = 0
    while ranks:
        pid, status = os.wait()
        ranks.discard(pid)
        if failure := failure or os.waitstatus_to_exitcode(status):
            for rank in ranks:
                with suppress(ProcessLookupError):
                    os.kill(rank, signal.SIGTERM)
    os.kill(store, signal.SIGKILL)
    os.waitpid(store, 0)
    return int(failure != 0)


for line in sys.stdin:
    _, status = os.waitpid(forked(begin, json.loads(line)), 0)
    os.write(ANSWERS, f"{os.waitstatus_to_exitcode(status)}\n".encode())
