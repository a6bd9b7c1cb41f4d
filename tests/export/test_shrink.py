"""Shrinking: the same outputs from fewer channels, and hands off what is not understood."""

import copy
from math import prod

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from sms_dist.base.vision import torchvision
from sms_dist.config import ModelConfig
from sms_dist.export.shrink import largest_difference, resize_, shrunk_state
from sms_dist.models import build
from sms_dist.pruning.filters import companions, keep_filters
from sms_dist.pruning.mask import apply_, full_mask, prunable_names

IMAGE = (3, 8, 8)
LEAST = 1e-9  # outputs of different models differ by more


def trained(model):
    """As after training: no bias and no statistic is zero by chance."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if tensor.ndim == 1:
                noise = torch.randn(tensor.shape, generator=generator)
                tensor.copy_(1 + noise.abs() if name.endswith("running_var") else noise)
    return model.eval()


def shrunk(model, shape=IMAGE):
    """The smaller model, once it has proved to compute the same."""
    state = shrunk_state(model, shape)
    smaller = copy.deepcopy(model)
    resize_(smaller, {name: tuple(tensor.shape) for name, tensor in state.items()})
    smaller.load_state_dict(state)
    assert largest_difference(model, smaller, shape) < LEAST
    return smaller


def size(model):
    return sum(parameter.numel() for parameter in model.parameters())


def kill_(model, *names):
    """Set the first two channels of these layers to zero."""
    with torch.no_grad():
        for name in names:
            for parameter in model.get_submodule(name).parameters():
                parameter[:2] = 0
    return model


def is_unchanged(model, shape=IMAGE):
    state = model.state_dict()
    return all(state[n].shape == t.shape for n, t in shrunk_state(model, shape).items())


@pytest.mark.parametrize(
    ("name", "shape", "options", "at_most"),
    [
        ("digits_cnn", (1, 12, 12), {}, 0.25),
        ("resnet20", (3, 32, 32), {"width": 8}, 0.45),
        ("resnet18", (3, 32, 32), {"width": 8}, 0.40),
        ("wrn20", (3, 32, 32), {"widen": 1}, 0.45),
        ("resnet50", (3, 64, 64), {}, 0.45),
    ],
)
def test_models_pruned_by_filters_shrink_and_compute_the_same(name, shape, options, at_most):
    if name == "resnet50":
        model = torchvision().models.resnet50(num_classes=10)
    else:
        config = ModelConfig(name=name, options=options)
        model = build(config, shape, 10, seed=0, data_name="x")
    state = trained(model).state_dict()
    mask = keep_filters(state, full_mask(state, prunable_names(model)), 0.6)
    apply_(state, companions(model, mask))
    assert size(shrunk(model, shape)) < at_most * size(model)


def test_a_dead_channel_goes_with_its_norm_and_the_inputs_it_fed():
    layers = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 3)
    model = kill_(trained(nn.Sequential(*layers)), "0", "1")
    smaller = shrunk(model)
    assert smaller[0].weight.shape == (6, 3, 3, 3)
    assert (smaller[0].out_channels, smaller[1].num_features, smaller[3].in_channels) == (6, 6, 6)
    assert torch.equal(smaller[0].weight, model[0].weight[2:])
    assert torch.equal(smaller[1].running_mean, model[1].running_mean[2:])
    assert torch.equal(smaller[3].weight, model[3].weight[:, 2:])
    assert smaller[3].weight.shape[0] == 4  # the outputs of the model


@pytest.mark.parametrize("killed", [("0",), ("1",)])
def test_a_channel_that_is_constant_but_not_zero_stays(killed):
    """A zero filter whose norm adds something; a zero norm behind a filter that is not zero."""
    layers = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 3)
    assert is_unchanged(kill_(trained(nn.Sequential(*layers)), *killed))


def test_a_bias_keeps_its_channel():
    model = trained(nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3)))
    with torch.no_grad():
        model[0].weight[:2] = 0
    assert is_unchanged(model)
    assert not is_unchanged(kill_(model, "0"))


def test_a_norm_that_only_scales_leaves_zero_zero():
    model = trained(nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 4, 3)))
    kill_(model, "0")
    with torch.no_grad():
        model[1].bias[:2] = 0
    assert is_unchanged(model)  # the statistics still shift it
    model[1].running_mean[:2] = 0
    assert size(shrunk(model)) < size(model)


def test_death_spreads_to_layers_that_see_dead_channels_only():
    model = nn.Sequential(nn.Conv2d(3, 4, 1, bias=False), nn.Conv2d(4, 4, 1, bias=False),
                          nn.Conv2d(4, 4, 1))  # fmt: skip
    trained(model)
    with torch.no_grad():
        model[0].weight[:2] = 0
        model[1].weight[3, 2:] = 0
    smaller = shrunk(model)
    assert smaller[1].weight.shape[:2] == (3, 2)


@pytest.mark.parametrize("pool", [nn.Identity(), nn.MaxPool2d(2), nn.AvgPool2d(2)])
def test_a_flattened_channel_is_a_block_of_inputs(pool):
    layers = nn.Conv2d(3, 8, 3, padding=1), pool, nn.Flatten(), nn.Dropout()
    places = prod(pool(torch.zeros(1, 8, 8)).shape)
    model = trained(nn.Sequential(*layers, nn.Linear(8 * places, 5), nn.ReLU(), nn.Linear(5, 4)))
    smaller = shrunk(kill_(model, "0", "4"))
    assert smaller[4].weight.shape == (3, 6 * places)
    assert torch.equal(smaller[4].weight, model[4].weight[2:, 2 * places :])
    assert (smaller[4].in_features, smaller[6].in_features) == (6 * places, 3)


def test_a_norm_behind_the_flattening_loses_the_same_block():
    layers = nn.Conv2d(3, 8, 7), nn.Flatten(), nn.BatchNorm1d(32), nn.Linear(32, 4)
    model = kill_(trained(nn.Sequential(*layers)), "0")
    with torch.no_grad():
        model[2].bias[:8] = 0
        model[2].running_mean[:8] = 0
    smaller = shrunk(model)
    assert (smaller[2].num_features, smaller[3].in_features) == (24, 24)
    model[2].running_mean[7] = 1.0  # one place of the second channel
    assert shrunk(model)[2].num_features == 28


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.branch = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 3, padding=1)
        self.head = nn.Linear(8, 4)

    def forward(self, x):
        x = F.relu(self.stem(x))
        return self.head(F.relu(x + self.branch(x)).mean((-2, -1)))


def test_a_residual_channel_goes_when_all_branches_are_dead():
    assert is_unchanged(kill_(trained(Residual()), "stem"))
    assert is_unchanged(kill_(trained(Residual()), "branch"))
    smaller = shrunk(kill_(trained(Residual()), "stem", "branch"))
    assert smaller.branch.weight.shape[:2] == (6, 6)


class Strange(nn.Module):
    """A convolution, something in between, a convolution."""

    def __init__(self, between, channels=8):
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 8, 1), nn.Conv2d(channels, 2, 1)
        self.between = between
        self.depthwise, self.inner = nn.Conv2d(8, 8, 3, groups=8), nn.Conv2d(8, 8, 1)

    def forward(self, x):
        return self.last(self.between(self, self.first(x)))


@pytest.mark.parametrize(
    ("between", "channels"),
    [
        (lambda m, x: x + 1, 8),
        (lambda m, x: x * 2, 8),
        (lambda m, x: x.sigmoid(), 8),
        (lambda m, x: x.flip(1), 8),
        (lambda m, x: torch.cat([x, x], 1), 16),
        (lambda m, x: x[:, 1:], 7),
        (lambda m, x: F.pad(x, (0, 0, 0, 0, 1, 1)), 10),
        (lambda m, x: x + x.mean(1, keepdim=True), 8),
        (lambda m, x: x.mean(0, keepdim=True) + x, 8),
        (lambda m, x: x.reshape(x.size(0), 16, -1, 8), 16),
        (lambda m, x: F.softmax(x, 1), 8),
        (lambda m, x: x.add_(x.flip(1)), 8),
        (lambda m, x: m.depthwise(x), 8),
        (lambda m, x: x.flip(1) + m.inner(F.relu(x)), 8),
        (lambda m, x: torch.flatten(x, 2).unsqueeze(-1), 8),
    ],
)
def test_what_is_not_understood_is_left_alone(between, channels):
    model = trained(Strange(between, channels))
    model(torch.randn(2, *IMAGE))
    assert is_unchanged(kill_(model, "first"))


def test_a_layer_that_is_called_twice_is_left_alone():
    layer = nn.Conv2d(3, 3, 1)
    model = trained(nn.Sequential(layer, nn.ReLU(), layer))
    assert is_unchanged(kill_(model, "0"))


def test_one_channel_stays_where_all_are_dead():
    model = trained(nn.Sequential(nn.Conv2d(3, 2, 1), nn.ReLU(), nn.Conv2d(2, 4, 1)))
    assert shrunk(kill_(model, "0"))[0].weight.shape[0] == 1


def test_a_difference_is_seen():
    model = trained(nn.Sequential(nn.Conv2d(3, 2, 1)))
    other = copy.deepcopy(model)
    with torch.no_grad():
        other[0].bias[0] += 1e-4
    assert largest_difference(model, other, IMAGE) == pytest.approx(1e-4, rel=1e-3)


def test_what_has_a_computed_or_a_tied_weight_stays_and_the_rest_shrinks():
    tied = nn.Conv2d(6, 6, 1)
    again = nn.Conv2d(6, 6, 1)
    again.weight = tied.weight
    plain = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 6, 1)
    computed = nn.utils.parametrizations.weight_norm(nn.Conv2d(6, 6, 1))
    model = kill_(trained(nn.Sequential(*plain, tied, again, computed)), "0", "1")
    state = shrunk_state(model, IMAGE)
    assert state["0.weight"].shape == (6, 3, 3, 3)
    assert state["3.weight"].shape == (6, 6, 1, 1)
    assert state["4.weight"].shape == (6, 6, 1, 1)
    smaller = copy.deepcopy(model)
    resize_(smaller, {name: tuple(tensor.shape) for name, tensor in state.items()})
    smaller.load_state_dict(state, strict=False)  # without the alias
    assert largest_difference(model, smaller, IMAGE) < LEAST
