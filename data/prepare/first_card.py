"""A first card for images of one's own: what a look at some of them tells."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import yaml
from PIL import Image
from pydantic import ValidationError

from data.card import Card
from data.decode import FORMATS, decode, fit_test
from data.shards import Sample
from sms_dist.config_file import one_line

LOOKED_AT = 500  # images
CROPPED = (224, 224)  # where images differ in size
HEADER = """\
# What the samples in these shards are; docs/data.md explains the keys.
# Written by `sms-dist data prepare card`: look at size, fit and augment before training.
"""


def first_card(facts: Mapping[str, Any], samples: Callable[[], Iterable[Sample]]) -> Card:
    """Size, channels and normalisation of the samples, an augmentation that suits them.

    `samples` can be called repeatedly; one image is in memory at a time.
    """
    sizes: Counter[tuple[int, int]] = Counter()
    modes = set()
    for _, fields in samples():
        with Image.open(io.BytesIO(next(iter(fields.values()))), formats=FORMATS) as image:
            sizes[image.size[1], image.size[0]] += 1
            modes.add(image.mode)
    channels = 1 if modes <= {"1", "L"} else 3
    values = {**facts, **_sizing(sizes, facts), "channels": channels}
    half = (0.5,) * channels
    try:
        unknown = Card(**values, mean=half, std=half)
    except ValidationError as error:
        raise ValueError(f"no card fits {facts['name']}: {one_line(error, Card)}") from None
    mean, std = _moments(unknown, samples())
    return unknown.model_copy(update={"mean": mean, "std": std})


def text(card: Card) -> str:
    """The card as YAML, without what is as it is anyway."""
    values = card.model_dump(mode="json", exclude_defaults=True)
    return HEADER + yaml.safe_dump(values, sort_keys=False, default_flow_style=None, width=100)


def _sizing(sizes: Counter[tuple[int, int]], facts: Mapping[str, Any]) -> dict[str, Any]:
    (commonest, _), *_ = sizes.most_common(1)
    if facts.get("task") == "segmentation":
        augment = "flip" if facts["void"] is None else "scale_crop_flip"
        return {"size": commonest, "fit": "scale", "augment": augment}
    if len(sizes) == 1:
        return {"size": commonest, "fit": "exact", "augment": "flip"}
    return {"size": CROPPED, "fit": "crop", "augment": "random_resized_crop"}


def _moments(card: Card, samples: Iterable[Sample]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of the pixels in [0, 1], per channel."""
    num_pixels, sums, squares = 0, np.zeros(card.channels), np.zeros(card.channels)
    for key, fields in samples:
        pixels = fit_test(card, decode(card, fields, key)).image / 255
        num_pixels += pixels[0].size
        sums += pixels.sum((1, 2))
        squares += (pixels**2).sum((1, 2))
    mean = sums / num_pixels
    std = np.sqrt(np.maximum(squares / num_pixels - mean**2, 1e-6))
    return tuple(mean.round(4).tolist()), tuple(std.round(4).tolist())
