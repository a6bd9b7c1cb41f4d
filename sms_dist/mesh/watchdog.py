"""A watchdog in each rank that watches all ranks, so that nobody waits for a lost one."""

from __future__ import annotations

import os
import sys
import sysconfig
import threading
import time
from collections.abc import Callable
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
    """Return one second, if that is rare for the limit and not too often for the store."""
    often = max(min(1.0, silence_seconds / 10), silence_seconds / 60)
    return min(max(often, num_ranks / MOST_RANKS_A_SECOND), silence_seconds / 5)


class Watchdog:
    """Sends beats in a thread of its own; a verdict in the store tells all ranks of a fault.

    The main thread calls `tick` when it moves and `rest` when it need not, and sets `place` to its
    position: "phase 1, candidate 2". `on_fault` is called once, in another thread, with the reason
    why the run ends; after a grace the rank is ended, too.
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
        """`store` is that of the default process group; the watchdog makes its own connection."""
        self.place = ""
        self._rank, self._on_fault, self._silence = rank, on_fault, silence_seconds
        self._seconds = seconds_between_beats(silence_seconds, size)
        # Who finds a fault is still there when the others find it, or they would report it again.
        self._grace = max(grace_seconds, 3 * self._seconds)
        self._limits = Limits(
            silence_seconds,
            min(4 * self._seconds, silence_seconds),
            hang_seconds if rank == 0 else None,  # to say who waits for whom takes all beats
        )
        self._listener = Listener(_watched(rank, size))
        self._beat = Beat(rank, 0, process or this_process())
        self._idle = Patience(self._seconds)
        self._moves, self._num_answers = 0, 0
        self._is_armed = self._is_cut = self._is_reported = False
        self._step: int | None = None
        self._failure: str | None = None
        self._verdict: Verdict | None = None
        self._wake, self._is_known, self._is_leaving, self._is_over = (
            threading.Event() for _ in range(4)
        )
        self._store: Store = store.clone()  # type: ignore[attr-defined]  # its stub lacks it
        self._talker = threading.Thread(target=self._talk, daemon=True, name="watchdog talks")
        self._talker.start()
        threading.Thread(target=self._reap, daemon=True, name="watchdog ends").start()

    # Called by the main thread.

    def tick(self, step: int | None = None) -> None:
        """Note that the main thread has moved, and will move again. Costs nothing."""
        self._moves += 1
        self._step = step
        self._is_armed = True

    def rest(self) -> None:
        """Let the main thread wait as long as it likes, until the next tick."""
        self._step = None
        self._is_armed = False

    def report(self, text: str, is_said: bool = False) -> str:
        """Tell the others that this rank fails; return the verdict that holds, maybe an older one.

        `is_said`: the caller tells the user.
        """
        self._is_reported = is_said
        self._failure = f"{replace(self._beat, place=self._position())}: failed with {text}"
        self._wake.set()
        return self.verdict(6 * self._seconds) or self._failure

    def explain(self, error: BaseException) -> str:
        """Return the verdict after an exception, whose cause may be the end of another rank."""
        if is_consequence(error):
            self._is_cut = True
            self._wake.set()
            self.verdict(8 * self._seconds)
        return self.verdict() or self.report(last_line(error))

    def verdict(self, wait_seconds: float = 0.0) -> str | None:
        """Return why the run ends as soon as it is known, None where it is not by then."""
        self._is_known.wait(wait_seconds)
        return None if self._verdict is None else self._verdict.text

    def stop(self) -> None:
        """Leave properly. Rank 0 waits a moment for the others: the store may be its own.

        After a fault each rank waits until all others must have heard of it, for the same reason,
        and stays watched until it has ended.
        """
        if self._verdict is not None:
            time.sleep(1.5 * self._seconds)
        self._is_leaving.set()
        self._wake.set()
        self._talker.join(self._grace)
        if self._verdict is None:
            self._is_over.set()

    # The thread that talks to the store. A call may block for ever: the other thread finds out.

    def _talk(self) -> None:
        clock = Patience(self._seconds)
        try:
            board = Board(self._store, self._count_answer)
            while not self._exchange(board, clock.look()):
                is_leaving = self._is_leaving.is_set()
                self._wake.wait(SECONDS_BETWEEN_LOOKS_AT_LEAVERS if is_leaving else self._seconds)
                self._wake.clear()
        except DistError as error:
            if not self._is_leaving.is_set():
                self._lose_store(last_line(error))

    def _count_answer(self) -> None:
        self._num_answers += 1

    def _exchange(self, board: Board, seconds: float) -> bool:
        """Post my beat and read those of the others; return whether it was the last time."""
        self._beat = self._next_beat()
        board.post(self._beat)
        gone = self._listener.gone(is_gone, self._beat.process.machine)
        verdict, beats = board.read(list(self._listener.silent))
        self._listener.hear(beats, seconds)
        reason = self._failure or fault(self._listener, self._limits, gone)
        if verdict is None and reason is not None:
            verdict = board.decide(Verdict(self._rank, reason))
        if verdict is not None:
            self._learn(verdict)
        may_leave = self._rank != 0 or verdict is not None or not self._listener.working()
        return self._beat.has_left and may_leave

    def _next_beat(self) -> Beat:
        self._idle.look()
        moves = self._moves
        if moves != self._beat.moves:
            self._idle.restart()
        idle = self._idle.seconds
        location, is_waiting = where() if idle > 2 * self._seconds else ("", False)
        return replace(
            self._beat,
            count=self._beat.count + 1,
            place=self._position(),
            moves=moves,
            idle=idle if self._is_armed else None,
            location=location,
            is_waiting=is_waiting,
            is_cut=self._is_cut,
            has_left=self._is_leaving.is_set(),
        )

    def _position(self) -> str:
        return self.place if self._step is None else f"{self.place}, step {self._step}"

    # The thread that never blocks: it notices that the store does not answer, and ends a rank that
    # does not leave after a fault. One that is stopped (SIGSTOP), or keeps Python's lock for good,
    # is ended by its launcher.

    def _reap(self) -> None:
        silence, grace = Patience(self._seconds), Patience(self._seconds)
        num_answers = 0
        while not self._is_over.wait(self._seconds):
            silence.look()
            grace.look()
            if self._num_answers != num_answers:
                num_answers = self._num_answers
                silence.restart()
            if self._verdict is None:
                grace.restart()
                if silence.seconds > self._silence + (0 if num_answers else FIRST_ANSWER):
                    self._lose_store(f"no answer for {silence.seconds:.0f} s")
            elif grace.seconds > self._grace:
                os._exit(FAILED)

    # Either thread, after a fault.

    def _learn(self, verdict: Verdict, is_shared: bool = True) -> None:
        """Take a verdict; `is_shared`: the other ranks can read it in the store."""
        if self._verdict is None:
            self._verdict = verdict
            self._is_known.set()
            threading.Thread(target=self._tell, args=(verdict, is_shared), daemon=True).start()

    def _lose_store(self, why: str) -> None:
        """Make a verdict without the others: the store is out of reach."""
        stopped = [beat for beat in self._of_host() if is_stopped(beat.process)]
        if stopped:  # maybe the rank that holds the store
            self._learn(Verdict(self._rank, f"{stopped[0]}: the process is stopped"), False)
            return
        place = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
        text = f"the store on {place} is out of reach ({why}); its host or launcher has ended"
        self._learn(Verdict(self._rank, f"{self._beat}: {text}, or the network is cut"), False)

    def _tell(self, verdict: Verdict, is_shared: bool) -> None:
        """Tell the user and the caller. It may block, on a full disk or pipe: nobody waits for it.

        Of ranks that cannot share a verdict, the first of the host that can speak tells the user.
        """
        is_mine = verdict.by == self._rank and not self._is_reported
        if is_mine and (is_shared or self._is_first_of_host()):
            sys.stderr.write(f"error: {printable(verdict.text)}\n")
            sys.stderr.flush()
        self._on_fault(verdict.text)

    def _is_first_of_host(self) -> bool:
        before = [beat.process for beat in self._of_host() if beat.rank < self._rank]
        return all(is_gone(process) or is_stopped(process) for process in before)

    def _of_host(self) -> list[Beat]:
        machine = self._beat.process.machine
        return [beat for beat in self._listener.beats.values() if beat.process.machine == machine]


class Patience:
    """A clock that adds the seconds between looks; a late look counts little more than one in time.

    So nobody is accused of silence because of a suspended job (Slurm, Ctrl-Z) or a busy machine.
    """

    def __init__(self, look_seconds: float) -> None:
        self._longest = 1.5 * look_seconds
        self._last = time.monotonic()
        self.seconds = 0.0

    def look(self) -> float:
        """Return the seconds since the last look, which are added up."""
        now = time.monotonic()
        passed = min(now - self._last, self._longest)
        self._last = now
        self.seconds += passed
        return passed

    def restart(self) -> None:
        self.seconds = 0.0


def where() -> tuple[str, bool]:
    """Return where the main thread is in the code, and whether it waits for other ranks there.

    The text has the innermost line that is ours or a user's, and the innermost of all.
    A rank that waits on a GPU for the others looks as if it hung in the line that asks for the
    result.
    """
    frames, frame = [], sys._current_frames().get(threading.main_thread().ident or 0)
    while frame is not None:
        frames.append(frame)
        frame = frame.f_back
    if not frames:
        return "an unknown place", False
    innermost = frames[0]
    own = next((f for f in frames if not f.f_code.co_filename.startswith(INSTALLED)), innermost)
    text = _line(own) if own is innermost else f"{_line(own)}, in {_line(innermost)}"
    return text, innermost.f_code.co_filename.startswith(WAITING)


def _line(frame: FrameType) -> str:
    path = Path(frame.f_code.co_filename)
    name = "/".join(path.parts[-2:])
    return f"{name}:{frame.f_lineno} {frame.f_code.co_name}"


def _watched(rank: int, size: int) -> list[int]:
    """Return the ranks to listen to: all for rank 0; else my own, rank 0 and those of my host."""
    if rank == 0:
        return list(range(size))
    first = rank - int(os.environ.get("LOCAL_RANK", "0"))
    local = range(first, first + int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
    return sorted(({0, rank} | set(local)) & set(range(size)))
