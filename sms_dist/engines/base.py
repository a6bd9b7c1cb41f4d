"""The interface of engines: the job that they are given, and what they do."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from sms_dist.config import EngineConfig
from sms_dist.engines.optimizers import OptimizerSettings, optimizer_maker
from sms_dist.mesh.topology import Axis, Topology
from sms_dist.pruning.mask import Mask
from sms_dist.sparse_rules.base import Rule

Inputs = tuple[Tensor, ...]
Loss = Callable[[Any, Tensor], Tensor]  # (outputs, targets) -> summed
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Job:
    """One training: a bare model, the same on all ranks of `axis`, and how it is optimized.

    Either a mask holds throughout, or a sparse training rule decides about the weights that the
    mask names.
    """

    model: nn.Module
    mask: Mask
    axis: Axis
    mesh: Topology
    engine: EngineConfig
    optimizer: OptimizerSettings
    batch_size: int
    rule: Rule | None = None

    @property
    def dtype(self) -> torch.dtype:
        """Return the type that the forward pass computes in."""
        return PRECISIONS[self.engine.precision]


class Trainable(Protocol):
    """One candidate's weights in training, and all that its next step depends on.

    The ranks of the candidate's axis call every method together, unless it says otherwise.
    """

    def weights(self) -> dict[str, Tensor]:
        """Return copies of the whole fp32 parameters and of the persistent buffers, by the bare
        model's names: the same on every rank."""

    @property
    def is_sharded(self) -> bool:
        """Return True if each rank has a state of its own, False if all have that of the first."""
        ...

    def state(self) -> dict[str, Tensor]:
        """Return all of this rank that the next step depends on, by stable names.

        These are no copies: the next step changes them. Floating-point numbers and counts are
        float64 and int64 without dimensions. This is no collective.
        """

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on, bit for bit, from a `state` of an engine with the same job.

        Call it on a fresh engine. Raises ValueError on all ranks, and changes nothing, if names,
        shapes or types do not fit on one of them.
        """

    def close(self) -> None:
        """Free hooks and buffers; the engine cannot be used afterwards."""


class Engine(Trainable, Protocol):
    """One candidate's training steps on the ranks of an axis.

    The mathematics is that of one process with the whole batch: gradients are means over all
    samples of the step, whatever rank or micro-batch they fell to. Pruned weights get no gradient,
    so they and their optimizer state stay exactly zero, in the masters too.
    """

    def step(self, inputs: Inputs, targets: Tensor, weight: float, rate: float, loss: Loss) -> None:
        """Take one optimizer step at the given rate on this rank's share of a batch.

        The losses of all ranks are summed and divided by `weight`.
        """


def make_optimizer(job: Job) -> torch.optim.Optimizer:
    """Return the job's optimizer over the rule's parameters, and those of the model that are not
    frozen; steps set its rate."""
    settings, rule = job.optimizer, job.rule
    trained = [p for p in job.model.parameters() if p.requires_grad]
    trained += rule.parameters if rule else ()
    if rule and not rule.allows_nesterov:
        settings = replace(settings, nesterov=False)
    return optimizer_maker(settings.name)(trained, settings)


def micro_batches(
    inputs: Inputs, targets: Tensor, num: int
) -> Iterator[tuple[Inputs, Tensor, bool]]:
    """Yield a share of a batch in `num` nearly equal pieces: inputs, targets, is it the last?"""
    pieces = zip(*(tensor.tensor_split(num) for tensor in (*inputs, targets)), strict=True)
    for i, (*piece, wanted) in enumerate(pieces, 1):
        yield tuple(piece), wanted, i == num
