"""Image corruptions (Hendrycks & Dietterich, ICLR 2019): their names, and a test set under one.

Nothing here imports torch.
"""

from __future__ import annotations

from dataclasses import dataclass

from sms_dist.data.dataset import Read

# The benchmark: "OOD accuracy" is over these and all severities.
BENCHMARK = (
    "gaussian_noise",
    "shot_noise",
    "impulse_noise",
    "defocus_blur",
    "glass_blur",
    "motion_blur",
    "zoom_blur",
    "snow",
    "frost",
    "fog",
    "brightness",
    "contrast",
    "elastic_transform",
    "pixelate",
    "jpeg_compression",
)
# Its authors keep these for the choice of hyperparameters.
EXTRAS = ("speckle_noise", "gaussian_blur", "spatter", "saturate")
SEVERITIES = (1, 2, 3, 4, 5)


@dataclass(frozen=True)
class CorruptedSet:
    """The test set under one corruption. `count` samples, in an order that never changes."""

    corruption: str
    severity: int
    count: int
    read: Read
