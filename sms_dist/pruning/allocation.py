"""How many weights each layer keeps: functions from the layers to counts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from sms_dist.pruning import shares
from sms_dist.pruning.apportion import apportion

if TYPE_CHECKING:  # a configuration is checked against the table below without paying for torch
    from torch import Tensor


@dataclass(frozen=True)
class Layer:
    """A prunable weight as allocations see it."""

    keys: Tensor  # int32 in the order of |weight|, flat; negative where the weight is gone
    shape: shares.Shape

    @property
    def num_alive(self) -> int:
        return int((self.keys >= 0).sum())


Layers: TypeAlias = Mapping[str, Layer]
Allocation: TypeAlias = Callable[[Layers, int], dict[str, int]]


def global_(layers: Layers, num_kept: int) -> dict[str, int]:
    """One ranking over all layers; ties go to earlier layers."""
    from sms_dist.pruning.selection import find_cut

    cut = find_cut([layer.keys for layer in layers.values()], num_kept)
    ties_left, counts = cut.num_ties, {}
    for name, layer in layers.items():
        ties = min(ties_left, int((layer.keys == cut.key).sum()))
        counts[name] = int((layer.keys > cut.key).sum()) + ties
        ties_left -= ties
    return counts


def lamp(layers: Layers, num_kept: int) -> dict[str, int]:
    """One ranking of LAMP scores (Lee et al. 2021); ties go to earlier layers.

    Every layer that has weights keeps one at least; ValueError when there are fewer to keep.
    """
    from sms_dist.pruning.lamp import lamp_keys

    shares.check_one_each([name for name, layer in layers.items() if layer.num_alive], num_kept)
    scored = {name: Layer(lamp_keys(layer.keys), layer.shape) for name, layer in layers.items()}
    return global_(scored, num_kept)


def by_shape(wanted: shares.Shares) -> Allocation:
    """The allocation that comes as near to shares as whole numbers and living weights allow."""

    def allocate(layers: Layers, num_kept: int) -> dict[str, int]:
        exact = wanted({name: layer.shape for name, layer in layers.items()}, num_kept)
        alive = {name: layer.num_alive for name, layer in layers.items()}
        return apportion(exact, alive, num_kept)

    return allocate


ALLOCATIONS: dict[str, Allocation] = {
    "global": global_,
    "uniform": by_shape(shares.uniform),
    "uniform_plus": by_shape(shares.uniform_plus),
    "erk": by_shape(shares.erk),
    "lamp": lamp,
}
