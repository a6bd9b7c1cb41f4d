"""`data.name=card`: shards of your own, described by the card.yaml that lies beside them."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from data.card import FILE, Card, read
from data.carded import CardSource, opened, plain_card, samples
from data.dataset import DatasetInfo
from sms_dist.config import DataConfig


def card(config: DataConfig) -> Card:
    """What data.path/card.yaml says, with data.size."""
    if config.path is None:
        raise ValueError(f"data.name=card needs data.path: the folder of {FILE} and the shards")
    return plain_card(read(Path(config.path)), config)


# Nothing is known without a path.
CARD = CardSource(
    DatasetInfo("card", 0, 0, (3, 0, 0), ()), partial(opened, card, samples), False, card
)
