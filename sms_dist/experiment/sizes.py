"""The sizes of a plan: parameters of the model for the shapes of the data, steps of an epoch."""

from __future__ import annotations

from copy import deepcopy
from functools import lru_cache, partial
from math import prod
from typing import TYPE_CHECKING

from sms_dist import data
from sms_dist.config import Config, ModelConfig
from sms_dist.data.dataset import DatasetInfo
from sms_dist.engines import check_deepspeed
from sms_dist.methods.plan import Sizes, Survivors
from sms_dist.pruning.allocation import num_kept
from sms_dist.pruning.feasible import KEPT_DENSE, UNSTRUCTURED, num_expected, without

if TYPE_CHECKING:
    from torch import nn

    from sms_dist.pruning.layers import Weight


def sizes(config: Config, info: DatasetInfo) -> Sizes:
    """Return parameters and steps of an epoch; ValueError where model and data do not fit."""
    num_train, _ = data.split_sizes(info, config.data)
    return Sizes(*num_parameters(config, info), -(-num_train // config.data.batch_size))


def survivors(config: Config, info: DatasetInfo) -> Survivors:
    """Return how many weights a sparsity leaves; patterns of several weights round it by layers."""
    pruning = config.pruning
    if pruning.pattern == UNSTRUCTURED:
        return partial(num_kept, num_parameters(config, info)[0])
    shapes = prunable_shapes(config, info)
    cut = {name: shapes[name] for name in without(shapes, pruning.keep_dense)}
    return lambda sparsity: num_expected(cut, sparsity, pruning.pattern)


def num_parameters(config: Config, info: DatasetInfo) -> tuple[int, int]:
    """Return the numbers of prunable and of other parameters of the model."""
    num = sum(parameter.numel() for parameter in on_meta(config, info).parameters())
    num_prunable = sum(prod(weight.shape) for weight in layers(config, info) if weight.is_pruned)
    return num_prunable, num - num_prunable


def prunable_shapes(config: Config, info: DatasetInfo) -> dict[str, tuple[int, ...]]:
    """Return the shapes, outputs first, of all weights that could be pruned, those kept dense
    included."""
    return {
        weight.name: weight.matrix_shape
        for weight in layers(config, info)
        if weight.dense in ("", KEPT_DENSE)
    }


def layers(config: Config, info: DatasetInfo) -> list[Weight]:
    """Return what may be a weight matrix of the model, pruned or not; ValueError where unclear."""
    from sms_dist.training.context import model_weights

    return model_weights(config, info, on_meta(config, info))


def check_model(config: Config, info: DatasetInfo) -> None:
    """Raise ValueError if the engine cannot train the model as it shall."""
    from sms_dist.models.checkpointing import checkpoint_blocks_

    if config.engine.gradient_checkpointing:
        checkpoint_blocks_(deepcopy(on_meta(config, info)), config.model.name)
    if config.engine.name == "deepspeed":
        check_deepspeed(config.engine, config.pretrain.clip_norm, on_meta(config, info))


def has_batch_norm(config: Config, info: DatasetInfo) -> bool:
    """Return whether the model has statistics that are recomputed from the training set."""
    from torch.nn.modules.batchnorm import _NormBase

    layers = [each for each in on_meta(config, info).modules() if isinstance(each, _NormBase)]
    return any(layer.track_running_stats for layer in layers)


def on_meta(config: Config, info: DatasetInfo) -> nn.Module:
    """Return the model without memory for its weights."""
    model = config.model.model_dump_json()
    return _built(model, info.input_shape, info.num_classes, info.name, info.task)


@lru_cache(maxsize=4)  # a plan asks several times, a sweep for every point
def _built(
    model: str, shape: tuple[int, ...], num_classes: int, data_name: str, task: str
) -> nn.Module:
    from sms_dist import models

    config = ModelConfig.model_validate_json(model)
    return models.build_on_meta(config, shape, num_classes, data_name=data_name, task=task)
