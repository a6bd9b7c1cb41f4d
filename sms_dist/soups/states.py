"""States: the parameters and buffers of a model by name, out of a model and into it.

Parameters are equal on the ranks that train a model together, buffers are not: each rank updates
its own by its share of a batch. A state has the mean of floating-point ones. Statistics of norms,
which are recomputed, and other ones, such as counts, are those of the first rank.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.utils.parametrizations import _SpectralNorm
from torch.nn.utils.spectral_norm import SpectralNorm

from sms_dist.base.weights_file import fitted
from sms_dist.mesh.collectives import broadcast_, sum_
from sms_dist.mesh.topology import Axis
from sms_dist.pruning.hold import masters_of_stage_0, whole
from sms_dist.pruning.wrappers import checked, is_deepspeed

State = dict[str, Tensor]  # parameters and buffers under the bare model's names

# Older files have none, and only batch norm without momentum looks at them.
OPTIONAL = ".num_batches_tracked"

NUMBERS = {
    *(torch.float16, torch.bfloat16, torch.float32, torch.float64),
    *(torch.complex64, torch.complex128),
}
INTEGERS = {torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64}


def weights(model: nn.Module) -> State:
    """Return copies of a model's parameters and persistent buffers, under the bare model's names.

    `model` is a module, its DDP or compiled wrapper, or a DeepSpeed engine, whose fp32 masters are
    returned. Tied tensors have their first name only. The ranks that a wrapper or an engine trains
    with call together, and get equal states. Raises ValueError where FSDP shards the model, or on
    the meta device.
    """
    inner = checked(model, "weights")
    state = bare_state(inner)
    names = [name for name, _ in inner.named_parameters()]
    if is_deepspeed(model):
        masters = masters_of_stage_0(model.optimizer)
        whole_ones = [whole(masters.get(p, p)).detach() for p in inner.parameters()]
        state |= dict(zip(names, whole_ones, strict=True))
        state = {n: t.float() if t.is_floating_point() else t for n, t in state.items()}
    state = {name: tensor.clone() for name, tensor in state.items()}
    if (axis := _axis(model)) is not None:
        means = {name for name, *_ in _with_mean(inner)}
        average_([tensor for name, tensor in state.items() if name in means], axis)
        means.update(names)
        take_first_([tensor for name, tensor in state.items() if name not in means], axis)
    # The type says what is no parameter where the model is not at hand.
    return {n: tensor if n in names else nn.Buffer(tensor) for n, tensor in state.items()}


def load_(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Copy a state into a model: a module, or its DDP or compiled wrapper.

    Names may have something in common before those of the model, as `module.`. Numbers are cast to
    the model's types. Raises ValueError where names or shapes differ, or tied tensors do, and for a
    DeepSpeed engine, which keeps masters of its own.
    """
    inner = checked(model, "load_")
    if is_deepspeed(model):
        raise ValueError(
            "load_ cannot change a DeepSpeed engine; load_ the bare model, and initialize a new one"
        )
    check_tensors(state, "load_: the state")
    wanted, ties = bare_state(inner), aliases(inner)
    names = fitted(state, [*wanted, *ties], "load_: the state").names
    given = {names[name]: tensor for name, tensor in state.items()}
    for alias, name in ties.items():
        if alias in given and not torch.equal(given.setdefault(name, given[alias]), given[alias]):
            raise ValueError(f"load_: {alias} differs from {name}, with which the model ties it")
        given.pop(alias, None)
    missing = [n for n in wanted if n not in given and not n.endswith(OPTIONAL)]
    extra = [n for n in given if n not in wanted]
    if missing or extra:
        raise ValueError(
            f"load_: the state lacks {some(missing)} of the model, and has {some(extra)} besides; "
            "give weights of the same model"
        )
    for name, tensor in given.items():
        if tensor.shape != wanted[name].shape or tensor.is_complex() > wanted[name].is_complex():
            raise ValueError(
                f"load_: {name} is {kind(tensor)} in the state, and {kind(wanted[name])} in the "
                "model; give weights of the same model"
            )
    inner.load_state_dict(given, strict=False)


def check_tensors(state: Mapping[str, Tensor], who: str) -> None:
    """Raise ValueError unless a state maps names to whole, dense tensors; `who` begins it."""
    if not isinstance(state, Mapping) or not all(
        isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in state.items()
    ):
        raise ValueError(f"{who} must be a mapping from names to tensors, as weights returns it")
    for name, tensor in state.items():
        is_whole = not hasattr(tensor, "full_tensor")  # unlike a DTensor
        if (
            tensor.dtype not in NUMBERS | INTEGERS
            or tensor.is_meta
            or not is_whole
            or (tensor.layout is not torch.strided)
        ):
            raise ValueError(
                f"{who}: {name} is {type(tensor).__name__}, {kind(tensor)}, on {tensor.device}; "
                "give whole, dense tensors of floating-point numbers or integers"
            )


