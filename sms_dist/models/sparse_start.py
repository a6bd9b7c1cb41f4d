"""Finished weights that a run begins with (`pretrain.from`), and the mask that they begin with."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from sms_dist.base import plain, weights_file
from sms_dist.base.plain import is_file
from sms_dist.base.weights_file import MASK, State, as_mask, fitted
from sms_dist.config import Config, PruningConfig
from sms_dist.models import weights
from sms_dist.pruning.allocation import is_convolution, num_kept
from sms_dist.pruning.feasible import FILTERS, n_of_m
from sms_dist.pruning.filters import living_filters
from sms_dist.pruning.layers import Weight
from sms_dist.pruning.mask import Mask, count
from sms_dist.soups.states import bare_state

MOST_ZEROS = 0.01  # of the prunable weights, which training leaves by chance
ZEROS, NONE = "zeros", "none"  # values of pretrain.mask besides a file


@dataclass(frozen=True)
class Finished:
    """Weights of a file by the model's names, zero where they are pruned, on the CPU."""

    state: State
    mask: Mask | None  # None: they are dense
    file: Path
    notes: tuple[str, ...]  # for people: what has been done to the values
    origin: str = ""  # of the mask

    @property
    def text(self) -> str:
        """Return in words how sparse the weights are."""
        assert self.mask is not None
        kept, num = self.mask.num_kept, self.mask.num_weights
        return (
            f"{100 * self.mask.sparsity:.2f} % sparse, {kept:,} of {num:,} weights left, by "
            f"{self.origin}"
        )


def finished(config: Config, model: nn.Module, layers: Sequence[Weight]) -> Finished:
    """Return the weights that `pretrain.from` names, for a model on any device, and their mask.

    `layers` are the weights of the model of which some are pruned.
    ValueError where they do not fit the model, or where it is unclear which of them are pruned.
    """
    pretrain = config.pretrain
    assert pretrain.from_ is not None
    place = f"{weights.FINISHED}={pretrain.from_}"
    given = weights.read(
        pretrain.from_,
        model,
        name=config.model.name,
        except_=config.model.weights_except,
        source=weights.FINISHED,
    )
    prunable = {each.name: given.state[each.name] for each in layers if each.is_pruned}
    state, beside = given.state, _beside(given.file)
    if pretrain.mask == NONE:
        mask, origin = None, ""
    elif pretrain.mask == ZEROS:
        mask, origin = {name: weight != 0 for name, weight in prunable.items()}, "its zeros"
    elif pretrain.mask is not None:
        origin = f"pretrain.mask={pretrain.mask}"
        mask = _whole(_read_mask(pretrain.mask, model, origin), prunable, origin)
    elif beside is not None or given.masks:
        origin = "its masks of torch.nn.utils.prune" if beside is None else f"{beside}"
        masks = given.masks if beside is None else _read_mask(str(beside), model, origin)
        mask = _whole(masks, prunable, origin)
        if beside is not None:
            _check_zero(prunable, mask, origin, beside)
    else:
        mask, origin = None, ""
        _check_dense(prunable, place)
    if mask is None or all(bool(kept.all()) for kept in mask.values()):
        return Finished(state, None, given.file, given.notes)
    state = state | {name: prunable[name].masked_fill(~kept, 0.0) for name, kept in mask.items()}
    return Finished(state, Mask(mask), given.file, given.notes, origin)


def start_sparsity(mask: Mask, layers: Sequence[Weight], pruning: PruningConfig) -> float:
    """Return the sparsity at which phases begin that tighten a mask: of filters where these go.

    ValueError where the pattern cannot be reached from the mask.
    """
    numbers, goal = n_of_m(pruning.pattern), pruning.goal_sparsity
    num, kept = mask.num_weights, mask.num_kept
    matrices = {w.name: w.outputs_first(mask[w.name]) for w in layers if w.is_pruned}
    if pruning.pattern == FILTERS:
        living = {name: _living(name, alive) for name, alive in matrices.items()}
        num, kept = (sum(map(f, living.values())) for f in (len, count))
        for name, filters in living.items():
            if goal is not None and count(filters) < num_kept(len(filters), goal):
                raise _unreachable(pruning.pattern, name, f"only {count(filters)} filters")
    if numbers is not None:
        for name, alive in matrices.items():
            groups = alive.movedim(1, -1).reshape(-1, numbers[1]).sum(dim=1)
            if int(groups.min()) < numbers[0]:
                raise _unreachable(pruning.pattern, name, f"{int(groups.min())} of some groups")
    if goal is not None and kept == num_kept(num, goal):
        return goal  # free of rounding
    return 1 - kept / num


