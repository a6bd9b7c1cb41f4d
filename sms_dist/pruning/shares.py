"""How many weights each layer should keep, from the shapes alone: exact fractions, no torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from math import prod
from typing import TypeAlias

Shape: TypeAlias = tuple[int, ...]
Shapes: TypeAlias = Mapping[str, Shape]  # of the prunable weights, in the model's order
Shares: TypeAlias = Callable[[Shapes, int], dict[str, Fraction]]

LEAST_OF_LAST = Fraction(1, 5)  # what uniform_plus leaves of the last layer at least


def is_convolution(shape: Shape) -> bool:
    """Of the prunable weights: those of linear layers have two dims."""
    return len(shape) > 2


def uniform(shapes: Shapes, num_kept: int) -> dict[str, Fraction]:
    """The same fraction of every layer."""
    return _in_proportion(_sizes(shapes), num_kept)


def uniform_plus(shapes: Shapes, num_kept: int) -> dict[str, Fraction]:
    """UNIFORM+ (Gale et al. 2019): the first convolution whole, a fifth of the last layer at least.

    ValueError when these two alone are more than may stay.
    """
    sizes = _sizes(shapes)
    fixed = {name: Fraction(sizes[name]) for name in _first_convolution(shapes)}
    *_, last = shapes
    if last not in fixed:
        least = sizes[last] * LEAST_OF_LAST
        if _rest(sizes, fixed, num_kept)[last] < least:
            fixed[last] = least
    if sum(fixed.values()) > num_kept:
        raise ValueError(
            f"pruning.allocation=uniform_plus keeps {_described(fixed, sizes)}, more than the "
            f"{num_kept} of {sum(sizes.values())} weights that stay; lower pruning.goal_sparsity "
            "or choose another allocation"
        )
    shares = fixed | _rest(sizes, fixed, num_kept)
    return {name: shares[name] for name in shapes}


def erk(shapes: Shapes, num_kept: int) -> dict[str, Fraction]:
    """Erdos-Renyi-Kernel (Evci et al. 2020): density in proportion to sum(dims) / prod(dims).

    So the number kept is in proportion to sum(dims). Layers for which that is more than they have
    stay whole, and the others share what is left.
    """
    sizes = _sizes(shapes)
    whole: dict[str, Fraction] = {}
    while True:
        weights = {name: sum(shape) for name, shape in shapes.items() if name not in whole}
        shares = _in_proportion(weights, num_kept - sum(whole.values()))
        full = {name: Fraction(sizes[name]) for name in weights if shares[name] > sizes[name]}
        if not full:
            shares |= whole
            return {name: shares[name] for name in shapes}
        whole |= full


def check_one_each(names: Sequence[str], num_kept: int) -> None:
    """ValueError when LAMP could not keep a weight in each of these layers."""
    if num_kept < len(names):
        raise ValueError(
            f"pruning.allocation=lamp keeps a weight in each of {len(names)} layers, and "
            f"{num_kept} weights stay; lower pruning.goal_sparsity"
        )


def _sizes(shapes: Shapes) -> dict[str, int]:
    return {name: prod(shape) for name, shape in shapes.items()}


def _in_proportion(weights: Mapping[str, int], total: Fraction | int) -> dict[str, Fraction]:
    whole = sum(weights.values())
    return {name: Fraction(total) * weight / whole for name, weight in weights.items()}


def _first_convolution(shapes: Shapes) -> list[str]:
    return [name for name, shape in shapes.items() if is_convolution(shape)][:1]


def _rest(
    sizes: Mapping[str, int], fixed: Mapping[str, Fraction], num_kept: int
) -> dict[str, Fraction]:
    """The same fraction of every layer that is not fixed."""
    others = {name: size for name, size in sizes.items() if name not in fixed}
    return _in_proportion(others, num_kept - sum(fixed.values()))


def _described(fixed: Mapping[str, Fraction], sizes: Mapping[str, int]) -> str:
    names = [f"{'' if kept == sizes[n] else '20 % of '}{n}" for n, kept in fixed.items()]
    return f"{' and '.join(names)}: {float(sum(fixed.values())):.0f} weights"
