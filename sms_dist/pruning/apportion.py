"""From fractions of weights to whole numbers of them that add up exactly."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from math import floor


def num_kept(num: int, sparsity: float) -> int:
    """How many of `num` survive: exact, by rounding the number that goes."""
    return num - round(sparsity * num)


def apportion(
    shares: Mapping[str, Fraction], capacities: Mapping[str, int], total: int
) -> dict[str, int]:
    """Counts that sum to `total`, near the shares and never above a layer's capacity.

    What a layer has no room for goes to the others, in proportion to their room; what rounding
    leaves goes to the largest remainders, of equal ones to the earlier layers.
    """
    assert total <= sum(capacities.values())
    capped = {name: min(share, Fraction(capacities[name])) for name, share in shares.items()}
    missing = total - sum(capped.values())
    room = sum(capacities.values()) - sum(capped.values())
    pass_on = missing / room if missing else Fraction(0)
    exact = {name: x + pass_on * (capacities[name] - x) for name, x in capped.items()}
    counts = {name: floor(x) for name, x in exact.items()}
    # Sorting is stable: of equal remainders, which are exact, the earlier layer comes first.
    order = sorted(exact, key=lambda name: counts[name] - exact[name])
    for name in order[: total - sum(counts.values())]:
        counts[name] += 1
    return counts
