"""Pruning of a whole model: the mask of a sparsity, by the weights that its layers compute with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sms_dist.base import plain
from sms_dist.pruning.allocation import Allocation
from sms_dist.pruning.feasible import (
    DEFAULT_ALLOCATION,
    DEFAULT_SCORE,
    FILTERS,
    UNSTRUCTURED,
    check_pruning,
)
from sms_dist.pruning.layers import Weight, survivor_in_each_part
from sms_dist.pruning.mask import Mask, Tensors, arguments_named, full_mask, prunable
from sms_dist.pruning.patterns import Score, tighten
from sms_dist.pruning.wrappers import bare, checked


def prune(
    model: nn.Module,
    sparsity: float,
    *,
    mask: Mask | None = None,
    score: str | Score = DEFAULT_SCORE,
    allocation: str | Allocation = DEFAULT_ALLOCATION,
    pattern: str = UNSTRUCTURED,
    dense: Sequence[str] = (),
) -> Mask:
    """Return the mask of a sparsity, and zero what it prunes in the model.

    Args:
        model: A module, its DDP or compiled wrapper, or a DeepSpeed engine (then all ranks of its
            data-parallel group call).
        sparsity: The fraction removed of all prunable weights, those that `mask` removes included.
        mask: The mask so far, which is only tightened; what `torch.nn.utils.prune` has pruned
            counts as pruned, too.
        score: A name, or a function from name -> weight to name -> numbers; the largest stay.
        allocation: A name, or a function from layers and a number of weights to rankings.
        pattern: unstructured, filters, or N:M such as 2:4 (`sparsity` is then 1 - N/M).
        dense: Names of weights or layers, or patterns with *, that are not pruned and not counted.

    Raises ValueError where `sparsity` is below that of `mask`, nothing is prunable or would be
    left, names or shapes of `mask` differ, a weight is not finite, or a layer is of unknown kind
    and is not named in `dense`.
    """
    inner = checked(model, "prune")
    pruned = prunable(inner, dense)
    masters = _masters(model, pruned)
    start = _start(inner, pruned, sparsity, mask)
    with arguments_named():
        used = {each.name: each.effective(inner).detach() for each in pruned}
        used |= {each.name: masters[each.name] for each in pruned if each.name in masters}
        for name, weight in used.items():
            if not bool(weight.isfinite().all()):
                raise ValueError(f"{name} is not finite, so its weights cannot be ranked")
        if isinstance(allocation, str):
            shapes = {e.name: tuple(e.outputs_first(start[e.name]).shape) for e in pruned}
            keys = {"pattern": pattern, "allocation": allocation}
            check_pruning(shapes, [sparsity], goal_sparsity=sparsity, **keys)
        tighter = tighten_weights(pruned, used, start, sparsity, pattern, allocation, score)
    tighter.apply_(inner)
    if masters:
        from deepspeed.utils import safe_set_full_fp32_param as write_

        for name, master in masters.items():
            write_(inner.get_parameter(name), master.masked_fill(~tighter[name], 0.0))
    for each in pruned:
        each.renew_(inner)
    return tighter


def _start(inner: nn.Module, pruned: Sequence[Weight], sparsity: float, mask: Mask | None) -> Mask:
    """Return the mask that is tightened; ValueError where it cannot be."""
    if not 0 <= plain.number(sparsity) < 1:
        raise ValueError(
            f"sparsity={plain.shown(sparsity)} must be a number of at least 0 and below 1: the "
            "fraction of weights removed"
        )
    parameters = {**dict(inner.named_parameters()), **dict(inner.named_buffers())}
    start = full_mask(parameters, [each.name for each in pruned])
    if mask is not None:
        before = Mask(mask)
        before.check_fits(parameters)
        if set(before) != set(start):
            name = min(set(before) ^ set(start))
            place = "not in the mask" if name in start else "not prunable here"
            raise ValueError(f"{name} is {place}; give `dense` as for the mask")
        start = Mask({n: kept & before[n].to(kept.device) for n, kept in start.items()})
    if sparsity < start.sparsity - 0.5 / start.num_weights:
        raise ValueError(
            f"sparsity={sparsity:.6g} is below {start.sparsity:.6g}, that of the mask; a mask only "
            "tightens"
        )
    return start


def _masters(model: nn.Module, pruned: Sequence[Weight]) -> dict[str, Tensor]:
    """Return the whole fp32 masters of a DeepSpeed engine's weights; none where there are none.

    All ranks of the engine's data-parallel group call. ValueError where they cannot be written.
    """
    find: Any = getattr(model, "zero_optimization_stage", lambda: None)
    stage = find()
    if stage is None:
        return {}
    inner = bare(model)
    parameters = {each.name: inner.get_parameter(each.name) for each in pruned}
    is_low = any(parameter.dtype is not torch.float32 for parameter in parameters.values())
    if stage == 3 or (stage == 0 and is_low):
        what = "shards weights" if stage == 3 else "hides the fp32 weights behind others"
        raise ValueError(
            f"DeepSpeed's ZeRO-{stage} {what}; call prune before deepspeed.initialize, or use "
            "ZeRO-1 or 2"
        )
    if stage == 0:
        return {}
    from deepspeed.utils import safe_get_full_fp32_param

    masters = {name: safe_get_full_fp32_param(p) for name, p in parameters.items()}
    return {name: master for name, master in masters.items() if master is not None}  # else frozen


def tighten_weights(
    pruned: Sequence[Weight],
    effective: Tensors,
    mask: Mask,
    sparsity: float,
    pattern: str = UNSTRUCTURED,
    allocation: str | Allocation = DEFAULT_ALLOCATION,
    score: str | Score = DEFAULT_SCORE,
) -> Mask:
    """Return a tighter mask, by the effective weights of layers of any kind; see `tighten`.

    `effective` has the shapes of the parameters, and their names, as the masks do. Where a layer
    divides by the norm of a part of its weight, such as a filter, each part keeps a weight:
    ValueError where fewer are left.
    """
    check_parts(pruned, pattern)
    tighter = tighten(
        {each.name: each.outputs_first(effective[each.name]) for each in pruned},
        {each.name: each.outputs_first(mask[each.name]) for each in pruned},
        sparsity,
        pattern,
        allocation,
        score,
    )
    return Mask({each.name: _whole(each, tighter, effective, mask) for each in pruned})


def check_parts(pruned: Sequence[Weight], pattern: str) -> None:
    """Raise ValueError where whole filters are to go that a layer divides by the norm of."""
    for each in pruned:
        if pattern == FILTERS and each.is_convolution and each.parts is not None:
            raise ValueError(
                f"pruning.pattern={FILTERS} takes whole filters of {each.name} ({each.kind}), "
                f"which are divided by a norm; set pruning.keep_dense=[{each.name}]"
            )


def _whole(each: Weight, tighter: Mask, effective: Tensors, mask: Mask) -> Tensor:
    """Return a weight's mask as the weight is stored; no norm of its parts is zero."""
    kept, weight = each.as_stored(tighter[each.name]), effective[each.name]
    if each.parts is None:
        return kept
    kept_parts = survivor_in_each_part(kept, weight, mask[each.name], each.parts)
    if kept_parts is None:
        raise ValueError(
            f"{each.name} ({each.kind}) keeps {int(kept.sum())} weights, too few for one in each "
            "part that its norm divides; lower pruning.goal_sparsity, or set "
            f"pruning.keep_dense=[{each.name}]"
        )
    return kept_parts
