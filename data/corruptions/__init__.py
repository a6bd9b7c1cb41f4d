"""Names of the image corruptions of Hendrycks & Dietterich (ICLR 2019); imports no torch."""

from __future__ import annotations

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
