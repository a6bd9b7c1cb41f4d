"""ImageNet (ILSVRC 2012): 1.28 million photographs, 1000 classes; tested on its `val`."""

from __future__ import annotations

from data.card import Card, SampleCounts
from data.carded import source

IMAGENET = source(
    Card(
        name="imagenet",
        images=("jpg", "jpeg", "png"),
        size=(224, 224),
        fit="crop",
        classes=1000,  # index.json has their names, out of what was prepared
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        augment="random_resized_crop",
        samples=SampleCounts(train=1_281_167, test=50_000),
    )
)
