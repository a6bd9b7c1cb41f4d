"""The sparsity of each phase."""

from __future__ import annotations


def geometric(goal: float, num_phases: int) -> list[float]:
    """Sparsities after each phase when every phase removes the same fraction of what remains."""
    early = [1 - (1 - goal) ** (k / num_phases) for k in range(1, num_phases)]
    return [*early, goal]  # the goal itself, free of rounding


def fraction_per_phase(goal: float, num_phases: int) -> float:
    """The fraction of the remaining weights that each phase of `geometric` removes."""
    return float(1 - (1 - goal) ** (1 / num_phases))


def cubic(goal: float, num_steps: int, initial: float = 0.0) -> list[float]:
    """Sparsities after each of `num_steps` pruning steps at equal intervals (GMP; Zhu & Gupta,
    2017): steep first, flat at the end."""
    left = [(1 - k / num_steps) ** 3 for k in range(1, num_steps)]
    return [*(goal + (initial - goal) * part for part in left), goal]


def fraction_pruned(before: float, after: float) -> float:
    """The fraction of the weights remaining at sparsity `before` that is gone at `after`."""
    return (after - before) / (1 - before)
