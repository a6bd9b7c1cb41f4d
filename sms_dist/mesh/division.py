"""How work is divided among ranks and groups: pure numbers, without torch or a process group."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from sms_dist.base.plain import whole_number

T = TypeVar("T")
NUM_PARTS = 64  # into which measuring a model is cut, whatever the number of ranks


def groups_of(
    num_ranks: int, ranks_per_candidate: int, field: str = "engine.ranks_per_candidate"
) -> int:
    """Return the number of rows of the mesh; ValueError when the ranks do not fill it."""
    ranks_per_candidate = whole_number(ranks_per_candidate, field)
    if num_ranks % ranks_per_candidate:
        fitting = [n for n in range(1, num_ranks + 1) if num_ranks % n == 0]
        raise ValueError(
            f"{field}={ranks_per_candidate} must divide the {num_ranks} ranks; "
            f"try {', '.join(map(str, fitting))}"
        )
    return num_ranks // ranks_per_candidate


def deal(items: Sequence[T], num_groups: int, group: int) -> Sequence[T]:
    """Return the items of one group, in the order of its waves."""
    return items[group::num_groups]


def parts_of(rank: int, num_ranks: int) -> range:
    """Return the parts that a rank measures, which lie side by side.

    Not every n-th one: where there are fewer batches than parts, those with something in them are
    evenly spaced, and one rank might get them all.
    """
    return range(NUM_PARTS * rank // num_ranks, NUM_PARTS * (rank + 1) // num_ranks)
