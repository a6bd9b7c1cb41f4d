"""Samples that are read one after another become the tensors of a split."""

from __future__ import annotations

import os
from collections.abc import Iterable

import numpy as np
import torch

from data.card import Card
from data.dataset import Split
from data.decode import Decoded, fit_test


def gather(stored: Iterable[tuple[str, Decoded]], count: int, card: Card, place: str) -> Split:
    """Exactly `count` samples in the card's size; ValueError when there are fewer or more."""
    _check_memory(count, card, place)
    is_masks = card.task == "segmentation"
    images = np.empty((count, card.channels, *card.size), np.uint8)
    targets = np.empty((count, *card.size), np.uint8) if is_masks else np.empty(count, np.int64)
    subgroups = np.empty(count, np.int64) if card.subgroups else None
    found = 0
    for _place, sample in stored:
        if found < count:
            images[found], targets[found], subgroup = fit_test(card, sample)
            if subgroups is not None and subgroup is not None:
                subgroups[found] = subgroup
        found += 1
    if found != count:
        raise ValueError(
            f"{place} has {found} samples instead of {count}; copy the missing shards,"
            " or if this is the whole set, write its index.json with `sms-dist data index`"
        )
    return Split(
        torch.from_numpy(images),
        torch.from_numpy(targets),
        None if subgroups is None else torch.from_numpy(subgroups),
    )


def _check_memory(count: int, card: Card, place: str) -> None:
    """Before hours of reading: the images fit into this machine."""
    needed = count * (card.channels + (card.task == "segmentation")) * card.size[0] * card.size[1]
    there = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if needed > there:
        raise ValueError(
            f"{place} takes {needed / 1e9:.0f} GB of memory and this machine has"
            f" {there / 1e9:.0f}; set data.loader=streaming, or a smaller data.size"
        )
