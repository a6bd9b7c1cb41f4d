"""The way of a gradient through batch-norm statistics that were recomputed and now stand still."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


def follow_statistics_(model: nn.Module) -> None:
    """Let gradients know that the running statistics would change with the weights.

    Each layer's statistics are taken to move as those of the batch at hand do. No output changes:
    what is added is zero, with a gradient. With statistics as constants the gradient by a soup's
    coefficients points elsewhere, at times backwards; so it agrees with finite differences.
    """
    for layer in model.modules():
        if isinstance(layer, _BatchNorm) and layer.track_running_stats:
            layer.register_forward_hook(_follow)


def _follow(layer: _BatchNorm, inputs: tuple[Tensor], output: Tensor) -> Tensor:
    assert layer.running_mean is not None
    assert layer.running_var is not None
    (x,) = inputs
    shape = (1, -1, *[1] * (x.dim() - 2))
    variance, mean = torch.var_mean(x, [d for d in range(x.dim()) if d != 1], correction=0)
    variance = layer.running_var + variance - variance.detach()
    mean = layer.running_mean + mean - mean.detach()
    scale = (variance + layer.eps).rsqrt()
    if layer.weight is not None:
        scale = scale * layer.weight.detach()
    moved = (x.detach() - mean.view(shape)) * scale.view(shape)
    return output + (moved - moved.detach())
