"""Sparsities of phases, as functions of the goal."""

from __future__ import annotations


def geometric(goal: float, num_phases: int) -> list[float]:
    """Return the sparsity after each phase where each removes the same fraction of what remains."""
    early = [1 - (1 - goal) ** (k / num_phases) for k in range(1, num_phases)]
    return [*early, goal]  # the goal itself, free of rounding


def fraction_per_phase(goal: float, num_phases: int) -> float:
    """Return the fraction of the remaining weights that each phase of `geometric` removes."""
    return float(1 - (1 - goal) ** (1 / num_phases))


def cubic(goal: float, num_steps: int, initial: float = 0.0) -> list[float]:
    """Return the sparsity after each of `num_steps` pruning steps (GMP; Zhu & Gupta, 2017).

    The steps are at equal intervals; the sparsity rises steeply at first and flattens out.
    """
    left = [(1 - k / num_steps) ** 3 for k in range(1, num_steps)]
    return [*(goal + (initial - goal) * part for part in left), goal]


def fraction_pruned(before: float, after: float) -> float:
    """Return the fraction of the weights remaining at sparsity `before` that is gone at `after`."""
    return (after - before) / (1 - before)
