"""Theoretical speedup: multiply-accumulates of the dense model over those that pruning leaves."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import torch
from torch import Tensor, nn
from torch.func import functional_call

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_SAMPLES = 2  # batch norm refuses to train on one


def macs(model: nn.Module, input_shape: tuple[int, ...]) -> dict[str, int]:
    """Multiply-accumulates for one input, by the name of the weight of each conv and linear layer.

    `input_shape` is without the batch. Nothing is computed: the model runs on the meta device.
    Padding counts as input, as is usual.
    """
    counts: dict[str, int] = {}
    layers = [
        (n, m) for n, m in model.named_modules() if isinstance(m, (*_CONVOLUTIONS, nn.Linear))
    ]
    hooks = [
        layer.register_forward_hook(partial(_count, counts, f"{name}.weight" if name else "weight"))
        for name, layer in layers
    ]
    try:
        tensors = dict(model.named_parameters()) | dict(model.named_buffers())
        on_meta = {name: tensor.to("meta") for name, tensor in tensors.items()}
        inputs = torch.empty(_SAMPLES, *input_shape, device="meta")
        functional_call(model, on_meta, (inputs,))
    finally:
        for hook in hooks:
            hook.remove()
    return counts


def theoretical_speedup(macs: Mapping[str, int], mask: Mapping[str, Tensor]) -> float:
    """F_d / F_s, where a layer's part of F_s shrinks with its weights; others count as dense."""
    sparse = sum(
        count * float(mask[name].float().mean(dtype=torch.float64)) if name in mask else count
        for name, count in macs.items()
    )
    return sum(macs.values()) / sparse


def _count(
    counts: dict[str, int], name: str, layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor
) -> None:
    """Every output position uses every weight of its filter once."""
    weight = layer.weight
    assert isinstance(weight, Tensor)
    positions = output.numel() // _SAMPLES // weight.shape[0]
    counts[name] = counts.get(name, 0) + positions * weight.numel()
