"""A mask says for each prunable tensor which of its weights survive."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from sms_dist.base import plain, safetensors_file
from sms_dist.base.files import replacing
from sms_dist.pruning.layers import Weight, weights
from sms_dist.pruning.wrappers import checked, is_deepspeed

Tensors = Mapping[str, Tensor]


class Mask(Mapping[str, Tensor]):
    """The weights that stay: name of a parameter -> bool tensor, True where the weight is kept.

    It is frozen: a tighter mask is another one. Masks are equal if names, shapes and bits are.
    The tensors are not copied.
    """

    def __init__(self, kept: Tensors) -> None:
        """Take bool tensors by the names of the model's parameters; ValueError for all else."""
        if not isinstance(kept, Mapping) or not all(isinstance(name, str) for name in kept):
            raise ValueError(
                "a mask maps the names of parameters to bool tensors, as prune returns it; "
                f"{plain.shown(kept)} does not (Mask.load reads files)"
            )
        for name, tensor in kept.items():
            kind = getattr(tensor, "dtype", None) if isinstance(tensor, Tensor) else type(tensor)
            if kind is not torch.bool:
                raise ValueError(f"{name} of a mask is of {kind}; it must be torch.bool")
            if tensor.is_meta or tensor.layout is not torch.strided:
                where = "on the meta device" if tensor.is_meta else f"of {tensor.layout}"
                raise ValueError(f"{name} of a mask is {where}; give a dense tensor with values")
        self._kept = dict(kept)

    def __getitem__(self, name: str) -> Tensor:
        return self._kept[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._kept)

    def __len__(self) -> int:
        return len(self._kept)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Mask) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    def __repr__(self) -> str:
        return f"Mask({len(self)} tensors, {self.num_kept:,} of {self.num_weights:,} weights)"

    @property
    def num_weights(self) -> int:
        """Return the number of weights that the mask decides on."""
        return sum(kept.numel() for kept in self.values())

    @property
    def num_kept(self) -> int:
        """Return the number of weights that the mask keeps."""
        return sum(count(kept) for kept in self.values())

    @property
    def sparsity(self) -> float:
        """Return the fraction of the prunable weights that the mask removes; 0 if it is empty."""
        return 1 - self.num_kept / self.num_weights if self.num_weights else 0.0

    @property
    def digest(self) -> str:
        """Return a SHA-256 of names, shapes and bits, in the order of names as files have it."""
        hasher = hashlib.sha256()
        for name, kept in sorted(self.items()):
            hasher.update(f"{name}{tuple(kept.shape)}".encode())
            hasher.update(kept.cpu().reshape(-1).numpy().data)
        return hasher.hexdigest()

    def apply_(self, model: nn.Module) -> None:
        """Set the pruned weights of a model to +0.0.

        ValueError where names or shapes differ, and for a DeepSpeed engine.
        """
        parameters = dict(checked(model, "Mask.apply_").named_parameters(remove_duplicate=False))
        if is_deepspeed(model) or any(hasattr(p, "ds_id") for p in parameters.values()):
            raise ValueError("Mask.apply_ cannot reach DeepSpeed's masters; hold the mask instead")
        self.check_fits(parameters)
        apply_(parameters, self)

    def check_fits(self, tensors: Tensors) -> None:
        """Raise ValueError unless the tensors have the mask's names and shapes."""
        for name, kept in self.items():
            if name not in tensors:
                example = next(iter(tensors), "none")
                raise ValueError(
                    f"{name} of the mask is no parameter of the model; names are those of the bare "
                    f"model, such as {example}"
                )
            # ZeRO-3 leaves an empty tensor where it shards one.
            shape = tuple(getattr(tensors[name], "ds_shape", tensors[name].shape))
            if shape != tuple(kept.shape):
                raise ValueError(
                    f"{name} of the mask is {tuple(kept.shape)}, and {shape} in the model; use the "
                    "mask of this model"
                )

    def save(self, path: str | Path) -> None:
        """Write a safetensors file of bool tensors, which appears whole.

        ValueError if it cannot be written, and for a path that is no str or Path.
        """
        target = _path(path)
        try:
            with replacing(target) as new:
                safetensors_file.write(new, self)
        except OSError as error:
            raise ValueError(
                f"{target} cannot be written: {error.strerror or error}; name a file in a folder "
                "that exists"
            ) from None

    @classmethod
    def load(cls, path: str | Path) -> Mask:
        """Return the mask in a file that `save` or a run wrote, on the CPU, in the order of names.

        ValueError where it is no such file.
        """
        try:
            tensors, _ = safetensors_file.read(_path(path))
        except OSError as error:
            raise ValueError(f"{path} cannot be read: {error.strerror or error}") from None
        try:
            return cls(tensors)
        except ValueError as error:
            raise ValueError(f"{path} holds no mask: {error}") from None

    @classmethod
    def from_zeros(cls, model: nn.Module, dense: Sequence[str] = ()) -> Mask:
        """Return the mask that keeps every prunable weight of a model that is not exactly zero.

        `dense` as for `prune`. ValueError if nothing is prunable.
        """
        inner = checked(model, "Mask.from_zeros")
        pruned = prunable(inner, dense)
        return cls({each.name: each.effective(inner).detach() != 0 for each in pruned})

    @classmethod
    def from_torch(cls, model: nn.Module, dense: Sequence[str] = ()) -> Mask:
        """Return the mask of a model whose layers `torch.nn.utils.prune` has pruned.

        Prunable weights without a mask of theirs are kept. `dense` as for `prune`. ValueError if
        none has one.
        """
        inner = checked(model, "Mask.from_torch")
        names = [each.name for each in prunable(inner, dense)]
        buffers = dict(inner.named_buffers())
        if not any(pruned_already(name) in buffers for name in names):
            raise ValueError(
                "no prunable weight has a mask of torch.nn.utils.prune; Mask.from_zeros reads "
                "what is exactly zero"
            )
        return full_mask({**dict(inner.named_parameters()), **buffers}, names)


