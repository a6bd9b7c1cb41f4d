"""Optimizers by name; torch is imported where one is made, not where a name is checked."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

from sms_dist.base.lookup import guarded, lookup_open
from sms_dist.config import PretrainConfig

if TYPE_CHECKING:
    from torch import Tensor
    from torch.optim import SGD, AdamW, Optimizer

# (parameters, configuration, whether Nesterov's momentum is possible) -> optimizer
Make: TypeAlias = "Callable[[Sequence[Tensor], PretrainConfig, bool], Optimizer]"


def sgd(trained: Sequence[Tensor], config: PretrainConfig, allows_nesterov: bool) -> SGD:
    """Return SGD, with Nesterov's momentum when there is weight decay."""
    from torch.optim import SGD

    return SGD(
        list(trained),
        lr=config.learning_rate,
        momentum=config.momentum,
        weight_decay=config.weight_decay,
        nesterov=allows_nesterov and config.weight_decay > 0 and config.momentum > 0,
    )


def adamw(trained: Sequence[Tensor], config: PretrainConfig, allows_nesterov: bool) -> AdamW:
    """Return AdamW."""
    from torch.optim import AdamW

    return AdamW(list(trained), lr=config.learning_rate, weight_decay=config.weight_decay)


OPTIMIZERS: Mapping[str, Make] = {"sgd": sgd, "adamw": adamw}


def optimizer_maker(name: str) -> Make:
    """Return what makes the optimizer of a name: one of the table, or `package.module:function`.

    One's own is called with the parameters, lr, and of momentum and weight_decay what it takes.
    """
    return lookup_open(OPTIMIZERS, name, "pretrain.optimizer", partial(_own_optimizer, name))


def _own_optimizer(name: str, given: Callable[..., Any]) -> Make:
    function = guarded(given, name, "pretrain.optimizer")

    def make(trained: Sequence[Tensor], config: PretrainConfig, allows_nesterov: bool) -> Optimizer:
        import torch
        from torch.nn import Parameter
        from torch.optim import Optimizer

        from sms_dist.engines.optimizer_state import check_storable

        given = {"momentum": config.momentum, "weight_decay": config.weight_decay}
        taken = inspect.signature(function).parameters
        chosen = {key: value for key, value in given.items() if key in taken}
        weight = Parameter(torch.ones(2, 2))
        weight.grad = torch.ones(2, 2)
        tried = function([weight], lr=config.learning_rate, **chosen)
        if not isinstance(tried, Optimizer):
            raise ValueError(
                f"pretrain.optimizer={name} returned a {type(tried).__name__}, not a "
                "torch.optim.Optimizer"
            )
        try:
            tried.step()
        except TypeError as error:  # one that wants a closure
            raise ValueError(f"pretrain.optimizer={name} cannot take a step: {error}") from None
        check_storable(tried, name)
        optimizer: Optimizer = function(list(trained), lr=config.learning_rate, **chosen)
        return optimizer

    return make
