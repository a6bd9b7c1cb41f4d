"""Theoretical speedup: multiply-accumulates of the dense model over those that pruning leaves."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

OTHER = "other"  # what no layer below counts; no weight is called so
_LAYERS = (
    *(nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear),
    *(nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d),
)


def macs(model: nn.Module, inputs: tuple[Tensor, ...]) -> dict[str, int]:
    """Return multiply-accumulates for one sample by the name of each conv's or linear's weight.

    All other products are summed under `OTHER`: attention scores, and weights that are used apart
    from their layer (nn.MultiheadAttention).

    `inputs`, of any batch size, are what `model(*inputs)` takes. The model runs on the meta device,
    where nothing is computed, and as in evaluation: a head that only serves training does not
    count. Padding counts as input, as is usual.
    """
    counter, flops = FlopCounterMode(display=False), dict[str, int]()

    def add(name: str, sign: int, *call: object) -> None:
        flops[name] = flops.get(name, 0) + sign * counter.get_total_flops()

    modes = {module: module.training for module in model.modules()}
    tensors = dict(model.named_parameters()) | dict(model.named_buffers())
    # Module paths of the counter are not enough: it renames what a hidden wrapper (T5) calls.
    hooks = []
    for path, layer in model.named_modules():
        if isinstance(layer, _LAYERS):
            name = f"{path}.weight" if path else "weight"
            hooks.append(layer.register_forward_pre_hook(partial(add, name, -1)))
            hooks.append(layer.register_forward_hook(partial(add, name, 1)))
    try:
        model.eval()
        # MATH: what a fused kernel pads depends on the machine
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), counter:
            moved = {name: tensor.to("meta") for name, tensor in tensors.items()}
            functional_call(model, moved, tuple(values.to("meta") for values in inputs))
    finally:
        for module, mode in modes.items():
            module.training = mode
        for hook in hooks:
            hook.remove()
    if other := counter.get_total_flops() - sum(flops.values()):
        flops[OTHER] = other
    return {name: number // 2 // len(inputs[0]) for name, number in flops.items()}


def on_meta(shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> tuple[Tensor]:
    """Return one sample of a shape (C, H, W for images) as the inputs of `macs`."""
    return (torch.empty(1, *shape, dtype=dtype, device="meta"),)


def theoretical_speedup(macs: Mapping[str, int], mask: Mapping[str, Tensor]) -> float:
    """Return F_d / F_s: a layer's part of F_s shrinks with its weights, the others' are dense."""
    sparse = sum(
        count * float(mask[name].float().mean(dtype=torch.float64)) if name in mask else count
        for name, count in macs.items()
    )
    return sum(macs.values()) / sparse
