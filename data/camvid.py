"""CamVid: 701 street scenes filmed from a car, 11 classes (the SegNet division, 367/101/233)."""

from __future__ import annotations

from data.card import Card, SampleCounts, ShardPatterns
from data.carded import source

CLASSES = (
    "sky", "building", "pole", "road", "pavement", "tree",
    "sign", "fence", "car", "pedestrian", "cyclist",
)  # fmt: skip

CAMVID = source(
    Card(
        name="camvid",
        task="segmentation",
        target="seg.png",
        size=(180, 240),
        classes=CLASSES,
        void=11,
        mean=(0.3903, 0.4047, 0.4138),
        std=(0.2917, 0.2998, 0.2956),
        augment="scale_crop_flip",
        shards=ShardPatterns(train=("*train*", "*val*"), test=("*test*",)),
        samples=SampleCounts(train=367 + 101, test=233),
    )
)
