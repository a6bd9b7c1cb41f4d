"""The plan of a run: phases dealt onto groups, with steps, surviving weights and bytes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from sms_dist.methods.phases import Phase, Recipe
from sms_dist.pruning.allocation import num_kept

Survivors = Callable[[float], int]  # sparsity -> weights
FEW_SAMPLES = 4  # of a batch, below which a rank is not worth its communication


@dataclass(frozen=True)
class Sizes:
    """The sizes of the model and the data, as far as a plan depends on them."""

    num_prunable: int
    num_other: int  # parameters that are never pruned
    steps_per_epoch: int


@dataclass(frozen=True)
class PhasePlan:
    """One phase as it will run."""

    phase: Phase
    waves: tuple[tuple[int, ...], ...]  # the candidates that train at the same time
    surviving: int  # prunable weights; all of them where the sparsity is not known before
    steps: tuple[int, ...]  # of each candidate
    soup_bytes: int  # sent by all ranks together


@dataclass(frozen=True)
class Plan:
    """All phases on `num_groups` groups; plain data, printable without a process group."""

    num_groups: int
    sizes: Sizes
    dense_epochs: int  # trained before the first phase
    phases: tuple[PhasePlan, ...]

    def as_json(self) -> dict[str, Any]:
        """Return the plan as JSON values."""
        document = asdict(self)
        for phase, item in zip(document["phases"], self.phases, strict=True):
            candidates = [
                asdict(c) | {"retrain": c.retrain.model_dump()} for c in item.phase.candidates
            ]
            phase["phase"]["candidates"] = candidates
        return document


def make_plan(
    recipe: Recipe, num_groups: int, sizes: Sizes, survivors: Survivors | None = None
) -> Plan:
    """Return the plan of a recipe; `survivors` says how many weights a rounded sparsity leaves."""
    count = survivors or partial(num_kept, sizes.num_prunable)
    phases = []
    for phase in recipe.phases:
        indices = [candidate.index for candidate in phase.candidates]
        starts = range(0, len(indices), num_groups)
        surviving = sizes.num_prunable if phase.sparsity is None else count(phase.sparsity)
        planned = PhasePlan(
            phase=phase,
            waves=tuple(tuple(indices[start : start + num_groups]) for start in starts),
            surviving=surviving,
            steps=tuple(c.retrain.epochs * sizes.steps_per_epoch for c in phase.candidates),
            soup_bytes=soup_bytes(travelling(phase, surviving, sizes), len(indices), num_groups),
        )
        phases.append(planned)
    return Plan(num_groups, sizes, recipe.dense_epochs, tuple(phases))


def check_pretrain_ranks(wanted: int | None, num_ranks: int) -> None:
    """Raise ValueError when more ranks are to pretrain than there are."""
    if wanted is not None and wanted > num_ranks:
        raise ValueError(
            f"pretrain.ranks={wanted} is more than there are ranks ({num_ranks}); start more, or "
            "lower it"
        )


def pretrain_ranks(num_ranks: int, smallest_step: int, accumulation: int) -> int:
    """Return how many ranks pretrain by default: all, if a batch has a few samples for each."""
    return max(1, min(num_ranks, smallest_step // (FEW_SAMPLES * accumulation)))


def soup_bytes(num_values: int, num_candidates: int, num_groups: int, itemsize: int = 4) -> int:
    """Return the bytes that all ranks send for one soup.

    Every group owns a slice of the vector and gets that slice of each candidate that another group
    trained; then the mixed slices are gathered by all groups.
    """
    exchanged = num_candidates * num_values * (num_groups - 1) // num_groups
    gathered = num_values * (num_groups - 1)
    return itemsize * (exchanged + gathered)


def travelling(phase: Phase, surviving: int, sizes: Sizes) -> int:
    """Return how many values of a candidate are averaged, at most so many where masks differ."""
    if not phase.has_fixed_mask:
        surviving = sizes.num_prunable
    elif phase.begin == "own":
        surviving = min(sizes.num_prunable, surviving * len(phase.candidates))
    return surviving + sizes.num_other
