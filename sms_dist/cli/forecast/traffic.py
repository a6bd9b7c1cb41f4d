"""The bytes that ranks send each other, of all ranks together, by what they are for."""

from __future__ import annotations

from dataclasses import dataclass

from sms_dist.cli.forecast.links import Layout, all_reduce_bytes
from sms_dist.cli.forecast.rates import Rates
from sms_dist.cli.forecast.work import DOUBLE, FLOAT, Work
from sms_dist.mesh.division import NUM_PARTS
from sms_dist.methods.plan import PhasePlan, soup_bytes, travelling

# What a rank and the store tell each other in a second: its own beat, asking twice whether to stop,
# and the headers of frames. Fitted to what benchmarks/slow_links.py counts at the network card.
CONTROL_BYTES = 1150
BEAT_BYTES = 425  # more for each beat that it reads: that of rank 0, and of all ranks of its host
MOST_RANKS = 1000  # that the store serves in a second; where there are more, each asks less often
# What the groups tell each other of a candidate, when all are done, as its metrics.json has it.
DOCUMENT_BYTES, EPOCH_BYTES = 1000, 105


@dataclass(frozen=True)
class Traffic:
    """Bytes."""

    gradients: int  # inside groups, in every step
    measuring: int  # inside groups, and by all ranks: batch norm, evaluation, ensemble, results
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
    measuring += _ensemble(work, layout, num) + _documents(layout, item)
    return Traffic(
        gradients=sum(item.steps) * all_reduce_bytes(work.gradient_bytes(item), ranks),
        measuring=measuring,
        soup=item.soup_bytes + _told_in_groups(work, layout, item),
        control=control_bytes(layout, seconds),
    )


def control_bytes(layout: Layout, seconds: float) -> int:
    """Heartbeats and wishes to stop; rank 0 has the store on its own host."""
    others = min(layout.num_ranks - 1, MOST_RANKS)
    beats = 1 + min(layout.ranks_per_host, layout.num_ranks)
    return int(others * seconds * (CONTROL_BYTES + BEAT_BYTES * beats))


def _measured(work: Work, rates: Rates, num_ranks: int) -> int:
    evaluations = 2 if work.samples.validation else 1
    table = measuring_bytes(rates) if rates.batch_norm_values else 0
    return all_reduce_bytes(table + evaluations * NUM_PARTS * work.num_totals * DOUBLE, num_ranks)


def _documents(layout: Layout, item: PhasePlan) -> int:
    """Each rank writes its own at their place in the whole, and all of it is added up."""
    epochs = [candidate.retrain.epochs for candidate in item.phase.candidates]
    together = len(epochs) * DOCUMENT_BYTES + sum(epochs) * EPOCH_BYTES
    return all_reduce_bytes(together, layout.num_ranks)


def _told_in_groups(work: Work, layout: Layout, item: PhasePlan) -> int:
    """The soup's slices that the ranks of a group give each other."""
    values = travelling(item.phase, item.surviving, work.plan.sizes)
    return layout.num_groups * (layout.ranks_per_candidate - 1) * FLOAT * values


def _ensemble(work: Work, layout: Layout, num_candidates: int) -> int:
    if not work.has_ensemble or num_candidates == 1:
        return 0
    return soup_bytes(work.samples.test * work.num_classes, num_candidates, layout.num_groups)
