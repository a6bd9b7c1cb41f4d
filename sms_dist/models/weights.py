"""The tensors of a bare model by name, and weights from a file that somebody gave us."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from sms_dist.base import safetensors_file
from sms_dist.base.lookup import nearest
from sms_dist.base.plain import is_file
from sms_dist.soups.states import OPTIONAL, State, aliases, bare_state, some


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


SOURCE = "model.weights"  # the key that has another beside it for what is left out
WRAPPERS = ("state_dict", "model_state_dict", "model", "net")  # keys of what training programs save
PREFIXES = ("module.", "_orig_mod.", "model.")  # of models that were wrapped when they were saved
# What torch.load raises for files that are damaged, or something else.
_UNREADABLE = (
    *(UnpicklingError, RuntimeError, EOFError, OSError, ValueError, LookupError, MemoryError),
    *(TypeError, AttributeError, AssertionError, OverflowError, struct.error),
)


def read(
    path: str,
    model: nn.Module,
    *,
    name: str,
    except_: Sequence[str] = (),
    ignored: Sequence[str] = (),
    source: str = SOURCE,
) -> State:
    """Return the file's tensors by the model's names, for `load_state_dict(state, strict=False)`.

    `except_` names tensors, or modules with all they contain, that keep their initial values;
    `ignored` names tensors that the file may hold besides. `name` is the model's, `source` the key
    that gave the path: for errors, which are ValueErrors. Nothing in the file is executed.
    """
    place = f"{source}={path}"
    wanted = bare_state(model)
    loaded = _plain_names(_file(Path(path), place), wanted)
    loaded = _first_names(loaded, aliases(model), place)
    _check_except(except_, [*wanted, *loaded])
    ignored = (*except_, *ignored)
    loaded = {key: tensor for key, tensor in loaded.items() if not is_below(key, ignored)}
    wanted = {
        key: tensor
        for key, tensor in wanted.items()
        if not is_below(key, except_) and (key in loaded or not key.endswith(OPTIONAL))
    }
    check_fits(place, loaded, wanted, name, "model.weights_except" if source == SOURCE else None)
    return loaded


def check_fits(
    place: str,
    loaded: Mapping[str, Tensor],
    wanted: Mapping[str, Tensor],
    name: str,
    except_key: str | None = None,
) -> None:
    """Raise ValueError where names or shapes differ from the model's.

    `except_key` is the key that can leave tensors out.
    """
    missing, extra = sorted(wanted.keys() - loaded.keys()), sorted(loaded.keys() - wanted.keys())
    if missing or extra:
        way_out = f"; name tensors to leave out in {except_key}" if except_key else ""
        raise ValueError(
            f"{place} does not fit model.name={name}: it lacks {some(missing)}, and has "
            f"{some(extra)} besides{way_out}"
        )
    different = [key for key in wanted if loaded[key].shape != wanted[key].shape]
    if different:
        first = different[0]
        way_out = ""
        if except_key and len(different) < len(wanted):
            way_out = f"; {except_key}=[{', '.join(different)}] starts these anew"
        raise ValueError(
            f"{place}: {first} has the shape {tuple(loaded[first].shape)}, model.name={name} wants "
            f"{tuple(wanted[first].shape)}{way_out}"
        )


def is_below(key: str, names: Iterable[str]) -> bool:
    """Return whether a tensor is one of the named ones, or in a named module."""
    return any(key == name or key.startswith(f"{name}.") for name in names)


def read_safetensors(path: Path, place: str, device: str = "cpu") -> State:
    """Return all tensors of a safetensors file; `place` begins the ValueError where it is none."""
    safetensors_file.check(path, place)
    try:
        return dict(safetensors.torch.load_file(path, device=device))
    except safetensors.SafetensorError as error:
        raise ValueError(f"{place} is no safetensors file: {error}") from None


def _file(path: Path, place: str) -> State:
    if not is_file(path):
        raise ValueError(f"{place} is no file; give a .safetensors file or a saved state dict")
    if path.suffix == ".safetensors":
        return read_safetensors(path, place)
    try:
        # weights_only builds tensors and plain containers, and calls nothing that the file names
        content = torch.load(path, map_location="cpu", weights_only=True)
    except _UNREADABLE as error:
        raise ValueError(
            f"{place} is no state dict of tensors ({_first_line(error)}); save model.state_dict(), "
            "not the model, or a .safetensors file"
        ) from None
    return _state_dict(content, place)


def _state_dict(content: Any, place: str) -> State:
    """Return the tensors in a usual wrapper; ValueError where it is no mapping of names to them."""
    for key in WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict) or not content:
        raise ValueError(f"{place} holds a {type(content).__name__}, not a state dict")
    for key, value in content.items():
        if not isinstance(value, Tensor):
            raise ValueError(
                f"{place}: {key} is a {type(value).__name__}, not a tensor; save the state dict by "
                f"itself or under {WRAPPERS[0]}"
            )
    return {str(key): value.detach() for key, value in content.items()}


def _plain_names(loaded: State, wanted: Mapping[str, Tensor]) -> State:
    """Remove the prefixes that all names have, and that none of the model's has."""
    for prefix in PREFIXES * 2:
        is_wrapped = bool(loaded) and all(key.startswith(prefix) for key in loaded)
        if is_wrapped and not any(key.startswith(prefix) for key in wanted):
            loaded = {key.removeprefix(prefix): tensor for key, tensor in loaded.items()}
    return loaded


def _first_names(loaded: State, others: Mapping[str, str], place: str) -> State:
    """Return tied tensors under their first names; ValueError where their values differ."""
    first = {key: tensor for key, tensor in loaded.items() if key not in others}
    for alias, name in others.items():
        if alias not in loaded:
            continue
        if not torch.equal(first.setdefault(name, loaded[alias]), loaded[alias]):
            raise ValueError(f"{place}: {alias} differs from {name}, with which the model ties it")
    return first


def _check_except(except_: Sequence[str], keys: Sequence[str]) -> None:
    for name in except_:
        if not any(is_below(key, [name]) for key in keys):
            raise ValueError(
                f"model.weights_except={name} is neither in the model nor in the file"
                f"{nearest(name, keys)}"
            )


def _first_line(error: BaseException) -> str:
    """Return the first sentence of an error, without torch's advice in terminal colours."""
    line = (str(error).splitlines() or [type(error).__name__])[0]
    return line.partition(". ")[0]
