"""The sizes of a plan, without importing torch where the model is a familiar one."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from sms_dist import data
from sms_dist.config import Config
from sms_dist.data.dataset import DatasetInfo
from sms_dist.methods.plan import Sizes, Survivors
from sms_dist.pruning.allocation import num_kept
from sms_dist.pruning.feasible import UNSTRUCTURED, num_expected, without

if TYPE_CHECKING:
    from torch import nn

# (model without options, shape of its inputs (None: any), classes) -> (prunable, other) parameters;
# the first line that fits counts. Building a model to count them takes seconds, most of them
# torch's import; a test holds this copy to the models.
FAMILIAR: dict[tuple[str, tuple[int | None, ...], int], tuple[int, int]] = {
    ("digits_cnn", (1, 8, 8), 10): (23_824, 234),
    ("digits_cnn", (1, 12, 12), 10): (23_824, 234),
    ("resnet20", (3, 32, 32), 10): (268_336, 1_386),
    ("resnet20", (3, 32, 32), 100): (274_096, 1_476),
    ("resnet18", (3, 32, 32), 10): (11_164_352, 9_610),
    ("resnet18", (3, 32, 32), 100): (11_210_432, 9_700),
    ("resnet18", (3, 32, 32), 2): (11_160_256, 9_602),  # by its stem not the next one
    ("resnet18", (3, None, None), 2): (11_167_936, 9_602),  # CelebA
    ("resnet50", (3, 224, 224), 1000): (25_502_912, 54_120),
    ("wrn20", (3, 32, 32), 10): (26_784_432, 21_338),
    ("wrn20", (3, 32, 32), 100): (26_842_032, 21_428),
    ("vgg16_bn", (3, 32, 32), 10): (14_715_584, 12_682),
    ("vgg16_bn", (3, 32, 32), 100): (14_761_664, 12_772),
    ("maxvit_t", (3, 224, 224), 1000): (30_757_056, 162_568),
    ("pspnet", (3, None, None), 19): (67_837_376, 111_014),  # Cityscapes
    ("t5", (None,), 32_128): (60_489_728, 16_471_424),
    ("t5", (None,), 32_000): (60_424_192, 16_405_888),  # pieces of its own vocabulary
    ("t5", (None,), 259): (44_172_800, 154_496),  # bytes, as plans without a vocabulary have it
}


def sizes(config: Config, info: DatasetInfo) -> Sizes:
    """What the model and the data contribute; ValueError where they do not fit together."""
    num_train, _ = data.split_sizes(info, config.data)
    return Sizes(*num_parameters(config, info), -(-num_train // config.data.batch_size))


def survivors(config: Config, info: DatasetInfo) -> Survivors:
    """How many weights each sparsity leaves; patterns of several weights round it by layers."""
    pruning = config.pruning
    if pruning.pattern == UNSTRUCTURED:
        return partial(num_kept, num_parameters(config, info)[0])
    shapes = prunable_shapes(config, info)
    cut = {name: shapes[name] for name in without(shapes, pruning.keep_dense)}
    return lambda sparsity: num_expected(cut, sparsity, pruning.pattern)


def num_parameters(config: Config, info: DatasetInfo) -> tuple[int, int]:
    """Prunable and other parameters of the model for the shapes of the data."""
    is_plain = not (config.model.options or config.pruning.keep_dense or config.pruning.embeddings)
    found = _familiar(config.model.name, info) if is_plain else None
    return found or count_parameters(config, info)


def count_parameters(config: Config, info: DatasetInfo) -> tuple[int, int]:
    """The same, by building the model without memory for its weights."""
    from sms_dist.pruning.mask import prunable_names

    model = _on_meta(config, info)
    counts = {name: p.numel() for name, p in model.named_parameters()}
    pruning = config.pruning
    names = prunable_names(model, pruning.keep_dense, pruning.embeddings)
    num_prunable = sum(counts[name] for name in names)
    return num_prunable, sum(counts.values()) - num_prunable


def prunable_shapes(config: Config, info: DatasetInfo) -> dict[str, tuple[int, ...]]:
    """Of all weights that could be pruned, those that are to stay dense included."""
    from sms_dist.pruning import mask

    return mask.prunable_shapes(_on_meta(config, info), config.pruning.embeddings)


def _familiar(model: str, info: DatasetInfo) -> tuple[int, int] | None:
    fitting = (
        counts
        for (name, shape, num_classes), counts in FAMILIAR.items()
        if (name, num_classes) == (model, info.num_classes) and _fits(shape, info.input_shape)
    )
    return next(fitting, None)


def _fits(pattern: tuple[int | None, ...], shape: tuple[int, ...]) -> bool:
    return len(pattern) == len(shape) and all(
        wanted in (None, given) for wanted, given in zip(pattern, shape, strict=True)
    )


def _on_meta(config: Config, info: DatasetInfo) -> nn.Module:
    from sms_dist import models

    return models.build_on_meta(
        config.model, info.input_shape, info.num_classes, data_name=info.name, task=info.task
    )
