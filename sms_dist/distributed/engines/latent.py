"""Latent weights: the network computes with a view of them, the optimizer trains what is behind."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

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
        with torch.no_grad():
            saved = {name: weight.clone() for name, weight in self._weights.items()}
            for name, view in self._rule.view(self._detached()).items():
                self._weights[name].copy_(view)
        yield
        with torch.no_grad():
            for name, weight in self._weights.items():
                weight.copy_(saved[name])

    def gradients_(self) -> None:
        """From those of the view to those of what is trained."""
        gradients = {}
        for name, weight in self._weights.items():
            assert weight.grad is not None, name
            gradients[name] = weight.grad
        self._rule.gradients_(self._detached(), gradients)

    def after_step_(self) -> None:
        self._rule.after_step_(self._detached())

    def _detached(self) -> dict[str, torch.Tensor]:
        return {name: weight.detach() for name, weight in self._weights.items()}
