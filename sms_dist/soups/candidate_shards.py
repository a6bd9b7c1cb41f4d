"""The all-reduce across groups, in candidate order: reduce-scatter, mix, all-gather."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod

import torch
from torch import Tensor

from sms_dist.mesh.collectives import exchange, gather, sum_
from sms_dist.mesh.topology import Topology
from sms_dist.soups.diversity import gram
from sms_dist.soups.mixing import mix


class CandidateShards:
    """This rank's slice of the packed weights of every candidate, ready to be mixed.

    The packed vector is cut into (groups x ranks per group) slices, one per rank: every rank sends
    and sums its share only. Each slice is summed in candidate order whatever group trained
    which candidate: the soup's bits do not depend on the topology.
    """

    def __init__(
        self, own: Mapping[int, Tensor], owners: Mapping[int, int], num_values: int, mesh: Topology
    ) -> None:
        """`own`: packed vectors of the candidates that this rank's group holds, by index, which are
        not copied where their length, of which `num_values` count, is a multiple of the ranks;
        `owners`: the group of each candidate, in candidate order, the same on all ranks.
        Every rank must call.
        """
        self.num_values, self._mesh = num_values, mesh
        slices = mesh.num_groups * mesh.data.size
        self._length = -(-num_values // slices)
        held: list[list[int]] = [[] for _ in range(mesh.num_groups)]
        for i, group in owners.items():
            held[group].append(i)
        mine = [self._column(own[i]) for i in held[mesh.group]]
        received = exchange(self._stacked(mine), [len(h) for h in held], mesh.candidate)
        arrived = {i: place for place, i in enumerate(i for group in held for i in group)}
        order = [arrived[i] for i in owners]
        self.shards = received if order == list(range(len(order))) else received[order]

    def mix(self, coefficients: Sequence[float]) -> Tensor:
        """The packed soup, whole, on every rank. Every rank must call."""
        return self._whole(mix(self.shards, coefficients)[None])[0]

    def whole(self) -> Tensor:
        """[m, num_values]: every candidate on every rank, in the memory that slices otherwise save.
        Every rank must call."""
        return self._whole(self.shards)

    def gram(self) -> Tensor:
        """Inner products between the candidates' packed weights. Every rank must call."""
        return sum_(gram(self.shards), self._mesh.world).cpu()

    def _whole(self, slices: Tensor) -> Tensor:
        """[rows, num_values] of the [rows, length] that each rank has. Every rank must call."""
        mesh = self._mesh
        whole = gather(gather(slices, mesh.candidate), mesh.data)  # [data, groups, rows, length]
        return whole.permute(2, 1, 0, 3).flatten(1)[:, : self.num_values]

    def _column(self, flat: Tensor) -> Tensor:
        """[groups, length]: the slices of a packed vector that this rank's column takes care of."""
        mesh = self._mesh
        shape = mesh.num_groups, mesh.data.size, self._length
        if len(flat) != prod(shape):
            padded = flat.new_zeros(prod(shape))
            padded[: self.num_values] = flat[: self.num_values]
            flat = padded
        return flat.view(shape)[:, mesh.data.rank]

    def _stacked(self, columns: list[Tensor]) -> Tensor:
        """[groups, candidates, length] of each candidate's column."""
        if not columns:  # what a group that holds no candidate sends
            return torch.empty(self._mesh.num_groups, 0, self._length, device=self._mesh.device)
        return torch.stack(columns, 1) if len(columns) > 1 else columns[0][:, None]
