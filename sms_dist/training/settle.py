"""From an average of candidates to a model of the phase's sparsity, where their masks differ."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from sms_dist.mesh.collectives import agree, any_
from sms_dist.methods.phases import Phase
from sms_dist.models.weights import bare_state
from sms_dist.pruning.feasible import FILTERS
from sms_dist.pruning.filters import companions
from sms_dist.pruning.mask import Mask, apply_, digest, full_mask
from sms_dist.pruning.patterns import tighten
from sms_dist.sparse_rules import rule_class
from sms_dist.training.context import Context, State


def keeps_latent(phase: Phase) -> bool:
    """Do the dense weights behind the candidates go on, instead of the pruned ones?"""
    return not phase.has_fixed_mask and rule_class(phase.training.rule).keeps_latent


def union(context: Context, phase: Phase, own: Sequence[Mask]) -> Mask:
    """Which weights any candidate has, of all groups; `own` are the masks of mine.

    Every rank must call, with the same masks on all ranks of a group.
    """
    facts = {f"mask {i} of my group": digest(mask) for i, mask in enumerate(own)}
    agree(facts, context.mesh.data, context.mesh.device)
    if keeps_latent(phase):
        return full_mask(bare_state(context.new_model()), context.prunable)
    together = {
        name: torch.stack([mask[name] for mask in own]).any(0) if own else nothing
        for name, nothing in _nothing(context).items()
    }
    return any_(together, context.mesh.candidate)


def settled(context: Context, phase: Phase, state: State, everything: Mask) -> tuple[State, Mask]:
    """The average with the phase's mask: pruned again where the candidates had their own."""
    if not phase.has_own_masks or phase.sparsity is None:
        return state, everything
    pruning = context.config.pruning
    mask = tighten(
        state,
        everything,
        phase.sparsity,
        pruning.pattern,
        pruning.allocation,
        pruning.score,
    )
    weights = {name: tensor.clone() for name, tensor in state.items()}
    apply_(weights, held_with(context, mask))
    return weights, mask


def held_with(context: Context, mask: Mask) -> Mask:
    """The mask, and what is to be zero with it: what belongs to filters that are gone."""
    if context.config.pruning.pattern != FILTERS:
        return mask
    return companions(context.new_model(), mask)


def _nothing(context: Context) -> Mask:
    state = bare_state(context.new_model())
    return {name: torch.zeros_like(state[name], dtype=torch.bool) for name in context.prunable}
