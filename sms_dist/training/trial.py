"""A training step on a made-up batch: what a model returns, and what it leaves out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from sms_dist import models
from sms_dist.base.lookup import guarded
from sms_dist.config import Config, ModelConfig
from sms_dist.data.dataset import DatasetInfo
from sms_dist.models.speedup import Products, on_meta, products
from sms_dist.tasks.base import main_output

# Values of a sample times parameters: beyond it a step may take seconds on a CPU. Below it, the
# meta device would, which imports a compiler for batch norm.
LARGE = 4 * 10**10
NUM_MORE = 3  # steps with random samples, where a first one leaves parameters out
TAKEN = "docs/models.md says what models take and return"


class Trial(NamedTuple):
    """The result of training steps, by the names of parameters and buffers."""

    unused: tuple[str, ...] = ()  # get no gradient, in any step
    frozen: tuple[str, ...] = ()
    occasional: tuple[str, ...] = ()  # get a gradient in some steps only
    updated: tuple[str, ...] = ()  # buffers that a forward pass writes, but for norms' statistics


def trial(config: Config, info: DatasetInfo, batch_size: int = 2) -> Trial:
    """Take a model through training steps of a few samples; global randomness stays as it is.

    Large ones take it on the meta device, where nothing is computed. ValueError where the model
    takes no such samples, its outputs are not those of the task, or one sample is too few.
    """
    model = config.model.model_copy(update={"weights": None}).model_dump_json()
    try:
        return _tried(model, info, batch_size)
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise ValueError(
            f"data.batch_size={config.data.batch_size} leaves a rank one sample of a step, and "
            f"batch norm of model.name={config.model.name} needs two; raise it, or lower "
            "engine.accumulation, or engine.ranks_per_candidate"
        ) from None


@lru_cache(maxsize=4)  # a plan asks several times, a sweep for every point
def _tried(json: str, info: DatasetInfo, batch_size: int) -> Trial:
    config, inputs = ModelConfig.model_validate_json(json), example(info)
    shape, num_classes, name, task = info.input_shape, info.num_classes, info.name, info.task
    meta = models.build_on_meta(config, shape, num_classes, data_name=name, task=task)
    inputs = tuple(each.expand(batch_size, *each.shape[1:]) for each in inputs)
    with torch.random.fork_rng(devices=[]):
        if inputs[0][0].numel() * sum(p.numel() for p in meta.parameters()) > LARGE:
            try:
                return _step(meta, inputs, info, config.name)
            except ValueError as error:
                if "meta" not in str(error):  # else it asks for values
                    raise
        model = models.build(config, shape, num_classes, seed=0, data_name=name, task=task)
        zeros = tuple(torch.zeros_like(each, device="cpu") for each in inputs)
        first = _step(model, zeros, info, config.name)
        if not first.unused or batch_size == 1:
            return first
        # Which parameters a step uses may depend on values and chance: then none is unused.
        generator = torch.Generator().manual_seed(0)
        for _ in range(NUM_MORE):
            samples = tuple(
                _random(each.repeat_interleave(4, 0), info, generator) for each in zeros
            )
            other = _step(model, samples, info, config.name)
            if other.unused != first.unused:
                some = tuple(n for n, p in model.named_parameters() if p.requires_grad)
                always = {*some} - {*first.unused, *other.unused}
                occasional = tuple(n for n in some if n not in always)
                return first._replace(unused=(), occasional=occasional)
    return first


@lru_cache(maxsize=4)
def used(json: str, info: DatasetInfo) -> Products:
    """Return how the model of a section `model`, as JSON, uses its parameters in products."""
    shape, num_classes, name, task = info.input_shape, info.num_classes, info.name, info.task
    config = ModelConfig.model_validate_json(json)
    meta = models.build_on_meta(config, shape, num_classes, data_name=name, task=task)
    return products(meta, example(info))


def _random(like: Tensor, info: DatasetInfo, generator: torch.Generator) -> Tensor:
    if like.is_floating_point():
        return torch.randn(like.shape, generator=generator)
    return torch.randint(info.vocabulary or 2, like.shape, generator=generator)


def _step(model: nn.Module, inputs: tuple[Tensor, ...], info: DatasetInfo, name: str) -> Trial:
    call = guarded(model.train().__call__, name, "model.name", TAKEN)
    names = [n for n, _ in model.named_parameters()]
    before = {n: (b, b._version, b.detach().clone()) for n, b in model.named_buffers()}
    outputs = call(*inputs)
    _check_outputs(outputs, info, f"model.name={name}", len(inputs[0]))
    if more := [n for n, _ in model.named_parameters() if n not in names]:
        raise ValueError(
            f"model.name={name} makes {more[0]} when it is called; call it once in its build "
            "function, with torch.zeros(1, *input_shape)"
        )
    heads = outputs if isinstance(outputs, tuple) else (outputs,)
    total = torch.stack([head.float().sum() for head in heads]).sum()
    trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
    if not total.requires_grad:
        raise ValueError(f"model.name={name}: nothing that is trained has an effect on the outputs")
    gradients = torch.autograd.grad(total, [*trained.values()], allow_unused=True)
    return Trial(
        unused=tuple(n for n, g in zip(trained, gradients, strict=True) if g is None),
        frozen=tuple(n for n in names if n not in trained),
        updated=tuple(_written(model, before)),
    )


def _written(model: nn.Module, before: Mapping[str, tuple[Tensor, int, Tensor]]) -> Iterator[str]:
    """Yield the buffers that differ from those `before`, or have been written; norms' aside."""
    norms = [name for name, module in model.named_modules() if isinstance(module, _NormBase)]
    for name, buffer in model.named_buffers():
        if name.rpartition(".")[0] not in norms:
            old, version, values = before.get(name, (None, 0, buffer))
            # F.batch_norm writes statistics without counting that as a version
            is_same = old is buffer and version == buffer._version
            if not (is_same and (buffer.is_meta or torch.equal(buffer, values))):
                yield name


def example(info: DatasetInfo) -> tuple[Tensor, ...]:
    """Return what the model takes for one sample, on the meta device."""
    if info.task == "translation":
        return on_meta(info.input_shape, torch.int64) * 2  # source and target
    return on_meta(info.input_shape, torch.int64 if info.has_numbers else torch.float32)


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
