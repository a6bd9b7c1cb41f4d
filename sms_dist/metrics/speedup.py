"""Theoretical speedup: multiply-accumulates of the dense model over those that pruning leaves."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import torch
from torch import Tensor, nn
from torch.func import functional_call

_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_LAYERS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear, *_TRANSPOSED)


def macs(model: nn.Module, inputs: tuple[Tensor, ...]) -> dict[str, int]:
    """Multiply-accumulates for one sample, by the name of the weight of each conv and linear layer.

    `inputs`, of any batch size, are what `model(*inputs)` takes. The model runs where they lie: on
    the meta device nothing is computed. It runs as in evaluation, so a head that only serves
    training does not count. Padding counts as input, as is usual. Not seen are products without
    parameters (attention scores) and weights used apart from their layer (nn.MultiheadAttention).
    """
    counts: dict[str, int] = {}
    num_samples = len(inputs[0])
    modes = {module: module.training for module in model.modules()}
    hooks = [
        layer.register_forward_hook(
            partial(_count, counts, num_samples, f"{name}.weight" if name else "weight")
        )
        for name, layer in model.named_modules()
        if isinstance(layer, _LAYERS)
    ]
    try:
        model.eval()
        functional_call(model, _tensors(model, inputs[0].device), inputs)
    finally:
        for module, mode in modes.items():
            module.training = mode
        for hook in hooks:
            hook.remove()
    return counts


def on_meta(shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> tuple[Tensor]:
    """One sample of a shape (C, H, W for images) as the inputs of `macs`."""
    return (torch.empty(1, *shape, dtype=dtype, device="meta"),)


def theoretical_speedup(macs: Mapping[str, int], mask: Mapping[str, Tensor]) -> float:
    """F_d / F_s, where a layer's part of F_s shrinks with its weights; others count as dense."""
    sparse = sum(
        count * float(mask[name].float().mean(dtype=torch.float64)) if name in mask else count
        for name, count in macs.items()
    )
    return sum(macs.values()) / sparse


def _tensors(model: nn.Module, device: torch.device) -> dict[str, Tensor]:
    """Parameters and buffers on the device; zeros for those without memory."""

    def moved(tensor: Tensor) -> Tensor:
        if tensor.is_meta and device.type != "meta":
            return torch.zeros_like(tensor, device=device)
        return tensor.to(device)

    tensors = dict(model.named_parameters()) | dict(model.named_buffers())
    return {name: moved(tensor) for name, tensor in tensors.items()}


def _count(
    counts: dict[str, int],
    num_samples: int,
    name: str,
    layer: nn.Module,
    inputs: tuple[Tensor, ...],
    output: Tensor,
) -> None:
    """Every output position uses every weight of its filter once; when transposed, every input."""
    weight = layer.weight
    assert isinstance(weight, Tensor)
    values = inputs[0] if isinstance(layer, _TRANSPOSED) else output
    positions = values.numel() // num_samples // weight.shape[0]
    counts[name] = counts.get(name, 0) + positions * weight.numel()
