"""A mask says for each prunable tensor which of its weights survive."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from sms_dist.pruning.feasible import without

Mask = dict[str, Tensor]  # parameter name -> bool tensor, in the order of the model's parameters
Tensors = Mapping[str, Tensor]

_PRUNABLE = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)


def prunable_names(
    model: nn.Module, keep_dense: Sequence[str] = (), embeddings: bool = False
) -> list[str]:
    """Return the names of the weights of convolutions, linear layers and, if asked for, embeddings.

    Biases and normalisation are never pruned. A linear layer that shares its weight with an
    embedding counts as one. Those in `keep_dense` are left out; each must be one (ValueError).
    """
    own = {name for name, _ in model.named_parameters()}  # tied ones under their first name
    kinds = (*_PRUNABLE, nn.Embedding) if embeddings else _PRUNABLE
    names = [
        f"{name}.weight" if name else "weight"
        for name, module in model.named_modules()
        if isinstance(module, kinds)
    ]
    return without([name for name in names if name in own], keep_dense)


def prunable_shapes(model: nn.Module, embeddings: bool = False) -> dict[str, tuple[int, ...]]:
    """Return the shapes of all weights that could be pruned, also of a model on the meta device."""
    names = prunable_names(model, embeddings=embeddings)
    return {name: tuple(model.get_parameter(name).shape) for name in names}


def full_mask(tensors: Tensors, names: Iterable[str]) -> Mask:
    """Return the mask that keeps everything."""
    return {name: torch.ones_like(tensors[name], dtype=torch.bool) for name in names}


def apply_(tensors: Tensors, mask: Mask) -> None:
    """Set the pruned weights to +0.0."""
    with torch.no_grad():
        for name, kept in mask.items():
            tensors[name].masked_fill_(~kept, 0.0)


def num_weights(mask: Mask) -> int:
    """Return the number of weights that the mask decides on."""
    return sum(kept.numel() for kept in mask.values())


def count(kept: Tensor) -> int:
    """Return how many of a bool tensor are true."""
    if kept.device.type == "cpu":  # numpy counts bytes at once: 1 ms for 25 million, torch 7
        return int(np.count_nonzero(kept.numpy()))
    return int(torch.count_nonzero(kept))


def num_surviving(mask: Mask) -> int:
    """Return the number of weights that the mask keeps."""
    return sum(count(kept) for kept in mask.values())


def sparsity(mask: Mask) -> float:
    """Return the fraction of the prunable weights that the mask removes."""
    return 1 - num_surviving(mask) / num_weights(mask)


def digest(mask: Mask) -> str:
    """Return a SHA-256 of names, shapes and bits."""
    hasher = hashlib.sha256()
    for name, kept in mask.items():
        hasher.update(f"{name}{tuple(kept.shape)}".encode())
        hasher.update(kept.cpu().reshape(-1).numpy().data)
    return hasher.hexdigest()
