"""Watches over all ranks from inside each of them, so that nobody waits for one that is lost."""

from __future__ import annotations

import os
import sys
import sysconfig
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import FrameType

import torch
from torch.distributed import DistError, Store

from sms_dist.base.plain import printable
from sms_dist.base.process import FAILED, Process, is_gone, is_stopped, this_process
from sms_dist.mesh.beats import (
    Beat,
    Board,
    Limits,
    Listener,
    Verdict,
    fault,
    is_consequence,
    last_line,
)

GRACE = 10.0  # seconds between a verdict and the end of a rank that has not left by itself
FIRST_ANSWER = 60.0  # seconds more: the store looks up the name of every client
MOST_RANKS_A_SECOND = 1000  # that the store has to serve
SECONDS_BETWEEN_LOOKS_AT_LEAVERS = 0.05
INSTALLED = tuple(sysconfig.get_paths()[name] for name in ("stdlib", "purelib", "platlib"))
TORCH = Path(torch.__file__).parent
# The last Python code before the library that waits for the other ranks.
WAITING = tuple(str(TORCH / name) for name in ("distributed", "autograd"))


def seconds_between_beats(silence_seconds: float, num_ranks: int) -> float:
    """One, if that is seldom for the limit and not too often for the store."""
    often = max(min(1.0, silence_seconds / 10), silence_seconds / 60)
    return min(max(often, num_ranks / MOST_RANKS_A_SECOND), silence_seconds / 5)


class Watchdog:
    """Beats in a thread of its own; what all ranks know of a fault is the verdict in the store.

    The main thread says by `tick` that it moves, by `rest` that it need not, in `place` what it is
    at: "phase 1, candidate 2". `on_fault` is told once, in another thread, why the run ends; after
    a grace the rank is ended, too.
    """

    def __init__(
        self,
        store: Store,
        rank: int,
        size: int,
        silence_seconds: float,
        hang_seconds: float | None,
        on_fault: Callable[[str], None] = lambda text: None,
        grace_seconds: float = GRACE,
        process: Process | None = None,
    ) -> None:
        """`store` is that of the default process group; a connection of its own is made."""
        self.place = ""
        self._rank, self._on_fault = rank, on_fault
        self._seconds = seconds_between_beats(silence_seconds, size)
        # Who finds a fault is still there when the others find it, or they would tell it again.
        self._grace = max(grace_seconds, 3 * self._seconds)
        self._limits = Limits(
            silence_seconds,
            min(4 * self._seconds, silence_seconds),
            hang_seconds if rank == 0 else None,  # to say who waits for whom takes all beats
        )
        self._listener = Listener(_watched(rank, size))
        self._said = Beat(rank, 0, process or this_process())
        self._idle = Patience(self._seconds)
        self._moves, self._is_armed, self._is_cut = 0, False, False
        self._step: int | None = None
        self._is_said = False
        self._failure: str | None = None
        self._verdict: Verdict | None = None
        self._wake, self._known, self._is_leaving = (threading.Event() for _ in range(3))
        self._store: Store = store.clone()  # type: ignore[attr-defined]  # its stub lacks it
        self._talker = threading.Thread(target=self._talk, daemon=True, name="watchdog talks")
        self._reaper = Reaper(self._seconds, silence_seconds, self._grace, self._unheard)
        self._talker.start()

    # What the main thread calls.

    def tick(self, step: int | None = None) -> None:
        """The main thread has moved, and will move again. Costs nothing."""
        self._moves += 1
        self._step = step
        self._is_armed = True

    def rest(self) -> None:
        """From here to the next tick the main thread may wait as long as it likes."""
        self._step = None
        self._is_armed = False

    def report(self, text: str, is_said: bool = False) -> str:
        """Tell the others that this rank fails. The verdict that holds: maybe an older one.

        `is_said`: the user has been told, or will be.
        """
        self._is_said = is_said
        self._failure = f"{replace(self._said, place=self._where())}: failed with {text}"
        self._wake.set()
        return self.verdict(6 * self._seconds) or self._failure

    def explain(self, error: BaseException) -> str:
        """The verdict after an exception: on this rank, or on one whose end brought it about."""
        if is_consequence(error):
            self._is_cut = True
            self._wake.set()
            self.verdict(8 * self._seconds)
        return self.verdict() or self.report(last_line(error))

    def verdict(self, wait_seconds: float = 0.0) -> str | None:
        """Why the run ends, as soon as it is known; None if it is not by then."""
        self._known.wait(wait_seconds)
        return None if self._verdict is None else self._verdict.text

    def stop(self) -> None:
        """Leave properly. Rank 0 waits a moment for the others: the store may be its own.

        After a fault each rank waits until all others must have heard of it, for the same reason.
        """
        if self._verdict is not None:
            time.sleep(1.5 * self._seconds)
        self._is_leaving.set()
        self._wake.set()
        self._talker.join(self._grace)
        self._reaper.stop()

    # The thread that talks to the store. A call may block for ever: the reaper sees to that.

    def _talk(self) -> None:
        clock = Patience(self._seconds)
        try:
            board = Board(self._store, self._reaper.answered)
            while not self._exchange(board, clock.look()):
                is_leaving = self._is_leaving.is_set()
                pause = SECONDS_BETWEEN_LOOKS_AT_LEAVERS if is_leaving else self._seconds
                self._wake.wait(pause)
                self._wake.clear()
        except DistError as error:
            if not self._is_leaving.is_set():
                self._unheard(last_line(error))

    def _exchange(self, board: Board, seconds: float) -> bool:
        """Say how I am, hear how the others are; is it the last time?"""
        self._said = self._now()
        board.post(self._said)
        verdict, beats = board.read(list(self._listener.silent))
        self._listener.hear(beats, seconds)
        machine = self._said.process.machine
        found = self._failure or fault(self._listener, self._limits, is_gone, machine)
        if verdict is None and found is not None:
            verdict = board.decide(Verdict(self._rank, found))
        if verdict is not None:
            self._learn(verdict)
        is_waited_for = self._rank != 0 or verdict is not None or not self._listener.working()
        return self._said.has_left and is_waited_for

    def _now(self) -> Beat:
        """How I am, one beat later."""
        self._idle.look()
        moves, said = self._moves, self._said
        if moves != said.moves:
            self._idle.restart()
        idle = self._idle.seconds
        at, is_waiting = where() if idle > 2 * self._seconds else ("", False)
        return replace(
            said,
            count=said.count + 1,
            place=self._where(),
            moves=moves,
            idle=idle if self._is_armed else None,
            at=at,
            is_waiting=is_waiting,
            is_cut=self._is_cut,
            has_left=self._is_leaving.is_set(),
        )

    def _where(self) -> str:
        return self.place if self._step is None else f"{self.place}, step {self._step}"

    # What becomes of a fault.

    def _learn(self, verdict: Verdict, is_heard: bool = True) -> None:
        if self._verdict is None:
            self._verdict = verdict
            self._reaper.condemn()
            self._known.set()
            threading.Thread(target=self._tell, args=(verdict, is_heard), daemon=True).start()

    def _unheard(self, why: str) -> None:
        """The store is out of reach: what others say of it, nobody knows."""
        stopped = [beat for beat in self._of_host() if is_stopped(beat.process)]
        if stopped:  # maybe the rank that holds the store
            self._learn(Verdict(self._rank, f"{stopped[0]}: the process is stopped"), False)
            return
        place = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
        text = f"the store on {place} is out of reach ({why}); its host or launcher has ended"
        self._learn(Verdict(self._rank, f"{self._said}: {text}, or the network is cut"), False)

    def _tell(self, verdict: Verdict, is_heard: bool) -> None:
        """It may block, on a full disk or pipe: no other thread waits for this one."""
        is_mine = verdict.by == self._rank and not self._is_said
        if is_mine and (is_heard or self._is_first_of_host()):
            sys.stderr.write(f"error: {printable(verdict.text)}\n")
            sys.stderr.flush()
        self._on_fault(verdict.text)

    def _is_first_of_host(self) -> bool:
        """Of those that can speak."""
        before = [beat.process for beat in self._of_host() if beat.rank < self._rank]
        return all(is_gone(process) or is_stopped(process) for process in before)

    def _of_host(self) -> list[Beat]:
        own = self._said.process.machine
        return [beat for beat in self._listener.beats.values() if beat.process.machine == own]


