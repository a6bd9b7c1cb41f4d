"""Generated corruptions: functions of an image, random numbers and the constants of a severity.

After Hendrycks & Dietterich, "Benchmarking Neural Network Robustness to Common Corruptions and
Perturbations" (ICLR 2019), with their constants. Not the published images: the random numbers are
ours, values are rounded where the authors cut them off, and frost is drawn where they have photos.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple, TypeAlias, TypeVar

import numpy as np
import PIL.Image
import torch
from numpy.random import Generator, Philox
from numpy.typing import NDArray
from scipy import ndimage  # type: ignore[import-untyped]
from torch import Tensor

from sms_dist.base.lookup import lookup
from sms_dist.base.randomness import stream
from sms_dist.data.corruptions import FIELD, SEVERITIES, CorruptedSet, filters
from sms_dist.data.corruptions.filters import Image
from sms_dist.data.dataset import DatasetInfo, Read

CHANNELS = (1, 3)
SMALLEST = 8  # pixels of a side
SMALL_BELOW = 64  # pixels of the shorter side
LUMA = np.array((0.299, 0.587, 0.114))
ICE = np.array((0.784, 0.882, 1.0))  # RGB

Levels: TypeAlias = Sequence["float | tuple[float, ...]"]  # the constants of severities 1 ... 5


class Corruption(NamedTuple):
    """A function (image, random numbers, constants of a severity) -> image, and its constants.

    Its result may leave 0 ... 1; it is clipped.
    """

    apply: Callable[..., Image]
    small: Levels
    large: Levels


CORRUPTIONS: dict[str, Corruption] = {}
Function = TypeVar("Function", bound=Callable[..., Image])


def corruption(small: Levels, large: Levels) -> Callable[[Function], Function]:
    """Add a function to CORRUPTIONS with the constants of CIFAR-C and those of ImageNet-C."""

    def added(function: Function) -> Function:
        CORRUPTIONS[function.__name__] = Corruption(function, small, large)
        return function

    return added


def generated_sets(
    info: DatasetInfo, clean: Read, seed: int, names: Sequence[str]
) -> list[CorruptedSet]:
    """Return the test set under each named corruption and severity; places in it are sample ids."""
    for name in names:
        lookup(CORRUPTIONS, name, f"{FIELD}: corruption")

    def read(name: str, severity: int, start: int, stop: int) -> tuple[Tensor, Tensor]:
        images, targets = clean(start, stop)
        return corrupt(name, severity, images, torch.arange(start, stop), seed), targets

    return [
        CorruptedSet(name, severity, info.num_test, partial(read, name, severity))
        for name in names
        for severity in SEVERITIES
    ]


def corrupt(name: str, severity: int, images: Tensor, sample_ids: Tensor, seed: int) -> Tensor:
    """Return corrupted copies of uint8 images (N x C x H x W), on the CPU.

    Image i depends on (seed, name, severity, sample_ids[i]) and its own pixels alone, not on the
    batch that it comes in. Images of less than 64 pixels are corrupted as in CIFAR-C, others as in
    ImageNet-C.
    """
    chosen = lookup(CORRUPTIONS, name, "corruption")
    _check(images)
    assert severity in SEVERITIES, severity
    levels = chosen.small if min(images.shape[2:]) < SMALL_BELOW else chosen.large
    level = levels[severity - 1]
    constants = level if isinstance(level, tuple) else (level,)
    key = stream(seed, f"corruption {name}", severity).key
    pixels = images.cpu().permute(0, 2, 3, 1).numpy()
    corrupted = np.empty_like(pixels, order="C")
    for number, sample_id in enumerate(sample_ids.tolist()):
        image = np.ascontiguousarray(pixels[number]) / 255
        values = chosen.apply(image, Generator(Philox(key=(key, sample_id))), *constants)
        corrupted[number] = _bytes(values)
    return torch.from_numpy(corrupted).permute(0, 3, 1, 2).contiguous()


def _bytes(image: Image) -> NDArray[np.uint8]:
    return np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)


def _check(images: Tensor) -> None:
    is_image = images.dtype == torch.uint8 and images.ndim == 4 and images.shape[1] in CHANNELS
    if not is_image or min(images.shape[2:]) < SMALLEST:
        raise ValueError(
            "corruptions need uint8 images N x C x H x W, grey or RGB and of at least"
            f" {SMALLEST}x{SMALLEST} pixels, not {images.dtype} {'x'.join(map(str, images.shape))}"
        )


@corruption((0.04, 0.06, 0.08, 0.09, 0.10), (0.08, 0.12, 0.18, 0.26, 0.38))
def gaussian_noise(image: Image, rng: Generator, deviation: float) -> Image:
    """Add noise of a fixed standard deviation."""
    return image + rng.normal(scale=deviation, size=image.shape)


@corruption((500, 250, 100, 75, 50), (60, 25, 12, 5, 3))
def shot_noise(image: Image, rng: Generator, quanta: float) -> Image:
    """Let light arrive in quanta, so many on average for a white pixel."""
    return rng.poisson(image * quanta) / quanta


@corruption((0.01, 0.02, 0.03, 0.05, 0.07), (0.03, 0.06, 0.09, 0.17, 0.27))
def impulse_noise(image: Image, rng: Generator, amount: float) -> Image:
    """Replace a share of the values by 0 or 1, each colour by itself."""
    is_hit = rng.random(image.shape) < amount
    is_salt = rng.random(image.shape) < 0.5
    return np.where(is_hit, is_salt, image)


@corruption(
    ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1.0, 0.2), (1.5, 0.1)),
    ((3.0, 0.1), (4.0, 0.5), (6.0, 0.5), (8.0, 0.5), (10.0, 0.5)),
)
def defocus_blur(image: Image, rng: Generator, radius: float, softness: float) -> Image:
    """Put the image out of focus."""
    return filters.defocused(image, radius, softness)


@corruption(
    ((0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2)),
    ((0.7, 1, 2), (0.9, 2, 1), (1.0, 2, 3), (1.1, 3, 2), (1.5, 4, 2)),
)
def glass_blur(image: Image, rng: Generator, sigma: float, reach: int, times: int) -> Image:
    """Blur, make each pixel in turn a copy of a random one near it, and blur again.

    The authors' code means to swap the two, but NumPy's views make it a copy; so are the published
    images.
    """
    height, width, channels = image.shape
    order = [
        y * width + x
        for y in range(height - reach, reach, -1)
        for x in range(width - reach, reach, -1)
    ] * times
    moves = rng.integers(-reach, reach, (len(order), 2)) @ (width, 1)
    places = list(range(height * width))
    for place, move in zip(order, moves.tolist(), strict=True):
        places[place] = places[place + move]
    blurred = filters.blurred(image, sigma).reshape(-1, channels)
    return filters.blurred(blurred[places].reshape(image.shape), sigma)


@corruption(
    ((6, 1.0), (6, 1.5), (6, 2.0), (8, 2.0), (9, 2.5)),
    ((10, 3.0), (15, 5.0), (15, 8.0), (15, 12.0), (20, 15.0)),
)
def motion_blur(image: Image, rng: Generator, radius: int, sigma: float) -> Image:
    """Smear the image within 45 degrees of the horizontal."""
    return filters.smeared(image, radius, sigma, rng.uniform(-45, 45))


@corruption(
    ((1.06, 0.01), (1.11, 0.01), (1.16, 0.01), (1.21, 0.01), (1.26, 0.01)),
    ((1.11, 0.01), (1.16, 0.01), (1.21, 0.02), (1.26, 0.02), (1.31, 0.03)),
)
def zoom_blur(image: Image, rng: Generator, end: float, step: float) -> Image:
    """Average the image with its enlargements by 1, 1 + step ... up to an end."""
    factors = np.arange(1, end, step)
    total = image + sum(filters.zoomed(image, factor) for factor in factors)
    return total / (len(factors) + 1)


@corruption(
    (
        (0.1, 0.2, 1.0, 0.6, 8, 3.0, 0.95),
        (0.1, 0.2, 1.0, 0.5, 10, 4.0, 0.9),
        (0.15, 0.3, 1.75, 0.55, 10, 4.0, 0.9),
        (0.25, 0.3, 2.25, 0.6, 12, 6.0, 0.85),
        (0.3, 0.3, 1.25, 0.65, 14, 12.0, 0.8),
    ),
    (
        (0.1, 0.3, 3.0, 0.5, 10, 4.0, 0.8),
        (0.2, 0.3, 2.0, 0.5, 12, 4.0, 0.7),
        (0.55, 0.3, 4.0, 0.9, 12, 8.0, 0.7),
        (0.55, 0.3, 4.5, 0.85, 12, 8.0, 0.65),
        (0.55, 0.3, 2.5, 0.85, 12, 12.0, 0.55),
    ),
)
def snow(
    image: Image,
    rng: Generator,
    mean: float,
    deviation: float,
    size: float,
    least: float,
    radius: int,
    sigma: float,
    image_share: float,
) -> Image:
    """Whiten the image, and add enlarged noise above a least brightness that falls as flakes."""
    flakes = filters.zoomed(rng.normal(mean, deviation, (*image.shape[:2], 1)), size)
    flakes = np.where(flakes < least, 0, flakes).clip(0, 1)
    falling = filters.smeared(flakes, radius, sigma, rng.uniform(-135, -45))
    grey = image if image.shape[2] == 1 else (image @ LUMA)[..., None]
    whitened = np.maximum(image, grey * 1.5 + 0.5)
    return image * image_share + whitened * (1 - image_share) + falling + falling[::-1, ::-1]


@corruption(
    ((1.0, 0.2), (1.0, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45)),
    ((1.0, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75)),
)
def frost(image: Image, rng: Generator, image_share: float, frost_share: float) -> Image:
    """Cover the image with ice that has veins along the contours of clouds."""
    rough, fine = filters.clouds(image, rng, 1.7), filters.clouds(image, rng, 1.4)
    veins = np.abs((rough * 5 + fine) % 1 * 2 - 1) ** 3
    ice = np.minimum(rough * 0.25 + fine * 0.3 + veins * 0.45 + 0.15, 1)
    colour = ICE if image.shape[2] == 3 else float(ICE @ LUMA)
    return image * image_share + ice * colour * frost_share


@corruption(
    ((0.2, 3.0), (0.5, 3.0), (0.75, 2.5), (1.0, 2.0), (1.5, 1.75)),
    ((1.5, 2.0), (2.0, 2.0), (2.5, 1.7), (2.5, 1.5), (3.0, 1.4)),
)
def fog(image: Image, rng: Generator, thickness: float, decay: float) -> Image:
    """Add clouds, and darken the sum to the image's greatest brightness."""
    brightest = float(image.max())
    clouds = filters.clouds(image, rng, decay)
    return (image + clouds * thickness) * brightest / (brightest + thickness)


