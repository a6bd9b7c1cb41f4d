"""Gradient checkpointing: blocks are computed again in the backward pass instead of remembered."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint


def checkpoint_blocks_(model: nn.Module, name: str) -> None:
    """Let a model compute its blocks again in the backward pass; ValueError if it has none.

    Transformers and timm's models say how; else blocks are the composed modules in lists and
    sequences. Buffers, such as statistics of norm
    layers, are updated once a batch. `name` is the model's, for the error.
    """
    for module in model.modules():
        if module._buffers:
            module.register_forward_pre_hook(_lend_copies)
            module.register_forward_hook(_take_back, always_call=True)
    for module in model.modules():
        if getattr(module, "supports_gradient_checkpointing", False):
            module.gradient_checkpointing_enable({"use_reentrant": False})  # type: ignore[operator]
            return
    if callable(switch := getattr(model, "set_grad_checkpointing", None)):
        try:
            switch(True)
        except AssertionError:  # as timm says that it cannot
            raise _no_blocks(name) from None
        return
    blocks = list(_blocks(model))
    if not blocks:
        raise _no_blocks(name)
    for block in blocks:
        block.forward = partial(_checkpointed, block, block.forward)


def _blocks(model: nn.Module) -> Iterator[nn.Module]:
    """Yield the outermost modules with modules of their own that lie in a list or a sequence."""
    for child in model.children():
        if isinstance(model, (nn.Sequential, nn.ModuleList)) and any(
            True for _ in child.children()
        ):
            yield child
        else:
            yield from _blocks(child)


def _checkpointed(block: nn.Module, forward: Any, *inputs: Any, **options: Any) -> Any:
    if not (block.training and torch.is_grad_enabled()):
        return forward(*inputs, **options)
    return checkpoint(forward, *inputs, use_reentrant=False, **options)


def _lend_copies(module: nn.Module, inputs: Any) -> None:
    """Give a module copies of its buffers while its block is computed again."""
    if module.training and torch._C._current_graph_task_id() != -1:  # inside of a backward pass
        own = dict(module._buffers)
        module._own_buffers = own  # type: ignore[assignment]
        module._buffers.update({n: None if t is None else t.clone() for n, t in own.items()})


def _take_back(module: nn.Module, inputs: Any, output: Any) -> None:
    if (own := module.__dict__.pop("_own_buffers", None)) is not None:
        module._buffers.update(own)


def _no_blocks(name: str) -> ValueError:
    return ValueError(
        f"engine.gradient_checkpointing: model.name={name} has no blocks that could be computed "
        "again; set it to false"
    )
