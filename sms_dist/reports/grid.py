"""Numbers of several seeds as one value: grouped, averaged, compared."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

T = TypeVar("T")
K = TypeVar("K", bound=Hashable)


@dataclass(frozen=True)
class Form:
    """How a number is shown."""

    factor: float
    decimals: int
    larger_is_better: bool = True

    def text(self, number: float) -> str:
        return f"{self.factor * number:.{self.decimals}f}"


PERCENT = Form(100, 2)  # of fractions
NUMBER = Form(1, 1)


@dataclass(frozen=True)
class Value:
    """Mean and standard deviation (n - 1 in its denominator; None for a single number)."""

    mean: float
    std: float | None
    n: int
    form: Form = PERCENT
    place: int = 0  # 1: best of those it is compared with, 2, 3; 0: not to be marked

    def texts(self) -> tuple[str, str | None]:
        """Mean and deviation as they are shown."""
        return self.form.text(self.mean), None if self.std is None else self.form.text(self.std)


def value(numbers: Iterable[float | None], form: Form = PERCENT) -> Value | None:
    """The value of those numbers that are known."""
    known = [number for number in numbers if number is not None]
    if not known:
        return None
    std = statistics.stdev(known) if len(known) > 1 else None
    return Value(statistics.fmean(known), std, len(known), form)


def grouped(items: Iterable[T], key: Callable[[T], K]) -> dict[K, list[T]]:
    """The items by key, both in the order in which they come."""
    groups: dict[K, list[T]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return groups


def placed(values: Sequence[Value | None], places: int = 1) -> list[Value | None]:
    """The best means marked with their place; what looks the same shares one.

    A value that stands alone is not marked.
    """
    known = [value for value in values if value]
    if len(known) < 2:
        return list(values)
    shown = sorted({float(value.texts()[0]) for value in known})
    best_first = reversed(shown) if known[0].form.larger_is_better else shown
    place = {mean: number for number, mean in enumerate(best_first, 1) if number <= places}
    return [
        value and replace(value, place=place.get(float(value.texts()[0]), 0)) for value in values
    ]
