"""A gradient that is pruned is +0.0, whatever stood there; the others keep their bits."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from sms_dist.engines.masked_gradients import GradientMask

ODD = [0.0, -0.0, float("inf"), float("-inf"), float("nan"), 1e-42, -1.5, 3e38]
BITS = {torch.float32: torch.int32, torch.bfloat16: torch.int16, torch.float64: torch.int64}


class Single(nn.Module):
    def __init__(self, values: torch.Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(values)


@pytest.mark.parametrize("dtype", BITS)
def test_bits_are_those_of_filling_with_zeros(dtype):
    given = torch.tensor([ODD, ODD], dtype=dtype)
    mask = torch.tensor([[True], [False]]).expand(2, len(ODD))
    model = Single(torch.full((2, len(ODD)), -1, dtype=dtype))
    held = GradientMask(model, {"weight": mask})
    model.weight.grad = given.clone()
    held.gradients_()
    wanted = given.masked_fill(~mask, 0.0)
    assert torch.equal(model.weight.grad.view(BITS[dtype]), wanted.view(BITS[dtype]))
    assert torch.equal(model.weight.detach(), -mask.to(dtype))


def test_tensors_may_lie_in_memory_otherwise_than_they_are_indexed():
    weight = torch.randn(4, 3, 2, 2).to(memory_format=torch.channels_last)
    model, mask = Single(weight), weight > 0
    held = GradientMask(model, {"weight": mask})
    for gradient in (weight, weight.contiguous()):
        model.weight.grad = gradient.clone()
        held.gradients_()
        assert torch.equal(model.weight.grad, weight * mask)


def test_a_parameter_that_took_no_part_has_no_gradient():
    model = Single(torch.ones(2))
    held = GradientMask(model, {"weight": torch.tensor([True, False])})
    held.gradients_()
    assert model.weight.grad is None


def test_a_mask_that_keeps_everything_costs_nothing():
    assert not GradientMask(Single(torch.ones(2)), {"weight": torch.ones(2).bool()}).prunes
