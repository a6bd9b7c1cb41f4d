"""What ranks tell each other through the store while they work: each a short line, ever anew."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

from torch.distributed import PrefixStore, Store

from sms_dist.base.process_identity import Process

VERDICT = "verdict"
MOST_ASKED_FOR = 100  # at a time


@dataclass(frozen=True)
class Beat:
    """A rank as it describes itself."""

    rank: int
    count: int  # grows with every beat; that it changes is the sign of life
    process: Process
    place: str = ""  # what it is at, for people: phase, candidate, step
    moves: int = 0
    idle: float | None = None  # seconds since it moved; None: it does not have to
    at: str = ""  # where its main thread is, once that is idle
    is_waiting: bool = False  # for other ranks
    is_cut: bool = False  # its connection to another rank has broken
    has_left: bool = False

    def __str__(self) -> str:
        place = f", {self.place}" if self.place else ""
        return f"rank {self.rank} on {self.process.host} (pid {self.process.pid}{place})"


@dataclass(frozen=True)
class Verdict:
    """What has ended the run, and the rank that found it."""

    by: int
    text: str


class Board:
    """The place in the store where beats stand. One thread uses it; calls may block for ever."""

    def __init__(self, store: Store, on_answer: Callable[[], None]) -> None:
        self._store, self._on_answer = PrefixStore("watchdog", store), on_answer
        self._store.compare_set(VERDICT, "", "")  # from here on it is there, and can be read
        self._begun: set[int] = set()

    def post(self, beat: Beat) -> None:
        self._store.set(_key(beat.rank), json.dumps(asdict(beat)))

    def read(self, ranks: Sequence[int]) -> tuple[Verdict | None, dict[int, Beat]]:
        """The verdict, if there is one, and the last beats of these ranks, if they have begun."""
        self._look_for_new(ranks)
        begun = [rank for rank in ranks if rank in self._begun]
        verdict, *beats = self._store.multi_get([VERDICT, *map(_key, begun)])
        self._on_answer()
        known = {rank: _beat(text) for rank, text in zip(begun, beats, strict=True)}
        return _verdict(verdict), known

    def decide(self, verdict: Verdict) -> Verdict:
        """The verdict that holds: this one, or one that was found before."""
        held = self._store.compare_set(VERDICT, "", json.dumps(asdict(verdict)))
        return _verdict(held) or verdict

    def _look_for_new(self, ranks: Sequence[int]) -> None:
        """Reading what is not there would block; and while many come, asking for each takes long.

        So some are asked for, others the next time.
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
