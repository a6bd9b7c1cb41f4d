"""The pixels of a set of images: their moments per channel, and what people should know of them."""

from __future__ import annotations

import numpy as np

from sms_dist.data.decode import PNG, PNG_DEPTH, Array

SMALLEST_STD = 0.01  # of a channel in [0, 1]: a smaller one is hardly that of photographs
VALUES = np.arange(256) / 255


class Statistics:
    """Counts of each value in each channel, exact for any number of images."""

    def __init__(self, num_channels: int) -> None:
        self._counts = np.zeros((num_channels, 256), np.int64)
        self._num_deep = self._num_alpha = 0

    def add(self, pixels: Array, data: bytes) -> None:
        """Count the pixels (C x h x w) of an image, which were decoded from a file's bytes."""
        for counts, channel in zip(self._counts, pixels, strict=True):
            counts += np.bincount(channel.ravel(), minlength=256)
        if data.startswith(PNG):
            self._num_deep += data[PNG_DEPTH] == 16
            has_alpha = data[PNG_DEPTH + 1] & 4 or b"tRNS" in data[: data.find(b"IDAT")]
            self._num_alpha += bool(has_alpha)

    @property
    def moments(self) -> tuple[list[float], list[float]]:
        """Return mean and standard deviation of the pixels in [0, 1], per channel."""
        shares = self._counts / np.maximum(self._counts.sum(1, keepdims=True), 1)
        mean = shares @ VALUES
        return mean.tolist(), np.sqrt(np.maximum(shares @ VALUES**2 - mean**2, 0)).tolist()

    def notes(self) -> list[str]:
        """Return a line for each thing that is odd about the images."""
        notes = [
            f"channel {number} of {len(self._counts)}: the standard deviation of its pixels is"
            f" {std:.4f}, they are nearly all alike"
            for number, std in enumerate(self.moments[1], start=1)
            if std < SMALLEST_STD
        ]
        largest = int(np.flatnonzero(self._counts.sum(0)).max(initial=0))
        if self._num_deep and largest < 128:
            notes.append(
                f"{self._num_deep} images have 16 bits, of which the upper 8 are taken, and no"
                f" pixel is brighter than {largest} of 255; scale them to all 16 bits first"
            )
        if self._num_alpha:
            notes.append(f"{self._num_alpha} images have an alpha channel, which is left out")
        return notes
