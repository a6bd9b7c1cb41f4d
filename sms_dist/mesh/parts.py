"""Work over a data set that gives the same bits for any number of ranks."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from sms_dist.mesh.collectives import sum_
from sms_dist.mesh.division import NUM_PARTS, parts_of
from sms_dist.mesh.topology import Axis

_COLUMNS = 1 << 16  # values that are summed over ranks together: a table of 32 MiB


def sum_over_parts(
    work: Callable[[int], Tensor], num_values: int, axis: Axis, device: torch.device
) -> Tensor:
    """The sum of work(0) ... work(NUM_PARTS - 1), float64 [num_values] each, in this order.

    The number of parts is fixed and each part is worked on by one rank alone, so neither rounding
    nor order depends on the number of ranks. Every rank of the axis must call.
    """
    own = parts_of(axis.rank, axis.size)
    total = torch.zeros(num_values, dtype=torch.float64, device=device)
    if axis.size == 1:
        for part in own:
            total += work(part)
            axis.moved()
        return total
    rows = total.new_empty(len(own), num_values)
    for row, part in zip(rows, own, strict=True):
        row.copy_(work(part))
        axis.moved()
    pairs = zip(torch.split(total, _COLUMNS), torch.split(rows, _COLUMNS, 1), strict=True)
    for some_total, some_rows in pairs:
        _add_in_order_(some_total, some_rows, own, axis)
    return total


def _add_in_order_(total: Tensor, rows: Tensor, own: range, axis: Axis) -> None:
    """The rows of all ranks, of which these are mine: each is zero on all ranks but one."""
    table = total.new_zeros(NUM_PARTS, len(total))
    table[own.start : own.stop] = rows
    for row in sum_(table, axis).unbind():
        total += row
