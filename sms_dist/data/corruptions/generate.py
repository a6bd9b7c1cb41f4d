"""Corrupted images: each a function of its pixels, the corruption, the seed and its id.

After Hendrycks & Dietterich, "Benchmarking Neural Network Robustness to Common Corruptions and
Perturbations" (ICLR 2019), with their constants. Not the published images: the random numbers are
ours, and values are rounded where the authors cut them off.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sms_dist.base.lookup import lookup
from sms_dist.base.randomness import Stream, stream
from sms_dist.data.corruptions import SEVERITIES, blur, digital, noise, weather
from sms_dist.data.corruptions.levels import Corrupt, Draw

CORRUPTIONS: dict[str, Corrupt] = {
    "gaussian_noise": noise.gaussian_noise,
    "shot_noise": noise.shot_noise,
    "impulse_noise": noise.impulse_noise,
    "defocus_blur": blur.defocus_blur,
    "glass_blur": blur.glass_blur,
    "motion_blur": blur.motion_blur,
    "zoom_blur": blur.zoom_blur,
    "snow": weather.snow,
    "frost": weather.frost,
    "fog": weather.fog,
    "brightness": weather.brightness,
    "contrast": digital.contrast,
    "elastic_transform": digital.elastic_transform,
    "pixelate": digital.pixelate,
    "jpeg_compression": digital.jpeg_compression,
    "speckle_noise": noise.speckle_noise,
    "gaussian_blur": blur.gaussian_blur,
    "spatter": weather.spatter,
    "saturate": digital.saturate,
}
CHANNELS = (1, 3)
SMALLEST = 8  # pixels of a side
_VALUES_AT_ONCE = 1 << 18  # what fits the processor's cache is faster


def corrupt(name: str, severity: int, images: Tensor, sample_ids: Tensor, seed: int) -> Tensor:
    """Corrupted copies of uint8 images (N x C x H x W), on the CPU.

    Image i depends on (seed, name, severity, sample_ids[i]) and its own pixels alone, bit for bit,
    not on the batch that it comes in.
    """
    apply = lookup(CORRUPTIONS, name, "corruption")
    _check(severity, images)
    numbers = stream(seed, f"corruption {name}", severity)
    images, sample_ids = images.cpu(), sample_ids.cpu()
    num_images = max(1, _VALUES_AT_ONCE // images[0].numel()) if len(images) else 1
    corrupted = torch.empty_like(images)
    for start in range(0, len(images), num_images):
        some = slice(start, start + num_images)
        corrupted[some] = _pixels(apply(images[some], severity, _draw(numbers, sample_ids[some])))
    return corrupted


def _draw(numbers: Stream, sample_ids: Tensor) -> Draw:
    return lambda num_draws: numbers.uniform(sample_ids, num_draws)


def _pixels(values: Tensor) -> Tensor:
    if values.dtype == torch.uint8:
        return values
    return values.round().clamp_(0, 255).to(torch.uint8)


def _check(severity: int, images: Tensor) -> None:
    if severity not in SEVERITIES:
        raise ValueError(f"severity={severity} is not one of 1 to {SEVERITIES[-1]}")
    if images.dtype != torch.uint8 or images.ndim != 4:
        raise ValueError(
            f"corruptions need uint8 images N x C x H x W, not {images.dtype}"
            f" {'x'.join(map(str, images.shape))}"
        )
    channels, height, width = images.shape[1:]
    if channels not in CHANNELS or min(height, width) < SMALLEST:
        raise ValueError(
            f"corruptions need grey or RGB images of at least {SMALLEST}x{SMALLEST} pixels,"
            f" not {channels}x{height}x{width}"
        )
