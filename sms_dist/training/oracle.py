"""Measuring soups that rules and diagnostics ask for: on all ranks, norms recomputed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
from torch import Tensor, nn

from sms_dist.data.loader import Batch
from sms_dist.mesh.collectives import sum_over_parts
from sms_dist.mesh.division import parts_of
from sms_dist.soups.merge import Mixer
from sms_dist.soups.norms import follow_statistics_
from sms_dist.tasks.base import Metrics
from sms_dist.training.context import Context, State
from sms_dist.training.evaluation import measured, validated, with_norms

View = Callable[[State], State]
# From a model, the number of a part and its batches to weight and summed loss of each batch.
Losses = Callable[[nn.Module, int, Iterable[Batch]], Iterator[tuple[float, Tensor]]]


class SoupOracle:
    """Measures soups over all ranks, which must ask for the same ones in the same order.

    A `view` makes a model of a mixture, into a new state: it keeps a weight or makes it zero.
    The objective is the validation loss or, with a `teacher`, the divergence from that model.
    """

    def __init__(
        self, context: Context, mixer: Mixer, view: View, teacher: State | None = None
    ) -> None:
        self._context, self._mixer, self._view = context, mixer, view
        self._losses = (
            _cross_entropies(context) if teacher is None else _divergences(context, teacher)
        )

    def score(self, coefficients: Sequence[float]) -> float:
        """Return the soup's score on validation samples: the larger the better."""
        return self._context.comparable(self._validated(coefficients))

    def loss(self, coefficients: Sequence[float]) -> float:
        """Return the soup's loss on validation samples."""
        return self._validated(coefficients)["validation_loss"]

    def metrics(self, coefficients: Sequence[float]) -> Metrics:
        """Return the soup's metrics on validation and test samples."""
        state = self._view(self._mixer.mixed(coefficients))
        return measured(self._context, state, self._context.mesh.world)[1]

    def objective(self, coefficients: Sequence[float]) -> tuple[float, list[float]]:
        """Return the mean over validation samples, and its derivative by each coefficient.

        The derivative takes what the view zeroes for given.
        """
        context, mixer = self._context, self._mixer
        mixed = mixer.mixed(coefficients)
        viewed = self._view(mixed)
        kept = {name: viewed[name] == tensor for name, tensor in mixed.items()}
        model = with_norms(context, viewed, context.mesh.world)
        follow_statistics_(model)
        mixer.gather_candidates()
        world = context.mesh.world
        parts = context.loaders.validation.parts(parts_of(world.rank, world.size))

        def part(index: int) -> Tensor:
            sums = _descend(model, self._losses(model, index, parts[index]))
            if sums is None:
                return torch.zeros(2 + mixer.num, dtype=torch.float64, device=context.mesh.device)
            gradient = {name: _gradient(p) * kept[name] for name, p in model.named_parameters()}
            return torch.cat([sums, mixer.products(gradient)])

        total = sum_over_parts(part, 2 + mixer.num, world, context.mesh.device)
        weight, value, *derivative = (total / total[0]).tolist()
        assert weight == 1, weight
        return value, derivative

    def _validated(self, coefficients: Sequence[float]) -> Metrics:
        state, world = self._view(self._mixer.mixed(coefficients)), self._context.mesh.world
        return validated(self._context, with_norms(self._context, state, world), world)


def _descend(model: nn.Module, losses: Iterator[tuple[float, Tensor]]) -> Tensor | None:
    """Return the sums of weights and losses, float64, and leave the gradient in the model; None if
    there is no loss."""
    model.zero_grad()
    total = None
    for weight, loss in losses:
        loss.backward()  # type: ignore[no-untyped-call]
        pair = torch.stack([loss.new_tensor(weight).double(), loss.detach().double()])
        total = pair + (0.0 if total is None else total)
    return total


def _gradient(parameter: Tensor) -> Tensor:
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad


def _cross_entropies(context: Context) -> Losses:
    def losses(
        model: nn.Module, index: int, batches: Iterable[Batch]
    ) -> Iterator[tuple[float, Tensor]]:
        for batch in batches:
            yield batch.weight, context.task.loss(model(*batch.inputs), batch.targets)

    return losses


def _divergences(context: Context, teacher: State) -> Losses:
    """Return the losses KL(teacher || model) at temperature 1. Every rank must call."""
    expert = with_norms(context, teacher, context.mesh.world)

    known: dict[int, list[Tensor]] = {}  # by part: the teacher looks at each batch once

    def losses(
        model: nn.Module, index: int, batches: Iterable[Batch]
    ) -> Iterator[tuple[float, Tensor]]:
        wanted = known.setdefault(index, [])
        for number, batch in enumerate(batches):
            if number == len(wanted):
                with torch.no_grad():
                    wanted.append(expert(*batch.inputs))
            outputs = model(*batch.inputs)
            yield batch.weight, context.task.divergence(outputs, wanted[number], batch.targets)

    return losses
