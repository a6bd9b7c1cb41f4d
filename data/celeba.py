"""CelebA: aligned faces with 40 attributes; one is predicted, one more makes the sub-groups."""

from __future__ import annotations

from functools import partial

from data.card import Card, SampleCounts, ShardPatterns
from data.carded import CardSource, opened, samples, sized
from sms_dist.config import DataConfig
from sms_dist.lookup import lookup

_NAMES = """
5_o_Clock_Shadow Arched_Eyebrows Attractive Bags_Under_Eyes Bald Bangs Big_Lips Big_Nose
Black_Hair Blond_Hair Blurry Brown_Hair Bushy_Eyebrows Chubby Double_Chin Eyeglasses Goatee
Gray_Hair Heavy_Makeup High_Cheekbones Male Mouth_Slightly_Open Mustache Narrow_Eyes No_Beard
Oval_Face Pale_Skin Pointy_Nose Receding_Hairline Rosy_Cheeks Sideburns Smiling Straight_Hair
Wavy_Hair Wearing_Earrings Wearing_Hat Wearing_Lipstick Wearing_Necklace Wearing_Necktie Young
"""
ATTRIBUTES = tuple(_NAMES.split())
TARGET, SUBGROUP = "Blond_Hair", "Male"


def card(config: DataConfig) -> Card:
    """With the attributes of data.target and data.subgroup."""
    legal = dict.fromkeys(ATTRIBUTES)
    target, subgroup = config.target or TARGET, config.subgroup or SUBGROUP
    lookup(legal, target, "data.target")
    lookup(legal, subgroup, "data.subgroup")
    if target == subgroup:
        raise ValueError(
            f"data.subgroup={subgroup} is data.target as well; choose another attribute for one"
        )
    return sized(_card(target, subgroup), config)


def _card(target: str, subgroup: str) -> Card:
    return Card(
        name="celeba",
        images=("jpg",),
        target=f"json:{target}",
        subgroup=f"json:{subgroup}",
        subgroup_names=_values(subgroup),
        size=(64, 64),  # of 218 x 178
        classes=_values(target),
        mean=(0.5063, 0.4258, 0.3832),
        std=(0.3106, 0.2903, 0.2896),
        augment="flip",
        shards=ShardPatterns(train=("*train*", "*val*"), test=("*test*",)),
        samples=SampleCounts(train=162_770 + 19_867, test=19_962),
    )


def _values(attribute: str) -> tuple[str, str]:
    return f"not-{attribute}", attribute


CELEBA = CardSource(
    _card(TARGET, SUBGROUP).info, partial(opened, card, samples), False, card, is_chosen=True
)
