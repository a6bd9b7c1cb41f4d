"""What a pruning pattern does to layers of given shapes, or why it cannot: no weights, no torch."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from math import prod

from sms_dist.base.lookup import nearest
from sms_dist.pruning.apportion import num_kept
from sms_dist.pruning.shares import Shapes, check_one_each, is_convolution, uniform_plus

UNSTRUCTURED, FILTERS = "unstructured", "filters"
DEFAULT_ALLOCATION = "global"
DEFAULT_SCORE = "magnitude"
_N_OF_M = re.compile(r"([1-9]\d{0,3}):([1-9]\d{0,3})")


def check_pruning(
    shapes: Shapes,
    sparsities: Sequence[float],
    *,
    pattern: str = UNSTRUCTURED,
    allocation: str = DEFAULT_ALLOCATION,
    goal_sparsity: float | None = None,
    keep_dense: Sequence[str] = (),
) -> None:
    """Raise ValueError for the first thing that cannot work.

    `shapes` are those of all weights that can be pruned, the ones in `keep_dense` included;
    `sparsities` those of the phases, `goal_sparsity` as it was asked for.
    """
    cut = {name: shapes[name] for name in without(shapes, keep_dense)}
    numbers = n_of_m(pattern)
    if pattern == UNSTRUCTURED:
        _check_allocation(cut, allocation, sparsities)
    elif allocation != DEFAULT_ALLOCATION:
        raise ValueError(
            f"pruning.allocation={allocation} shares single weights out; with "
            f"pruning.pattern={pattern} every layer loses the same fraction; leave "
            "pruning.allocation out"
        )
    elif numbers is None:
        _check_filters(cut, sparsities)
    else:
        _check_goal(numbers, pattern, goal_sparsity)
        _check_inputs(cut, numbers[1], pattern, keep_dense)


def needs_shapes(
    pattern: str = UNSTRUCTURED,
    allocation: str = DEFAULT_ALLOCATION,
    keep_dense: Sequence[str] = (),
) -> bool:
    """Return whether check_pruning depends on the shapes of the layers."""
    is_plain = pattern == UNSTRUCTURED and allocation not in ("uniform_plus", "lamp")
    return bool(keep_dense) or not is_plain


def num_expected(shapes: Shapes, sparsity: float, pattern: str = UNSTRUCTURED) -> int:
    """Return how many weights survive a phase of this sparsity; `shapes` are of what is pruned.

    Filters and groups of N:M go as wholes, so it differs a little from the sparsity asked for.
    """
    numbers = n_of_m(pattern)
    sizes = {name: prod(shape) for name, shape in shapes.items()}
    if pattern == UNSTRUCTURED:
        return num_kept(sum(sizes.values()), sparsity)
    if numbers is not None:
        return sum(sizes.values()) // numbers[1] * num_kept(numbers[1], sparsity)
    return sum(
        size // shapes[name][0] * num_kept(shapes[name][0], sparsity)
        if is_convolution(shapes[name])
        else size
        for name, size in sizes.items()
    )


def n_of_m(pattern: str) -> tuple[int, int] | None:
    """(2, 4) of "2:4", None of the patterns that have a name; ValueError for all else."""
    if pattern in (UNSTRUCTURED, FILTERS):
        return None
    match = _N_OF_M.fullmatch(pattern)
    if match is None:
        legal = nearest(pattern, [UNSTRUCTURED, FILTERS, "2:4"])
        raise ValueError(
            f"pruning.pattern={pattern} is not known{legal}; legal: {UNSTRUCTURED}, {FILTERS}, or "
            "N:M such as 2:4"
        )
    kept, of = int(match[1]), int(match[2])
    if kept >= of:
        raise ValueError(
            f"pruning.pattern={pattern} keeps {kept} of every {of}, which prunes nothing; the "
            "first number must be the smaller one, as in 2:4"
        )
    return kept, of


def without(names: Iterable[str], keep_dense: Sequence[str]) -> list[str]:
    """The weights to prune: all but those that stay dense; ValueError for names of no weight."""
    names = list(names)
    for name in keep_dense:
        if name not in names:
            near = nearest(name, names) or f"; for example {names[0]}" if names else ""
            raise ValueError(f"pruning.keep_dense={name} is no weight that would be pruned{near}")
    left = [name for name in names if name not in keep_dense]
    if names and not left:
        raise ValueError("pruning.keep_dense names every weight there is; nothing is left to prune")
    return left


def _check_allocation(shapes: Shapes, allocation: str, sparsities: Sequence[float]) -> None:
    num = sum(map(prod, shapes.values()))
    for sparsity in sparsities:
        if allocation == "uniform_plus":
            uniform_plus(shapes, num_kept(num, sparsity))
        if allocation == "lamp":
            check_one_each(list(shapes), num_kept(num, sparsity))


def _check_filters(shapes: Shapes, sparsities: Sequence[float]) -> None:
    filters = {name: shape[0] for name, shape in shapes.items() if is_convolution(shape)}
    if not filters:
        raise ValueError(
            f"pruning.pattern={FILTERS} prunes convolutions, and there is none; set it to "
            f"{UNSTRUCTURED}"
        )
    for name, num in filters.items():
        for sparsity in sparsities:
            if num_kept(num, sparsity) < 1:
                raise ValueError(
                    f"pruning.pattern={FILTERS} takes all {num} filters of {name} at sparsity "
                    f"{sparsity:.6g}; lower pruning.goal_sparsity, or set "
                    f"pruning.keep_dense=[{name}]"
                )


def _check_goal(numbers: tuple[int, int], pattern: str, given: float | None) -> None:
    goal = 1 - numbers[0] / numbers[1]
    if given is None or abs(given - goal) > 1e-6:
        shown = "null" if given is None else given
        raise ValueError(
            f"pruning.pattern={pattern} removes {goal:.9g} of the weights, but "
            f"pruning.goal_sparsity={shown}; set pruning.goal_sparsity={goal:.9g}"
        )


def _check_inputs(shapes: Shapes, of: int, pattern: str, keep_dense: Sequence[str]) -> None:
    misfits = [name for name, shape in shapes.items() if shape[1] % of]
    if misfits:
        name = misfits[0]
        others = f" (and {len(misfits) - 1} more)" if misfits[1:] else ""
        kept = ", ".join([*keep_dense, *misfits])
        raise ValueError(
            f"pruning.pattern={pattern} takes {of} inputs together, and {name} of shape "
            f"{shapes[name]} has {shapes[name][1]}{others}; set pruning.keep_dense=[{kept}]"
        )
