"""A forward and a backward pass without values: what a model returns, and what it leaves out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call

from sms_dist.config import Config
from sms_dist.data.dataset import DatasetInfo
from sms_dist.models.speedup import on_meta, without_values
from sms_dist.tasks.base import main_output

# Parameters with which a step is taken on the CPU: gradients on the meta device import torch's
# compiler, which takes as long as all else of a plan.
MOST_ZEROS = 15_000_000


class Trial(NamedTuple):
    """What a training step showed: parameters that get no gradient, and those that are frozen."""

    unused: tuple[str, ...]
    frozen: tuple[str, ...]


def trial(config: Config, info: DatasetInfo, model: nn.Module, batch_size: int = 2) -> Trial:
    """Take a model through a training step of a few samples, a large one on the meta device.

    ValueError where its outputs are not those of the task, or one sample is too few for it.
    """
    name = f"model.name={config.model.name}"
    inputs = tuple(each.expand(batch_size, *each.shape[1:]) for each in example(info))
    trained = [n for n, p in model.named_parameters() if p.requires_grad]

    def step(tensors: Mapping[str, Tensor], given: tuple[Tensor, ...]) -> tuple[str, ...]:
        outputs = functional_call(model, dict(tensors), given)
        _check_outputs(outputs, info, name, batch_size)
        heads = outputs if isinstance(outputs, tuple) else (outputs,)
        total = torch.stack([head.float().sum() for head in heads]).sum()
        if not total.requires_grad:
            raise ValueError(f"{name}: no parameter that is trained has an effect on the outputs")
        leaves = [tensors[n] for n in trained]
        gradients = torch.autograd.grad(total, leaves, allow_unused=True)
        return tuple(n for n, g in zip(trained, gradients, strict=True) if g is None)

    try:
        unused = without_values(step, model, inputs, training=True, most_zeros=MOST_ZEROS)
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise ValueError(
            f"data.batch_size={config.data.batch_size} leaves a rank one sample of a step, and "
            f"batch norm of {name} needs two; raise it, or lower engine.accumulation, or "
            "engine.ranks_per_candidate"
        ) from None
    return Trial(unused, tuple(n for n, p in model.named_parameters() if not p.requires_grad))


def example(info: DatasetInfo) -> tuple[Tensor, ...]:
    """Return what the model takes for one sample, on the meta device."""
    if info.task == "translation":
        return on_meta(info.input_shape, torch.int64) * 2  # source and target
    return on_meta(info.input_shape)


def _check_outputs(outputs: Any, info: DatasetInfo, name: str, batch_size: int) -> None:
    heads = outputs if isinstance(outputs, tuple) else (outputs,)
    if not heads or not all(isinstance(head, Tensor) for head in heads):
        keys = f" with {', '.join(map(str, outputs))}" if isinstance(outputs, Mapping) else ""
        raise ValueError(
            f"{name} returns a {type(outputs).__name__}{keys}; return the logits as a tensor, a "
            "tuple of them with auxiliary heads after it, or a mapping with logits"
        )
    shape = tuple(main_output(outputs).shape)
    ndim = {"classification": 2, "translation": 3, "segmentation": 4}.get(info.task)
    wanted = (batch_size, info.num_classes)
    if ndim is not None and (len(shape) != ndim or shape[:2] != wanted):
        raise ValueError(
            f"{name} returns {shape} for {batch_size} samples, and data.name={info.name} has "
            f"{info.num_classes} classes; return {batch_size} x {info.num_classes}"
            f"{' x positions' if ndim > 2 else ''}"
        )