@corruption((0.05, 0.1, 0.15, 0.2, 0.3), (0.1, 0.2, 0.3, 0.4, 0.5))
def brightness(image: Image, rng: Generator, more: float) -> Image:
    """Raise the value of HSV; hue and saturation stay."""
    value: Image = image.max(2, keepdims=True)
    of_value = np.divide(image, value, out=np.ones_like(image), where=value > 0)
    return of_value * np.minimum(value + more, 1)


@corruption((0.75, 0.5, 0.4, 0.3, 0.15), (0.4, 0.3, 0.2, 0.1, 0.05))
def contrast(image: Image, rng: Generator, share: float) -> Image:
    """Keep a share of each pixel's difference from the mean colour of the image."""
    mean: Image = image.mean((0, 1))
    return (image - mean) * share + mean


# Size and smoothness of the displacement, and reach of the affine map, all in shorter sides. The
# authors' 2, 0.7 and 0.1 are of 244 for an image of 224 pixels.
@corruption(
    ((0.0, 0.0, 0.08), (0.05, 0.2, 0.07), (0.08, 0.06, 0.06), (0.1, 0.04, 0.05), (0.1, 0.03, 0.03)),
    (
        (2.18, 0.7625, 0.109),
        (2.18, 0.0871, 0.218),
        (0.0545, 0.0109, 0.0218),
        (0.0763, 0.0109, 0.0218),
        (0.1307, 0.0109, 0.0218),
    ),
)
def elastic_transform(
    image: Image, rng: Generator, size: float, sigma: float, reach: float
) -> Image:
    """Move three points of the image, all others affinely with them; then crumple it smoothly."""
    sides = image.shape[:2]
    side = min(sides)
    inverse = _affine(sides, rng.uniform(-reach, reach, (3, 2)) * side)
    noise = rng.uniform(-1, 1, (2, *sides))
    smooth = ndimage.gaussian_filter(noise, (0, sigma * side, sigma * side), truncate=3)
    places = np.indices(sides) + smooth * size * side

    def bent(channel: Image) -> Image:
        moved = ndimage.affine_transform(channel, inverse, order=1, mode="mirror")
        result: Image = ndimage.map_coordinates(moved, places, order=1, mode="reflect")
        return result

    return np.stack([bent(channel) for channel in np.moveaxis(image, 2, 0)], axis=2)


