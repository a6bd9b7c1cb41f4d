"""How a rank ended, in a line, for who started it."""

from __future__ import annotations

import os
import re
import signal
import socket
from pathlib import Path

from torch.distributed.elastic.multiprocessing.errors import ProcessFailure

CGROUPS = Path("/sys/fs/cgroup")


def describe(rank: int, failure: ProcessFailure) -> str:
    """`rank 1 on host a (pid 123) was killed by SIGKILL`, and a guess why."""
    code = failure.exitcode
    by_signal = f"was killed by {failure.signal_name()}"
    end = by_signal if code < 0 else f"ended with status {code}"
    hint = out_of_memory(failure.pid) if code == -signal.SIGKILL else None
    line = f"rank {rank} on {socket.gethostname()} (pid {failure.pid}) {end}"
    return f"{line} ({hint})" if hint else line


def out_of_memory(pid: int) -> str | None:
    """What the kernel tells of processes it has killed for want of memory, if it lets us read."""
    if re.search(rf"[Kk]illed process {pid}\b", _kernel_log()):
        return "out of memory, says the kernel"
    kills = sum(map(_kills, _cgroup_files()))
    return f"out of memory? This job has lost {kills} processes to that" if kills else None


def _kernel_log() -> str:
    try:
        log = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK)
    except OSError:  # not for everybody
        return ""
    lines: list[bytes] = []
    try:
        while True:
            lines.append(os.read(log, 8192))  # one record a call
    except OSError:  # no more of them
        return b"".join(lines).decode(errors="replace")
    finally:
        os.close(log)


def _cgroup_files() -> list[Path]:
    """Those of this process' control group, version 2 and 1."""
    files = [CGROUPS / "memory.events", CGROUPS / "memory" / "memory.oom_control"]  # in a container
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        lines = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            files.append(CGROUPS / path.lstrip("/") / "memory.events")
        elif "memory" in controllers.split(","):
            files.append(CGROUPS / "memory" / path.lstrip("/") / "memory.oom_control")
    return list(dict.fromkeys(files))


def _kills(file: Path) -> int:
    try:
        found = re.search(r"^oom_kill (\d+)$", file.read_text(), re.MULTILINE)
    except OSError:
        return 0
    return int(found[1]) if found else 0
