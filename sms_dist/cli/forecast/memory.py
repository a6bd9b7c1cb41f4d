"""How much memory a rank needs: that of its process, of weights, and of a step's activations."""

from __future__ import annotations

from sms_dist.cli.forecast.links import Layout
from sms_dist.cli.forecast.rates import HostRates
from sms_dist.cli.forecast.work import FLOAT, Work
from sms_dist.methods.plan import PhasePlan, travelling

STANDING = 4  # copies of the weights: dense model, last soup, start of the phase, start of training
OPTIMIZER = {"sgd": 1, "adamw": 2}  # values per parameter


def peak_bytes(work: Work, host: HostRates, layout: Layout) -> float:
    """Of the rank that needs most, at the moment when it does."""
    num_ranks = layout.num_ranks
    needs = [weights_bytes(work, 0)]
    if work.pretrain_steps:
        ranks = work.pretrain_ranks(num_ranks)
        needs.append(training_bytes(work, host.sample_bytes, ranks, num_held=0))
    for item in work.plan.phases:
        held = len(item.waves)
        ranks = layout.ranks_per_candidate
        needs.append(training_bytes(work, host.sample_bytes, ranks, num_held=held - 1))
        needs.append(weights_bytes(work, held) + merging_bytes(work, item, layout))
    return host.process_bytes + max(needs)


def training_bytes(work: Work, sample_bytes: float, num_ranks: int, num_held: int) -> float:
    """While a candidate trains on so many ranks, after `num_held` others in the same phase."""
    activations = work.share(num_ranks) * sample_bytes
    return weights_bytes(work, num_held) + _trained_bytes(work, num_ranks) + activations


def weights_bytes(work: Work, num_held: int) -> float:
    """Weights that lie there, and masks of a byte for each weight."""
    copies = (STANDING + num_held) * FLOAT * work.num_parameters
    return copies + 2 * work.plan.sizes.num_prunable


def merging_bytes(work: Work, item: PhasePlan, layout: Layout) -> float:
    """Packed candidates of the group, this rank's slice of all of them, the soup."""
    values = travelling(item.phase, item.surviving, work.plan.sizes)
    sliced = len(item.phase.candidates) * values / layout.num_ranks
    return FLOAT * (len(item.waves) * values + 2 * sliced + 2 * values)


def _trained_bytes(work: Work, num_ranks: int) -> float:
    """Model, gradients and the optimizer's state; ZeRO's stages share them out, the last first."""
    config = work.config
    parts = [OPTIMIZER[config.pretrain.optimizer], 1, 1]  # optimizer, gradients, weights
    is_sharded = config.engine.name == "deepspeed"
    shared = config.engine.zero_stage if is_sharded else 0
    values = sum(parts[:shared]) / num_ranks + sum(parts[shared:])
    return FLOAT * work.num_parameters * values
