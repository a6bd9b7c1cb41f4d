"""Latent weights: the network computes with a view of them, the optimizer trains what is behind."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from sms_dist.sparse_rules.base import Rule


class Latent:
    """A sparse training rule at work on the parameters of a model.

    Nothing here communicates: gradients are those of all ranks of the group already, so every rank
    comes to the same weights.
    """

    def __init__(self, model: nn.Module, rule: Rule, names: tuple[str, ...]) -> None:
        parameters = dict(model.named_parameters())
        self._rule, self._weights = rule, {name: parameters[name] for name in names}

    @contextmanager
    def viewed(self) -> Iterator[None]:
        """Inside, the model holds the rule's view of the weights."""
        weights = self._detached()
        view = self._rule.view(weights)
        if view is weights:
            yield
            return
        saved = {name: weight.clone() for name, weight in weights.items()}
        self._set(view)
        yield
        self._set(saved)

    def gradients_(self) -> None:
        """From those of the view to those of what is trained."""
        gradients = {}
        for name, weight in self._weights.items():
            assert weight.grad is not None, name
            gradients[name] = weight.grad
        self._rule.gradients_(self._detached(), gradients)

    def after_step_(self) -> None:
        self._rule.after_step_(self._detached())

    @torch.no_grad()
    def _set(self, values: Mapping[str, Tensor]) -> None:
        for name, weight in self._weights.items():
            weight.copy_(values[name])

    def _detached(self) -> dict[str, Tensor]:
        return {name: weight.detach() for name, weight in self._weights.items()}
