"""What every engine is given and what it does."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from sms_dist.config import EngineConfig, PretrainConfig
from sms_dist.engines.optimizers import optimizer_maker
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
    optimizer: PretrainConfig  # its optimizer keys; retraining replaces some of them
    batch_size: int
    rule: Rule | None = None

    @property
    def dtype(self) -> torch.dtype:
        return PRECISIONS[self.engine.precision]


class Holder(Protocol):
    """One candidate's weights while they are trained, and all that its next step depends on.

    The ranks of the candidate's axis call every method together, unless it says otherwise.
    """

    def weights(self) -> dict[str, Tensor]:
        """The fp32 parameters under the bare model's names, whole, on every rank of the axis."""

    @property
    def is_sharded(self) -> bool:
        """Has each rank of the axis a state of its own? Else the first one's is everybody's."""
        ...

    def state(self) -> dict[str, Tensor]:
        """All of this rank that the next step depends on, by stable names.

        Not copies: the next step changes them. Floating-point numbers and counts are float64 and
        int64 without dimensions. In no collective.
        """

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on, bit for bit, where `state` was taken from an engine of the same job.

        For a fresh engine. ValueError on all ranks, and nothing is changed, if names, shapes or
        types do not fit on one of them.
        """

    def close(self) -> None:
        """Give back hooks and buffers; the engine is of no use after."""


class Engine(Holder, Protocol):
    """One candidate's training steps on the ranks of an axis.

    The mathematics is that of one process with the whole batch: gradients are means over all
    samples of the step, whatever rank or micro-batch they fell to. Pruned weights get no gradient,
    so they and their optimizer state stay exactly zero, in the masters too.
    """

    def step(self, inputs: Inputs, targets: Tensor, weight: float, rate: float, loss: Loss) -> None:
        """One optimizer step at the given rate on my share of a batch.

        The losses of all ranks are summed and divided by `weight`.
        """


def make_optimizer(job: Job) -> torch.optim.Optimizer:
    """Return the job's optimizer over the model and the rule's parameters; steps set its rate."""
    config, rule = job.optimizer, job.rule
    trained = [*job.model.parameters(), *(rule.parameters if rule else ())]
    make = optimizer_maker(config.optimizer)
    return make(trained, config, rule is None or rule.allows_nesterov)


def micro_batches(
    inputs: Inputs, targets: Tensor, num: int
) -> Iterator[tuple[Inputs, Tensor, bool]]:
    """My share of a batch in `num` nearly equal pieces, and whether it is the last of them."""
    pieces = zip(*(tensor.tensor_split(num) for tensor in (*inputs, targets)), strict=True)
    for i, (*piece, wanted) in enumerate(pieces, 1):
        yield tuple(piece), wanted, i == num
