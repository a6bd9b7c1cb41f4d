"""Learning rates, one for every step: of pretraining, and of a retraining phase."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from sms_dist.base.lookup import lookup_open


@dataclass(frozen=True)
class Curve:
    """The learning rate over pretraining, in epochs: a linear warm-up, then a schedule by name."""

    schedule: str
    epochs: int
    learning_rate: float  # the largest
    final_learning_rate: float = 0.0  # linear and cosine end here
    warmup_epochs: int = 0
    milestones: tuple[int, ...] = ()  # steps: epochs, from 1, at whose start the rate is reduced
    decay: float = 0.1  # steps: the factor at each milestone


def constant(curve: Curve, epochs: int, steps: int) -> list[float]:
    """Return the largest rate for every step."""
    return [curve.learning_rate] * (epochs * steps)


def linear(curve: Curve, epochs: int, steps: int) -> list[float]:
    """Return rates that fall on a line from the largest to the final one."""
    num, last = epochs * steps, curve.final_learning_rate
    return [last + (curve.learning_rate - last) * (1 - i / num) for i in range(num)]


def cosine(curve: Curve, epochs: int, steps: int) -> list[float]:
    """Return rates that fall on half a cosine from the largest to the final one."""
    return _cosine(curve.learning_rate, curve.final_learning_rate, epochs * steps)


def steps(curve: Curve, epochs: int, steps: int) -> list[float]:
    """Return rates that are reduced at milestones, which count epochs from 1, warm-up included."""
    first = curve.warmup_epochs + 1
    passed = [sum(m <= epoch for m in curve.milestones) for epoch in range(first, first + epochs)]
    return [curve.learning_rate * curve.decay**n for n in passed for _ in range(steps)]


# name -> function of the curve, the epochs after the warm-up, and the steps of an epoch
PRETRAINING: dict[str, Callable[[Curve, int, int], list[float]]] = {
    "constant": constant,
    "linear": linear,
    "steps": steps,
    "cosine": cosine,
}


def pretraining_rates(curve: Curve, steps_per_epoch: int) -> list[float]:
    """Return the rate of every step: a linear warm-up from 0, then the schedule."""
    body = lookup_open(PRETRAINING, curve.schedule, "pretrain.schedule")
    if curve.warmup_epochs > curve.epochs:
        raise ValueError(
            f"pretrain.warmup_epochs={curve.warmup_epochs} is more than pretrain.epochs="
            f"{curve.epochs}; shorten the warm-up"
        )
    num_warmup = curve.warmup_epochs * steps_per_epoch
    warmup = [curve.learning_rate * i / num_warmup for i in range(num_warmup)]
    num_epochs = curve.epochs - curve.warmup_epochs
    rates = body(curve, num_epochs, steps_per_epoch)
    _check_rates(rates, num_epochs * steps_per_epoch, f"pretrain.schedule={curve.schedule}")
    return warmup + rates


@dataclass(frozen=True)
class History:
    """The learning rate of every step of pretraining."""

    rates: tuple[float, ...]
    epochs: int

    @property
    def largest(self) -> float:
        return max(self.rates)

    def scaled_to(self, largest: float | None) -> History:
        """Return the same curve with another largest rate (None: as it is)."""
        factor = 1.0 if largest is None else largest / self.largest
        return replace(self, rates=tuple(rate * factor for rate in self.rates))


@dataclass(frozen=True)
class Retraining:
    """The facts on which the schedules of one phase depend."""

    history: History
    epochs: int
    distance: float = 1.0  # how far pruning moved the weights, d1 of ALLR


def ft(phase: Retraining, num: int) -> list[float]:
    """Return the last rate of pretraining throughout: fine-tuning."""
    return [phase.history.rates[-1]] * num


def lrw(phase: Retraining, num: int) -> list[float]:
    """Return the rates of the last epochs of pretraining: learning-rate rewinding."""
    rates, total = phase.history.rates, phase.history.epochs
    start = max(0, total - phase.epochs) * len(rates) // total
    span = len(rates) - start
    return [rates[start + span * i // num] for i in range(num)]


def slr(phase: Retraining, num: int) -> list[float]:
    """Return the whole curve compressed, with the largest rate in place of its warm-up: scaled."""
    rates, largest = phase.history.rates, phase.history.largest
    start = rates.index(largest)
    places = [len(rates) * i // num for i in range(num)]
    return [rates[place] if place >= start else largest for place in places]


def clr(phase: Retraining, num: int) -> list[float]:
    """Return half a cosine from the largest rate to the last one: cyclic."""
    return _cosine(phase.history.largest, phase.history.rates[-1], num)


def llr(phase: Retraining, num: int) -> list[float]:
    """Return a line from the largest rate to 0."""
    return [phase.history.largest * (1 - i / num) for i in range(num)]


def allr(phase: Retraining, num: int) -> list[float]:
    """Return a line that starts lower where pruning moved little and retraining is short."""
    factor = min(1.0, max(phase.distance, min(1.0, phase.epochs / phase.history.epochs)))
    return [factor * rate for rate in llr(phase, num)]


# name -> function of the phase and the number of steps (Zimmer et al., 2023)
RETRAINING: dict[str, Callable[[Retraining, int], list[float]]] = {
    "ft": ft,
    "lrw": lrw,
    "slr": slr,
    "clr": clr,
    "llr": llr,
    "allr": allr,
}
WITHOUT_WARMUP = ("ft", "lrw")


def retraining_rates(
    name: str,
    phase: Retraining,
    num_steps: int,
    warmup: float,
    field: str = "retrain.schedule",
) -> list[float]:
    """Return the rate of every step: a warm-up from 0 on half a cosine, then the schedule."""
    body = lookup_open(RETRAINING, name, field)
    num_warmup = 0 if name in WITHOUT_WARMUP else int(warmup * num_steps)
    rates = body(phase, num_steps - num_warmup)
    _check_rates(rates, num_steps - num_warmup, f"{field}={name}")
    rise = [rates[0] * (1 - math.cos(math.pi * i / num_warmup)) / 2 for i in range(num_warmup)]
    return rise + rates


def continued(history: History, first_epoch: int, num_epochs: int) -> list[float]:
    """Return the rates of some epochs of pretraining itself, from `first_epoch` (from 0) on."""
    steps = len(history.rates) // history.epochs
    return list(history.rates[first_epoch * steps : (first_epoch + num_epochs) * steps])


def relative_distance(norm_before: float, norm_removed: float, fraction: float) -> float:
    """Return d1 of ALLR, ||W - W_p|| / (||W|| sqrt(p)); p: the fraction pruned of what remained."""
    return norm_removed / (norm_before * math.sqrt(fraction))


def _cosine(first: float, last: float, num: int) -> list[float]:
    height = (first - last) / 2
    return [last + height * (1 + math.cos(math.pi * i / num)) for i in range(num)]


def _check_rates(rates: Sequence[float], num_steps: int, field: str) -> None:
    """Raise ValueError unless there is a finite rate, not negative, for every step."""
    if len(rates) != num_steps or not all(0 <= rate < math.inf for rate in rates):
        raise ValueError(
            f"{field} gives {len(rates)} rates for {num_steps} steps, or some that are negative or "
            "not finite; return a rate for every step"
        )