def prunable(inner: nn.Module, dense: Sequence[str]) -> list[Weight]:
    """Return the weights that are pruned, but for `dense`; ValueError if there are none."""
    with arguments_named():
        pruned = [each for each in weights(inner, dense) if each.is_pruned]
    if not pruned:
        raise ValueError(f"{type(inner).__name__} has no weight matrix that could be pruned")
    return pruned


@contextmanager
def arguments_named() -> Iterator[None]:
    """Call the keys of a configuration by the names of arguments in errors."""
    try:
        yield
    except ValueError as error:
        words = str(error).replace("pruning.keep_dense", "dense").replace("pruning.goal_", "")
        raise ValueError(words.replace("pruning.", "")) from None


def _path(path: str | Path) -> Path:
    if not isinstance(path, str | os.PathLike) or not Path(path).name:
        raise ValueError(f"path={plain.shown(path)} must name a file; give a str or Path")
    return plain.path(str(path))


def prunable_names(
    model: nn.Module, keep_dense: Sequence[str] = (), embeddings: bool = False
) -> list[str]:
    """Return the names of the parameters that are pruned, in the order of layers; see `weights`."""
    return [w.name for w in weights(model, keep_dense, embeddings=embeddings) if w.is_pruned]


def pruned_already(name: str) -> str:
    """Return what `torch.nn.utils.prune` calls the mask of a parameter that it has renamed."""
    return f"{name.removesuffix('_orig')}_mask" if name.endswith("_orig") else ""


def full_mask(tensors: Tensors, names: Iterable[str]) -> Mask:
    """Return the mask that keeps everything, but for what `torch.nn.utils.prune` has pruned.

    `tensors` are a module's, with the buffers if such masks are to count.
    """
    return Mask(
        {
            name: tensors[pruned_already(name)] != 0
            if pruned_already(name) in tensors
            else torch.ones_like(tensors[name], dtype=torch.bool)
            for name in names
        }
    )


def apply_(tensors: Tensors, mask: Tensors) -> None:
    """Set the pruned weights to +0.0."""
    with torch.no_grad():
        for name, kept in mask.items():
            tensors[name].masked_fill_(~kept, 0.0)


def count(kept: Tensor) -> int:
    """Return how many of a bool tensor are true."""
    if kept.device.type == "cpu":  # numpy counts bytes at once: 1 ms for 25 million, torch 7
        return int(np.count_nonzero(kept.numpy()))
    return int(torch.count_nonzero(kept))
