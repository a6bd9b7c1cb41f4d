"""Beats: what ranks tell each other of themselves while they work, and who is at fault by that."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass

import torch.distributed as dist
from torch.distributed import PrefixStore, Store

from sms_dist.base.process import Process

VERDICT = "verdict"
MOST_ASKED_FOR = 100  # at a time


@dataclass(frozen=True)
class Beat:
    """The state of a rank, as it describes it itself."""

    rank: int
    count: int  # grows with every beat; that it changes is the sign of life
    process: Process
    place: str = ""  # its position, for people: phase, candidate, step
    moves: int = 0
    idle: float | None = None  # seconds since it moved; None: it does not have to
    location: str = ""  # where in the code its main thread is, once that is idle
    is_waiting: bool = False  # for other ranks
    is_cut: bool = False  # its connection to another rank has broken
    has_left: bool = False

    def __str__(self) -> str:
        place = f", {self.place}" if self.place else ""
        return f"rank {self.rank} on {self.process.host} (pid {self.process.pid}{place})"


@dataclass(frozen=True)
class Verdict:
    """The reason why the run ends, and the rank that found it."""

    by: int
    text: str


class Board:
    """The beats and the verdict in the store. One thread uses it; calls may block for ever."""

    def __init__(self, store: Store, on_answer: Callable[[], None]) -> None:
        self._store, self._on_answer = PrefixStore("watchdog", store), on_answer
        self._store.compare_set(VERDICT, "", "")  # from here on it is there, and can be read
        self._begun: set[int] = set()

    def post(self, beat: Beat) -> None:
        self._store.set(_key(beat.rank), json.dumps(asdict(beat)))

    def read(self, ranks: Sequence[int]) -> tuple[Verdict | None, dict[int, Beat]]:
        """Return the verdict, if there is one, and the last beats of these ranks, if any."""
        self._look_for_new(ranks)
        begun = [rank for rank in ranks if rank in self._begun]
        verdict, *beats = self._store.multi_get([VERDICT, *map(_key, begun)])
        self._on_answer()
        known = {rank: _beat(text) for rank, text in zip(begun, beats, strict=True)}
        return _verdict(verdict), known

    def decide(self, verdict: Verdict) -> Verdict:
        """Return the verdict that holds: this one, or one that was posted before."""
        held = self._store.compare_set(VERDICT, "", json.dumps(asdict(verdict)))
        return _verdict(held) or verdict

    def _look_for_new(self, ranks: Sequence[int]) -> None:
        """Ask which ranks have begun, for some of them only: while many come, asking takes long.

        Reading a key that is missing would block.
        """
        missing = [rank for rank in ranks if rank not in self._begun]
        if missing and self._store.check([_key(rank) for rank in missing]):
            self._begun.update(missing)
            return
        for rank in random.sample(missing, min(len(missing), MOST_ASKED_FOR)):
            self._on_answer()
            if self._store.check([_key(rank)]):
                self._begun.add(rank)


def _key(rank: int) -> str:
    return f"beat/{rank}"


def _beat(text: bytes) -> Beat:
    fields = json.loads(text)
    return Beat(**fields | {"process": Process(**fields["process"])})


def _verdict(text: bytes) -> Verdict | None:
    return Verdict(**json.loads(text)) if text else None


START = 60.0  # seconds that ranks may begin one after the other
TOGETHER = 0.7  # who has been silent for this share of the limit is lost with the first one
# What gloo, NCCL and the store say, as RuntimeError or DistError, when the other side is gone.
CONSEQUENCE = re.compile(
    r"connection (was )?(closed|reset|refused|aborted|lost)|broken pipe|socket closed|"
    r"read error|timed out waiting|application timeout|wait timeout|failed to recv|"
    r"remote process|communicator was aborted|nccl.*(remote|system|unhandled)|"
    r"connect(full)?mesh failed",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Limits:
    """The longest silence and the longest time without progress, in seconds."""

    silence: float
    silence_when_cut: float  # enough when connections have broken, too
    hang: float | None


class Listener:
    """Counts for how long each rank has been silent, by the listener's own clock."""

    def __init__(self, ranks: Iterable[int]) -> None:
        self.silent = dict.fromkeys(ranks, 0.0)
        self.beats: dict[int, Beat] = {}

    def hear(self, beats: Mapping[int, Beat], seconds: float) -> None:
        """Take the beats `seconds` after the last ones. Only a change counts, no rank's clock."""
        for rank in self.silent:
            is_new = rank in beats and beats[rank] != self.beats.get(rank)
            self.silent[rank] = 0.0 if is_new else self.silent[rank] + seconds
        self.beats.update(beats)

    def working(self) -> dict[int, Beat]:
        """Return the last beats of the ranks that have not left."""
        return {rank: beat for rank, beat in self.beats.items() if not beat.has_left}

    def gone(self, is_gone: Callable[[Process], bool | None], machine: str) -> set[int]:
        """Return the ranks of a machine whose processes are gone, and have not said that they left.

        Call it before their next beats are read: one that leaves says so, and ends, in between.
        """
        mine = {rank: b.process for rank, b in self.working().items()}
        return {rank for rank, p in mine.items() if p.machine == machine and is_gone(p)}


