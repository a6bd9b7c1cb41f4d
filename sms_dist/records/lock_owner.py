"""Which process has a run folder, as its lock says, and whether that process can still be there."""

from __future__ import annotations

import json
import os
import platform
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path

from sms_dist import plain_json

SIZE = 1024  # bytes of a lock: written and read as one block


@dataclass(frozen=True)
class Owner:
    host: str
    pid: int
    job: str  # of Slurm; empty if there is none
    since: str  # for people: it is compared with nothing
    machine: str  # equal for processes that see each other; empty where that cannot be known
    started: str  # tells the process from a later one with its number
    token: str  # of this one lock
    beat: int = 0

    @classmethod
    def me(cls, token: str) -> Owner:
        now = datetime.now(timezone.utc)
        return cls(
            host=platform.node(),
            pid=os.getpid(),
            job=os.environ.get("SLURM_JOB_ID", ""),
            since=f"{now:%Y-%m-%d %H:%M:%S} UTC",
            machine=_machine(),
            started=_started(os.getpid()) or "",
            token=token,
        )

    @classmethod
    def parse(cls, content: bytes) -> Owner | None:
        """None where it is torn, empty or something else."""
        try:
            owner = cls(**plain_json.parse_object(content, "a lock"))
        except (ValueError, TypeError):
            return None
        texts = (owner.host, owner.job, owner.since, owner.machine, owner.started, owner.token)
        is_sound = all(isinstance(text, str) and text.isprintable() for text in texts)
        is_sound &= isinstance(owner.pid, int) and 0 < owner.pid < 1 << 31
        return owner if is_sound and isinstance(owner.beat, int) else None

    def text(self) -> bytes:
        """As `parse` reads it; of the same length at every beat, so that it is replaced whole."""
        text = json.dumps(asdict(self)).encode().ljust(SIZE - 1) + b"\n"
        assert len(text) == SIZE, "a host's name and a job's number are short"
        return text

    def is_gone(self) -> bool | None:
        """Has the process died? None if that cannot be seen from here."""
        if not self.machine or self.machine != _machine():
            return None
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except PermissionError:  # it is there, and another user's
            pass
        started = _started(self.pid)
        return None if started is None else started != self.started

    def __str__(self) -> str:
        job = f" (job {self.job})" if self.job else ""
        return f"process {self.pid} on host {self.host}{job} since {self.since}"


def _machine() -> str:
    """The boot of the kernel, with the name space of process numbers (containers have own ones)."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:  # not Linux
        return ""


def _started(pid: int) -> str | None:
    """When a process started, in ticks since the boot; "" if it is dead; None if hidden from us."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    state, *fields = text.rpartition(")")[2].split()  # the name before may hold anything
    return "" if state in "ZX" else fields[18]
