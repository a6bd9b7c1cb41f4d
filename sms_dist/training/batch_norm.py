"""Batch-norm statistics over the whole training set, with the same bits for any number of ranks."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from sms_dist.data.loader import Loader
from sms_dist.mesh.division import parts_of
from sms_dist.mesh.parts import sum_over_parts
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
