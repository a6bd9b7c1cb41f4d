"""How many weights each layer keeps: functions from the layers' keys to counts."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor

from sms_dist.pruning.selection import PRUNED, find_cut

Keys = Mapping[str, Tensor]  # of each layer, flat; PRUNED where the weight is gone
Allocation = Callable[[Keys, int], dict[str, int]]


def global_(keys: Keys, num_kept: int) -> dict[str, int]:
    """One ranking over all layers; ties go to earlier layers."""
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
    exact = {name: num_kept * layer.numel() / total for name, layer in keys.items()}
    alive = {name: int((layer != PRUNED).sum()) for name, layer in keys.items()}
    counts = {name: min(int(share), alive[name]) for name, share in exact.items()}
    # Sorting is stable: of equal remainders the earlier layer comes first.
    order = sorted(exact, key=lambda name: counts[name] - exact[name])
    while missing := num_kept - sum(counts.values()):
        for name in [name for name in order if counts[name] < alive[name]][:missing]:
            counts[name] += 1
    return counts


ALLOCATIONS: dict[str, Allocation] = {"global": global_, "uniform": uniform}
