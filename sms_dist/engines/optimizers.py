"""Optimizers by name, and their settings; torch is imported where one is made."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

from sms_dist.base.lookup import guarded, lookup_open
from sms_dist.config import PretrainConfig, RetrainConfig

if TYPE_CHECKING:
    from torch import Tensor
    from torch.optim import SGD, AdamW, Optimizer


@dataclass(frozen=True)
class OptimizerSettings:
    """The settings of an optimizer, besides the learning rate that each step is given."""

    name: str
    learning_rate: float  # that the optimizer is made with
    momentum: float
    weight_decay: float
    nesterov: bool
    clip_norm: float | None  # limit of the gradient's norm


def optimizer_settings(
    pretrain: PretrainConfig, retrain: RetrainConfig | None = None
) -> OptimizerSettings:
    """Return the settings of pretraining, or those of a candidate that is retrained."""
    decay = pretrain.weight_decay
    if retrain is not None and retrain.weight_decay is not None:
        decay = retrain.weight_decay
    return OptimizerSettings(
        name=pretrain.optimizer,
        learning_rate=pretrain.learning_rate,
        momentum=pretrain.momentum,
        weight_decay=decay,
        nesterov=decay > 0 and pretrain.momentum > 0,
        clip_norm=pretrain.clip_norm,
    )


Make: TypeAlias = "Callable[[Sequence[Tensor], OptimizerSettings], Optimizer]"


def sgd(trained: Sequence[Tensor], settings: OptimizerSettings) -> SGD:
    """Return SGD over the tensors."""
    from torch.optim import SGD

    return SGD(
        list(trained),
        lr=settings.learning_rate,
        momentum=settings.momentum,
        weight_decay=settings.weight_decay,
        nesterov=settings.nesterov,
    )


def adamw(trained: Sequence[Tensor], settings: OptimizerSettings) -> AdamW:
    """Return AdamW over the tensors."""
    from torch.optim import AdamW

    return AdamW(list(trained), lr=settings.learning_rate, weight_decay=settings.weight_decay)


OPTIMIZERS: Mapping[str, Make] = {"sgd": sgd, "adamw": adamw}


def optimizer_maker(name: str) -> Make:
    """Return what makes the optimizer of a name: one of the table, or `package.module:function`.

    Your own is called with the parameters, `lr`, and those of `momentum` and `weight_decay` that it
    takes.
    """
    return lookup_open(OPTIMIZERS, name, "pretrain.optimizer", partial(_own_optimizer, name))


def _own_optimizer(name: str, given: Callable[..., Any]) -> Make:
    function = guarded(given, name, "pretrain.optimizer")

    def make(trained: Sequence[Tensor], settings: OptimizerSettings) -> Optimizer:
        import torch
        from torch.nn import Parameter
        from torch.optim import Optimizer

        from sms_dist.engines.state import check_storable

        keywords = {"momentum": settings.momentum, "weight_decay": settings.weight_decay}
        taken = inspect.signature(function).parameters
        chosen = {key: value for key, value in keywords.items() if key in taken}
        weight = Parameter(torch.ones(2, 2))
        weight.grad = torch.ones(2, 2)
        trial = function([weight], lr=settings.learning_rate, **chosen)
        if not isinstance(trial, Optimizer):
            raise ValueError(
                f"pretrain.optimizer={name} returned a {type(trial).__name__}, not a "
                "torch.optim.Optimizer"
            )
        try:
            trial.step()
        except TypeError as error:  # one that wants a closure
            raise ValueError(f"pretrain.optimizer={name} cannot take a step: {error}") from None
        check_storable(trial, name)
        optimizer: Optimizer = function(list(trained), lr=settings.learning_rate, **chosen)
        return optimizer

    return make
