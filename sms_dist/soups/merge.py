"""Merging: the weighted sum of the candidates of all groups, an all-reduce with a fixed order.

The way of a candidate's weights: `SurvivingVector.flatten` leaves out what the mask prunes; ranks
of different groups exchange slices of the vectors (`CandidateShards`: an all-to-all along the
candidate axis); each rank mixes its slice in candidate order (`mix`); all-gathers along the
candidate axis and then the data axis bring the whole soup to every rank.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod

import torch
from torch import Tensor

from sms_dist.mesh.collectives import agree, any_, exchange, gather, sum_
from sms_dist.mesh.topology import Topology
from sms_dist.soups.diversity import distances, gram
from sms_dist.soups.rules import Descent, Oracle, Rule
from sms_dist.soups.states import as_bytes, is_averaged
from sms_dist.soups.vector import SurvivingVector

State = Mapping[str, Tensor]

_CHUNK = 1 << 16  # values that are mixed together: they stay in the processor's cache
_DEVICE_CHUNK = 1 << 26


@dataclass(frozen=True)
class Soup:
    """The merged parameters and buffers, and how they came about."""

    state: dict[str, Tensor]
    coefficients: dict[int, float]  # of each candidate
    distances: dict[str, float]  # between candidates, see `diversity.distances`


def merge(
    candidates: Mixer,
    rule: Rule,
    scores: Mapping[int, float],
    oracle: Oracle,
    descent: Descent,
) -> Soup:
    """Return the soup that `rule` makes of the candidates. Every rank of the world must call.

    `scores` are those of the candidates on validation samples, by index, in the order of the mixer;
    `oracle` measures soups for rules that ask.
    """
    coefficients = rule.choose(list(scores.values()), oracle, descent)
    mesh = candidates.mesh
    if rule.is_own:  # it may use anything, also what differs from rank to rank
        agree({"soup coefficients": str(coefficients)}, mesh.world, mesh.device)
    by_index = dict(zip(scores, coefficients, strict=True))
    return Soup(candidates.mixed(coefficients), by_index, distances(candidates.gram()))


class Mixer:
    """The candidates of a phase, spread over all ranks: their soups, and products with them.

    A soup has the weighted sum of floating-point buffers, as of parameters; other buffers, such as
    counts, are those of the first candidate.
    """

    def __init__(
        self,
        mesh: Topology,
        vector: SurvivingVector,
        own: Mapping[int, State],
        owners: Mapping[int, int],
        buffers: State | None = None,
    ) -> None:
        """Exchange the candidates' slices. Every rank must call.

        `vector` says which parameters travel, `own` are the states of the candidates that my group
        holds, `owners` the group of each candidate, in index order, and `buffers` are like those
        of each state; all but `own` are the same on all ranks.
        """
        self.mesh, self.num, self._vector = mesh, len(owners), vector
        own = {i: state for i, state in own.items() if i in owners}
        self._shards = self._exchanged(vector, own, owners)
        averaged = [n for n, like in (buffers or {}).items() if is_averaged(like)]
        others = {n: like for n, like in (buffers or {}).items() if n not in averaged}
        self._buffers = SurvivingVector(buffers or {}, averaged, {}) if averaged else None
        if self._buffers:
            self._buffer_shards = self._exchanged(self._buffers, own, owners)
        self._others, self.differing = _of_the_first(others, own, owners, mesh)

    def _exchanged(
        self, vector: SurvivingVector, own: Mapping[int, State], owners: Mapping[int, int]
    ) -> CandidateShards:
        ranks = self.mesh.world.size
        flat = {i: vector.flatten(state, ranks) for i, state in own.items()}
        return CandidateShards(flat, owners, vector.num_values, self.mesh, vector.dtype)

    def mixed(self, coefficients: Sequence[float]) -> dict[str, Tensor]:
        """Return the state of a soup, in new tensors. Every rank must call."""
        state = self._vector.unflatten(self._shards.mix(coefficients))
        if self._buffers:
            state |= self._buffers.unflatten(self._buffer_shards.mix(coefficients))
        return state | {name: tensor.clone() for name, tensor in self._others.items()}

    def gram(self) -> Tensor:
        """Return the inner products between the candidates. Every rank must call."""
        return self._shards.gram()

    @cached_property
    def _whole(self) -> Tensor:
        return self._shards.whole()

    def gather_candidates(self) -> None:
        """Bring all candidates to every rank, for `products`. Every rank must call."""
        _ = self._whole

    def products(self, gradient: State) -> Tensor:
        """Return the product [num] of a gradient with each candidate, float64, on this rank alone.

        Whole vectors, because sums over slices would have bits that depend on the mesh.
        """
        flat = self._vector.flatten(gradient).double()
        return torch.stack([candidate.double() @ flat for candidate in self._whole])


def _of_the_first(
    like: State, own: Mapping[int, State], owners: Mapping[int, int], mesh: Topology
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Return these tensors of the first candidate, and the names of those that differ from it in
    another. Every rank must call."""
    if not like:
        return {}, ()
    sizes = [tensor.numel() * tensor.element_size() for tensor in like.values()]
    flat = torch.zeros(sum(sizes), dtype=torch.uint8, device=mesh.device)
    if state := own.get(next(iter(owners))):
        flat = torch.cat([as_bytes(state[name]) for name in like])
    pieces = torch.split(sum_(flat, mesh.candidate), sizes)  # it is zero in all groups but one
    pairs = zip(like.items(), pieces, strict=True)
    first = {name: piece.clone().view(t.dtype).view(t.shape) for (name, t), piece in pairs}
    flags = {
        name: torch.tensor(any(not torch.equal(s[name], t) for s in own.values()), device=t.device)
        for name, t in first.items()
    }
    return first, tuple(name for name, flag in any_(flags, mesh.candidate).items() if flag)


