"""Learning rates of pretraining, one for every step."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

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


Body = Callable[
    [Curve, int, int], list[float]
]  # (curve, epochs after the warm-up, steps per epoch)


def constant(curve: Curve, epochs: int, steps: int) -> list[float]:
    return [curve.learning_rate] * (epochs * steps)


def linear(curve: Curve, epochs: int, steps: int) -> list[float]:
    num, last = epochs * steps, curve.final_learning_rate
    return [last + (curve.learning_rate - last) * (1 - i / num) for i in range(num)]


def cosine(curve: Curve, epochs: int, steps: int) -> list[float]:
    num, last = epochs * steps, curve.final_learning_rate
    height = (curve.learning_rate - last) / 2
    return [last + height * (1 + math.cos(math.pi * i / num)) for i in range(num)]


def steps(curve: Curve, epochs: int, steps: int) -> list[float]:
    """The milestones count epochs of the whole pretraining, warm-up included, from 1."""
    first = curve.warmup_epochs + 1
    passed = [sum(m <= epoch for m in curve.milestones) for epoch in range(first, first + epochs)]
    return [curve.learning_rate * curve.decay**n for n in passed for _ in range(steps)]


PRETRAINING: dict[str, Body] = {
    "constant": constant,
    "linear": linear,
    "steps": steps,
    "cosine": cosine,
}


def pretraining_rates(curve: Curve, steps_per_epoch: int) -> list[float]:
    """The rate of every step: a linear warm-up from 0, then the schedule over what is left."""
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
    check_rates(rates, num_epochs * steps_per_epoch, f"pretrain.schedule={curve.schedule}")
    return warmup + rates


def check_rates(rates: Sequence[float], num_steps: int, field: str) -> None:
    """Raise ValueError unless there is a finite rate, not negative, for every step."""
    if len(rates) != num_steps or not all(0 <= rate < math.inf for rate in rates):
        raise ValueError(
            f"{field} gives {len(rates)} rates for {num_steps} steps, or some that are negative or "
            "not finite; return a rate for every step"
        )
