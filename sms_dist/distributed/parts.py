"""Work over a data set that gives the same bits for any number of ranks."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from sms_dist.distributed.collectives import sum_
from sms_dist.distributed.topology import Axis

NUM_PARTS = 64


def own_parts(axis: Axis) -> range:
    """A stretch of parts for each rank. Not every n-th one: where there are fewer batches than
    parts, those with something in them are evenly spaced, and one rank might get them all."""
    return range(NUM_PARTS * axis.rank // axis.size, NUM_PARTS * (axis.rank + 1) // axis.size)


def sum_over_parts(
    work: Callable[[int], Tensor], num_values: int, axis: Axis, device: torch.device
) -> Tensor:
    """The sum of work(0) ... work(NUM_PARTS - 1), float64 [num_values] each, in this order.

    The number of parts is fixed and each part is worked on by one rank alone, so neither rounding
    nor order depends on the number of ranks: each row of the table that is summed over the axis is
    zero on all ranks but one. Every rank of the axis must call.
    """
    table = torch.zeros(NUM_PARTS, num_values, dtype=torch.float64, device=device)
    for part in own_parts(axis):
        table[part] = work(part)
        axis.moved()
    sum_(table, axis)
    total = torch.zeros(num_values, dtype=torch.float64, device=device)
    for row in table:
        total += row
    return total
