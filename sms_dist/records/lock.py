"""One start works in a run folder: a file says which, and a counter in it that it still does.

The clocks of two hosts are never compared: whether the counter changes is watched by whoever wants
the folder, for a few beats. The file is made with O_EXCL, which holds on NFS too; flock only keeps
two processes of one moment from removing the same stale file twice.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shlex
import sys
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from sms_dist.records.disk_errors import entering
from sms_dist.records.files import make_folder
from sms_dist.records.lock_owner import SIZE, Owner

INTERVAL = 2.0  # seconds between two beats
MISSED = 4  # beats after which the owner counts as dead
LOOKS = 20  # between two beats, by one who waits; the file may also be in the middle of being made


def acquire(
    path: Path, on_lost: Callable[[str], None] = lambda reason: None, interval: float = INTERVAL
) -> Lock:
    """Take the run folder that `path` lies in; ValueError if another process works there.

    A lock whose process has died is taken over: at once if that can be seen on this host, else
    when it has stood still for some beats. `on_lost` is called in a thread, once, when the folder
    vanishes or another process has taken it.
    """
    with entering(path.parent):
        make_folder(path.parent)
        while True:
            with suppress(FileExistsError):
                flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
                return Lock(path, os.open(path, flags, 0o666), on_lost, interval)
            _make_way(path, interval)


class Lock:
    """Held by one process, until it releases it or dies; made by `acquire`."""

    def __init__(
        self, path: Path, descriptor: int, on_lost: Callable[[str], None], interval: float
    ) -> None:
        self.path, self._descriptor = path, descriptor
        self._on_lost, self._interval = on_lost, interval
        self._owner = Owner.me(token=uuid.uuid4().hex)
        self._is_over = threading.Event()
        try:
            self._write()
        except OSError:
            os.close(descriptor)
            with suppress(OSError):  # nobody could read it
                path.unlink()
            raise
        self._thread = threading.Thread(target=self._beat, name="run folder lock", daemon=True)
        self._thread.start()

    def release(self) -> None:
        """Leave the folder to others; nothing happens the second time."""
        if self._is_over.is_set():
            return
        self._is_over.set()
        if threading.current_thread() is not self._thread:
            self._thread.join(5)  # a disk that hangs must not hang us here
        with suppress(OSError):
            _remove(self.path, self._descriptor, self._owner.token)
        os.close(self._descriptor)

    def _beat(self) -> None:
        while not self._is_over.wait(self._interval):
            self._owner = replace(self._owner, beat=self._owner.beat + 1)
            with suppress(OSError):  # a full or failing disk: whoever writes there will tell
                self._write()
            reason = self._lost()
            if reason and not self._is_over.is_set():
                self._on_lost(reason)
                return

    def _write(self) -> None:
        # Into the file we made, by its descriptor: one that took our place is never written over.
        os.pwrite(self._descriptor, self._owner.text(), 0)
        os.fsync(self._descriptor)  # NFS: now the other hosts can see it

    def _lost(self) -> str | None:
        """Why the folder is not ours any more, if so."""
        try:
            content = _content(self.path)
        except OSError:  # the disk cannot be read now: that says nothing
            return None
        root = self.path.parent
        if content is None:
            what = self.path if root.is_dir() else f"the run folder {root}"
            return f"{what} is gone: somebody removed it while the run was at work"
        owner = Owner.parse(content)
        if owner is not None and owner.token == self._owner.token:
            return None
        return f"the run folder {root} has been taken over by {owner or 'something else'}"


def read(path: Path) -> Owner | None:
    """Who has the run folder; None if nobody, or if that cannot be read. May have died since."""
    with suppress(OSError):
        return Owner.parse(_content(path) or b"")
    return None


def _make_way(path: Path, interval: float) -> None:
    """Remove the lock of a process that has died; ValueError if it is at work.

    Does nothing if the lock changes hands meanwhile: then look again.
    """
    try:  # held until the end: a file in its place cannot pass for it
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        owner = Owner.parse(_content(path) or b"")
        if _has_died(path, owner, interval):
            _remove(path, descriptor, owner.token if owner else None)
        elif owner is not None and _token(path) == owner.token:
            stop = shlex.quote(str(path.parent / "stop"))
            raise ValueError(
                f"the run folder {path.parent} is in use by {owner}; wait for it, stop it with "
                f"`touch {stop}`, or name another folder with --run-dir"
            )
    finally:
        os.close(descriptor)


def _has_died(path: Path, owner: Owner | None, interval: float) -> bool:
    is_gone = None if owner is None else owner.is_gone()
    return _stands_still(path, owner, interval) if is_gone is None else is_gone


def _stands_still(path: Path, owner: Owner | None, interval: float) -> bool:
    """Whether the file stays as it is for some beats.

    Looks are counted, not time: a file server that hangs for a minute hangs for both of us.
    """
    who = owner or "somebody unknown"
    print(
        f"the run folder {path.parent} was in use by {who}; looking for {MISSED * interval:.0f} "
        "seconds whether it still is",
        file=sys.stderr,
        flush=True,
    )
    seen = _content(path)
    for _ in range(MISSED * LOOKS):
        time.sleep(interval / LOOKS)
        if _content(path) != seen:
            return False
    return True


def _remove(path: Path, descriptor: int, token: str | None) -> None:
    """Remove the file that `descriptor` is open on, if it still is the one with this token.

    `token` None: one that cannot be read. Of several processes only one removes it.
    """
    with suppress(OSError):  # some network file systems have no flock
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        if os.path.samestat(os.fstat(descriptor), path.stat()) and _token(path) == token:
            path.unlink()
    except FileNotFoundError:
        pass
    finally:
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_UN)


def _token(path: Path) -> str | None:
    owner = Owner.parse(_content(path) or b"")
    return owner.token if owner else None


def _content(path: Path) -> bytes | None:
    """None if it is not there. Opened anew each time: only then NFS asks the server."""
    try:
        with path.open("rb") as file:
            return file.read(SIZE)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ESTALE):
            return None
        raise
