"""Which layers share a ranking, and how many weights they keep: functions from the layers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from sms_dist.pruning import shares
from sms_dist.pruning.apportion import apportion

if TYPE_CHECKING:  # a configuration is checked against the table below without paying for torch
    from torch import Tensor

    from sms_dist.pruning.layer import Layer


@dataclass(frozen=True)
class Ranking:
    """Of the weights of these layers together the `num_kept` of largest magnitude stay."""

    names: Sequence[str]
    num_kept: int


Layers: TypeAlias = "Mapping[str, Layer]"
Allocation: TypeAlias = "Callable[[Layers, int], list[Ranking]]"


def global_(layers: Layers, num_kept: int) -> list[Ranking]:
    """One ranking over all layers; ties go to earlier layers."""
    return [Ranking(list(layers), num_kept)]


def lamp(layers: Layers, num_kept: int) -> list[Ranking]:
    """As many of each layer as one ranking of LAMP scores leaves (Lee et al. 2021).

    Ties go to earlier layers. Every layer that has weights keeps one at least; ValueError when
    there are fewer to keep.
    """
    from sms_dist.pruning.lamp import lamp_keys

    shares.check_one_each([name for name, layer in layers.items() if layer.num_alive], num_kept)
    scores = {name: lamp_keys(layer.keys()) for name, layer in layers.items()}
    return _each(_counts(scores, num_kept))


def by_shape(wanted: shares.Shares) -> Allocation:
    """The allocation that comes as near to shares as whole numbers and living weights allow."""

    def allocate(layers: Layers, num_kept: int) -> list[Ranking]:
        exact = wanted({name: layer.shape for name, layer in layers.items()}, num_kept)
        alive = {name: layer.num_alive for name, layer in layers.items()}
        return _each(apportion(exact, alive, num_kept))

    return allocate


def _each(counts: Mapping[str, int]) -> list[Ranking]:
    """A ranking for each layer."""
    return [Ranking([name], num) for name, num in counts.items()]


def _counts(keys: Mapping[str, Tensor], num_kept: int) -> dict[str, int]:
    """How many of each layer's keys are among the largest of all."""
    from sms_dist.pruning.cut import find_cut

    cut = find_cut(list(keys.values()), num_kept)
    ties_left, counts = cut.num_ties, {}
    for name, some in keys.items():
        ties = min(ties_left, int((some == cut.key).sum()))
        counts[name] = int((some > cut.key).sum()) + ties
        ties_left -= ties
    return counts


ALLOCATIONS: dict[str, Allocation] = {
    "global": global_,
    "uniform": by_shape(shares.uniform),
    "uniform_plus": by_shape(shares.uniform_plus),
    "erk": by_shape(shares.erk),
    "lamp": lamp,
}
