"""Stacks: candidates that train together in one process, as one network with many sets of weights.

This file says which candidates of a phase form a stack: a function of the plan, without torch.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TypeVar

from sms_dist.config import EngineConfig
from sms_dist.methods.phases import Candidate, Phase

T = TypeVar("T")


@dataclass(frozen=True)
class Stack:
    """Candidates that a group trains at the same time; one place means a candidate by itself."""

    places: Sequence[Candidate]  # also those that are done: their number shows in the bits
    todo: Sequence[Candidate]

    @property
    def is_single(self) -> bool:
        return len(self.places) == 1


def stacks_of(
    phase: Phase, todo: Sequence[Candidate], again: Collection[int], size: int
) -> list[Stack]:
    """Return stacks of `size` places with the candidates to do.

    Stacks are cut from all candidates of the phase, whether they are done or not. A candidate that
    is tried `again` (by index) trains by itself.
    """
    stacks: list[Stack] = []
    for places in cut(phase.candidates, size):
        own = [candidate for candidate in places if candidate in todo]
        together = [c for c in own if c.index not in again] if len(places) > 1 else []
        if together:
            stacks.append(Stack(places, together))
        stacks += [Stack((c,), (c,)) for c in own if c not in together]
    return stacks


def cut(items: Sequence[T], size: int) -> list[Sequence[T]]:
    """Return the candidates of a phase in groups of `size`, each of which is a stack."""
    return [items[i : i + size] for i in range(0, len(items), size)]


def stack_size(wanted: int | None, num_candidates: int, num_groups: int) -> int:
    """Return the places of a stack: as wanted, or so many that each group has one stack."""
    return min(wanted or -(-num_candidates // num_groups), num_candidates)


def obstacle(engine: EngineConfig, phase: Phase) -> str | None:
    """Return why the candidates of a phase cannot form stacks, as far as the plan shows it."""
    if not phase.has_fixed_mask:
        return f"the sparse training rule {phase.training.rule} changes the step of each candidate"
    if engine.precision == "fp16":
        return "engine.precision=fp16 has a scale of the loss for each candidate"
    if engine.gradient_checkpointing:
        return "engine.gradient_checkpointing computes blocks anew, which vmap cannot"
    if any(candidate.retrain.ema is not None for candidate in phase.candidates):
        return "retrain.ema averages the weights of each candidate after each of its steps"
    return None
