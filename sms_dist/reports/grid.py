"""Numbers of several seeds as one value: grouped, averaged, compared."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeVar

T = TypeVar("T")
K = TypeVar("K", bound=Hashable)
Unit = Literal["percent", "number"]
FORMS = {"percent": (100, 2), "number": (1, 1)}  # factor and decimals


@dataclass(frozen=True)
class Value:
    """Mean and standard deviation (n - 1 in its denominator; None for a single number)."""

    mean: float
    std: float | None
    n: int
    unit: Unit = "percent"
    place: int = 0  # 1: best of those it is compared with, 2, 3; 0: not to be marked

    def texts(self) -> tuple[str, str | None]:
        """Mean and deviation as they are shown."""
        factor, decimals = FORMS[self.unit]
        mean = f"{factor * self.mean:.{decimals}f}"
        return mean, None if self.std is None else f"{factor * self.std:.{decimals}f}"


def value(numbers: Iterable[float | None], unit: Unit = "percent") -> Value | None:
    """The value of those numbers that are known."""
    known = [number for number in numbers if number is not None]
    if not known:
        return None
    std = statistics.stdev(known) if len(known) > 1 else None
    return Value(statistics.fmean(known), std, len(known), unit)


def grouped(items: Iterable[T], key: Callable[[T], K]) -> dict[K, list[T]]:
    """The items by key, both in the order in which they come."""
    groups: dict[K, list[T]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return groups


def placed(values: Sequence[Value | None], places: int = 1) -> list[Value | None]:
    """The highest means marked with their place; what looks the same shares one.

    A value that stands alone is not marked.
    """
    shown = {float(value.texts()[0]) for value in values if value}
    if sum(value is not None for value in values) < 2:
        return list(values)
    place = {mean: number for number, mean in enumerate(sorted(shown, reverse=True)[:places], 1)}
    return [
        value and replace(value, place=place.get(float(value.texts()[0]), 0)) for value in values
    ]
