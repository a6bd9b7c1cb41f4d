"""Rules that learn the magnitude below which weights are zero: DST, STR."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from sms_dist.pruning.mask import Mask
from sms_dist.sparse_rules.base import Finished, Rule, Setup, Tensors
from sms_dist.sparse_rules.magnitude import masked

FEWEST = 100  # a layer that keeps no more than one weight in so many starts over


@dataclass(frozen=True)
class DstOptions:
    """The options of DST."""

    alpha: Annotated[
        float,
        Field(
            ge=0,
            description="reward for large thresholds; more of it makes sparser networks (Liu et "
            "al. 2020 take 5e-6 for CIFAR-10 over 160 epochs; the shorter the training, the more "
            "is needed)",
        ),
    ] = 1e-5


class Dst(Rule):
    """DST: each output neuron learns the magnitude below which its weights are zero.

    Liu et al. 2020, Dynamic Sparse Training: w * step(|w| - t), the derivative of the step replaced
    by a hump around 0, and alpha * sum(exp(-t)) added to the loss so that thresholds grow.
    """

    options = DstOptions
    controlled_by = "method.alpha"

    def __init__(self, weights: Tensors, setup: Setup, options: DstOptions) -> None:
        self.thresholds = {
            name: nn.Parameter(torch.zeros(len(w), dtype=w.dtype, device=w.device))
            for name, w in weights.items()
        }
        self.parameters = list(self.thresholds.values())
        self._alpha = options.alpha

    def view(self, weights: Tensors) -> Tensors:
        return self.finish(weights).tensors

    @torch.no_grad()
    def gradients_(self, weights: Tensors, gradients: Tensors) -> None:
        for name, weight in weights.items():
            threshold, gradient = self.thresholds[name], gradients[name]
            above = weight.abs() - _per_neuron(threshold, weight)
            steepness = gradient * surrogate(above)
            over_neuron = (steepness * weight).flatten(1).sum(1)
            threshold.grad = -over_neuron - self._alpha * torch.exp(-threshold)
            # w*step(|w| - t): the step itself where it is 1, and |w| times its derivative.
            gradient.masked_fill_(above <= 0, 0.0).add_(steepness * weight.abs())

    @torch.no_grad()
    def after_step_(self, weights: Tensors) -> None:
        for name, kept in self._mask(weights).items():
            # A multiplication, because asking would wait for the device.
            self.thresholds[name].mul_(kept.sum() * FEWEST > kept.numel())

    def finish(self, weights: Tensors) -> Finished:
        mask = self._mask(weights)
        return Finished(masked(weights, mask), mask)

    @torch.no_grad()
    def _mask(self, weights: Tensors) -> Mask:
        kept = {n: w.abs() > _per_neuron(self.thresholds[n], w) for n, w in weights.items()}
        return Mask(kept)


def surrogate(above: Tensor) -> Tensor:
    """Return what replaces the derivative of the step: 2 - 4|x| up to 0.4, 0.4 up to 1, then 0."""
    distance = above.abs()
    hump = (2 - 4 * distance).clamp(min=0.4)
    return hump.masked_fill(distance > 1, 0.0)


def _per_neuron(threshold: Tensor, weight: Tensor) -> Tensor:
    """Return thresholds [outputs] in a shape that broadcasts over [outputs, ...]."""
    return threshold.view(-1, *[1] * (weight.dim() - 1))


@dataclass(frozen=True)
class StrOptions:
    """The options of STR."""

    initial: Annotated[
        float,
        Field(
            description="logit of all thresholds at first; weight decay draws it towards 0, a "
            "threshold of 0.5"
        ),
    ] = -5.0


class SoftThreshold(Rule):
    """STR: each layer learns the magnitude by which all its weights are drawn towards zero.

    Kusupati et al. 2020, Soft Threshold Weight Reparameterization: sign(w) * relu(|w| -
    sigmoid(s)). Weight decay on s, which starts far below 0, raises the thresholds; nothing else
    controls sparsity.
    """

    options = StrOptions
    controlled_by = "pretrain.weight_decay and method.initial"

    def __init__(self, weights: Tensors, setup: Setup, options: StrOptions) -> None:
        self.logits = {
            name: nn.Parameter(torch.full((), options.initial, dtype=w.dtype, device=w.device))
            for name, w in weights.items()
        }
        self.parameters = list(self.logits.values())

    def view(self, weights: Tensors) -> Tensors:
        return self.finish(weights).tensors

    @torch.no_grad()
    def gradients_(self, weights: Tensors, gradients: Tensors) -> None:
        for name, kept in self._mask(weights).items():
            gradient = gradients[name].masked_fill_(~kept, 0.0)
            threshold = torch.sigmoid(self.logits[name])
            slope = threshold * (1 - threshold)
            self.logits[name].grad = -(gradient * weights[name].sign()).sum() * slope

    @torch.no_grad()
    def finish(self, weights: Tensors) -> Finished:
        mask = self._mask(weights)
        shrunk = {
            name: weight - weight.sign() * torch.sigmoid(self.logits[name])
            for name, weight in weights.items()
        }
        return Finished(masked(shrunk, mask), mask)

    @torch.no_grad()
    def _mask(self, weights: Tensors) -> Mask:
        return Mask({n: w.abs() > torch.sigmoid(self.logits[n]) for n, w in weights.items()})