def fault(listener: Listener, limits: Limits, gone: Collection[int]) -> str | None:
    """Return who is at fault, as one line for people; None while all is well.

    `gone` has the ranks whose processes were gone before their last beats were read.
    """
    working = listener.working()
    if lost := [beat for rank, beat in working.items() if rank in gone]:
        return f"{_all(lost)}: the process is gone"
    return _lost(listener, limits) or (limits.hang and _hung(working.values(), limits.hang)) or None


def is_consequence(error: BaseException) -> bool:
    """Return whether the end of another rank caused an exception, as far as its text says."""
    if isinstance(error, dist.DistNetworkError | dist.DistStoreError):
        return True
    from_torch = isinstance(error, RuntimeError) and not isinstance(error, NotImplementedError)
    return from_torch and CONSEQUENCE.search(str(error)) is not None


def last_line(error: BaseException) -> str:
    """Return an exception as at the end of a traceback: KeyError: 'x'."""
    lines = str(error).strip().splitlines()
    name = type(error).__name__
    return f"{name}: {lines[0][:400]}" if lines else name


def _lost(listener: Listener, limits: Limits) -> str | None:
    working = listener.working()
    is_cut = any(beat.is_cut for beat in working.values())
    limit = limits.silence_when_cut if is_cut else limits.silence
    silent = {rank: listener.silent[rank] for rank in working}
    longest = max(silent.values(), default=0.0)
    if longest >= limit:
        ranks = [working[rank] for rank, seconds in silent.items() if seconds >= TOGETHER * limit]
        broken = " and its connections are broken" if is_cut else ""
        return f"{_all(ranks)}: not heard of for {longest:.0f} s{broken}"
    late = [r for r, s in listener.silent.items() if s >= limit + START and r not in listener.beats]
    return f"rank {late[0]}: never heard of" if late else None


def _hung(working: Iterable[Beat], limit: float) -> str | None:
    """Name the ranks that make no progress: first those that do not wait, the least far first."""
    idle = [b for b in working if b.idle is not None and b.idle >= limit / 2 and b.location]
    longest = max((beat.idle or 0.0 for beat in idle), default=0.0)
    if longest < limit:
        return None
    culprits = sorted((b for b in idle if not b.is_waiting), key=lambda b: (b.moves, b.rank))
    waiting = [beat for beat in idle if beat.is_waiting]
    parts = [f"{b}: no progress for {b.idle:.0f} s, at {b.location}" for b in culprits[:4]]
    if waiting:
        others = "ranks wait for each other" if not culprits else "waiting for it"
        parts.append(f"{others}: {_several(waiting)} at {waiting[0].location}")
    return "; ".join(parts)


def _all(beats: list[Beat]) -> str:
    """Describe one rank by itself, several with their host, when they share one."""
    if len(beats) < 2:
        return "".join(map(str, beats))
    hosts = {beat.process.host for beat in beats}
    on = f" on {hosts.pop()}" if len(hosts) == 1 else f" on {len(hosts)} hosts"
    return f"{_several(beats)}{on} (first: {beats[0]})"


def _several(beats: list[Beat]) -> str:
    shown = ", ".join(str(beat.rank) for beat in beats[:8])
    more = f" and {len(beats) - 8} more" if len(beats) > 8 else ""
    return f"{'rank' if len(beats) == 1 else 'ranks'} {shown}{more}"
