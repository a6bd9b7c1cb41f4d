"""A network of which parts are not trained: a frozen layer, a head that nothing uses."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Partly(nn.Module):
    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.frozen = nn.Conv2d(1, 4, 3)
        self.middle = nn.Linear(4 * 36, 16)
        self.gain = nn.Parameter(torch.tensor(1.5))  # without dims
        self.last = nn.Linear(16, num_classes)
        self.unused = nn.Linear(16, 5)
        self.frozen.requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        hidden = self.middle(self.frozen(images).relu().flatten(1)).relu()
        return self.last(self.gain * hidden)


class Experts(nn.Module):
    """Each sample is for one of three layers, which a step may leave out."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.gate = nn.Linear(64, 3)
        self.experts = nn.ModuleList(nn.Linear(64, num_classes) for _ in range(3))

    def forward(self, images: Tensor) -> Tensor:
        images = images.flatten(1)
        share, number = self.gate(images).softmax(1).max(1)
        chosen = [self.experts[i](images[j]) for j, i in enumerate(number.tolist())]
        return torch.stack(chosen) * share[:, None]


def experts(shape: tuple[int, ...], num_classes: int) -> nn.Module:
    return Experts(num_classes)


def partly(shape: tuple[int, ...], num_classes: int) -> nn.Module:
    return Partly(num_classes)
