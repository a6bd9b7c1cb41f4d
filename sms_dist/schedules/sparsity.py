"""The sparsity of each phase."""

from __future__ import annotations


def geometric(goal: float, num_phases: int) -> list[float]:
    """Sparsities after each phase when every phase removes the same fraction of what remains."""
    early = [1 - (1 - goal) ** (k / num_phases) for k in range(1, num_phases)]
    return [*early, goal]  # the goal itself, free of rounding


def fraction_per_phase(goal: float, num_phases: int) -> float:
    """The fraction of the remaining weights that each phase of `geometric` removes."""
    return float(1 - (1 - goal) ** (1 / num_phases))


def num_kept(num_weights: int, sparsity: float) -> int:
    """How many of the weights survive: exact, by rounding the number that goes."""
    return num_weights - round(sparsity * num_weights)
