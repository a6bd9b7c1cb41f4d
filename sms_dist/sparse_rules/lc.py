"""LC: train towards a compressed copy of the weights, which follows them; pull harder and harder.

Carreira-Perpinan and Idelbayev 2018, Learning-Compression Algorithms for Neural Net Pruning, as an
augmented Lagrangian: loss - <lambda, w - theta> + mu/2 ||w - theta||^2 with at most num_kept
weights in theta.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from sms_dist.sparse_rules.base import Setup, Tensors
from sms_dist.sparse_rules.magnitude import MagnitudeRule, largest, masked


@dataclass(frozen=True)
class LcOptions:
    mu: Annotated[
        float,
        Field(gt=0, description="weight of the penalty for what compression changes, at first"),
    ] = 1e-2
    final_mu: Annotated[
        float,
        Field(
            gt=0,
            description="the same at the end; mu grows by equal factors at the compressions, "
            "however long training is (the learning rate times mu must stay well below 4)",
        ),
    ] = 1.0
    epochs_per_compression: Annotated[
        int, Field(ge=1, description="epochs of training from one compression to the next")
    ] = 1


class Lc(MagnitudeRule):
    options = LcOptions

    def __init__(self, weights: Tensors, setup: Setup, options: LcOptions) -> None:
        super().__init__(weights, setup, options)
        self.mu = options.mu
        self.theta = masked(weights, largest(weights, self.num_kept))
        self.multipliers = {name: torch.zeros_like(theta) for name, theta in self.theta.items()}
        self._steps_per_compression = options.epochs_per_compression * setup.steps_per_epoch
        num_compressions = setup.num_steps // self._steps_per_compression
        self._growth = (options.final_mu / options.mu) ** (1 / max(1, num_compressions - 1))
        self._num_steps = 0

    @torch.no_grad()
    def gradients_(self, weights: Tensors, gradients: Tensors) -> None:
        for name, weight in weights.items():
            gradients[name].add_(weight - self.theta[name], alpha=self.mu)
            gradients[name].sub_(self.multipliers[name])

    def after_step_(self, weights: Tensors) -> None:
        self._num_steps += 1
        if self._num_steps % self._steps_per_compression == 0:
            self._compress_(weights)

    @torch.no_grad()
    def _compress_(self, weights: Tensors) -> None:
        shifted = {name: w - self.multipliers[name] / self.mu for name, w in weights.items()}
        self.theta = masked(shifted, largest(shifted, self.num_kept))
        for name, weight in weights.items():
            self.multipliers[name].sub_(weight - self.theta[name], alpha=self.mu)
        self.mu *= self._growth

    def state(self) -> dict[str, Tensor]:
        theta = {f"theta.{name}": tensor for name, tensor in self.theta.items()}
        multipliers = {f"multipliers.{name}": t for name, t in self.multipliers.items()}
        mu = torch.tensor(self.mu, dtype=torch.float64)
        return theta | multipliers | {"mu": mu, "num_steps": torch.tensor(self._num_steps)}

    def restore(self, state: Tensors) -> None:
        for name in self.theta:
            self.theta[name].copy_(state[f"theta.{name}"])
            self.multipliers[name].copy_(state[f"multipliers.{name}"])
        self.mu, self._num_steps = state["mu"].item(), int(state["num_steps"])
