"""The tensors of a bare model by name, and weights from a file that somebody gave us."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from sms_dist.base import weights_file
from sms_dist.base.lookup import nearest
from sms_dist.base.weights_file import State, fitted
from sms_dist.pruning.mask import pruned_already
from sms_dist.soups.states import OPTIONAL, aliases, bare_state, some


def assign_(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Make a bare state's tensors those of the model, which may be on the meta device.

    Tied tensors stay tied, which `load_state_dict(assign=True)` alone would undo. The names must
    be all of the model's.
    """
    others = aliases(model)
    report = model.load_state_dict(dict(state), strict=False, assign=True)
    assert not report.unexpected_keys, report
    assert set(report.missing_keys) <= set(others), report
    for alias, name in others.items():
        owner, leaf = _owner(model, alias)
        first, first_leaf = _owner(model, name)
        setattr(owner, leaf, getattr(first, first_leaf))


def _owner(model: nn.Module, name: str) -> tuple[nn.Module, str]:
    module, _, leaf = name.rpartition(".")
    return model.get_submodule(module), leaf


SOURCE, EXCEPT = "model.weights", "model.weights_except"
FINISHED = "pretrain.from"


class Given(NamedTuple):
    """The tensors of a file by the names of the model that they fit."""

    state: State
    masks: State  # bool, of weights that torch.nn.utils.prune masks
    file: Path
    notes: tuple[str, ...]  # for people: what has been done to the values


def read(
    path: str,
    model: nn.Module,
    *,
    name: str,
    except_: Sequence[str] = (),
    ignored: Sequence[str] = (),
    source: str = SOURCE,
) -> Given:
    """Return the file's tensors by the model's names, for `load_state_dict(state, strict=False)`.

    `except_` names tensors, or modules with all they contain, that keep their initial values;
    `ignored` names tensors that the file may hold besides. `name` is the model's, `source` the key
    that gave the path: for errors, which are ValueErrors. Finished weights (`source` is
    pretrain.from) must be whole: there `except_` only leaves out what the model lacks. Nothing in
    the file is executed.
    """
    place = f"{source}={path}"
    wanted, others = bare_state(model), aliases(model)
    is_parted = any(key.endswith("_orig") for key in wanted)  # by torch.nn.utils.prune, too
    file = weights_file.read(path, place, is_parted)
    whole, left_out = {*wanted} if source == FINISHED else set(), (*except_, *ignored)
    read = [key for key in file.tensors if key in whole or not is_below(key, except_)]
    names, short = fitted(read, [*wanted, *others], place)
    if not whole:
        _check_except(except_, [*wanted, *file.tensors, *short.values()])
    names = {
        key: new
        for key, new in names.items()
        if new in whole or not (is_below(new, left_out) or is_below(short[key], left_out))
    }
    given, num_rounded = dict[str, Tensor](), 0
    for key, new in names.items():
        given[new], like = file.tensors[key], wanted.get(others.get(new, new))
        if like is not None and like.is_floating_point():
            given[new], num = _cast(given[new], like.dtype, f"{place}: {key}")
            num_rounded += num
    loaded = _first_names(given, others, place)
    wanted = {
        key: tensor
        for key, tensor in wanted.items()
        if (key in whole or not is_below(key, except_))
        and (key in loaded or not key.endswith(OPTIONAL))
    }
    check_fits(place, loaded, wanted, name, source)
    masks = {names[key]: mask for key, mask in file.masks.items() if key in names}
    masks |= {n: loaded[m] != 0 for n in loaded if (m := pruned_already(n)) in loaded}
    notes = (f"{place}: {num_rounded:,} values are rounded to the precision of the model",)
    return Given(loaded, masks, file.path, notes if num_rounded else ())


def _cast(tensor: Tensor, dtype: torch.dtype, place: str) -> tuple[Tensor, int]:
    """Return floating-point values in another type, and how many of them it rounds.

    ValueError for values that cannot be computed with.
    """
    if not tensor.is_floating_point():
        raise ValueError(
            f"{place} is of {tensor.dtype}, and the model computes with {dtype}; save the weights "
            "before they are quantised, or as floating-point numbers"
        )
    cast = tensor.to(dtype)
    if num := tensor.numel() - int(torch.isfinite(cast).sum()):
        raise ValueError(
            f"{place} has {num:,} of {tensor.numel():,} values that are NaN or infinite; take the "
            "weights from before their training diverged"
        )
    return cast, 0 if tensor.dtype == dtype else int((cast.double() != tensor.double()).sum())


def check_fits(
    place: str,
    loaded: Mapping[str, Tensor],
    wanted: Mapping[str, Tensor],
    name: str,
    source: str | None = None,
) -> None:
    """Raise ValueError where names or shapes differ from the model's.

    `source` is the key that gave the file; another one may leave tensors of it out.
    """
    missing, extra = sorted(wanted.keys() - loaded.keys()), sorted(loaded.keys() - wanted.keys())
    if missing or extra:
        may_leave_out = source == SOURCE or (source == FINISHED and not missing)
        way_out = f"; name tensors to leave out in {EXCEPT}" if may_leave_out else ""
        raise ValueError(
            f"{place} does not fit model.name={name}: it lacks {some(missing)}, and has "
            f"{some(extra)} besides{way_out}"
        )
    different = [key for key in wanted if loaded[key].shape != wanted[key].shape]
    if different:
        first = different[0]
        way_out = ""
        if source == SOURCE and len(different) < len(wanted):
            way_out = f"; {EXCEPT}=[{', '.join(different)}] starts these anew"
        raise ValueError(
            f"{place}: {first} has the shape {tuple(loaded[first].shape)}, model.name={name} wants "
            f"{tuple(wanted[first].shape)}{way_out}"
        )


def is_below(key: str, names: Iterable[str]) -> bool:
    """Return whether a tensor is one of the named ones, or in a named module."""
    return any(key == name or key.startswith(f"{name}.") for name in names)


def _first_names(loaded: State, others: Mapping[str, str], place: str) -> State:
    """Return tied tensors under their first names; ValueError where their values differ."""
    first = {key: tensor for key, tensor in loaded.items() if key not in others}
    for alias, name in others.items():
        if alias not in loaded:
            continue
        one, other = first.setdefault(name, loaded[alias]), loaded[alias]
        if one.shape != other.shape or not torch.equal(one, other):
            raise ValueError(f"{place}: {alias} differs from {name}, with which the model ties it")
    return first


def _check_except(except_: Sequence[str], keys: Sequence[str]) -> None:
    for name in except_:
        if not any(is_below(key, [name]) for key in keys):
            raise ValueError(
                f"model.weights_except={name} is neither in the model nor in the file"
                f"{nearest(name, keys)}"
            )