class Reaper:
    """A thread that does nothing that could block: it ends a rank that does not leave after a
    fault, and finds that the store has not answered for too long.

    A rank that is stopped (SIGSTOP), or keeps Python's lock for good, is ended by its launcher.
    """

    def __init__(
        self,
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

    def _watch(self) -> None:
        silence, grace = Patience(self._look), Patience(self._look)
        answers = 0
        while not self._is_over.wait(self._look):
            silence.look()
            grace.look()
            if self._answers != answers:
                answers = self._answers
                silence.restart()
            if not self._is_condemned:
                grace.restart()
                if silence.seconds > self._silence + (0 if answers else FIRST_ANSWER):
                    self._on_silence(f"no answer for {silence.seconds:.0f} s")
            elif grace.seconds > self._grace:
                os._exit(FAILED)


class Patience:
    """Seconds between looks add up, but a late look counts for little more than one in time.

    So nobody is accused of silence because of a suspended job (Slurm, Ctrl-Z) or a busy machine.
    """

    def __init__(self, look_seconds: float) -> None:
        self._longest = 1.5 * look_seconds
        self._last = time.monotonic()
        self.seconds = 0.0

    def look(self) -> float:
        """The seconds that have come on since the last look."""
        now = time.monotonic()
        passed = min(now - self._last, self._longest)
        self._last = now
        self.seconds += passed
        return passed

    def restart(self) -> None:
        self.seconds = 0.0


def where() -> tuple[str, bool]:
    """Lines of code, and whether they wait for other ranks.

    The innermost line that is ours or a user's, and the innermost of all if that is another one.
    A rank that waits on a GPU for the others looks as if it hung in the line that asks for the
    result.
    """
    frame = sys._current_frames().get(threading.main_thread().ident or 0)
    frames = list(_outwards(frame))
    if not frames:
        return "an unknown place", False
    innermost = frames[0]
    own = next((f for f in frames if not f.f_code.co_filename.startswith(INSTALLED)), innermost)
    text = _line(own) if own is innermost else f"{_line(own)}, in {_line(innermost)}"
    return text, innermost.f_code.co_filename.startswith(WAITING)


def _outwards(frame: FrameType | None) -> Iterator[FrameType]:
    while frame is not None:
        yield frame
        frame = frame.f_back


def _line(frame: FrameType) -> str:
    path = Path(frame.f_code.co_filename)
    name = "/".join(path.parts[-2:])
    return f"{name}:{frame.f_lineno} {frame.f_code.co_name}"


def _watched(rank: int, size: int) -> list[int]:
    """Rank 0 listens to all; everybody to itself, to rank 0 and to the ranks of its host."""
    if rank == 0:
        return list(range(size))
    first = rank - int(os.environ.get("LOCAL_RANK", "0"))
    local = range(first, first + int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
    return sorted(({0, rank} | set(local)) & set(range(size)))
