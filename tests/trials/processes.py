"""The processes of a launch told apart: the agent that was started, its ranks, everybody."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from launching import MARK, Launch, marked


class Processes:
    """Of one launch; they are found by the mark in their environment."""

    def __init__(self, launch: Launch) -> None:
        self.agent = launch.process.pid
        while MARK not in (own := _environment(self.agent)):
            time.sleep(0.001)  # it is only just being started
        self._mark = own[MARK]

    def all(self) -> set[int]:
        """Those that are alive, wherever they belong by now."""
        return set(marked(self._mark))

    def ranks(self) -> dict[int, int]:
        """Rank -> its process, of those that the agent has started and not lost."""
        found = {pid: _environment(pid).get("RANK") for pid in self.all() - {self.agent}}
        own = {pid: rank for pid, rank in found.items() if rank and parent(pid) == self.agent}
        return {int(rank): pid for pid, rank in own.items()}


def kill_all(pids: Iterable[int]) -> bool:
    """SIGKILL; whether any of them was there."""
    was_there = False
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
            was_there = True
    return was_there


def children(pid: int) -> set[int]:
    """The processes that a process has started and that are alive."""
    found = set()
    with suppress(OSError):  # a thread may end while it is looked at
        for thread in Path(f"/proc/{pid}/task").iterdir():
            with suppress(OSError):
                found |= set(map(int, (thread / "children").read_text().split()))
    return {child for child in found if _environment(child)}


def are_gone(pids: Iterable[int]) -> bool:
    """Ended, whether or not anybody has asked for their exit status."""
    return not any(_environment(pid) for pid in pids)


def parent(pid: int) -> int | None:
    """None if the process has ended."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    return int(stat.rpartition(")")[2].split()[1])


def _environment(pid: int) -> dict[str, str]:
    """Empty of a process that has ended."""
    try:
        content = Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace")
    except OSError:
        return {}
    return dict(line.split("=", 1) for line in content.split("\0") if "=" in line)
