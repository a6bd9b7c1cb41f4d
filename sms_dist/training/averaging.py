"""Stochastic weight averaging along one candidate's training (Izmailov et al., 2018)."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor

from sms_dist.config import RetrainConfig
from sms_dist.engines.named_tensors import check_fit, copy_, joined, number, part
from sms_dist.training.context import State


class Average:
    """The mean of the weights after each epoch, from a fraction of the epochs on."""

    def __init__(self, retrain: RetrainConfig, weights: Callable[[], State]) -> None:
        """`weights` gives the present ones; every rank of the group must call it."""
        self._first = first_averaged(retrain)
        self._weights = weights
        self._sum: State = {}
        self._count = 0

    def after_epoch(self, epoch: int) -> None:
        """Take in the weights, if this epoch counts. Every rank of the group must call."""
        if self._first is None or epoch <= self._first:
            return
        self._count += 1
        for name, weight in self._weights().items():
            if name in self._sum:
                self._sum[name] += weight.double()
            else:
                self._sum[name] = weight.double()

    def state(self) -> State:
        """What has been taken in so far; not copies."""
        return {"count": number(self._count)} | joined({"sum": self._sum})

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on where `state` was taken; ValueError if it does not fit.

        Every rank of the group must call.
        """
        sums: State = {}
        if state.get("count"):
            sums = {name: weight.double() for name, weight in self._weights().items()}
        check_fit(state, {"count": number(0)} | joined({"sum": sums}))
        copy_(sums, part(state, "sum"))
        self._sum, self._count = sums, int(state["count"])

    def result(self) -> State:
        """The average, else the present weights. Every rank of the group must call."""
        if not self._count:
            return self._weights()
        return {name: (total / self._count).float() for name, total in self._sum.items()}


def first_averaged(retrain: RetrainConfig) -> int | None:
    """The epochs done before averaging begins; at least one is averaged. None: no averaging."""
    if retrain.swa_from is None:
        return None
    return min(int(retrain.swa_from * retrain.epochs), retrain.epochs - 1)
