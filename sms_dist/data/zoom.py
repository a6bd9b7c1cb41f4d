"""Windows of images and masks, enlarged or shrunk to the size of the whole, on any device.

Elementwise throughout: a matrix product's rounding may depend on the size of the batch.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

SMALLEST, LARGEST = 0.5, 2.0  # factors of `random_windows`


def random_windows(height: int, width: int, draws: Tensor) -> Tensor:
    """Return the windows that H x W pixels show of images scaled by 0.5 to 2.

    Each is left, top, right, bottom (N x 4) in pixels of the image. The window on a shrunken image
    is larger than the image. Columns of `draws` (N x 3, in [0, 1)): scale, top, left.
    """
    scale = SMALLEST + draws[:, 0] * (LARGEST - SMALLEST)
    h, w = height / scale, width / scale
    top, left = draws[:, 1] * (height - h), draws[:, 2] * (width - w)
    return torch.stack((left, top, left + w, top + h), dim=1)


def bilinear(images: Tensor, windows: Tensor) -> Tensor:
    """Return images (uint8, N x C x H x W) that show the window of each, linear between pixels.

    Outside of an image there are zeros. `windows` (float64, N x 4) are left, top, right, bottom in
    pixels. A window of more than twice the size would leave pixels out.
    """
    height, width = images.shape[2:]
    x, y = _positions(windows, height, width)
    grid_x, grid_y = (x * (2 / width) - 1).float(), (y * (2 / height) - 1).float()
    grid = torch.stack(
        (
            grid_x[:, None, :].expand(-1, height, -1),
            grid_y[:, :, None].expand(-1, -1, width),
        ),
        dim=-1,
    )
    zoomed = F.grid_sample(images.float(), grid, padding_mode="border", align_corners=False)
    is_inside = _is_inside(x, width)[:, None, None, :] & _is_inside(y, height)[:, None, :, None]
    return torch.where(is_inside, zoomed.round_(), 0).to(torch.uint8)


def nearest(masks: Tensor, windows: Tensor, outside: int) -> Tensor:
    """Return masks (N x H x W) that show the window of each: the value of the nearest pixel.

    `outside` is the value beyond the edges.
    """
    height, width = masks.shape[1:]
    x, y = _positions(windows, height, width)
    is_inside = _is_inside(x, width)[:, None, :] & _is_inside(y, height)[:, :, None]
    column, row = (v.floor().clamp(0, n - 1).long() for v, n in ((x, width), (y, height)))
    pixels = row[:, :, None] * width + column[:, None, :]
    zoomed = masks.flatten(1).gather(1, pixels.flatten(1)).view(masks.shape)
    return torch.where(is_inside, zoomed, outside)


def _positions(windows: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Return where the centres of the new pixels lie, x (N x W) and y (N x H).

    The edges of the old pixels are at 0, 1, ...
    """
    columns, rows = (
        (torch.arange(n, device=windows.device, dtype=windows.dtype) + 0.5) / n
        for n in (width, height)
    )
    left, top, right, bottom = windows[:, :, None].unbind(1)
    return left + columns * (right - left), top + rows * (bottom - top)


def _is_inside(positions: Tensor, size: int) -> Tensor:
    return (positions >= 0) & (positions < size)
