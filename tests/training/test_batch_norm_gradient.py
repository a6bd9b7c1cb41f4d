"""Gradients that follow batch norm's statistics are those of training; outputs stay."""

import copy

import pytest
import torch
from torch import nn

from sms_dist.soups.norms import follow_statistics_


def models(dims, affine=True, seed=0):
    """A model with running statistics of some batch, and that batch (float64)."""
    torch.manual_seed(seed)
    kind, norm = (nn.Conv2d, nn.BatchNorm2d) if dims == 2 else (nn.Linear, nn.BatchNorm1d)
    size = (3,) if dims == 2 else ()
    layers = [kind(2, 4, *size), norm(4, affine=affine), nn.Tanh(), kind(4, 3, *size), norm(3)]
    model = nn.Sequential(*layers).double()
    batch = torch.randn(16, 2, *[9] * dims, dtype=torch.float64)
    return model, batch


@torch.no_grad()
def settle_(model, batch):
    """Running statistics become those of the batch, its biased variance included."""
    model.train()
    x = batch
    for layer in model:
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            variance, mean = torch.var_mean(x, [0, *range(2, x.dim())], correction=0)
            layer.running_mean.copy_(mean)
            layer.running_var.copy_(variance)
            layer.momentum = 0.0
        x = layer(x)


def gradients(model, batch):
    """Of something that does not treat all samples alike, by the input and every parameter."""
    inputs = batch.clone().requires_grad_()
    outputs = model(inputs)
    weights = torch.linspace(-1, 2, outputs.numel(), dtype=outputs.dtype).view(outputs.shape)
    (outputs * weights).sin().sum().backward()
    return outputs.detach(), [inputs.grad, *(p.grad for p in model.parameters())]


@pytest.mark.parametrize("dims", [0, 2])
@pytest.mark.parametrize("affine", [True, False])
def test_with_the_statistics_of_the_batch_gradients_are_those_of_training(dims, affine):
    model, batch = models(dims, affine)
    settle_(model, batch)
    wanted = gradients(copy.deepcopy(model).train(), batch)
    still = gradients(copy.deepcopy(model).eval(), batch)
    follow_statistics_(model)
    found = gradients(model.eval(), batch)
    torch.testing.assert_close(found, wanted)
    assert not torch.allclose(still[1][1], wanted[1][1], rtol=0.1)  # constants would not do


def test_outputs_and_statistics_do_not_change():
    model, batch = models(2)
    settle_(model, batch)
    other = batch * 3 + 1
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    wanted = copy.deepcopy(model).eval()(other)
    follow_statistics_(model)
    assert torch.equal(model.eval()(other), wanted)
    assert all(torch.equal(tensor, before[n]) for n, tensor in model.state_dict().items())