def kind(tensor: Tensor) -> str:
    """Return the type and the shape of a tensor as an error line has them."""
    return f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"


def bare_state(model: nn.Module) -> dict[str, Tensor]:
    """Return parameters and buffers as in state_dict(), detached, without aliases of tied ones.

    `load_state_dict(state, strict=False)` restores all of them.
    """
    others = aliases(model)
    state = model.state_dict().items()  # of which extra states may be anything
    return {n: t.detach() for n, t in state if n not in others and isinstance(t, Tensor)}


def aliases(model: nn.Module) -> dict[str, str]:
    """Return each further name of tensors with several names, and their first name."""
    first: dict[int, str] = {}
    others = {}
    tensors = (model.named_parameters, model.named_buffers)
    for name, tensor in (pair for named in tensors for pair in named(remove_duplicate=False)):
        if first.setdefault(id(tensor), name) != name:
            others[name] = first[id(tensor)]
    return others


def some(names: Sequence[str]) -> str:
    """Return the first names, and how many there are besides."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if names[3:] else "") or "nothing"


class SharedBuffers:
    """Floating-point buffers that are the same on all ranks of a group after each step.

    They are the mean of what the ranks made of them. Statistics of norm layers are not among them:
    no step depends on them. Vectors of spectral norms are equal anyway.
    """

    def __init__(self, model: nn.Module, axis: Axis) -> None:
        self._axis, self._places = axis, list(_with_mean(model)) if axis.size > 1 else []

    def average_(self) -> None:
        """Every rank of the axis must call, after the step."""
        average_([module.get_buffer(name) for _, module, name in self._places], self._axis)


def unite_(tensors: Sequence[Tensor], axis: Axis) -> None:
    """Make buffers equal on all ranks of the axis: the mean, or if they have none the first's.

    Every rank of the axis must call.
    """
    average_([tensor for tensor in tensors if is_averaged(tensor)], axis)
    take_first_([tensor for tensor in tensors if not is_averaged(tensor)], axis)


@torch.no_grad()
def average_(tensors: Sequence[Tensor], axis: Axis) -> None:
    """Give all ranks of the axis the mean of their buffers, in place. Every one must call."""
    if not tensors or axis.size == 1:
        return
    # in float64, where the mean of equal values is that value
    parts = [real(tensor).double().flatten() for tensor in tensors]
    flat = sum_(torch.cat(parts), axis) / axis.size
    pieces = torch.split(flat, [part.numel() for part in parts])
    for tensor, piece in zip(tensors, pieces, strict=True):
        real(tensor).copy_(piece.view_as(real(tensor)))


@torch.no_grad()
def take_first_(tensors: Sequence[Tensor], axis: Axis) -> None:
    """Give all ranks of the axis the tensors of the first, in place. Every one must call."""
    if not tensors or axis.size == 1:
        return
    parts = [as_bytes(tensor) for tensor in tensors]
    flat = broadcast_(torch.cat(parts), axis)
    pieces = torch.split(flat, [part.numel() for part in parts])
    for tensor, piece in zip(tensors, pieces, strict=True):
        tensor.copy_(piece.clone().view(tensor.dtype).view(tensor.shape))


def real(tensor: Tensor) -> Tensor:
    """Return a complex tensor as pairs of real numbers, any other as it is."""
    return torch.view_as_real(tensor) if tensor.is_complex() else tensor


def as_bytes(tensor: Tensor) -> Tensor:
    return tensor.reshape(-1).contiguous().view(torch.uint8)


def is_averaged(tensor: Tensor) -> bool:
    """Return True for numbers that have a mean: not for counts and flags."""
    return tensor.is_floating_point() or tensor.is_complex()


def _with_mean(model: nn.Module) -> Iterator[tuple[str, nn.Module, str]]:
    """Yield full name, owner and name of the buffers that ranks average."""
    for prefix, module in model.named_modules():
        for name, buffer in module.named_buffers(recurse=False):
            if is_averaged(buffer) and not _follows_weights(module, name):
                yield f"{prefix}.{name}" if prefix else name, module, name


def _follows_weights(module: nn.Module, name: str) -> bool:
    hooks = module._forward_pre_hooks.values()
    vectors = [h.name + end for h in hooks if isinstance(h, SpectralNorm) for end in ("_u", "_v")]
    return isinstance(module, (_NormBase, _SpectralNorm)) or name in vectors


def _axis(model: nn.Module) -> Axis | None:
    """Return the ranks that a wrapper or an engine trains with."""
    group: Any = None
    while isinstance(inner := getattr(model, "_orig_mod", None), nn.Module):
        model = inner
    if isinstance(model, nn.parallel.DistributedDataParallel):
        group = model.process_group
    elif is_deepspeed(model):
        group = model.data_parallel_group
    return Axis(group, dist.get_rank(group), dist.get_world_size(group)) if group else None