class CandidateShards:
    """This rank's slice of the vector of every candidate, ready to be mixed.

    The vector is cut into (groups x ranks per group) slices, one per rank: every rank sends and
    sums its share only. Each slice is summed in candidate order whatever group trained which
    candidate: the soup's bits do not depend on the mesh.
    """

    def __init__(
        self,
        own: Mapping[int, Tensor],
        owners: Mapping[int, int],
        num_values: int,
        mesh: Topology,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """Exchange slices along the candidate axis. Every rank must call.

        `own` are the vectors of the candidates that my group holds, by index; they are not copied
        if their length, of which `num_values` count, is a multiple of the ranks. `owners` is the
        group of each candidate, in candidate order, the same on all ranks.
        """
        self.num_values, self._mesh, self._dtype = num_values, mesh, dtype
        slices = mesh.num_groups * mesh.data.size
        self._length = -(-num_values // slices)
        by_group: list[list[int]] = [[] for _ in range(mesh.num_groups)]
        for i, group in owners.items():
            by_group[group].append(i)
        mine = [self._column(own[i]) for i in by_group[mesh.group]]
        received = exchange(self._stacked(mine), [len(g) for g in by_group], mesh.candidate)
        arrived = {i: place for place, i in enumerate(i for group in by_group for i in group)}
        order = [arrived[i] for i in owners]
        self.shards = received if order == list(range(len(order))) else received[order]

    def mix(self, coefficients: Sequence[float]) -> Tensor:
        """Return the soup's vector, whole, on every rank. Every rank must call."""
        return self._whole(mix(self.shards, coefficients)[None])[0]

    def whole(self) -> Tensor:
        """Return every candidate [m, num_values] on every rank, which takes the memory that slices
        otherwise save. Every rank must call."""
        return self._whole(self.shards)

    def gram(self) -> Tensor:
        """Return the inner products between the candidates' vectors. Every rank must call."""
        return sum_(gram(self.shards), self._mesh.world).cpu()

    def _whole(self, slices: Tensor) -> Tensor:
        """Return [rows, num_values] of each rank's [rows, length]. Every rank must call."""
        mesh = self._mesh
        whole = gather(gather(slices, mesh.candidate), mesh.data)  # [data, groups, rows, length]
        return whole.permute(2, 1, 0, 3).flatten(1)[:, : self.num_values]

    def _column(self, flat: Tensor) -> Tensor:
        """Return the slices [groups, length] of a vector that this rank's column exchanges."""
        mesh = self._mesh
        shape = mesh.num_groups, mesh.data.size, self._length
        if len(flat) != prod(shape):
            padded = flat.new_zeros(prod(shape))
            padded[: self.num_values] = flat[: self.num_values]
            flat = padded
        return flat.view(shape)[:, mesh.data.rank]

    def _stacked(self, columns: list[Tensor]) -> Tensor:
        """Return [groups, candidates, length] of each candidate's column."""
        if not columns:  # what a group that holds no candidate sends
            shape = self._mesh.num_groups, 0, self._length
            return torch.empty(shape, dtype=self._dtype, device=self._mesh.device)
        return torch.stack(columns, 1) if len(columns) > 1 else columns[0][:, None]


def mix(candidates: Tensor, coefficients: Sequence[float]) -> Tensor:
    """Return the weighted sum [n] of candidates [m, n] of any float type.

    The coefficients add up to 1. The sum is in float64 and in index order, element by element: a
    soup mixed in slices has the bits of one mixed whole. A candidate with coefficient zero is not
    read: it may hold anything.
    """
    largest = max(coefficients)
    # Shares of the largest, divided by their sum at the end: 1/3 has no exact float, 3 has one, so
    # that equal coefficients give the exact mean.
    shares = [coefficient / largest for coefficient in coefficients]
    soup = candidates.new_empty(candidates.shape[1])
    size = _CHUNK if candidates.device.type == "cpu" else _DEVICE_CHUNK
    pieces = zip(torch.split(soup, size), torch.split(candidates, size, dim=1), strict=True)
    for piece, some in pieces:
        # Not from 0.0: that would turn the -0.0 of equal candidates into 0.0.
        total = torch.full_like(piece, -0.0, dtype=torch.float64)
        for candidate, share in zip(some, shares, strict=True):
            if share:
                total.add_(candidate.double(), alpha=share)
        piece.copy_(total.div_(sum(shares)))
    return soup
