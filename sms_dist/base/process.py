"""Processes: identity, whether they are still there, exit status, and the screen they write to."""

from __future__ import annotations

import io
import os
import socket
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DONE = 0
FAILED = 1
BAD_INPUT = 2  # nothing was begun, nothing was written
STOPPED = 75  # on request: the same command goes on (EX_TEMPFAIL of sysexits.h)


@dataclass(frozen=True)
class Process:
    """The identity of a process, also among others that have or had its number."""

    host: str  # its name, for people
    machine: str  # differs between hosts, their restarts and containers
    pid: int
    born: str  # a process identifier is used again; together with this it is not


def this_process() -> Process:
    """Return the identity of the process that calls."""
    pid = os.getpid()
    return Process(socket.gethostname(), _machine(), pid, _stat(pid)[1])


def is_gone(process: Process) -> bool | None:
    """Return whether a process has ended; None where that is not known.

    Only processes of one machine see each other, and only where there is /proc.
    """
    if process.machine != _machine() or not Path("/proc/self/stat").exists():
        return None
    state, born = _stat(process.pid)
    return state in "ZX" or born != process.born


def is_stopped(process: Process) -> bool:
    """Return whether a process of this machine is stopped (SIGSTOP); False without /proc."""
    return _stat(process.pid)[0] == "T"


class _Screen(io.FileIO):
    """A standard stream that passes over what it cannot write, and remembers why."""

    failure: OSError | None = None

    def write(self, data: Any) -> int:
        written = None
        try:
            written = super().write(data)
        except OSError as error:  # its reader is gone, its disk is full
            self.failure = error
        return memoryview(data).nbytes if written is None else written


def open_screen() -> None:
    """Make standard output and standard error streams whose failures never end this process.

    Call it first of all: where one of them is closed, the next file that is opened would take its
    place, and get what anybody prints.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # takes the lowest number
        stream = getattr(sys, name)
        if number == 0 or stream is not getattr(sys, f"__{name}__"):  # a test's own
            continue
        place = os.devnull if stream is None else number
        raw = _Screen(place, "w", closefd=stream is None)
        encoding = "utf-8" if stream is None else stream.encoding
        is_by_line = stream is None or stream.line_buffering
        screen = io.TextIOWrapper(
            io.BufferedWriter(raw), encoding, "backslashreplace", line_buffering=is_by_line
        )
        setattr(sys, name, screen)


def lost_output() -> OSError | None:
    """Return why standard output could not be written, None where all of it was."""
    if sys.stdout is not None:
        sys.stdout.flush()
    return getattr(getattr(getattr(sys.stdout, "buffer", None), "raw", None), "failure", None)


def _stat(pid: int) -> tuple[str, str]:
    """Return state and start time; Z (zombie) and nothing if there is none (man 5 proc)."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return "Z", ""
    fields = text.rpartition(")")[2].split()  # the name before it may hold anything
    return fields[0], fields[19]


def _machine() -> str:
    """Return the host's name, this boot of its kernel, and the namespace of process numbers."""
    host = socket.gethostname()
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{host} {boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return f"{host} "
