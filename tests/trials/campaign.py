"""Kills of one variant: an undisturbed reference, then runs that are killed until they are over."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from chances import Chances
from disturbed import Disturbed, started, tails
from inspection import damages, differences, fingerprint, remains
from life import Kill
from moments import Durations, Observer
from patience import Patience, TrialError, wait_until
from variants import Variant

MOST_UNFINISHED = 3  # runs that come to no end, after which there is no use in more of them


@dataclass(frozen=True)
class Reference:
    """What an undisturbed run takes and gives."""

    seconds: float
    durations: Durations
    fingerprint: dict[str, str]


@dataclass
class Result:
    """Of one variant."""

    variant: str
    reference_seconds: list[float]
    start_seconds: float  # of which until the ranks worked
    steps_per_second: float  # of retraining
    run_seconds: list[float] = field(default_factory=list)  # of runs that were finished
    kills: list[Kill] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    num_equal: int = 0  # runs that ended with all bits of the reference
    num_unfinished: int = 0
    num_survived: int = 0  # kills in the runs that were finished

    @property
    def seconds_lost(self) -> float:
        """Per kill: of all finished runs together, over what they take undisturbed."""
        usual = statistics.mean(self.reference_seconds) * len(self.run_seconds)
        return (sum(self.run_seconds) - usual) / max(1, self.num_survived)


Tell = Callable[[str], None]


def undisturbed(variant: Variant, folder: Path) -> Reference:
    """A run from its start to its end, looked at as closely as those that are killed."""
    start = time.monotonic()
    observer, patience = Observer(folder, time.time()), Patience(folder)
    with started(variant, folder) as launch:

        def has_ended() -> bool:
            observer.look()
            return launch.process.poll() is not None

        wait_until(has_ended, patience, pause=0.001)
        seconds = time.monotonic() - start
        if status := launch.process.wait():
            raise TrialError(f"an undisturbed run ended with status {status}\n{tails(folder)}")
    if found := [*remains(folder), *damages(folder)]:
        raise TrialError(f"an undisturbed run: {found}")
    return Reference(seconds, observer.durations, fingerprint(folder))


def references(variant: Variant, folder: Path, num: int, tell: Tell) -> tuple[Reference, Result]:
    """Several undisturbed runs, which must be equal."""
    found = []
    for number in range(num):
        found.append(undisturbed(variant, folder / f"reference_{number}"))
        tell(f"{variant.name}: undisturbed {found[-1].seconds:.1f} s")
    if any(one.fingerprint != found[0].fingerprint for one in found):
        raise TrialError(f"{variant.name}: two undisturbed runs differ")
    durations, seconds = found[0].durations, [one.seconds for one in found]
    typical = durations.typical("start")
    return found[0], Result(variant.name, seconds, typical, durations.steps_per_second)


class Campaign:
    """Runs are killed until so many kills were made."""

    def __init__(self, variant: Variant, folder: Path, targets: tuple[str, ...], seed: int,
                 num_references: int, tell: Tell) -> None:  # fmt: skip
        self._variant, self._folder, self._tell = variant, folder, tell
        self._reference, self.result = references(variant, folder, num_references, tell)
        own = random.Random(f"{seed} {variant.name}")
        self._chances = Chances(own, self._reference.durations, targets)
        self._number = 0

    def run(self, num_kills: int) -> None:
        """One more run, of which `num_kills` kills are wanted in all."""
        result, name = self.result, f"{self._variant.name} run {self._number}"
        folder = self._folder / f"run_{self._number}"
        self._number += 1
        left = num_kills - len(result.kills)
        run = Disturbed(self._variant, folder, self._chances, left, lambda k: self._say(name, k))
        try:
            result.run_seconds.append(run.run())
            wrong = [*differences(folder, self._reference.fingerprint), *remains(folder)]
            wrong += damages(folder)
            result.num_survived += len(run.kills)
        except TrialError as error:
            result.num_unfinished += 1
            wrong = [f"{error}\n{tails(folder)}"]
        result.kills += run.kills
        result.num_equal += not wrong
        for fault in (*run.faults, *wrong):
            self._tell(f"FAULT {name}: {fault}")
            result.faults.append(f"{name}: {fault}")

    def is_over(self, num_kills: int) -> bool:
        result = self.result
        return len(result.kills) >= num_kills or result.num_unfinished >= MOST_UNFINISHED

    def _say(self, name: str, kill: Kill) -> None:
        again = "" if kill.seconds_again is None else f", {kill.seconds_again:.2f} s to do again"
        who = f"rank {kill.rank}" if kill.target == "rank" else kill.target
        place = f"{name}: {who} in {kill.stage} of phase {kill.phase}"
        self._tell(f"{place}, gone after {kill.gone_seconds:.2f} s{again}")
