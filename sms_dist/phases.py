"""What a method asks for, as plain data: phases and their candidates."""

from __future__ import annotations

from dataclasses import dataclass

from sms_dist.config import RetrainConfig


@dataclass(frozen=True)
class Candidate:
    """One copy of the pruned model and how it is retrained."""

    index: int
    seed: int
    retrain: RetrainConfig


@dataclass(frozen=True)
class Phase:
    """Prune to `sparsity`, retrain the candidates side by side, merge them by `rule`."""

    index: int  # from 1
    sparsity: float
    fraction: float  # of the weights that remained before this phase, pruned in it
    candidates: tuple[Candidate, ...]
    rule: str
