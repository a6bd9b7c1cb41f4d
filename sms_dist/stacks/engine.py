"""An engine for several candidates that take their steps together, in one process.

Each has its own batch, rate, mask and statistics, and nothing of the others. The number of rows
shows in the bits, so it follows from the lengths of the trainings alone: a row stays until its
training would end, whether its candidate still trains or not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from sms_dist.data.loader import Batch
from sms_dist.engines.base import Job
from sms_dist.engines.state import check_fit, copy_, joined, number
from sms_dist.soups.states import bare_state
from sms_dist.stacks.rows import ROW_OPTIMIZERS, CountedLoss, RowNetwork

Drawn = tuple[Batch, float]  # a candidate's batch for a step, and its learning rate


class StackEngine:
    """A stack of candidates at the places 0, 1, ...; each has one row of the weights."""

    def __init__(self, jobs: Sequence[Job | None], lengths: Sequence[int]) -> None:
        """Make a stack of jobs with the same network, which is not changed.

        `jobs` has None at a place where no candidate trains (any more), `lengths` the steps that a
        training at each place takes.
        """
        given = [job for job in jobs if job is not None]
        filled = [job or given[0] for job in jobs]
        self._lengths = list(lengths)
        self._config, self._clip_norm = given[0].engine, given[0].optimizer.clip_norm
        self._network = RowNetwork(given[0].model, given[0].dtype)
        self._rows = list(range(len(jobs)))  # row -> place
        self.num_steps = [0] * len(jobs)  # that each place has taken
        self._pruned = torch.stack([self._pruned_row(job) for job in filled])
        weights = [self._network.row(dict(job.model.named_parameters())) for job in filled]
        self._weights = torch.stack(weights).masked_fill_(self._pruned, 0.0)
        buffers = [_unmoved(job) for job in filled]
        self._buffers = {n: torch.stack([each[n] for each in buffers]) for n in buffers[0]}
        self._stored = bare_state(given[0].model).keys()
        optimizers = [job.optimizer for job in filled]
        self._optimizer = ROW_OPTIMIZERS[optimizers[0].name](optimizers, self._weights)

    def place(self, index: int) -> StackPlace:
        """Return one candidate of the stack, as a training sees it."""
        return StackPlace(self, index)

    def step(self, step: int, drawn: Mapping[int, Drawn], loss: CountedLoss) -> dict[int, Tensor]:
        """Take a step at the places that have drawn, after `step` steps; return the counts of each.

        The other places do not change. Batches of different shapes are computed one after another.
        """
        self._narrow([i for i, length in enumerate(self._lengths) if length > step])
        alike: dict[tuple[torch.Size, ...], dict[int, Drawn]] = {}
        for place, (batch, rate) in drawn.items():
            shapes = tuple(tensor.shape for tensor in (*batch.inputs, batch.targets))
            alike.setdefault(shapes, {})[place] = batch, rate
        counts: dict[int, Tensor] = {}
        for some in alike.values():
            with self._unchanged([place for place in self._rows if place not in some]):
                rows = self._step(some, loss)
            counts |= {place: rows[self._rows.index(place)] for place in some}
        for place in drawn:
            self.num_steps[place] += 1
        return counts

    def row_of(self, place: int) -> dict[str, Tensor]:
        """Return all that is stacked, of one place, as views."""
        row = self._rows.index(place)
        return {name: tensor[row] for name, tensor in self._stacked().items()}

    def weights_of(self, place: int) -> dict[str, Tensor]:
        """Return the parameters and persistent buffers of a place, as views."""
        row = self._rows.index(place)
        buffers = {n: tensor[row] for n, tensor in self._buffers.items() if n in self._stored}
        return self._network.named(self._weights[row]) | buffers

    def _step(self, drawn: Mapping[int, Drawn], loss: CountedLoss) -> Tensor:
        """Take a step of all rows; a place that has drawn nothing gets the batch of another."""
        filler = next(iter(drawn.values()))
        filled = [drawn.get(place, filler) for place in self._rows]
        batches = [batch for batch, _ in filled]
        each_input = zip(*(batch.inputs for batch in batches), strict=True)
        inputs = [torch.stack(tensors) for tensors in each_input]
        targets = torch.stack([batch.targets for batch in batches])
        scale = self._column([1 / batch.weight for batch in batches])
        self._weights.requires_grad_().grad = None
        counts = torch.zeros(())
        num = self._config.accumulation
        pieces = zip(*(t.tensor_split(num, dim=1) for t in (*inputs, targets)), strict=True)
        for *piece, wanted in pieces:
            losses, more, new = self._network.losses(
                self._weights, self._buffers, piece, wanted, loss
            )
            self._buffers |= new
            (losses * scale).sum().backward()  # type: ignore[no-untyped-call]
            counts = more if counts.ndim == 0 else counts + more
        self._apply([rate for _, rate in filled])
        return counts

    @torch.no_grad()
    def _apply(self, rates: Sequence[float]) -> None:
        gradients = self._weights.grad
        assert gradients is not None
        gradients.masked_fill_(self._pruned, 0.0)
        if self._clip_norm is not None:
            norms = gradients.norm(dim=1, keepdim=True)
            gradients.mul_((self._clip_norm / (norms + 1e-6)).clamp_(max=1.0))
        num_steps = [self.num_steps[place] for place in self._rows]
        self._optimizer.step_(self._weights.requires_grad_(False), gradients, rates, num_steps)

    def _narrow(self, places: Sequence[int]) -> None:
        """Drop the rows of all places but these."""
        if self._rows == places:
            return
        rows = self._index([self._rows.index(place) for place in places])
        self._rows = list(places)
        self._pruned, self._weights = self._pruned[rows], self._weights.detach()[rows]
        self._buffers = {name: tensor[rows] for name, tensor in self._buffers.items()}
        self._optimizer.narrow(rows)

    @contextmanager
    def _unchanged(self, places: Sequence[int]) -> Iterator[None]:
        """Leave these places unchanged by what happens inside."""
        if not places:
            yield
            return
        rows = self._index([self._rows.index(place) for place in places])
        before = {name: tensor[rows] for name, tensor in self._stacked().items()}
        yield
        for name, tensor in self._stacked().items():
            tensor[rows] = before[name]

    def _stacked(self) -> dict[str, Tensor]:
        others = {"optimizer": self._optimizer.memory, "buffer": self._buffers}
        return {"weights": self._weights.detach()} | joined(others)

    def _pruned_row(self, job: Job) -> Tensor:
        shapes = {n: torch.zeros_like(p, dtype=torch.bool) for n, p in job.model.named_parameters()}
        return self._network.row(shapes | {n: ~kept for n, kept in job.mask.items()})

    def _column(self, values: Sequence[float]) -> Tensor:
        return torch.tensor(values, dtype=self._weights.dtype, device=self._weights.device)

    def _index(self, rows: Sequence[int]) -> Tensor:
        return torch.tensor(rows, dtype=torch.int64, device=self._weights.device)


def _unmoved(job: Job) -> dict[str, Tensor]:
    """Return what no optimizer moves: buffers, and frozen parameters, pruned by the mask."""
    frozen = {n: p.detach() for n, p in job.model.named_parameters() if not p.requires_grad}
    for name in frozen.keys() & job.mask.keys():
        frozen[name] = frozen[name].masked_fill(~job.mask[name], 0.0)
    return {**dict(job.model.named_buffers()), **frozen}


class StackPlace:
    """One candidate of a stack: its weights, and what its next step depends on."""

    is_sharded = False

    def __init__(self, engine: StackEngine, index: int) -> None:
        self._engine, self._index = engine, index

    def weights(self) -> dict[str, Tensor]:
        weights = self._engine.weights_of(self._index)
        return {name: tensor.detach().clone() for name, tensor in weights.items()}

    def state(self) -> dict[str, Tensor]:
        num_steps = number(self._engine.num_steps[self._index])
        return {"num_steps": num_steps} | self._engine.row_of(self._index)

    def restore(self, state: Mapping[str, Tensor]) -> None:
        check_fit(state, self.state())
        copy_(self._engine.row_of(self._index), state)
        self._engine.num_steps[self._index] = int(state["num_steps"])

    def close(self) -> None:
        """Do nothing: the engine holds all there is."""
