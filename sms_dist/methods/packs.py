"""Which candidates of a phase train together in one process: a function of the plan."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TypeVar

from sms_dist.config import EngineConfig
from sms_dist.methods.phases import Candidate, Phase

T = TypeVar("T")


@dataclass(frozen=True)
class Turn:
    """What a group does at a time: one candidate by itself, or some of a pack."""

    candidates: tuple[Candidate, ...]
    pack: Sequence[Candidate] = ()  # all of it, also those that are done; empty: none


def turns(phase: Phase, todo: Sequence[Candidate], again: Collection[int], size: int) -> list[Turn]:
    """Those to do, in packs of `size`; candidates that are tried again are alone.

    Packs are cut from all candidates of the phase, whatever is done of them: the number of places
    in a pack shows in the bits.
    """
    found = []
    for pack in cut(phase.candidates, size):
        own = [candidate for candidate in pack if candidate in todo]
        together = [c for c in own if c.index not in again] if len(pack) > 1 else []
        if together:
            found.append(Turn(tuple(together), pack))
        found += [Turn((candidate,)) for candidate in own if candidate not in together]
    return found


def cut(items: Sequence[T], size: int) -> list[Sequence[T]]:
    """Of all candidates of a phase, those that belong together."""
    return [items[i : i + size] for i in range(0, len(items), size)]


def pack_size(wanted: int | None, num_candidates: int, num_groups: int) -> int:
    """Candidates of a pack: as wanted, or so many that each group has one pack."""
    return min(wanted or -(-num_candidates // num_groups), num_candidates)


def obstacle(engine: EngineConfig, phase: Phase) -> str | None:
    """Why the candidates of a phase cannot take their steps together, as far as a plan can tell."""
    if not phase.has_fixed_mask:
        return f"the sparse training rule {phase.training.rule} changes the step of each candidate"
    if engine.precision == "fp16":
        return "engine.precision=fp16 has a scale of the loss for each candidate"
    return None
