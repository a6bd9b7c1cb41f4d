"""Sparsities of phases, as functions of the goal."""

from __future__ import annotations

from sms_dist.base.plain import number, shown, whole_number


def sparsities(goal: float, phases: int, start: float = 0.0) -> list[float]:
    """Return the sparsity after each phase; each removes the same fraction of what remains.

    `start` is the sparsity before the first phase, that of a model that is sparse already; the last
    value is `goal` itself. ValueError unless 0 <= start <= goal < 1 and there is a phase.
    """
    if not 0 <= number(goal) < 1:
        raise ValueError(
            f"goal={shown(goal)} is no sparsity; give a fraction of at least 0 and below 1"
        )
    if not 0 <= number(start) <= goal:
        raise ValueError(
            f"start={shown(start)} must lie between 0 and goal={goal}: pruning takes weights away "
            "only"
        )
    return geometric(float(goal), whole_number(phases, "phases"), float(start))


def geometric(goal: float, num_phases: int, start: float = 0.0) -> list[float]:
    """Return the sparsity after each phase, as `sparsities` does of values that were checked."""
    factor = (1 - goal) / (1 - start)  # of what remains, over all phases
    early = [1 - (1 - start) * factor ** (k / num_phases) for k in range(1, num_phases)]
    # Rounding may neither loosen the mask nor pass the goal.
    return [*(min(max(sparsity, start), goal) for sparsity in early), goal]


def fraction_per_phase(goal: float, num_phases: int, start: float = 0.0) -> float:
    """Return the fraction of the remaining weights that each phase of `geometric` removes."""
    return float(1 - ((1 - goal) / (1 - start)) ** (1 / num_phases))


def cubic(goal: float, num_steps: int, initial: float = 0.0) -> list[float]:
    """Return the sparsity after each of `num_steps` pruning steps (GMP; Zhu & Gupta, 2017).

    The steps are at equal intervals; the sparsity rises steeply at first and flattens out.
    """
    left = [(1 - k / num_steps) ** 3 for k in range(1, num_steps)]
    return [*(goal + (initial - goal) * part for part in left), goal]


def fraction_pruned(before: float, after: float) -> float:
    """Return the fraction of the weights remaining at sparsity `before` that is gone at `after`."""
    return (after - before) / (1 - before)
