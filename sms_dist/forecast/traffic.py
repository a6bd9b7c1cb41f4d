"""The bytes that ranks send each other, of all ranks together, by what they are for."""

from __future__ import annotations

from dataclasses import dataclass

from sms_dist.forecast.links import Layout, all_reduce_bytes
from sms_dist.forecast.rates import Rates
from sms_dist.forecast.work import DOUBLE, FLOAT, Work
from sms_dist.plan import NUM_PARTS, PhasePlan, soup_bytes, travelling

CONTROL_BYTES = 1000  # a second and rank: heartbeats, and wishes to stop; benchmarks/slow_links.py
NUM_TOTALS = 8  # that an evaluation adds up, or a few more


@dataclass(frozen=True)
class Traffic:
    """Bytes."""

    gradients: int  # inside groups, in every step
    measuring: int  # inside groups, and by all ranks for the soup: batch norm, evaluation, ensemble
    soup: int  # between groups
    control: int  # between the store and every rank


def measuring_bytes(rates: Rates) -> int:
    """Of the table in which ranks add up batch-norm statistics."""
    return NUM_PARTS * (rates.batch_norm_values + 1) * DOUBLE


def pretraining_traffic(work: Work, rates: Rates, layout: Layout) -> Traffic:
    ranks = work.pretrain_ranks(layout.num_ranks)
    gradients = work.pretrain_steps * all_reduce_bytes(work.gradient_bytes(), ranks)
    told = (layout.num_ranks - 1) * FLOAT * work.num_parameters
    return Traffic(gradients, _measured(work, rates, layout.num_ranks), told, control=0)


def phase_traffic(
    work: Work, rates: Rates, layout: Layout, item: PhasePlan, seconds: float
) -> Traffic:
    """Of a phase that lasts so long."""
    num, ranks = len(item.phase.candidates), layout.ranks_per_candidate
    measuring = num * _measured(work, rates, ranks) + _measured(work, rates, layout.num_ranks)
    return Traffic(
        gradients=sum(item.steps) * all_reduce_bytes(work.gradient_bytes(item), ranks),
        measuring=measuring + _ensemble(work, layout, num),
        soup=item.soup_bytes + _told_in_groups(work, layout, item),
        control=int(CONTROL_BYTES * layout.num_ranks * seconds) if layout.num_ranks > 1 else 0,
    )


def _measured(work: Work, rates: Rates, num_ranks: int) -> int:
    evaluations = 2 if work.samples.validation else 1
    table = measuring_bytes(rates) if rates.batch_norm_values else 0
    return all_reduce_bytes(table + evaluations * NUM_PARTS * NUM_TOTALS * DOUBLE, num_ranks)


def _told_in_groups(work: Work, layout: Layout, item: PhasePlan) -> int:
    """The soup's slices that the ranks of a group give each other."""
    values = travelling(item.phase, item.surviving, work.plan.sizes)
    return layout.num_groups * (layout.ranks_per_candidate - 1) * FLOAT * values


def _ensemble(work: Work, layout: Layout, num_candidates: int) -> int:
    if not work.has_ensemble or num_candidates == 1:
        return 0
    return soup_bytes(work.samples.test * work.num_classes, num_candidates, layout.num_groups)
