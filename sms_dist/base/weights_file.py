"""Weights from files of any usual kind, without their model: tensors, and masks that lie with them.

A safetensors file, a state dict with or without what training programs save beside it, several
files with an index, a folder of a run, or one as Hugging Face writes it. Nothing in a file is
executed.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sms_dist.base import plain, safetensors_file
from sms_dist.base.plain import is_file

State = dict[str, Tensor]

MASK = "mask.safetensors"  # beside weights: which of them are pruned
INDEX = ".index.json"  # says in which file each tensor is
MAX_INDEX = 1 << 24  # bytes
# What is looked for in a folder, in this order: of a run, of a phase, of Hugging Face.
FILES = (
    *("weights.safetensors", "dense/weights.safetensors", "soup/weights.safetensors"),
    *("model.safetensors", f"model.safetensors{INDEX}"),
    *("pytorch_model.bin", f"pytorch_model.bin{INDEX}"),
)
# Keys of what training programs save, the weights of the model itself before averages of them.
WRAPPERS = (
    *("state_dict", "model_state_dict", "model_state", "model", "net", "network", "module"),
    *("weights", "params", "checkpoint"),
)
OPTIMIZER = "optim"  # keys that begin like this hold tensors by the names of weights, too
MOST_NESTED = 4
# Parts of names that torch adds where it wraps a module, at any depth.
DDP = "module"
WRAPPING = {DDP, "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}
AVERAGED = "n_averaged"  # the number that torch's AveragedModel has beside the model
# What torch.load raises for files that are damaged, or something else.
_UNREADABLE = (
    *(UnpicklingError, RuntimeError, EOFError, OSError, ValueError, LookupError, MemoryError),
    *(TypeError, AttributeError, AssertionError, OverflowError, struct.error),
)


class WeightsFile(NamedTuple):
    """The content of a file of weights, by the names that it has there."""

    path: Path
    tensors: State
    masks: State  # of torch.nn.utils.prune, by the name of the weight: bool, True where it is kept


def load(path: str | Path) -> State:
    """Return the tensors of a file or folder of weights, on the CPU, in the types they have there.

    `path`: a safetensors file, a saved state dict, an index of several files, a folder of a run
    (its dense weights), of a phase (its soup), or one as Hugging Face writes it. Names are without
    what DDP and torch.compile put before them, weights that `torch.nn.utils.prune` masks are
    masked. ValueError where there are no weights.
    """
    tensors = {
        ".".join(part for part in name.split(".") if part not in WRAPPING - {DDP}): tensor
        for name, tensor in read(path, str(path)).tensors.items()
    }
    while tensors and all(name.startswith(f"{DDP}.") for name in tensors):
        tensors = {name.partition(".")[2]: tensor for name, tensor in tensors.items()}
    return tensors


def read(source: str | Path, place: str, is_parted: bool = False) -> WeightsFile:
    """Return what a file or folder of weights holds, on the CPU; `place` begins ValueErrors.

    `is_parted` leaves weights and their masks of torch.nn.utils.prune apart.
    """
    path = find(source, place)
    tensors, masks = _tensors(path, place), dict[str, Tensor]()
    if not is_parted:
        tensors, masks = _unmasked(tensors, place)
    tensors.pop(AVERAGED, None)
    return WeightsFile(path, tensors, masks)


def find(source: str | Path, place: str) -> Path:
    """Return the file of weights that a path names; ValueError where there is none."""
    path = plain.path(str(source))
    if (file := _first(path)) is not None:
        return file
    problem = "is no file or folder of weights"
    if path.is_dir():
        problem = f"is a folder without weights ({', '.join(FILES[:4])}, ...)"
    raise ValueError(
        f"{place} {problem}; give a .safetensors file, a saved state dict, a run folder, or a "
        "folder as Hugging Face writes it"
    )


def is_there(source: str | Path) -> bool:
    """Return whether a path names weights, which a run may still have to make."""
    return _first(plain.path(str(source))) is not None


def _first(path: Path) -> Path | None:
    return next((p for p in (path, *(path / name for name in FILES)) if is_file(p)), None)


def _tensors(path: Path, place: str) -> State:
    if path.name.endswith(INDEX):
        return _indexed(path, place)
    if path.suffix == ".safetensors":
        try:
            return safetensors_file.read(path, place)[0]
        except OSError as error:
            raise ValueError(f"{place} cannot be read: {error.strerror or error}") from None
    try:
        # weights_only builds tensors and plain containers, and calls nothing that the file names
        content = torch.load(path, map_location="cpu", weights_only=True)
        tensors = {
            name: (tensor if tensor.layout is torch.strided else tensor.to_dense()).detach()
            for name, tensor in _state_dict(content).items()
        }
    except _UNREADABLE as error:
        raise ValueError(
            f"{place} is no state dict of tensors ({_first_line(error)}); save model.state_dict(), "
            "not the model, or a .safetensors file"
        ) from None
    if not tensors:
        raise ValueError(
            f"{place} holds a {type(content).__name__}, not a state dict of tensors; save "
            f"model.state_dict() by itself or under {WRAPPERS[0]}"
        )
    if quantised := [name for name, tensor in tensors.items() if tensor.is_quantized]:
        raise ValueError(
            f"{place}: {quantised[0]} is quantised; save the weights before they are quantised"
        )
    return tensors


def _indexed(path: Path, place: str) -> State:
    """Return the tensors of all files that an index names."""
    index = plain.read_object(path, MAX_INDEX).get("weight_map")
    if (
        not isinstance(index, dict)
        or not index
        or not all(isinstance(file, str) and Path(file).name == file for file in index.values())
    ):
        raise ValueError(
            f"{place}: {path.name} has no weight_map from names of tensors to files beside it; "
            "copy it again"
        )
    files = sorted({*index.values()})
    if missing := [file for file in files if not is_file(path.parent / file)]:
        raise ValueError(
            f"{place}: {path.name} names {len(files)} files, and {missing[0]}"
            f"{f' and {len(missing) - 1} more are' if missing[1:] else ' is'} missing; copy what "
            "is missing into the folder"
        )
    tensors: State = {}
    for file in files:
        of_file = _tensors(path.parent / file, f"{place}: {file}")
        if absent := [name for name in index if index[name] == file and name not in of_file]:
            raise ValueError(
                f"{place}: {file} has no {absent[0]}, which {path.name} places there; copy both "
                "again"
            )
        tensors |= {name: t for name, t in of_file.items() if index.get(name, file) == file}
    return tensors


def _state_dict(content: Any, depth: int = 0) -> State:
    """Return the named tensors in a state dict, or in the one that is wrapped in others.

    Numbers and texts beside tensors are left out: they are no weights. Where several state dicts
    lie beside each other, their keys begin the names.
    """
    if not isinstance(content, Mapping) or depth > MOST_NESTED:
        return {}
    tensors: State = {}
    inner: dict[str, State] = {}
    for name, each in content.items():
        if isinstance(name, str) and isinstance(each, Tensor):
            tensors[name] = each
        elif isinstance(name, str) and not name.startswith(OPTIMIZER):
            inner[name] = _state_dict(each, depth + 1)
    inner = {name: state for name, state in inner.items() if state}
    for key in WRAPPERS:
        if key in inner:
            return inner[key]
    if len(inner) == 1 and not tensors:
        return next(iter(inner.values()))
    return tensors | {f"{key}.{n}": t for key, state in inner.items() for n, t in state.items()}


def _unmasked(tensors: State, place: str) -> tuple[State, State]:
    """Return tensors with the weights that torch.nn.utils.prune has parted, and their masks."""
    masks: State = {}
    for original in [name for name in tensors if name.endswith("_orig")]:
        name = original.removesuffix("_orig")
        mask = tensors.get(f"{name}_mask")
        if mask is None:
            continue
        if mask.shape != tensors[original].shape:
            raise ValueError(f"{place}: {name}_mask has another shape than {original}")
        masks[name] = as_mask(mask, f"{place}: {name}_mask")
        tensors = {
            (name if key == original else key): (
                tensor.masked_fill(~masks[name], 0) if key == original else tensor
            )
            for key, tensor in tensors.items()
            if key != f"{name}_mask"
        }
    return tensors, masks


def as_mask(tensor: Tensor, place: str) -> Tensor:
    """Return a tensor of zeros and ones as bools; ValueError for other values."""
    kept = tensor != 0
    if not torch.equal(kept.to(tensor.dtype), tensor):
        raise ValueError(f"{place} is no mask: it has values besides 0 and 1")
    return kept


class Fit(NamedTuple):
    """The names of a file seen from a model."""

    names: dict[str, str]  # of the file -> of the model, where it has the tensor, else its own
    short: dict[str, str]  # of the file -> without the prefix that those of the model have there


def fitted(stored: Collection[str], wanted: Collection[str], place: str) -> Fit:
    """Return the names of a file by the model's, whatever was put before them when it was saved.

    The prefix is the one under which most of the wanted names are found, and none where that is as
    good. What torch's wrappers add is no part of a name. ValueError where two prefixes are equally
    good; `place` begins it.
    """
    bare = {name: _bare(name) for name in stored}
    targets = {_bare(name): name for name in wanted}
    if len(targets) < len(wanted):  # the model has modules of such names
        bare, targets = {name: name for name in stored}, {name: name for name in wanted}
    prefixes = Counter(
        name.removesuffix(end) for name in bare.values() for end in _ends(name) if end in targets
    )
    most = max(prefixes.values(), default=0)
    best = sorted((prefix for prefix, num in prefixes.items() if num == most), key=len)
    if len(best) > 1 and best[0]:
        raise ValueError(
            f"{place} has the model's tensors under {' and under '.join(best[:3])}; name all but "
            "one of these, without the dot, in model.weights_except"
        )
    prefix = best[0] if best else ""
    names, short = {}, {}
    for name, each in bare.items():
        short[name] = each.removeprefix(prefix)
        is_wanted = each.startswith(prefix) and short[name] in targets
        names[name] = targets[short[name]] if is_wanted else name
    if twice := [name for name, num in Counter(names.values()).items() if num > 1]:
        same = [name for name in names if names[name] == twice[0]]
        raise ValueError(f"{place} has {twice[0]} as {' and as '.join(same)}; keep one of them")
    return Fit(names, short)


def _bare(name: str) -> str:
    """Return a name without the parts that torch's wrappers add to it."""
    *modules, leaf = name.split(".")
    return ".".join([*(each for each in modules if each not in WRAPPING), leaf])


def _ends(name: str) -> Iterator[str]:
    """Yield what a name may be without a prefix, the longest first."""
    yield name
    while "." in name:
        name = name.partition(".")[2]
        yield name


def _first_line(error: BaseException) -> str:
    """Return the first sentence of an error, without torch's advice in terminal colours."""
    line = (str(error).splitlines() or [type(error).__name__])[0]
    return line.partition(". ")[0]
