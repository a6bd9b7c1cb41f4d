"""What will happen: phases dealt onto groups, with steps, surviving weights and bytes."""

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
    """What the model and the data contribute to a plan."""

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
    """`survivors` says how many weights a sparsity leaves, where a pattern rounds it."""
    count = survivors or partial(num_kept, sizes.num_prunable)
    phases = tuple(_phase_plan(phase, num_groups, sizes, count) for phase in recipe.phases)
    return Plan(num_groups, sizes, recipe.dense_epochs, phases)


def check_pretrain_ranks(wanted: int | None, num_ranks: int) -> None:
    """ValueError when more ranks are to pretrain than there are."""
    if wanted is not None and wanted > num_ranks:
        raise ValueError(
            f"pretrain.ranks={wanted} is more than there are ranks ({num_ranks}); start more, or "
            "lower it"
        )


def pretrain_ranks(num_ranks: int, smallest_step: int, accumulation: int) -> int:
    """All ranks, as far as a batch feeds each with a few samples; where the number is not given."""
    return max(1, min(num_ranks, smallest_step // (FEW_SAMPLES * accumulation)))


def soup_bytes(num_values: int, num_candidates: int, num_groups: int, itemsize: int = 4) -> int:
    """Bytes sent by all ranks for one soup.

    Every group owns a slice of the vector and gets that slice of each candidate that another group
    trained; then the mixed slices are gathered by all groups.
    """
    exchanged = num_candidates * num_values * (num_groups - 1) // num_groups
    gathered = num_values * (num_groups - 1)
    return itemsize * (exchanged + gathered)


def travelling(phase: Phase, surviving: int, sizes: Sizes) -> int:
    """Values of a candidate that are averaged; at most so many, where masks differ."""
    if not phase.has_fixed_mask:
        surviving = sizes.num_prunable
    elif phase.begin == "own":
        surviving = min(sizes.num_prunable, surviving * len(phase.candidates))
    return surviving + sizes.num_other


def _phase_plan(phase: Phase, num_groups: int, sizes: Sizes, survivors: Survivors) -> PhasePlan:
    indices = [c.index for c in phase.candidates]
    waves = [indices[i : i + num_groups] for i in range(0, len(indices), num_groups)]
    surviving = sizes.num_prunable
    if phase.sparsity is not None:
        surviving = survivors(phase.sparsity)
    return PhasePlan(
        phase,
        tuple(tuple(wave) for wave in waves),
        surviving,
        tuple(c.retrain.epochs * sizes.steps_per_epoch for c in phase.candidates),
        soup_bytes(travelling(phase, surviving, sizes), len(indices), num_groups),
    )
