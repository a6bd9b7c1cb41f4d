"""Candidates as vectors: mixed with coefficients, or multiplied with a gradient."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property

import torch
from torch import Tensor

from sms_dist import models
from sms_dist.mesh.topology import Topology
from sms_dist.pruning.mask import Mask
from sms_dist.soups.candidate_shards import CandidateShards
from sms_dist.soups.packing import Packing
from sms_dist.training.context import Context, State


def template(context: Context) -> State:
    """The parameters' names, shapes and types, without memory."""
    info = context.info
    model = models.build_on_meta(
        context.config.model,
        info.input_shape,
        info.num_classes,
        data_name=info.name,
        task=info.task,
    )
    return {name: parameter.detach() for name, parameter in model.named_parameters()}


def packing_of(context: Context, mask: Mask) -> Packing:
    """Where the parameters lie that travel when candidates with this mask are merged."""
    like = template(context)
    return Packing(like, list(like), mask)


class Mixer:
    """The candidates of a phase, packed and spread over all ranks."""

    def __init__(
        self,
        mesh: Topology,
        packing: Packing,
        own: Mapping[int, State],
        owners: Mapping[int, int],
    ) -> None:
        """`packing` says what is mixed, `own` are the states of the candidates that my group holds,
        `owners` the group of each, in index order. Every rank must call."""
        self._packing = packing
        ranks = mesh.world.size
        packed = {i: packing.pack(state, ranks) for i, state in own.items() if i in owners}
        self._shards = CandidateShards(packed, owners, packing.num_values, mesh)
        self.num = len(owners)

    def mixed(self, coefficients: Sequence[float]) -> State:
        """The parameters of a soup, new tensors. Every rank must call."""
        return self._packing.unpack(self._shards.mix(coefficients))

    def gram(self) -> Tensor:
        """Inner products between the candidates. Every rank must call."""
        return self._shards.gram()

    @cached_property
    def _whole(self) -> Tensor:
        return self._shards.whole()

    def gather(self) -> None:
        """Make ready for `products`: all candidates on every rank. Every rank must call."""
        _ = self._whole

    def products(self, gradient: Mapping[str, Tensor]) -> Tensor:
        """[num], float64: of a gradient by the parameters with each candidate, on this rank alone.

        Whole vectors, because sums over slices would have bits that depend on the topology.
        """
        flat = self._packing.pack(gradient).double()
        return torch.stack([candidate.double() @ flat for candidate in self._whole])
