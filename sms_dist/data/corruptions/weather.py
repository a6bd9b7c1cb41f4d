"""Corruptions by weather: snow, frost, fog, bright light, splashes."""

from __future__ import annotations

import torch
from torch import Tensor

from sms_dist.data.corruptions import filters
from sms_dist.data.corruptions.levels import Draw, level
from sms_dist.data.corruptions.textures import fractal_side, normal, plasma

LUMA = (0.299, 0.587, 0.114)
ICE = (200.0, 225.0, 255.0)  # RGB
WATER = (175.0, 238.0, 238.0)
MUD = (63.0, 42.0, 20.0)


def brightness(images: Tensor, severity: int, draw: Draw) -> Tensor:
    """Constants: what is added to the value of HSV, of 1. Hue and saturation stay."""
    more = level(images, severity, (0.05, 0.1, 0.15, 0.2, 0.3), (0.1, 0.2, 0.3, 0.4, 0.5))
    pixels = images.float()
    value = pixels.amax(1, keepdim=True)
    brighter = (value + 255 * more).clamp_(max=255)
    return torch.where(value > 0, pixels * brighter / value.clamp_min(1), brighter)


def fog(images: Tensor, severity: int, draw: Draw) -> Tensor:
    """Constants: thickness, and how smooth the clouds are."""
    small = ((0.2, 3.0), (0.5, 3.0), (0.75, 2.5), (1.0, 2.0), (1.5, 1.75))
    large = ((1.5, 2.0), (2.0, 2.0), (2.5, 1.7), (2.5, 1.5), (3.0, 1.4))
    thickness, decay = level(images, severity, small, large)
    height, width = images.shape[2:]
    side = fractal_side(height, width)
    clouds = plasma(draw(side**2), side, decay)[:, None, :height, :width]
    brightest = images.amax((1, 2, 3), keepdim=True).float()
    share = brightest / (brightest + 255 * thickness)
    return (images.float() + clouds * (255 * thickness)) * share


def frost(images: Tensor, severity: int, draw: Draw) -> Tensor:
    """Constants: shares of image and frost. The frost is drawn, not one of the published photos."""
    small = ((1.0, 0.2), (1.0, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45))
    large = ((1.0, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75))
    image_share, frost_share = level(images, severity, small, large)
    height, width = images.shape[2:]
    crystals = _crystals(draw, height, width)[:, None] * _colour(ICE, images)
    return images.float() * image_share + crystals * frost_share


def snow(images: Tensor, severity: int, draw: Draw) -> Tensor:
    """Constants: mean and deviation of the flakes, their size, least brightness, radius and sigma
    of their fall, and how much of the image stays unwhitened."""
    small = (
        (0.1, 0.2, 1.0, 0.6, 8, 3.0, 0.95),
        (0.1, 0.2, 1.0, 0.5, 10, 4.0, 0.9),
        (0.15, 0.3, 1.75, 0.55, 10, 4.0, 0.9),
        (0.25, 0.3, 2.25, 0.6, 12, 6.0, 0.85),
        (0.3, 0.3, 1.25, 0.65, 14, 12.0, 0.8),
    )
    large = (
        (0.1, 0.3, 3.0, 0.5, 10, 4.0, 0.8),
        (0.2, 0.3, 2.0, 0.5, 12, 4.0, 0.7),
        (0.55, 0.3, 4.0, 0.9, 12, 8.0, 0.7),
        (0.55, 0.3, 4.5, 0.85, 12, 8.0, 0.65),
        (0.55, 0.3, 2.5, 0.85, 12, 12.0, 0.55),
    )
    mean, deviation, size, least, radius, sigma, share = level(images, severity, small, large)
    height, width = images.shape[2:]
    uniforms = draw(height * width + 1)
    flakes = (normal(uniforms[:, 1:]) * deviation + mean).T.reshape(height, width, -1)
    flakes = filters.zoomed(flakes, size).permute(2, 0, 1)[:, None]
    flakes = torch.where(flakes < least, 0, flakes.clamp(0, 1)) * 255
    falling = filters.smear(flakes, radius, sigma, uniforms[:, 0].double() * 90 - 135)
    pixels = images.float()
    whitened = torch.maximum(pixels, _grey(pixels) * 1.5 + 127.5)
    return pixels * share + whitened * (1 - share) + falling + falling.flip(2, 3)


def spatter(images: Tensor, severity: int, draw: Draw) -> Tensor:
    """Constants: mean and deviation of the liquid, its blur, least depth, strength; water or mud.

    Mud as published; drops of water are lit from one side by a simpler rule than the authors'.
    """
    small = (
        (0.62, 0.1, 0.7, 0.7, 0.5, False),
        (0.65, 0.1, 0.8, 0.7, 0.5, False),
        (0.65, 0.3, 1.0, 0.69, 0.5, False),
        (0.65, 0.1, 0.7, 0.69, 0.6, True),
        (0.65, 0.1, 0.5, 0.68, 0.6, True),
    )
    large = (
        (0.65, 0.3, 4.0, 0.69, 0.6, False),
        (0.65, 0.3, 3.0, 0.68, 0.6, False),
        (0.65, 0.3, 2.0, 0.68, 0.5, False),
        (0.65, 0.3, 1.0, 0.65, 1.5, True),
        (0.67, 0.4, 1.0, 0.65, 1.5, True),
    )
    mean, deviation, sigma, least, strength, is_mud = level(images, severity, small, large)
    height, width = images.shape[2:]
    liquid = (normal(draw(height * width)) * deviation + mean).view(-1, 1, height, width)
    liquid = filters.gaussian(liquid, sigma)
    liquid = torch.where(liquid < least, 0, liquid)
    pixels = images.float()
    if is_mud:
        cover = filters.gaussian((liquid > least).float(), strength)
        cover = torch.where(cover < 0.8, 0, cover)
        return pixels * (1 - cover) + _colour(MUD, images) * cover
    return pixels + _lit(liquid) * strength * _colour(WATER, images)


def _lit(drops: Tensor) -> Tensor:
    """Drops brighter towards the lower right; the brightest of an image is 1."""
    shade = drops - drops.roll((1, 1), (2, 3)) * 0.5
    light = shade.clamp_min(0) * drops
    return light / light.amax((2, 3), keepdim=True).clamp_min(1e-6)


def _crystals(draw: Draw, height: int, width: int) -> Tensor:
    """Ice on a window, 0 ... 1, N x H x W: veins along the contours of a cloud."""
    side = fractal_side(height, width)
    first, second = draw(2 * side**2).chunk(2, dim=1)
    rough, fine = plasma(first, side, 1.7), plasma(second, side, 1.4)
    veins = ((rough * 5 + fine) % 1 * 2 - 1).abs()
    ice = rough * 0.25 + fine * 0.3 + veins * veins * veins * 0.45 + 0.15
    return ice[:, :height, :width].clamp(max=1)


def _colour(rgb: tuple[float, float, float], images: Tensor) -> Tensor:
    """Of as many channels as the images have."""
    colour = torch.tensor(rgb).view(1, 3, 1, 1)
    return colour if images.shape[1] == 3 else _grey(colour)


def _grey(pixels: Tensor) -> Tensor:
    if pixels.shape[1] == 1:
        return pixels
    return pixels[:, 0:1] * LUMA[0] + pixels[:, 1:2] * LUMA[1] + pixels[:, 2:3] * LUMA[2]
