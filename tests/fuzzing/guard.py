"""Watches what code does with a bad file: how long it takes, what it raises, what it touches."""

from __future__ import annotations

import os
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SECONDS = 5.0  # of the processor, for one input; most take milliseconds
WALL_SECONDS = 20.0  # where it waits for something; other programs may slow it down
MORE_MEMORY = 3 << 29
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
# audit event -> which of its arguments are paths
CHANGES = {
    **dict.fromkeys(("os.remove", "os.rmdir", "os.mkdir", "os.chmod", "os.chown"), 1),
    **dict.fromkeys(("os.truncate", "os.utime", "shutil.rmtree", "os.mknod"), 1),
    **dict.fromkeys(("os.rename", "os.link", "os.symlink"), 2),
}
FORBIDDEN = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork")
FORBIDDEN += ("socket.connect", "socket.bind", "socket.getaddrinfo", "urllib.Request", "os.kill")
ASKS = (0,)  # os.kill with no signal only asks whether a process is there
REPOSITORY = Path(__file__).resolve().parents[2]


class Hang(BaseException):
    """It takes too long. No Exception, so that nothing but the guard catches it."""


class Touched(BaseException):
    """It reaches for something outside of the folder it was given."""


@dataclass(frozen=True)
class Outcome:
    """`fault` is None where the input was taken, or refused in words."""

    is_accepted: bool
    seconds: float
    message: str = ""
    fault: str | None = None


class Guard:
    """Holds one audit hook, which a process can never get rid of again."""

    def __init__(self, scratch: Path) -> None:
        self._scratch = str(scratch.resolve())
        self._is_on = False
        self._touched: str | None = None
        sys.dont_write_bytecode = True
        sys.addaudithook(self._audit)
        for number in (signal.SIGPROF, signal.SIGALRM):
            signal.signal(number, self._too_long)

    def watched(self, call: Callable[[], Any]) -> Outcome:
        """What becomes of a call that handles one input."""
        self._touched, start, wall = None, time.process_time(), time.monotonic()
        outcome, message, fault = False, "", None
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        signal.setitimer(signal.ITIMER_REAL, WALL_SECONDS)
        self._is_on = True
        try:
            call()
            outcome = True
        except ValueError as error:
            message = str(error)
            fault = None if _is_ours(error) else f"not our words: {_described(error)}"
        except (Hang, Touched, Exception) as error:
            fault = _described(error)
        finally:
            self._is_on = False
            signal.setitimer(signal.ITIMER_PROF, 0)
            signal.setitimer(signal.ITIMER_REAL, 0)
        seconds = min(time.process_time() - start, time.monotonic() - wall)
        if self._touched and fault is None:
            fault = f"touched: {self._touched}"
        if seconds > SECONDS and fault is None:
            fault = f"took {seconds:.1f} s"
        return Outcome(outcome, seconds, message, fault)

    def _audit(self, event: str, args: tuple[Any, ...]) -> None:
        if not self._is_on:
            return
        if event == "open":
            path, _, flags = args
            is_bad = isinstance(flags, int) and bool(flags & WRITING) and not self._is_inside(path)
        elif event in CHANGES:
            num_paths = CHANGES[event]
            folders = (*args[num_paths:], *(-1,) * num_paths)  # descriptors that names count from
            if event in ("os.mkdir", "os.chmod", "os.mknod", "os.utime"):
                folders = args[-1:]
            pairs = zip(args[:num_paths], folders, strict=False)
            is_bad = not all(self._is_inside(path, at) for path, at in pairs)
        else:
            is_bad = event in FORBIDDEN and args[1:] != ASKS
        if is_bad:
            self._is_on = False
            self._touched = f"{event} {args!r}"[:300]
            raise Touched(self._touched)

    def _is_inside(self, path: Any, folder: Any = -1) -> bool:
        if isinstance(path, int) or path in ("/dev/null", b"/dev/null"):
            return True
        beside = f"/proc/self/fd/{folder}" if isinstance(folder, int) and folder >= 0 else ""
        full = os.path.realpath(os.path.join(beside, os.fsdecode(path)))
        return full == self._scratch or full.startswith(self._scratch + os.sep)

    def _too_long(self, number: int, frame: Any) -> None:
        if self._is_on:
            raise Hang(f"more than {SECONDS if number == signal.SIGPROF else WALL_SECONDS} s")


def _is_ours(error: ValueError) -> bool:
    """Raised by a line of the project that says so; Python's own words name no file and no way out.

    That the C code of a library raised it shows in the line: it calls something.
    """
    *_, last = traceback.extract_tb(error.__traceback__)
    return last.filename.startswith(str(REPOSITORY)) and (last.line or "").startswith("raise ")


def _described(error: BaseException) -> str:
    """Kind, where in the project, and what: faults with the same start are the same fault."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [
        f for f in frames if f.filename.startswith(str(REPOSITORY)) and "/tests/" not in f.filename
    ]
    place = f"{Path(own[-1].filename).relative_to(REPOSITORY)}:{own[-1].lineno}" if own else "?"
    return f"{type(error).__name__} at {place}: {str(error)[:200]}"


def limit_memory() -> None:
    """From here on, memory beyond what the process has now, and some more, is a MemoryError."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + MORE_MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (most, resource.RLIM_INFINITY))