def _affine(sides: tuple[int, ...], moves: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the map (2 x 3, y and x) from new places to old ones when three points move.

    The points are corners of a square in the middle: lower right, upper right, upper left.
    """
    half = min(sides) // 3
    points = np.array(sides) // 2 + np.array([[half, half], [-half, half], [-half, -half]])
    return np.linalg.solve(np.column_stack([points + moves, np.ones(3)]), points).T


@corruption((0.95, 0.9, 0.85, 0.75, 0.65), (0.6, 0.5, 0.4, 0.3, 0.25))
def pixelate(image: Image, rng: Generator, share: float) -> Image:
    """Make the image smaller, to a share of its sides, and large again."""
    picture = _picture(image)
    size = (int(picture.width * share), int(picture.height * share))
    coarse = picture.resize(size, PIL.Image.Resampling.BOX)
    return _from_picture(coarse.resize(picture.size, PIL.Image.Resampling.BOX))


@corruption((80, 65, 58, 50, 40), (25, 18, 15, 10, 7))
def jpeg_compression(image: Image, rng: Generator, quality: int) -> Image:
    """Write the image as JPEG and read it."""
    file = io.BytesIO()
    _picture(image).save(file, "JPEG", quality=quality)
    return _from_picture(PIL.Image.open(file, formats=("JPEG",)))


def _picture(image: Image) -> PIL.Image.Image:
    pixels = _bytes(image)
    return PIL.Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)


def _from_picture(picture: PIL.Image.Image) -> Image:
    return np.atleast_3d(np.asarray(picture)) / 255
