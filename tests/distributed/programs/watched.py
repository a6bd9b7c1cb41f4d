"""Ranks under a watchdog, one of which comes to harm: several small worlds side by side.

The argument is a folder. Every world is three forks of this process, which has paid for the
imports, and a fourth one that holds the store, as torchrun's agent does. They sum a number in every
step. Prints, as JSON, for every world: of each rank {"status", "seconds" from the harm to the end},
or null if it has not ended. What a world says on stderr is in a file of its name.

Under torchrun these are the ranks of one world, to which others do harm.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from launching import free_ports

from sms_dist.start import end_with_launcher

end_with_launcher()

import torch  # noqa: E402
import torch.distributed as dist  # noqa: E402

from sms_dist.base.process import this_process  # noqa: E402
from sms_dist.mesh.watchdog import Watchdog  # noqa: E402

RANKS, STORE = range(3), 3
SHORT, LONG, GRACE = 5.0, 60.0, 1.0  # seconds
HARMFUL_STEP, LAST_STEP = 100, 140
PATIENCE = 60  # seconds for a world to end
FOLDER = Path(sys.argv[1])


def raise_key_error():
    return {}["x"]


def wait_for_a_lock():
    lock = threading.Lock()
    lock.acquire()
    lock.acquire()


def keep_the_interpreter():
    ctypes.PyDLL(None).sleep(10**6)  # PyDLL: without letting other threads run


HARMS = {  # what rank 1 does to itself
    "exception": raise_key_error,
    "sleep": lambda: time.sleep(10**6),
    "lock": wait_for_a_lock,
    "interpreter": keep_the_interpreter,
    "segfault": lambda: ctypes.string_at(0),
    "exit": lambda: os._exit(3),
}
SIGNALS = {  # what this process does to a rank, or to all processes of the world
    "killed": (1, signal.SIGKILL),
    "killed elsewhere": (1, signal.SIGKILL),
    "rank 0 killed": (0, signal.SIGKILL),
    "stopped": (1, signal.SIGSTOP),
    "store killed": (STORE, signal.SIGKILL),
    "store stopped": (STORE, signal.SIGSTOP),
    "all suspended": (None, signal.SIGSTOP),
}
STUCK = ("interpreter", "stopped")  # rank 1 cannot end itself: its launcher does
SILENT = (*STUCK, "killed elsewhere", "store stopped", "all suspended", "torchrun")
HUNG = ("sleep", "lock", "resting")
HARMLESS = ("resting", "all suspended")
WORLDS = (*HARMS, *SIGNALS, "resting")


def work(watchdog: Watchdog, world: str, rank: int) -> None:
    for step in range(LAST_STEP if world in HARMLESS else 10**9):
        watchdog.place = "phase 1, candidate 2"
        watchdog.tick(step)
        if step == HARMFUL_STEP and rank == 1 and world in HARMS:
            HARMS[world]()
        dist.all_reduce(torch.ones(1))
        (FOLDER / f"{world}.{rank}").write_text(str(step))
        time.sleep(0.02)
    watchdog.rest()
    if world == "resting" and rank == 1:
        time.sleep(SHORT + 2)  # the others wait, and may: also in leaving
    if world == "resting":
        dist.barrier()
        time.sleep(rank)


def live(world: str, rank: int, port: int) -> None:
    """The life of a rank."""
    # torchrun holds the store by itself, unless it is told to leave that to rank 0.
    holds = rank == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "False"
    store = dist.TCPStore("127.0.0.1", port, is_master=holds, wait_for_workers=False)
    num_ranks = int(os.environ.get("WORLD_SIZE", len(RANKS)))
    dist.init_process_group("gloo", store=store, rank=rank, world_size=num_ranks)
    process = this_process()
    if world == "killed elsewhere":  # no rank can look at another's process
        process = replace(process, host=f"host{rank}", machine=f"host{rank}")
    default = dist.distributed_c10d._get_default_store()
    silence = SHORT if world in SILENT else LONG
    hang = SHORT if world in HUNG else None
    watchdog = Watchdog(
        default, rank, num_ranks, silence, hang, grace_seconds=GRACE, process=process
    )
    dist.barrier()
    try:
        work(watchdog, world, rank)
    except (RuntimeError, KeyError) as error:
        (FOLDER / f"{world}.explained.{rank}").write_text(watchdog.explain(error))
        watchdog.stop()
        os._exit(1)
    watchdog.stop()
    os._exit(0)


def forked(world: str, rank: int, port: int) -> int:
    child = os.fork()
    if child == 0:
        try:
            os.environ |= {"LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": str(len(RANKS))}
            if world == "killed elsewhere":
                os.environ |= {"LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1"}
            os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
            error = os.open(FOLDER / world, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(error, 2)
            if rank == STORE:
                hold_store(port)
            live(world, rank, port)
        finally:
            os._exit(17)
    return child


def hold_store(port: int) -> None:
    store = dist.TCPStore("127.0.0.1", port, is_master=True, wait_for_workers=False)
    while store is not None:
        time.sleep(1)


def is_due(world: str) -> bool:
    """Have all ranks come to the harmful step?"""
    files = [FOLDER / f"{world}.{rank}" for rank in RANKS]
    steps = [int(file.read_text() or 0) if file.exists() else 0 for file in files]
    return min(steps) >= HARMFUL_STEP - 1


def harm(world: str, pids: list[int]) -> None:
    if world not in SIGNALS:
        return
    target, number = SIGNALS[world]
    harmed = everybody(pids) if target is None else [pids[target]]
    for pid in harmed:
        os.kill(pid, number)
    if world == "all suspended":
        time.sleep(SHORT + GRACE + 3)
        for pid in harmed:
            os.kill(pid, signal.SIGCONT)


def everybody(pids: list[int]) -> list[int]:
    """With the processes that these have started."""
    lists = [file for pid in pids for file in Path(f"/proc/{pid}/task").glob("*/children")]
    return [*pids, *(int(word) for file in lists for word in file.read_text().split())]


def story(world: str, pids: list[int]) -> list[dict | None]:
    """How the ranks of a world have ended."""
    ends: list[dict | None] = [None] * len(RANKS)
    limit = time.monotonic() + PATIENCE
    while not is_due(world) and time.monotonic() < limit:
        time.sleep(0.02)
    begin = time.monotonic()
    harm(world, pids)
    while None in ends and time.monotonic() < begin + PATIENCE:
        for rank in RANKS:
            if ends[rank] is None:
                pid, status = os.waitpid(pids[rank], os.WNOHANG)
                seconds = time.monotonic() - begin
                if pid:
                    status = os.waitstatus_to_exitcode(status)
                    ends[rank] = {"status": status, "seconds": seconds}
        if world in STUCK and [end is None for end in ends] == [False, True, False]:
            os.kill(pids[1], signal.SIGKILL)
        time.sleep(0.02)
    for rank, pid in enumerate(pids):
        if rank == STORE or ends[rank] is None:
            os.kill(pid, signal.SIGKILL)
    return ends


def main() -> None:
    # The store looks up the name of each that connects, and meanwhile answers nobody.
    os.environ["RES_OPTIONS"] = "timeout:1 attempts:1"
    ports = free_ports(len(WORLDS))
    worlds = {
        world: [forked(world, rank, port) for rank in (*RANKS, STORE)]
        for world, port in zip(WORLDS, ports, strict=True)
    }
    with ThreadPoolExecutor(len(worlds)) as pool:
        stories = pool.map(story, worlds, worlds.values())
    print(json.dumps(dict(zip(worlds, stories, strict=True))))


if "RANK" in os.environ:
    live("torchrun", int(os.environ["RANK"]), int(os.environ["MASTER_PORT"]))
main()
