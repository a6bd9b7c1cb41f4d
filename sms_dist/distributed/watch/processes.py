"""Which process a rank is, and whether it is still there."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")


@dataclass(frozen=True)
class Process:
    """Only processes of the same machine can look at each other."""

    host: str  # its name, for people
    machine: str  # differs between hosts, their restarts and containers
    pid: int
    born: str  # a process identifier is used again; together with this it is not


def this_process() -> Process:
    host, pid = socket.gethostname(), os.getpid()
    return Process(host, f"{host} {_kernel()}", pid, _stat(pid)[1])


def is_gone(process: Process) -> bool:
    """Has a process of this machine ended? Without /proc nothing can be said: False."""
    if not (PROC / "self" / "stat").exists():
        return False
    state, born = _stat(process.pid)
    return state in "ZX" or born != process.born


def is_stopped(process: Process) -> bool:
    """Is a process of this machine stopped (SIGSTOP)? False where there is no /proc."""
    return _stat(process.pid)[0] == "T"


def _stat(pid: int) -> tuple[str, str]:
    """State and start time; Z (zombie) and nothing if there is none (man 5 proc)."""
    try:
        text = (PROC / str(pid) / "stat").read_text(errors="replace")
    except OSError:
        return "Z", ""
    fields = text.rpartition(")")[2].split()  # the name before it may hold anything
    return fields[0], fields[19]


def _kernel() -> str:
    """This boot of this kernel, and the process identifiers' namespace: that of a container."""
    try:
        boot = (PROC / "sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink(PROC / 'self/ns/pid')}"
    except OSError:
        return ""
