"""Corruptions that smear: out of focus, through glass, in motion, while zooming."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from sms_dist.data.corruptions import filters
from sms_dist.data.corruptions.levels import Draw, level


def gaussian_blur(images: Tensor, severity: int, draw: Draw) -> Tensor:
    """Constants: sigma in pixels."""
    sigma = level(images, severity, (0.4, 0.6, 0.7, 0.8, 1.0), (1.0, 2.0, 3.0, 4.0, 6.0))
    return filters.gaussian(images.float(), sigma)


def defocus_blur(images: Tensor, severity: int, draw: Draw) -> Tensor:
    """Constants: radius of the disc, softness of its rim, in pixels."""
    small = ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1.0, 0.2), (1.5, 0.1))
    large = ((3.0, 0.1), (4.0, 0.5), (6.0, 0.5), (8.0, 0.5), (10.0, 0.5))
    kernel = filters.disc(*level(images, severity, small, large))
    return filters.correlate(images.float(), kernel, "reflect")


def glass_blur(images: Tensor, severity: int, draw: Draw) -> Tensor:
    """Constants: sigma, reach, repetitions."""
    small = ((0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2))
    large = ((0.7, 1, 2), (0.9, 2, 1), (1.0, 2, 3), (1.1, 3, 2), (1.5, 4, 2))
    sigma, reach, times = level(images, severity, small, large)
    blurred = filters.gaussian(images.float(), sigma).round()
    return filters.gaussian(filters.picked(blurred, _scattered(images, reach, times, draw)), sigma)


def motion_blur(images: Tensor, severity: int, draw: Draw) -> Tensor:
    """Constants: radius and sigma in pixels; the direction is within 45 degrees of horizontal."""
    small = ((6, 1.0), (6, 1.5), (6, 2.0), (8, 2.0), (9, 2.5))
    large = ((10, 3.0), (15, 5.0), (15, 8.0), (15, 12.0), (20, 15.0))
    radius, sigma = level(images, severity, small, large)
    degrees = draw(1)[:, 0].double() * 90 - 45
    return filters.smear(images.float(), radius, sigma, degrees)


def zoom_blur(images: Tensor, severity: int, draw: Draw) -> Tensor:
    """Constants: largest enlargement (left out), step up to it; all are averaged."""
    small = ((1.06, 0.01), (1.11, 0.01), (1.16, 0.01), (1.21, 0.01), (1.26, 0.01))
    large = ((1.11, 0.01), (1.16, 0.01), (1.21, 0.02), (1.26, 0.02), (1.31, 0.03))
    factors = np.arange(1, *level(images, severity, small, large)).tolist()
    pixels = images.permute(2, 3, 0, 1).flatten(2).float()  # copies whole rows of images: faster
    total = pixels.clone()
    for factor in factors:
        total += filters.zoomed(pixels, factor)
    num_images, channels, height, width = images.shape
    blurred = (total / (len(factors) + 1)).view(height, width, num_images, channels)
    return blurred.permute(2, 3, 0, 1)


def _scattered(images: Tensor, reach: int, times: int, draw: Draw) -> Tensor:
    """Places (N x H x W) after each pixel in turn has become a copy of a random near one.

    One pixel after the other, of all images at once. The authors' code means to swap the two, but
    NumPy's views make it a copy; so are the published images.
    """
    num_images, (height, width) = len(images), images.shape[2:]
    order = [
        y * width + x
        for y in range(height - reach, reach, -1)
        for x in range(width - reach, reach, -1)
    ] * times
    moves = (draw(2 * len(order)) * (2 * reach)).long() - reach  # -reach ... reach - 1
    moves = moves[:, ::2] * width + moves[:, 1::2]
    offsets = np.ascontiguousarray(moves.T.numpy())
    places = np.repeat(np.arange(height * width)[:, None], num_images, axis=1)
    image = np.arange(num_images)
    for here, offset in zip(order, offsets, strict=True):
        places[here] = places[offset + here, image]
    return torch.from_numpy(places.T.reshape(num_images, height, width))
