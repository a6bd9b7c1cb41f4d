"""How long a run still takes, from the seconds that its steps have taken."""

from __future__ import annotations

from collections.abc import Collection
from statistics import mean, median
from typing import NamedTuple

from launcher.status.seen import ENVIRONMENT, Place, Seen
from launcher.status.told import Plan, PlannedPhase
from sms_dist.distributed.division import deal
from sms_dist.packs import cut
from sms_dist.records.progress import Progress


class Left(NamedTuple):
    """Seconds of work; None where nothing is known of it."""

    phase: float | None
    run: float | None


def current_phase(seen: Seen) -> int | None:
    """The first phase without a soup, 0 for pretraining; None if none is left or known."""
    if not seen.is_dense_stored:
        return 0
    phases = seen.plan.phases if seen.plan else ()
    return next((item.index for item in phases if item.index not in seen.soups), None)


def left(seen: Seen, is_running: bool) -> Left:
    """Of the current phase and of the run. When nothing runs: of a start with as many groups."""
    k, plan = current_phase(seen), seen.plan
    if plan is None or k is None:
        return Left(None, None)
    rate = _seconds_per_step(seen, plan)
    soup = _seconds_per_soup(seen)
    if k == 0:
        this = _pretraining_left(seen, is_running)
    else:
        item = next(item for item in plan.phases if item.index == k)
        this = None if rate is None else _busiest(seen, item, plan, rate, is_running) + soup
    later = [item for item in plan.phases if item.index > k]
    if this is None or (rate is None and later):
        return Left(this, None)
    return Left(this, this + sum(_whole(seen, item, plan, rate or 0.0) + soup for item in later))


def _seconds_per_step(seen: Seen, plan: Plan) -> float | None:
    """Of candidates that are done, evaluation included; else of those at work. In a pack a step is
    one of all that train in it."""
    steps = plan.sizes.steps_per_epoch
    found = [
        metrics.seconds / (len(metrics.epochs) * steps)
        for metrics in seen.measured.values()
        if metrics.seconds and metrics.epochs  # else it diverged in an earlier phase
    ]
    found = found or [rate for rate in map(_live_rate, seen.groups.values()) if rate is not None]
    return median(found) if found else None


def _live_rate(group: Progress) -> float | None:
    steps = _steps_left(group)
    if group.stage != "retrain" or group.eta_seconds is None or not steps:
        return None
    return group.eta_seconds / steps


def _steps_left(group: Progress) -> int:
    return max(0, (group.num_epochs - group.epoch + 1) * group.num_steps - group.step)


def _seconds_per_soup(seen: Seen) -> float:
    """Between the last candidate and the soup of the phases that are done; 0 if none is."""
    found = []
    for phase, time in seen.soups.items():
        candidates = [stored for place, stored in seen.stored.items() if place.phase == phase]
        if candidates:
            found.append(max(0.0, time - max(candidates)))
    return mean(found) if found else 0.0


def _pretraining_left(seen: Seen, is_running: bool) -> float | None:
    known = [g.eta_seconds for g in seen.groups.values() if g.stage == "pretrain"] or [None]
    return known[0] if is_running else None


def _whole(seen: Seen, item: PlannedPhase, plan: Plan, rate: float) -> float:
    """Seconds of a phase on which no work was done, until the busiest group has trained."""
    steps = item.steps_of
    turns = [max(steps[i] for i in turn) for turn in _turns(seen, item, steps)]
    return rate * max(sum(deal(turns, plan.num_groups, g)) for g in range(plan.num_groups))


def _turns(seen: Seen, item: PlannedPhase, todo: Collection[int]) -> list[list[int]]:
    """What a group does at a time: a candidate, or those of a pack that are not done yet."""
    indices = list(item.steps_of)
    size = max(1, seen.pack_size(len(indices)))
    turns = [[i for i in pack if i in todo] for pack in cut(indices, size)]
    return [turn for turn in turns if turn]


def _busiest(seen: Seen, item: PlannedPhase, plan: Plan, rate: float, is_running: bool) -> float:
    """Seconds until the group with most to do has trained all its candidates of the phase."""
    begun = seen.times.get(ENVIRONMENT, 0.0) if is_running else seen.clock.now + 1
    steps = item.steps_of
    # As they were dealt when this start came to the phase: without those that were done by then.
    todo = [i for i in steps if seen.stored.get(Place(item.index, i), begun + 1) > begun]

    def seconds(turn: list[int]) -> float:
        return max(
            _candidate_left(seen, Place(item.index, i), steps[i], rate, is_running) for i in turn
        )

    turns = [seconds(turn) for turn in _turns(seen, item, todo)]
    return max(sum(deal(turns, plan.num_groups, group)) for group in range(plan.num_groups))


def _candidate_left(seen: Seen, place: Place, steps: int, rate: float, is_running: bool) -> float:
    if place in seen.stored:
        return 0.0
    for group in seen.groups.values() if is_running else ():
        is_here = place.candidate in (group.together or (group.candidate,))
        if group.phase == place.phase and is_here and group.stage != "waiting":
            if group.stage != "retrain":  # it is being measured
                return 0.0
            return rate * (_steps_left(group) if group.epoch else steps)
    done = max((point.steps for point in seen.points if point.place == place), default=0)
    return rate * max(0, steps - done)
