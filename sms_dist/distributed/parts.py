"""Work over a data set that gives the same bits for any number of ranks."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from sms_dist.distributed.collectives import sum_
from sms_dist.distributed.topology import Axis
from sms_dist.plan import NUM_PARTS, parts_of


def sum_over_parts(
    work: Callable[[int], Tensor], num_values: int, axis: Axis, device: torch.device
) -> Tensor:
    """The sum of work(0) ... work(NUM_PARTS - 1), float64 [num_values] each, in this order.

    The number of parts is fixed and each part is worked on by one rank alone, so neither rounding
    nor order depends on the number of ranks: each row of the table that is summed over the axis is
    zero on all ranks but one. Every rank of the axis must call.
    """
    table = torch.zeros(NUM_PARTS, num_values, dtype=torch.float64, device=device)
    for part in parts_of(axis.rank, axis.size):
        table[part] = work(part)
        axis.moved()
    sum_(table, axis)
    total = torch.zeros(num_values, dtype=torch.float64, device=device)
    for row in table:
        total += row
    return total
