"""Rules that keep the largest weights of all tensors together: DPF, DNW, GSM, LC."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor

from sms_dist.pruning.mask import Mask, apply_
from sms_dist.pruning.selection import keep_largest
from sms_dist.pruning.threshold import Layer
from sms_dist.sparse_rules.base import Finished, Rule, Setup, Tensors


def largest(tensors: Tensors, num_kept: int) -> Mask:
    """Return the mask of the `num_kept` largest magnitudes; ties by (tensor, index)."""
    kept = keep_largest([Layer(tensor) for tensor in tensors.values()], num_kept)
    return Mask(dict(zip(tensors, kept, strict=True)))


@torch.no_grad()
def masked(tensors: Tensors, mask: Tensors) -> dict[str, Tensor]:
    """Return new tensors with +0.0 outside the mask."""
    return {name: tensor.masked_fill(~mask[name], 0.0) for name, tensor in tensors.items()}


class MagnitudeRule(Rule):
    """The base of rules that end by keeping an exact number of weights, the largest."""

    controls_sparsity = True

    def __init__(self, weights: Tensors, setup: Setup, options: Any) -> None:
        assert setup.num_kept is not None
        self.num_kept = setup.num_kept

    def finish(self, weights: Tensors) -> Finished:
        mask = largest(weights, self.num_kept)
        return Finished(masked(weights, mask), mask)


@dataclass(frozen=True)
class DpfOptions:
    """The options of DPF."""

    refresh: Annotated[
        int, Field(ge=1, description="steps from one mask to the next (Lin et al. 2020)")
    ] = 16


class Dpf(MagnitudeRule):
    """DPF: compute with the masked weights, update the dense ones, renew the mask every few steps.

    Lin et al. 2020, Dynamic Model Pruning with Feedback. A pruned weight goes on receiving
    gradients, and returns when it has grown. Where a whole filter is pruned, batch norm divides by
    almost nothing and these gradients are hundreds of times too large: such networks want clipped
    gradients.
    """

    options = DpfOptions
    keeps_latent = True

    def __init__(self, weights: Tensors, setup: Setup, options: DpfOptions) -> None:
        super().__init__(weights, setup, options)
        self.mask = largest(weights, self.num_kept)
        self._refresh = options.refresh
        self._num_steps = 0

    def view(self, weights: Tensors) -> Tensors:
        return masked(weights, self.mask)

    def after_step_(self, weights: Tensors) -> None:
        self._num_steps += 1
        if self._num_steps % self._refresh == 0:
            self.mask = largest(weights, self.num_kept)

    def state(self) -> dict[str, Tensor]:
        mask = {f"mask.{name}": kept for name, kept in self.mask.items()}
        return mask | {"num_steps": torch.tensor(self._num_steps)}

    def restore(self, state: Tensors) -> None:
        for name, kept in self.mask.items():
            kept.copy_(state[f"mask.{name}"])
        self._num_steps = int(state["num_steps"])


class Dnw(MagnitudeRule):
    """DNW: compute with the largest weights of this very step, update all of them.

    Wortsman et al. 2019, Discovering Neural Wirings, with one ranking over all layers. As with
    DPF, gradients behind wholly pruned filters are large: clip them.
    """

    def view(self, weights: Tensors) -> Tensors:
        return self.finish(weights).tensors


class Gsm(MagnitudeRule):
    """GSM: only the weights that matter most to the loss see its gradient; the others decay.

    Ding et al. 2019, Global Sparse Momentum SGD: v = beta*v + B*g + lambda*w; w -= eta*v. With B*g
    for a gradient that is SGD with momentum and weight decay as they are, without Nesterov's look
    ahead.
    """

    allows_nesterov = False
    may_start_dense = True

    @torch.no_grad()
    def gradients_(self, weights: Tensors, gradients: Tensors) -> None:
        # |w*g| is, to first order, how much the loss changes when the weight is removed.
        saliency = {name: weight * gradients[name] for name, weight in weights.items()}
        apply_(gradients, largest(saliency, self.num_kept))


@dataclass(frozen=True)
class LcOptions:
    """The options of LC."""

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
    """LC: train towards a compressed copy of the weights, which follows them; pull ever harder.

    Carreira-Perpinan and Idelbayev 2018, Learning-Compression Algorithms for Neural Net Pruning, as
    an augmented Lagrangian: loss - <lambda, w - theta> + mu/2 ||w - theta||^2 with at most num_kept
    weights in theta.
    """

    options = LcOptions
    may_start_dense = True

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