def _living(name: str, alive: Tensor) -> Tensor:
    """Return which filters of a mask are there, none of a linear layer; ValueError for parts."""
    filters = living_filters(alive) if is_convolution(alive.shape) else alive.new_ones(1)
    if not torch.equal(alive, filters.view(-1, *[1] * (alive.ndim - 1)).expand_as(alive)):
        raise _unreachable(FILTERS, name, "single weights" if len(filters) > 1 else "a part")
    return filters if is_convolution(alive.shape) else alive.new_ones(0)


def _unreachable(pattern: str, name: str, left: str) -> ValueError:
    return ValueError(
        f"pruning.pattern={pattern} cannot be reached from the start: its mask leaves {left} of "
        f"{name}; set pruning.pattern=unstructured, or pretrain.mask=none to begin dense"
    )


def _beside(file: Path) -> Path | None:
    """Return the mask beside a file of weights; that of a candidate may lie with its soup."""
    places = [file.parent / MASK]
    if file.parent.name.startswith("candidate_"):
        places.append(file.parents[1] / "soup" / MASK)
    return next((path for path in places if is_file(path)), None)


def _read_mask(path: str, model: nn.Module, place: str) -> State:
    """Return the bool tensors of a file of masks, by the names of the model's tensors."""
    folder = plain.path(path)
    inside = [each for each in (folder / MASK, folder / "soup" / MASK) if is_file(each)]
    file = weights_file.read(inside[0] if inside else path, place)
    masks = file.masks or {
        name.removesuffix("_mask"): as_mask(tensor, f"{place}: {name}")
        for name, tensor in file.tensors.items()
    }
    shapes = {name: tensor.shape for name, tensor in bare_state(model).items()}
    names, _ = fitted(masks, shapes, place)
    for name, kept in masks.items():
        wanted = shapes.get(names[name])
        if wanted != kept.shape:
            problem = "is not in the model" if wanted is None else f"is {tuple(wanted)} there"
            raise ValueError(
                f"{place} holds a mask of {name}, {tuple(kept.shape)}, which {problem}"
            )
    return {names[name]: kept for name, kept in masks.items()}


def _whole(masks: Mapping[str, Tensor], prunable: Mapping[str, Tensor], place: str) -> State:
    """Return masks of all prunable weights: those without one are kept.

    ValueError where others than these are pruned.
    """
    for name, kept in masks.items():
        if name not in prunable and not bool(kept.all()):
            raise ValueError(
                f"{place} prunes {name}, which this run does not prune; set pruning.embeddings or "
                "pruning.keep_dense as they were, or choose with pretrain.mask"
            )
    kept_all = {
        name: torch.ones_like(weight, dtype=torch.bool) for name, weight in prunable.items()
    }
    return {name: masks.get(name, kept) for name, kept in kept_all.items()}


def _check_zero(
    prunable: Mapping[str, Tensor], mask: Mapping[str, Tensor], place: str, file: Path
) -> None:
    """Raise ValueError where weights are not zero that a mask prunes which nobody has named."""
    num = sum(int((prunable[name][~kept] != 0).sum()) for name, kept in mask.items())
    if num:
        raise ValueError(
            f"{place} prunes {num:,} weights that are not zero; set pretrain.mask={file} "
            "to set them to zero, or pretrain.mask=none to begin dense"
        )


def _check_dense(prunable: Mapping[str, Tensor], place: str) -> None:
    share = zeros(prunable.values())
    if share > MOST_ZEROS:
        raise ValueError(
            f"{place}: {share:.2%} of its prunable weights are exactly zero; set pretrain.mask="
            "zeros to keep these pruned, or pretrain.mask=none to train them again"
        )


def zeros(tensors: Collection[Tensor]) -> float:
    """Return the fraction of values that are exactly zero."""
    num = sum(tensor.numel() for tensor in tensors)
    return 1 - sum(count(tensor != 0) for tensor in tensors) / max(num, 1)
