"""Facts about the general table."""

from __future__ import annotations

from journals import phase, run

from sms_dist.reports.runs import METHODS
from sms_dist.reports.tables import make


def test_rows_stand_in_the_order_of_the_methods_and_those_without_a_goal_come_last() -> None:
    names = [name for name in METHODS if name not in ("dense", "dst", "str")]
    runs = [run([phase(1, 0.9, [0.9], 250)], f"method.name={name}") for name in names]
    free = ("method.name=dst", "pruning.goal_sparsity=null")
    (table,) = make("methods", [run([phase(1, 0.9, [0.9], 250)], *free), *reversed(runs)])[0]
    labels = [row.label.removesuffix(" (uniform)") for row in table.rows]
    assert labels == [*(METHODS[name].label for name in names), "DST"]
