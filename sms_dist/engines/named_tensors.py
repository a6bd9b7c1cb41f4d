"""Named tensors: joined under prefixes, taken apart, and checked before they overwrite others."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

Tensors = Mapping[str, Tensor]


def joined(parts: Mapping[str, Tensors]) -> dict[str, Tensor]:
    """{"a": {"b": tensor}} -> {"a.b": tensor}."""
    return {
        f"{prefix}.{name}": tensor
        for prefix, tensors in parts.items()
        for name, tensor in tensors.items()
    }


def part(tensors: Tensors, prefix: str) -> dict[str, Tensor]:
    """Those below the prefix, without it."""
    start = f"{prefix}."
    return {name[len(start) :]: t for name, t in tensors.items() if name.startswith(start)}


def number(value: int | float) -> Tensor:
    """A tensor without dimensions that gives back the same number and type by `item()`."""
    return torch.tensor(value, dtype=torch.float64 if isinstance(value, float) else torch.int64)


def check_fit(given: Tensors, expected: Tensors) -> None:
    """ValueError unless names, shapes and types are the same."""
    for name in expected.keys() - given.keys():
        raise ValueError(f"{name} is missing from the saved state")
    for name in given.keys() - expected.keys():
        raise ValueError(f"{name} of the saved state is nothing that this training has")
    for name, wanted in expected.items():
        one, other = _described(given[name]), _described(wanted)
        if one != other:
            raise ValueError(f"{name} is {one} in the saved state, but {other} in this training")


def copy_(onto: Tensors, given: Tensors) -> None:
    """Each tensor as it was given, in place."""
    with torch.no_grad():
        for name, tensor in onto.items():
            tensor.copy_(given[name])


def _described(tensor: Tensor) -> str:
    """As in float32[3, 4]."""
    return f"{str(tensor.dtype).removeprefix('torch.')}{list(tensor.shape)}"
