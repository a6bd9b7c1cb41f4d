"""Learning rates of a retraining phase, made from those of pretraining (Zimmer et al., 2023)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from sms_dist.base.lookup import lookup_open
from sms_dist.schedules.pretraining import check_rates


@dataclass(frozen=True)
class History:
    """The learning rate of every step of pretraining."""

    rates: tuple[float, ...]
    epochs: int

    @property
    def largest(self) -> float:
        return max(self.rates)

    def scaled_to(self, largest: float | None) -> History:
        """The same curve with another largest rate (None: as it is)."""
        factor = 1.0 if largest is None else largest / self.largest
        return replace(self, rates=tuple(rate * factor for rate in self.rates))


@dataclass(frozen=True)
class Retraining:
    """What the schedules of one phase depend on."""

    history: History
    epochs: int
    distance: float = 1.0  # how far pruning moved the weights, d1 of ALLR


Body = Callable[[Retraining, int], list[float]]


def ft(phase: Retraining, num: int) -> list[float]:
    """Fine-tuning: the last rate of pretraining throughout."""
    return [phase.history.rates[-1]] * num


def lrw(phase: Retraining, num: int) -> list[float]:
    """Learning-rate rewinding: the last epochs of pretraining once more."""
    rates, total = phase.history.rates, phase.history.epochs
    start = max(0, total - phase.epochs) * len(rates) // total
    span = len(rates) - start
    return [rates[start + span * i // num] for i in range(num)]


def slr(phase: Retraining, num: int) -> list[float]:
    """Scaled: the whole curve compressed, its own warm-up replaced by the largest rate."""
    rates, largest = phase.history.rates, phase.history.largest
    start = rates.index(largest)
    places = [len(rates) * i // num for i in range(num)]
    return [rates[place] if place >= start else largest for place in places]


def clr(phase: Retraining, num: int) -> list[float]:
    """Cyclic: a cosine from the largest rate to the last."""
    last = phase.history.rates[-1]
    height = (phase.history.largest - last) / 2
    return [last + height * (1 + math.cos(math.pi * i / num)) for i in range(num)]


def llr(phase: Retraining, num: int) -> list[float]:
    """Linear from the largest rate to 0."""
    return [phase.history.largest * (1 - i / num) for i in range(num)]


def allr(phase: Retraining, num: int) -> list[float]:
    """Adaptive linear: starts lower where pruning moved little and retraining is short."""
    factor = min(1.0, max(phase.distance, min(1.0, phase.epochs / phase.history.epochs)))
    return [factor * rate for rate in llr(phase, num)]


RETRAINING: dict[str, Body] = {
    "ft": ft,
    "lrw": lrw,
    "slr": slr,
    "clr": clr,
    "llr": llr,
    "allr": allr,
}
WITHOUT_WARMUP = ("ft", "lrw")


def retraining_rates(name: str, phase: Retraining, num_steps: int, warmup: float) -> list[float]:
    """The rate of every step: a cosine-shaped warm-up from 0 to the start value, then the body."""
    body = lookup_open(RETRAINING, name, "retrain.schedule")
    num_warmup = 0 if name in WITHOUT_WARMUP else int(warmup * num_steps)
    rates = body(phase, num_steps - num_warmup)
    check_rates(rates, num_steps - num_warmup, f"retrain.schedule={name}")
    rise = [rates[0] * (1 - math.cos(math.pi * i / num_warmup)) / 2 for i in range(num_warmup)]
    return rise + rates


def continued(history: History, first_epoch: int, num_epochs: int) -> list[float]:
    """The rates of pretraining itself, for so many of its epochs from one (counted from 0) on."""
    steps = len(history.rates) // history.epochs
    return list(history.rates[first_epoch * steps : (first_epoch + num_epochs) * steps])


def relative_distance(norm_before: float, norm_removed: float, fraction: float) -> float:
    """d1 of ALLR: ||W - W_p|| / (||W|| sqrt(p)), p the fraction pruned of what remained."""
    return norm_removed / (norm_before * math.sqrt(fraction))
