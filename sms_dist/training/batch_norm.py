"""Batch-norm statistics over the whole training set, bit-identical for any number of ranks, and the
gradient that goes through them."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from sms_dist.data.loader import Loader
from sms_dist.mesh.collectives import sum_over_parts
from sms_dist.mesh.division import parts_of
from sms_dist.mesh.topology import Axis


def recompute_(model: nn.Module, loader: Loader, axis: Axis, device: torch.device) -> None:
    """Reset the running statistics to their cumulative mean over the training set, in place.

    As torch's `momentum=None`: the mean over batches of each batch's mean and unbiased variance;
    fixed order, no augmentation, dropout off. Every rank of the axis must call, with equal weights.
    """
    layers = [m for m in model.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    if not layers:
        return
    model.eval()
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.train()
        layer.reset_running_stats()  # 0 x NaN is NaN: what stood there must not be weighted in
        layer.momentum = 1.0  # the running statistics become those of the last batch
    num_values = 2 * sum(layer.num_features for layer in layers) + 1
    parts = loader.parts(parts_of(axis.rank, axis.size))

    @torch.no_grad()
    def part(index: int) -> Tensor:
        total = torch.zeros(num_values, dtype=torch.float64, device=device)
        for batch in parts[index]:
            model(*batch.inputs)
            total += torch.cat([*_statistics(layers), total.new_ones(1)])
        return total

    total = sum_over_parts(part, num_values, axis, device)
    _set_statistics(layers, total[:-1] / total[-1], int(total[-1]))
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum
    model.eval()


def _statistics(layers: list[_BatchNorm]) -> list[Tensor]:
    return [t.double() for layer in layers for t in _buffers(layer)]


def _set_statistics(layers: list[_BatchNorm], values: Tensor, num_batches: int) -> None:
    buffers = [t for layer in layers for t in _buffers(layer)]
    pieces = torch.split(values, [t.numel() for t in buffers])
    for buffer, piece in zip(buffers, pieces, strict=True):
        buffer.copy_(piece)
    for layer in layers:
        assert layer.num_batches_tracked is not None
        layer.num_batches_tracked.fill_(num_batches)


def _buffers(layer: _BatchNorm) -> tuple[Tensor, Tensor]:
    assert layer.running_mean is not None
    assert layer.running_var is not None
    return layer.running_mean, layer.running_var


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
