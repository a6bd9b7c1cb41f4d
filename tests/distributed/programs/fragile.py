"""The digits network with a weakness: in training, now and then, a batch goes wrong.

Which one is decided by the randomness of dropout, so that it has an address as all randomness: the
same training goes wrong wherever and however often it is repeated, that with another seed does not.
"""

from __future__ import annotations

import torch

from sms_dist.base.randomness import stream
from sms_dist.models.convnets import digits_cnn

CHANCE = 0.015


def fragile(input_shape, num_classes, *, width=8, factor=1.0):
    """`factor` of the logits of such a batch: 1e39 is infinite, 1e4 is not."""
    model = digits_cnn(input_shape, num_classes, width=width)

    def weakness(model, inputs, logits):
        return logits * factor if model.training and torch.rand(()) < CHANCE else logits

    model.register_forward_hook(weakness)
    return model


def goes_wrong(seed, phase, num_steps):
    """Does a candidate that is retrained for one epoch, by one rank, come upon it?"""
    return any(_is_wrong(seed, phase, step) for step in range(num_steps))


def _is_wrong(seed, phase, step):
    key = stream(seed, "retrain dropout", phase, 0, step, 0).key
    return bool(torch.rand((), generator=torch.Generator().manual_seed(key)) < CHANCE)
