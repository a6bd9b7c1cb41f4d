"""Cityscapes: street scenes of 50 cities with fine masks, 19 classes; tested on its `val`.

The labels of its own test images are not public.
"""

from __future__ import annotations

from data.card import Card, SampleCounts
from data.carded import source

CLASSES = (
    "road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign",
    "vegetation", "terrain", "sky", "person", "rider", "car", "truck", "bus", "train",
    "motorcycle", "bicycle",
)  # fmt: skip
VOID = 255
# labelIds of the data set, in the order of CLASSES; all others are void.
LABEL_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)

CITYSCAPES = source(
    Card(
        name="cityscapes",
        task="segmentation",
        target="seg.png",
        size=(512, 1024),  # half of what is stored
        classes=CLASSES,
        void=VOID,
        mean=(0.2869, 0.3251, 0.2839),
        std=(0.1870, 0.1902, 0.1872),
        augment="scale_crop_flip",
        samples=SampleCounts(train=2975, test=500),
    )
)
