"""The interface of a sparse training rule to the engine that trains with it.

An optimizer step with a rule: forward and backward at `view(weights)`; `gradients_` turns the
gradients at the view into those of the latent weights; the optimizer steps on the latent weights
and on the rule's own parameters; `after_step_`. All of it is a function of weights and gradients,
so ranks that hold the same ones stay the same without talking.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Protocol

from torch import Tensor, nn

from sms_dist.pruning.mask import Mask

Tensors = Mapping[str, Tensor]  # of the prunable parameters, all of them, always in the same order


@dataclass(frozen=True)
class Setup:
    """The training ahead, as far as a rule depends on it."""

    num_kept: int | None  # weights that stay, of all tensors together; None: the rule decides
    num_steps: int
    steps_per_epoch: int


class Finished(NamedTuple):
    """The effective weights, +0.0 where pruned, and their mask."""

    tensors: dict[str, Tensor]
    mask: Mask


@dataclass(frozen=True)
class NoOptions:
    """The options of a rule without any."""


class Rule(Protocol):
    """The defaults train the weights as they are."""

    options: ClassVar[type[Any]] = NoOptions  # a frozen dataclass, each field with its default
    # The dense weights behind the mask go on to the next phase.
    keeps_latent: ClassVar[bool] = False
    # Exactly as many weights stay as wanted; else these keys of the configuration decide how many.
    controls_sparsity: ClassVar[bool] = False
    controlled_by: ClassVar[str] = ""
    # The rule's method has a key `from_scratch`: false begins with the trained dense model.
    may_start_dense: ClassVar[bool] = False
    allows_nesterov: ClassVar[bool] = True
    parameters: Sequence[nn.Parameter] = ()  # learned thresholds, on the weights' device

    @abstractmethod
    def __init__(self, weights: Tensors, setup: Setup, options: Any) -> None:
        """Begin to train these weights; all ranks make the same rule."""

    def view(self, weights: Tensors) -> Tensors:
        """Return the weights to compute with: new tensors, or the latent ones themselves."""
        return weights

    def gradients_(self, weights: Tensors, gradients: Tensors) -> None:
        """Turn gradients of the loss at the view into gradients of the latent weights.

        Unscaled and averaged over the batch, before clipping. Also sets the .grad of `parameters`.
        """
        return

    def after_step_(self, weights: Tensors) -> None:
        """Count an optimizer step that has been made; called after each."""
        return

    def state(self) -> dict[str, Tensor]:
        """Return what the next step depends on besides the weights, by name.

        The tensors are as many and as large as in a fresh rule.
        """
        return {f"parameter.{i}": p.detach() for i, p in enumerate(self.parameters)}

    def restore(self, state: Tensors) -> None:
        """Go on where `state` was taken; the caller has checked that names and shapes fit."""
        for name, tensor in Rule.state(self).items():
            tensor.copy_(state[name])

    @abstractmethod
    def finish(self, weights: Tensors) -> Finished:
        """Return the effective weights and the mask after the last step."""
