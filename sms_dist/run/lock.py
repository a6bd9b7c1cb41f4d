"""One start works in a run folder: a lease that its holder renews, and `lock.json`, which names it.

The lease is filelock's, in the hidden file `.lock`: clocks of hosts are never compared, and a
holder that died on this host gives way at once. It was tried on local disks, not on NFS.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path

from filelock import LeaseCompromise, LeaseSettingsMismatch, SoftFileLease, Timeout

from sms_dist.base import files, plain
from sms_dist.base.files import entering
from sms_dist.base.process import Process, is_gone, this_process

INTERVAL = 2.0  # seconds between two renewals
MISSED = 4  # intervals without a renewal, after which others may take the folder
MARKER = ".lock"


@dataclass(frozen=True)
class Owner:
    """The process that holds a run folder."""

    host: str
    pid: int
    job: str  # of Slurm; empty if there is none
    since: str  # for people: it is compared with nothing
    machine: str
    started: str
    token: str  # of its lease

    @classmethod
    def parse(cls, content: bytes) -> Owner | None:
        """Return the owner that a lock.json names; None where it is torn or something else."""
        try:
            owner = cls(**plain.parse_object(content, "a lock"))
        except (ValueError, TypeError):
            return None
        texts = (owner.host, owner.job, owner.since, owner.machine, owner.started, owner.token)
        is_sound = all(isinstance(text, str) and text.isprintable() for text in texts)
        return (
            owner if is_sound and isinstance(owner.pid, int) and 0 < owner.pid < 1 << 31 else None
        )

    def is_gone(self) -> bool | None:
        """Return whether the process has died; None where that is not known."""
        return is_gone(Process(self.host, self.machine, self.pid, self.started))

    def __str__(self) -> str:
        job = f" (job {self.job})" if self.job else ""
        return f"process {self.pid} on host {self.host}{job} since {self.since}"


class Lock:
    """A run folder that this process holds until it releases it or dies."""

    def __init__(self, path: Path, on_lost: Callable[[str], None], interval: float) -> None:
        self.path, self._on_lost = path, on_lost
        self._lease = SoftFileLease(
            path.with_name(MARKER),
            lease_duration=MISSED * interval,
            heartbeat_interval=interval,
            on_compromise=self._report,
            thread_local=False,  # may be released by any thread
        )
        is_renewed = _watch(path, MISSED * interval)
        self._lease.acquire((MISSED + 1) * interval, interval / 20, cancel_check=is_renewed)
        try:
            self._name_owner()
        except OSError:
            self.release()
            raise

    def release(self) -> None:
        """Leave the folder to others; nothing happens the second time."""
        if not self._lease.is_locked:
            return
        with suppress(OSError):
            if self._is_ours():
                self.path.unlink()
        with suppress(OSError):
            self._lease.release()

    def _name_owner(self) -> None:
        files.sync(Path(self._lease.lock_file))  # after a power cut it would be empty
        assert self._lease.token
        me = this_process()
        owner = Owner(
            host=me.host,
            pid=me.pid,
            job=os.environ.get("SLURM_JOB_ID", ""),
            since=f"{datetime.now(timezone.utc):%Y-%m-%d %H:%M:%S} UTC",
            machine=me.machine,
            started=me.born,
            token=self._lease.token,
        )
        files.write_bytes(self.path, json.dumps(asdict(owner)).encode() + b"\n")

    def _is_ours(self) -> bool:
        marker = self._lease.owner
        return marker is not None and marker.token == self._lease.token

    def _report(self, loss: LeaseCompromise) -> None:
        """Report why the lease is lost; the lease calls this once, in its thread."""
        root = self.path.parent
        if loss.reason == "owner-changed":
            who = read(self.path) or "another process"
            self._on_lost(f"the run folder {root} has been taken over by {who}")
        elif loss.reason == "marker-missing":
            what = loss.lock_file if root.is_dir() else f"the run folder {root}"
            self._on_lost(f"{what} is gone: somebody removed it while the run was at work")
        else:
            self._on_lost(f"the lock of the run folder {root} could not be renewed: {loss.error}")


def acquire(
    path: Path, on_lost: Callable[[str], None] = lambda reason: None, interval: float = INTERVAL
) -> Lock:
    """Take the run folder that `path`, its lock.json, lies in.

    ValueError if another process works there: one that renews its lease while we look. A process
    of this host that has died gives way at once; one that was stopped, or of another host, once it
    has not renewed its lease for `MISSED` intervals. `on_lost` is called in a thread, once, when
    the folder vanishes, another process has taken it, or the lease cannot be renewed.
    """
    root = path.parent
    with entering(root):
        files.make_folder(root)
        try:
            try:
                return Lock(path, on_lost, interval)
            except Timeout:
                if not _spoil_empty(path.with_name(MARKER)):
                    raise
                return Lock(path, on_lost, interval)
        except (Timeout, LeaseSettingsMismatch):
            stop = shlex.quote(str(root / "stop"))
            raise ValueError(
                f"the run folder {root} is in use by {read(path) or 'somebody unknown'}; wait for "
                f"it, stop it with `touch {stop}`, or name another folder with --run-dir"
            ) from None


def _spoil_empty(marker: Path) -> bool:
    """Make an empty lease a damaged one: filelock replaces these, and waits for empty ones forever.

    It is what a process leaves that dies while it takes the lease. One that lives still writes
    over what we write.
    """
    with suppress(OSError), marker.open("r+b") as file:
        if not file.read(1):
            file.write(b"empty\n")
            return True
    return False


def read(path: Path) -> Owner | None:
    """Return who holds the run folder; None if nobody does, or the files do not say who.

    The process may have died since.
    """
    marker = SoftFileLease(path.with_name(MARKER)).owner
    with suppress(OSError):
        owner = Owner.parse(path.read_bytes())
        return owner if owner and marker and owner.token == marker.token else None
    return None


def _watch(path: Path, seconds: float) -> Callable[[], bool]:
    """Return whether, since this call, the holder has renewed its lease or another has taken it."""
    first = _state(path)
    is_said = False

    def is_renewed() -> bool:
        nonlocal is_said
        owner = read(path)
        if not is_said and (owner is None or owner.is_gone() is None):
            line = f"the run folder {path.parent} is locked by {owner or 'somebody unknown'}; "
            line += f"checking for {seconds:.0f} s whether it is still alive"
            print(line, file=sys.stderr, flush=True)
        is_said = True
        state = _state(path)
        return state is not None and state != first

    return is_renewed


def _state(path: Path) -> tuple[int, int] | None:
    with suppress(OSError):
        state = path.with_name(MARKER).stat()
        return state.st_mtime_ns, state.st_ino
    return None
