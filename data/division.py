"""Which of the training samples are kept for validation: the same ones for every seed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from data.dataset import DatasetInfo, Split
from sms_dist.config import DataConfig

if TYPE_CHECKING:
    from torch import Tensor


def split_sizes(info: DatasetInfo, config: DataConfig) -> tuple[int, int]:
    """Training and validation samples; validation takes whole groups."""
    num_groups = info.num_train // info.group
    validation = (
        min(round(config.validation * info.num_train / info.group), num_groups) * info.group
    )
    if validation == info.num_train:
        raise ValueError(
            f"data.validation={config.validation} of {info.num_train} training samples"
            " leaves none to train on; lower it or raise data.train_samples"
        )
    return info.num_train - validation, validation


def is_validation(info: DatasetInfo, config: DataConfig) -> Tensor:
    """[info.num_train] bool; consecutive samples of a group stay together."""
    import torch

    from sms_dist.randomness import stream

    _, num_validation = split_sizes(info, config)
    chosen = stream(0, "validation split").permutation(info.num_train // info.group)
    flags = torch.zeros(info.num_train, dtype=torch.bool)
    for offset in range(info.group):
        flags[chosen[: num_validation // info.group] * info.group + offset] = True
    return flags


def divided(split: Split, info: DatasetInfo, config: DataConfig) -> tuple[Split, Split]:
    """Training and validation samples, each in stored order."""
    flags = is_validation(info, config)
    return split.select(~flags), split.select(flags)
