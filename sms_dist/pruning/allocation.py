"""How many weights each layer keeps: functions from the layers' keys to counts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:  # a configuration is checked against the table below without paying for torch
    from torch import Tensor

Keys: TypeAlias = "Mapping[str, Tensor]"  # of each layer, flat; negative where the weight is gone
Allocation: TypeAlias = Callable[[Keys, int], dict[str, int]]


def global_(keys: Keys, num_kept: int) -> dict[str, int]:
    """One ranking over all layers; ties go to earlier layers."""
    from sms_dist.pruning.selection import find_cut

    cut = find_cut(keys.values(), num_kept)
    ties_left, counts = cut.num_ties, {}
    for name, layer in keys.items():
        ties = min(ties_left, int((layer == cut.key).sum()))
        counts[name] = int((layer > cut.key).sum()) + ties
        ties_left -= ties
    return counts


def uniform(keys: Keys, num_kept: int) -> dict[str, int]:
    """The same fraction in every layer; what rounding leaves goes to the largest remainders."""
    total = sum(layer.numel() for layer in keys.values())
    exact = {name: divmod(num_kept * layer.numel(), total) for name, layer in keys.items()}
    alive = {name: int((layer >= 0).sum()) for name, layer in keys.items()}
    counts = {name: min(share, alive[name]) for name, (share, _) in exact.items()}
    # Sorting is stable: of equal remainders, which are integers, the earlier layer comes first.
    order = sorted(exact, key=lambda name: -exact[name][1])
    while missing := num_kept - sum(counts.values()):
        for name in [name for name in order if counts[name] < alive[name]][:missing]:
            counts[name] += 1
    return counts


ALLOCATIONS: dict[str, Allocation] = {"global": global_, "uniform": uniform}
