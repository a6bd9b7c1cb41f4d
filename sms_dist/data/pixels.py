"""Between stored pixels and what a model is given."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


class Pixels:
    """`mean` and `std` are per channel, of pixels in [0, 1]."""

    def __init__(self, mean: Sequence[float], std: Sequence[float], device: torch.device) -> None:
        self._mean = torch.tensor(mean, device=device).mul_(255).view(1, -1, 1, 1)
        self._std = torch.tensor(std, device=device).mul_(255).view(1, -1, 1, 1)

    def normalised(self, images: Tensor) -> Tensor:
        """Return float32 inputs; what is uint8 (N x C x H x W) normalised, all else as it is."""
        if images.dtype != torch.uint8:
            return images.to(torch.float32)
        return images.to(torch.float32).sub_(self._mean).div_(self._std)

    def restored(self, inputs: Tensor) -> Tensor:
        """Back again, exactly."""
        return (inputs * self._std + self._mean).round_().clamp_(0, 255).to(torch.uint8)
