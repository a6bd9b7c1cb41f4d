"""How many weights each layer keeps: functions from the layers, or from their shapes alone.

No torch at import: a configuration is checked against the table below without paying for it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import floor, prod
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from torch import Tensor

    from sms_dist.pruning.threshold import Layer

Shape: TypeAlias = tuple[int, ...]
Shapes: TypeAlias = Mapping[str, Shape]  # of the prunable weights, in the model's order
Shares: TypeAlias = "Callable[[Shapes, int], dict[str, Fraction]]"
Layers: TypeAlias = "Mapping[str, Layer]"
Allocation: TypeAlias = "Callable[[Layers, int], list[Ranking]]"

LEAST_OF_LAST = Fraction(1, 5)  # of the last layer uniform_plus keeps at least so much


@dataclass(frozen=True)
class Ranking:
    """The `num_kept` weights of largest magnitude in these layers together stay."""

    names: Sequence[str]
    num_kept: int


def num_kept(num: int, sparsity: float) -> int:
    """Return how many of `num` survive: exact, by rounding the number that goes."""
    return num - round(sparsity * num)


def is_convolution(shape: Shape) -> bool:
    """Return whether a prunable weight is a convolution's; linear layers have two dims."""
    return len(shape) > 2


def global_(layers: Layers, num_kept: int) -> list[Ranking]:
    """Rank all layers together; ties go to earlier layers."""
    return [Ranking(list(layers), num_kept)]


def lamp(layers: Layers, num_kept: int) -> list[Ranking]:
    """Keep as many weights of each layer as one ranking of LAMP scores leaves (Lee et al. 2021).

    Ties go to earlier layers. Every layer that has weights keeps one at least; ValueError when
    there are fewer to keep.
    """
    from sms_dist.pruning.threshold import find_threshold

    check_one_each([name for name, layer in layers.items() if layer.num_alive], num_kept)
    scores = {name: lamp_keys(layer.keys()) for name, layer in layers.items()}
    threshold = find_threshold(list(scores.values()), num_kept)
    ties_left, rankings = threshold.num_ties, []
    for name, keys in scores.items():
        ties = min(ties_left, int((keys == threshold.key).sum()))
        rankings.append(Ranking([name], int((keys > threshold.key).sum()) + ties))
        ties_left -= ties
    return rankings


def lamp_keys(keys: Tensor) -> Tensor:
    """Return int32 keys of the LAMP scores of the living weights, in descending order, on the CPU.

    The score of u is w_u^2 over the sum of w_v^2 of all |w_v| >= |w_u| in the layer (Lee et al.
    2021). One of the largest weights counts as 1, the highest score there is, even where it has
    equals. On the CPU, because CUDA's cumulative sum differs from call to call.
    """
    import torch

    falling = keys[keys >= 0].cpu().sort(descending=True).values
    if not len(falling):
        return falling
    squares = falling.view(torch.float32).double().square()
    rising = -falling
    ends = torch.searchsorted(rising, rising, right=True) - 1  # of the equal ones, all count
    scores = (squares / squares.cumsum(0)[ends]).nan_to_num(0.0)  # 0 / 0 in a layer of zeros
    scores[0] = 1.0
    return scores.to(torch.float32).view(torch.int32)


def by_shape(shares: Shares) -> Allocation:
    """Return the allocation that comes as near to the shares as whole numbers and living weights
    allow."""

    def allocate(layers: Layers, num_kept: int) -> list[Ranking]:
        exact = shares({name: layer.shape for name, layer in layers.items()}, num_kept)
        alive = {name: layer.num_alive for name, layer in layers.items()}
        counts = apportion(exact, alive, num_kept)
        return [Ranking([name], num) for name, num in counts.items()]

    return allocate


def uniform(shapes: Shapes, num_kept: int) -> dict[str, Fraction]:
    """Return the same fraction of every layer."""
    return _in_proportion(_sizes(shapes), num_kept, {})


def uniform_plus(shapes: Shapes, num_kept: int) -> dict[str, Fraction]:
    """Return UNIFORM+ (Gale et al. 2019): the first convolution whole, a fifth of the last layer
    at least, and the same fraction of all others.

    ValueError when these two alone are more than may stay.
    """
    sizes, last = _sizes(shapes), [*shapes][-1]
    convolutions = [name for name, shape in shapes.items() if is_convolution(shape)]
    fixed = {name: Fraction(sizes[name]) for name in convolutions[:1]}
    least = sizes[last] * LEAST_OF_LAST
    if last not in fixed and _in_proportion(sizes, num_kept, fixed)[last] < least:
        fixed[last] = least
    if sum(fixed.values()) > num_kept:
        names = [f"{'' if kept == sizes[n] else '20 % of '}{n}" for n, kept in fixed.items()]
        raise ValueError(
            f"pruning.allocation=uniform_plus keeps {' and '.join(names)}: "
            f"{float(sum(fixed.values())):.0f} weights, more than the {num_kept} of "
            f"{sum(sizes.values())} weights that stay; lower pruning.goal_sparsity or choose "
            "another allocation"
        )
    return _in_proportion(sizes, num_kept, fixed)


def erk(shapes: Shapes, num_kept: int) -> dict[str, Fraction]:
    """Return Erdos-Renyi-Kernel shares (Evci et al. 2020).

    Density is in proportion to sum(dims) / prod(dims), so the number kept is to sum(dims). Layers
    for which that is more than they have stay whole, and the others share what is left.
    """
    sizes, whole = _sizes(shapes), dict[str, Fraction]()
    while True:
        shares = _in_proportion({n: sum(shape) for n, shape in shapes.items()}, num_kept, whole)
        full = {name: Fraction(sizes[name]) for name in shapes if shares[name] > sizes[name]}
        if not full:
            return shares
        whole |= full


def apportion(
    shares: Mapping[str, Fraction], capacities: Mapping[str, int], total: int
) -> dict[str, int]:
    """Return counts that sum to `total`, near the shares and never above a layer's capacity.

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


def check_one_each(names: Sequence[str], num_kept: int) -> None:
    """Raise ValueError when LAMP could not keep a weight in each of these layers."""
    if num_kept < len(names):
        raise ValueError(
            f"pruning.allocation=lamp keeps a weight in each of {len(names)} layers, and "
            f"{num_kept} weights stay; lower pruning.goal_sparsity"
        )


def _sizes(shapes: Shapes) -> dict[str, int]:
    return {name: prod(shape) for name, shape in shapes.items()}


def _in_proportion(
    weights: Mapping[str, int], total: int, fixed: Mapping[str, Fraction]
) -> dict[str, Fraction]:
    """Return the fixed shares, and those of the others in proportion to their weights."""
    rest = total - sum(fixed.values())
    whole = sum(weight for name, weight in weights.items() if name not in fixed)
    return {
        name: fixed[name] if name in fixed else Fraction(rest) * weight / whole
        for name, weight in weights.items()
    }


ALLOCATIONS: dict[str, Allocation] = {
    "global": global_,
    "uniform": by_shape(uniform),
    "uniform_plus": by_shape(uniform_plus),
    "erk": by_shape(erk),
    "lamp": lamp,
}
