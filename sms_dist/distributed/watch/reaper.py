"""Ends this rank when it does not end by itself after a fault, or has lost touch with the store."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from sms_dist.distributed.watch import guard
from sms_dist.distributed.watch.patience import Patience
from sms_dist.exit_status import FAILED

START = 60.0  # seconds more for the first answer: the store looks up the name of every client


class Reaper:
    """A thread that does nothing that could block, and a process for when no thread can run."""

    def __init__(
        self,
        rank: int,
        look_seconds: float,
        silence_seconds: float,
        grace_seconds: float,
        on_silence: Callable[[str], None],
    ) -> None:
        """`on_silence` is told why when the store has not answered for so long."""
        self._look, self._silence, self._grace = look_seconds, silence_seconds, grace_seconds
        self._on_silence = on_silence
        self._answers = 0
        self._is_condemned = False
        self._is_over = threading.Event()
        self._guard = _start_guard(rank, silence_seconds + grace_seconds)
        threading.Thread(target=self._watch, daemon=True, name="watchdog ends").start()

    def answered(self) -> None:
        """The store has."""
        self._answers += 1

    def condemn(self) -> None:
        """There is a fault: this rank has the grace to leave."""
        self._is_condemned = True

    def stop(self) -> None:
        """The rank has done its work. One that is condemned stays watched until it has ended."""
        if not self._is_condemned:
            self._is_over.set()
            _tell(self._guard, guard.LEFT)
            self._guard.wait()

    def _watch(self) -> None:
        silence, grace = Patience(self._look), Patience(self._look)
        answers = 0
        while not self._is_over.wait(self._look):
            _tell(self._guard, b".")
            silence.look()
            grace.look()
            if self._answers != answers:
                answers = self._answers
                silence.restart()
            if not self._is_condemned:
                grace.restart()
                if silence.seconds > self._silence + (0 if answers else START):
                    self._on_silence(f"no answer for {silence.seconds:.0f} s")
            elif grace.seconds > self._grace:
                os._exit(FAILED)


def _start_guard(rank: int, patience_seconds: float) -> subprocess.Popen[bytes]:
    """Patient enough for the other ranks to have given this one up."""
    looks = round(patience_seconds / guard.SECONDS_BETWEEN_LOOKS) + 1
    command = [sys.executable, "-I", "-S", str(Path(guard.__file__))]
    numbers = [str(number) for number in (rank, os.getpid(), looks)]
    environment = {key: value for key, value in os.environ.items() if key != "RANK"}
    process = subprocess.Popen([*command, *numbers], stdin=subprocess.PIPE, env=environment)
    assert process.stdin is not None
    os.set_blocking(process.stdin.fileno(), False)
    return process


def _tell(process: subprocess.Popen[bytes], word: bytes) -> None:
    """It may be gone, or stopped with its pipe full: then it is of no use, but does no harm."""
    assert process.stdin is not None
    with suppress(BrokenPipeError, BlockingIOError):
        os.write(process.stdin.fileno(), word)
