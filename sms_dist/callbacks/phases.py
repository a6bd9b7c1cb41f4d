"""Phases around any trainer: prune, train candidates, average them, prune harder."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from sms_dist.base.randomness import seed as seed_of
from sms_dist.mesh.mesh import Mesh
from sms_dist.pruning.hold import bare, hold
from sms_dist.pruning.mask import Mask
from sms_dist.pruning.prune import prune as prune_
from sms_dist.soups.merge import Soup
from sms_dist.soups.norms import recompute_norms
from sms_dist.soups.soup import soup as soup_of
from sms_dist.soups.states import State, is_deepspeed, load_, weights

SAME = 1e-6  # relative distance of candidates that are copies of each other


@dataclass(frozen=True)
class Candidate:
    """A copy of the model that trains in a phase.

    Attributes:
        phase, index: its place, from 1 and from 0, for names of folders
        seed: for everything random; below 2**32, and another one for each candidate
        mask: the weights that stay; it is held
    """

    phase: int
    index: int
    seed: int
    mask: Mask


@dataclass(frozen=True)
class Phase:
    """A phase that has ended: its number from 1, its mask, its soup, and who was left out."""

    number: int
    mask: Mask
    soup: Soup
    diverged: list[int]  # candidates with weights that are not finite


def soup_phases(
    model: nn.Module,
    train: Callable[[nn.Module, Candidate], Any],
    sparsities: Sequence[float],
    candidates: int,
    mesh: Mesh | None = None,
    *,
    mask: Mask | None = None,
    prune: Callable[..., Mask] = prune_,
    batches: Iterable[Any] | None = None,
    rule: str | Callable[..., Sequence[float]] = "uniform",
    score: Callable[[State], float] | None = None,
    seed: int = 0,
    first: int = 1,
) -> Iterator[Phase]:
    """Prune a model, train copies of it, make it their soup, and yield; then prune harder.

    Whenever a phase is yielded, the model is its soup: measure it and save it there. All ranks go
    through the phases together.

    Args:
        model: The dense model, equal on all ranks; it is changed in place.
        train: Trains in place the copy that it is given, with `candidate.seed`. The mask is held
            meanwhile, so it needs no HoldMask. Modules train or evaluate as they did in the model
            at first; all train if the model was in evaluation. It may return what wraps the copy,
            whose buffers are then averaged over its ranks; DeepSpeed's engine it must return.
        sparsities: Of the phases, as `sms_dist.sparsities` returns them.
        candidates: How many there are in a phase.
        mesh: Which candidates this rank trains. None: all ranks train each candidate together, as
            trainers do that take the whole process group, one candidate after another.
        mask: The mask so far, which is only tightened.
        prune: Called as prune(model, sparsity, mask=mask); functools.partial gives `sms_dist.prune`
            its options.
        batches: This rank's share of the training batches, read anew in each phase, to recompute
            the statistics of norm layers; see `recompute_norms`. Needed if there are any.
        rule, score: As for `sms_dist.soup`.
        seed: Of all candidates' seeds.
        first: The number of the first phase; larger to go on from a later one.

    Candidates that diverge are left out with a warning.

    Raises ValueError where arguments do not fit, `train` leaves its copy as it was or replaces it,
    all candidates come out equal, pruned weights are not zero, or as `prune` and `soup` do.
    """
    steps = [*sparsities] if isinstance(sparsities, Iterable) else []
    numbers = all(isinstance(each, int | float) and 0 <= each < 1 for each in steps)
    if not steps or not numbers or steps != sorted(steps):
        raise ValueError(
            f"sparsities={sparsities} must be numbers in [0, 1) that do not fall, one for a phase"
        )
    if type(candidates) is not int or candidates < 1:
        raise ValueError(f"candidates={candidates} must be a whole number of at least 1")
    if not callable(train):
        raise ValueError(f"train={train} must be a function of a model and a candidate")
    for name, module in model.named_modules():
        if batches is None and isinstance(module, _NormBase) and module.track_running_stats:
            raise ValueError(
                f"batches=None, but a soup needs new running statistics for {name}; give training "
                "batches, such as a DataLoader"
            )
    # Measuring a soup leaves a model in evaluation, and Lightning trains as it finds it.
    modes = [module.training or not model.training for module in model.modules()]

    def phases() -> Iterator[Phase]:
        nonlocal mask, mesh
        for number, sparsity in enumerate(steps, first):
            mask = prune(model, sparsity, mask=mask)
            states = {}
            for i in range(candidates) if mesh is None else mesh.mine(candidates):
                own_seed = seed_of(seed, "candidate", number, i) >> 31  # NumPy takes 32 bits
                state = _trained(model, modes, train, Candidate(number, i, own_seed, mask))
                if all(tensor.isfinite().all() for tensor in state.values()):
                    states[i] = state
            if mesh is None:  # a trainer has made the process group
                mesh = Mesh(dist.get_world_size() if dist.is_initialized() else 1)
            soup = soup_of(states, mask, mesh, rule=rule, score=score)
            diverged = [i for i in range(candidates) if i not in soup.coefficients]
            if diverged:
                warnings.warn(f"phase {number}: candidates {diverged} diverged", stacklevel=2)
            if len(soup.coefficients) > 1 and soup.distances["l2_relative"] < SAME:
                raise ValueError(
                    "all candidates are equal: train(model, candidate) must take candidate.seed "
                    "for what is random, and share gradients with the ranks of its group alone"
                )
            load_(model, soup.state)
            if batches is not None:
                home = next(model.parameters()).device  # NCCL exchanges nothing on CPUs
                recompute_norms(model.to(mesh.device), batches, mesh)
                model.to(home)
            yield Phase(number, mask, soup, diverged)

    return phases()


def _trained(
    model: nn.Module,
    modes: Sequence[bool],
    train: Callable[[nn.Module, Candidate], Any],
    candidate: Candidate,
) -> State:
    """Return the weights of a copy of the model after its training."""
    copied = copy.deepcopy(model)
    # Whom accelerate has prepared, to be measured, it would not wrap: ranks would train apart.
    vars(copied).pop("_is_accelerate_prepared", None)
    for module, mode in zip(copied.modules(), modes, strict=True):
        module.training = mode
    with hold(copied, candidate.mask) as held:
        trained = train(copied, candidate)
        if not isinstance(trained, nn.Module):
            trained = copied
        if bare(trained) is not copied:
            raise ValueError("train returned another model than the one that it was given")
        held.check()
        if not is_deepspeed(trained) and any(map(_is_deepspeeds, copied.parameters())):
            raise ValueError(
                "DeepSpeed keeps the weights of this model; let train return the engine, such as "
                "Trainer.model_wrapped"
            )
        state = weights(trained)
    if all(torch.equal(p, state[name].to(p)) for name, p in model.named_parameters()):
        raise ValueError("train left its model as it was; it must train the one that it is given")
    return state


def _is_deepspeeds(parameter: nn.Parameter) -> bool:
    return hasattr(parameter, "ds_id") or getattr(parameter, "_hp_mapping", None) is not None
