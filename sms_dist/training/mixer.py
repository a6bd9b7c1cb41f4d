"""Candidates as vectors: mixed with coefficients, or multiplied with a gradient."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property

import torch
from torch import Tensor

from sms_dist.distributed.candidate_shards import CandidateShards
from sms_dist.models.state import bare_state
from sms_dist.pruning.mask import Mask
from sms_dist.soups.packing import pack, unpack
from sms_dist.training.workbench import State, Workbench


class Mixer:
    """The candidates of a phase, packed and spread over all ranks."""

    def __init__(
        self, bench: Workbench, own: Mapping[int, State], owners: Mapping[int, int], mask: Mask
    ) -> None:
        """`own` are the states of those that my group holds, `owners` the group of each, in index
        order. Every rank must call."""
        self._names, self._mask = list(bench.parameters), mask
        self._like: State = bare_state(bench.new_model())
        like, names = self._like, self._names
        packed = {i: pack(state, names, mask) for i, state in own.items() if i in owners}
        num_values = sum(int(mask[n].sum()) if n in mask else like[n].numel() for n in names)
        self._shards = CandidateShards(packed, owners, num_values, bench.at)
        self.num = len(owners)

    def mixed(self, coefficients: Sequence[float]) -> State:
        """The parameters of a soup, new tensors. Every rank must call."""
        return unpack(self._shards.mix(coefficients), self._like, self._names, self._mask)

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
        flat = pack(gradient, self._names, self._mask).double()
        return torch.stack([candidate.double() @ flat for candidate in self._whole])
