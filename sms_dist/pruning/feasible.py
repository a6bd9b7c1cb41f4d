"""How a pruning pattern fits layers of given shapes, or why it cannot: no weights, no torch."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from fnmatch import fnmatchcase
from math import prod

from sms_dist.base.lookup import nearest
from sms_dist.base.plain import shown
from sms_dist.pruning.allocation import (
    Shapes,
    check_one_each,
    is_convolution,
    num_kept,
    uniform_plus,
)

UNSTRUCTURED, FILTERS = "unstructured", "filters"
KEPT_DENSE = "kept dense"  # why a weight is not pruned that pruning.keep_dense names
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
    pruned = {name: shapes[name] for name in without(shapes, keep_dense)}
    numbers = n_of_m(pattern)
    if pattern != UNSTRUCTURED and allocation != DEFAULT_ALLOCATION:
        raise ValueError(
            f"pruning.allocation={allocation} shares single weights out; with "
            f"pruning.pattern={pattern} every layer loses the same fraction; leave "
            "pruning.allocation out"
        )
    if numbers is not None:
        _check_groups(pruned, numbers, pattern, goal_sparsity, keep_dense)
    elif pattern == FILTERS:
        _check_filters(pruned, sparsities)
    else:
        num = sum(map(prod, pruned.values()))
        for sparsity in sparsities:
            if allocation == "uniform_plus":
                uniform_plus(pruned, num_kept(num, sparsity))
            if allocation == "lamp":
                check_one_each(list(pruned), num_kept(num, sparsity))


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
    """Return (2, 4) for "2:4", None for patterns that have a name; ValueError for all else."""
    if pattern in (UNSTRUCTURED, FILTERS):
        return None
    match = _N_OF_M.fullmatch(str(pattern))
    if match is None:
        near = nearest(str(pattern), [UNSTRUCTURED, FILTERS, "2:4"])
        raise ValueError(
            f"pruning.pattern={pattern} is not known{near}; valid values: {UNSTRUCTURED}, "
            f"{FILTERS}, or N:M such as 2:4"
        )
    kept, of = int(match[1]), int(match[2])
    if kept >= of:
        raise ValueError(
            f"pruning.pattern={pattern} keeps {kept} of every {of}, which prunes nothing; the "
            "first number must be the smaller one, as in 2:4"
        )
    return kept, of


def without(names: Iterable[str], keep_dense: Sequence[str]) -> list[str]:
    """Return the weights to prune, all but those to keep dense: weights, layers with all in them,
    or patterns with *; ValueError for one that names nothing."""
    if isinstance(keep_dense, str) or not isinstance(keep_dense, Collection):
        raise ValueError(
            f"pruning.keep_dense={shown(keep_dense)} must be a list of names, as [{keep_dense}]"
        )
    if others := [entry for entry in keep_dense if not isinstance(entry, str)]:
        raise ValueError(f"pruning.keep_dense has {shown(others[0])}, which is no name")
    names = list(names)
    dense = {entry: [n for n in names if _is_meant(n, entry)] for entry in keep_dense}
    for entry, meant in dense.items():
        if not meant:
            near = nearest(entry, names) or f"; for example {names[0]}" if names else ""
            raise ValueError(f"pruning.keep_dense={entry} is no weight that would be pruned{near}")
    left = [name for name in names if not any(name in meant for meant in dense.values())]
    if names and not left:
        raise ValueError("pruning.keep_dense names every weight there is; nothing is left to prune")
    return left


def _is_meant(name: str, entry: str) -> bool:
    return name == entry or name.startswith(f"{entry}.") or fnmatchcase(name, entry)


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


def _check_groups(
    shapes: Shapes,
    numbers: tuple[int, int],
    pattern: str,
    goal_sparsity: float | None,
    keep_dense: Sequence[str],
) -> None:
    kept, size = numbers
    goal = 1 - kept / size
    if goal_sparsity is None or abs(goal_sparsity - goal) > 1e-6:
        given = "null" if goal_sparsity is None else goal_sparsity
        raise ValueError(
            f"pruning.pattern={pattern} removes {goal:.9g} of the weights, but "
            f"pruning.goal_sparsity={given}; set pruning.goal_sparsity={goal:.9g}"
        )
    misfits = [name for name, shape in shapes.items() if shape[1] % size]
    if misfits:
        name = misfits[0]
        others = f" (and {len(misfits) - 1} more)" if misfits[1:] else ""
        raise ValueError(
            f"pruning.pattern={pattern} takes {size} inputs together, and {name} of shape "
            f"{shapes[name]} has {shapes[name][1]}{others}; set "
            f"pruning.keep_dense=[{', '.join([*keep_dense, *misfits])}]"
        )
