"""Models as training loops have them: bare, or inside of the wrappers of torch and DeepSpeed."""

from __future__ import annotations

from itertools import chain

from torch import nn
from torch.nn.parameter import is_lazy

_WRAPPERS = (nn.parallel.DistributedDataParallel, nn.DataParallel)
_SHARDING = ("FullyShardedDataParallel", "FSDPModule")


def bare(model: nn.Module) -> nn.Module:
    """Return the module inside of DDP, DataParallel, torch.compile and a DeepSpeed engine."""
    while True:
        if isinstance(inside := getattr(model, "_orig_mod", None), nn.Module):
            model = inside
        elif isinstance(model, _WRAPPERS) or is_deepspeed(model):
            model = model.module  # type: ignore[assignment]
        else:
            return model


def checked(model: nn.Module, function: str) -> nn.Module:
    """Return the bare module; ValueError for what is none, or whose values this process lacks.

    `function` begins the error.
    """
    if not isinstance(model, nn.Module):
        what = f"the class {model.__name__}" if isinstance(model, type) else type(model).__name__
        raise ValueError(f"{function} takes a torch.nn.Module as model, not {what}")
    inner = bare(model)
    for module in (model, *inner.modules()):
        if any(base.__name__ in _SHARDING for base in type(module).__mro__):
            raise ValueError(f"{function} takes no model that FSDP shards; use DDP or DeepSpeed")
    for name, tensor in chain(inner.named_parameters(), inner.named_buffers()):
        if hasattr(tensor, "device_mesh"):
            raise ValueError(f"{function}: {name} is a DTensor; use DDP or DeepSpeed")
        if is_lazy(tensor):
            raise ValueError(f"{function}: {name} has no shape yet; call the model once before")
        if tensor.is_meta:
            raise ValueError(f"{function}: {name} is on the meta device; give it memory first")
    return inner


def is_deepspeed(model: nn.Module) -> bool:
    """Return whether a model is an engine of DeepSpeed."""
    return hasattr(model, "zero_optimization_stage")
