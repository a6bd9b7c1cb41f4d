"""Recomputed norms: torch's statistics over every call; spectral norms of a soup's own weights."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations, spectral_norm
from torch.optim.swa_utils import update_bn

from sms_dist.soups.norms import recompute_norms
from sms_dist.soups.states import load_, weights


class Acting(nn.BatchNorm2d):
    """As timm's: an activation and dropout belong to the layer."""

    def __init__(self, num):
        super().__init__(num)
        self.drop = nn.Dropout(0.9)

    def forward(self, x):
        return self.drop(F.relu(super().forward(x)))


class Net(nn.Module):
    def __init__(self, dropout=0.0):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, padding=1)
        self.twice = nn.Sequential(nn.BatchNorm2d(4), nn.ReLU())
        self.cumulative = nn.BatchNorm2d(4, momentum=None, affine=False)
        self.sometimes, self.auxiliary = nn.BatchNorm2d(4), nn.BatchNorm2d(4)
        self.unused, self.synchronised = nn.BatchNorm3d(4), nn.SyncBatchNorm(4)
        self.direct, self.last = nn.BatchNorm2d(4), nn.BatchNorm1d(4)
        self.register_buffer("steps", torch.tensor(0))
        self.dropout = dropout

    def forward(self, x):
        self.steps += 1
        h = self.twice(self.conv(x))
        h = h + self.twice(3 * F.avg_pool2d(h, 2) + 1).mean((2, 3), keepdim=True)
        h = self.cumulative.forward(h)  # no hook sees this call
        if self.training:  # an auxiliary head
            self.auxiliary(F.dropout(h, self.dropout, self.training))
        if x.mean() > 0:
            h = self.sometimes(h)
        d = self.direct
        rate = 1 / float(d.num_batches_tracked.add_(1)) if d.momentum is None else d.momentum
        h = F.batch_norm(h, d.running_mean, d.running_var, d.weight, d.bias, d.training, rate)
        return self.last(self.synchronised(h).mean((2, 3)))


def batches():
    generator = torch.Generator().manual_seed(2)
    shapes = ((8, -1), (5, 0), (9, 1), (6, 2))
    return [torch.randn(n, 1, 6, 6, generator=generator) + 0.7 * mean for n, mean in shapes]


def net(**options):
    torch.manual_seed(1)
    return Net(**options)


def statistics(model):
    return {n: t for n, t in model.state_dict().items() if "running" in n or "tracked" in n}


def test_every_call_of_a_layer_counts_as_torch_counts_it():
    model, reference = net(dropout=0.5), net()
    update_bn(batches(), reference)
    random = torch.random.get_rng_state()
    recompute_norms(model, [(batch, None) for batch in batches()])
    torch.testing.assert_close(statistics(model), statistics(reference), rtol=1e-5, atol=1e-6)
    assert model.twice[0].num_batches_tracked == 8
    assert torch.equal(random, torch.random.get_rng_state())
    assert model.steps == 0
    assert all(module.training for module in model.modules())
    assert "forward" not in vars(model.twice[0])


def test_a_norm_with_an_activation_has_its_own_dropout_off():
    model, reference = nn.Sequential(Acting(1), Acting(1)), nn.Sequential(Acting(1), Acting(1))
    for layer in reference:
        layer.drop.p = 0.0
    update_bn(batches(), reference)
    recompute_norms(model, batches())
    torch.testing.assert_close(statistics(model), statistics(reference), rtol=1e-5, atol=1e-6)


def test_instance_norms_have_the_mean_over_all_instances():
    layer = nn.InstanceNorm2d(1, track_running_stats=True)
    recompute_norms(layer, [{"input": batch} for batch in batches()])
    pairs = [torch.var_mean(batch, (2, 3)) for batch in batches()]
    variance, mean = (torch.stack([p[k].mean(0) for p in pairs]).mean(0) for k in (0, 1))
    torch.testing.assert_close((layer.running_var, layer.running_mean), (variance, mean))


class Frozen(nn.Sequential):
    def train(self, mode=True):
        super().train(mode)
        self[0].eval()
        return self


def test_what_stays_in_evaluation_is_frozen():
    model = Frozen(nn.BatchNorm2d(1), nn.BatchNorm2d(1))
    model[0].running_mean.fill_(5.0)
    recompute_norms(model.eval(), batches())
    assert model[0].running_mean == 5
    assert model[0].num_batches_tracked == 0
    assert model[1].num_batches_tracked == 4


@pytest.mark.parametrize("make", [spectral_norm, parametrizations.spectral_norm])
def test_a_soup_is_divided_by_its_own_largest_singular_value(make):
    torch.manual_seed(0)
    models = [make(nn.Conv2d(3, 8, 3, bias=False)) for _ in range(2)]
    states = [weights(model) for model in models]
    soup = models[0].eval()
    load_(soup, {name: (states[0][name] + states[1][name]) / 2 for name in states[0]})
    kernel = next(t for name, t in weights(soup).items() if "orig" in name)
    images = torch.randn(2, 3, 5, 5)
    wanted = F.conv2d(images, kernel / torch.linalg.matrix_norm(kernel.flatten(1), 2))
    assert not torch.allclose(soup(images), wanted, rtol=1e-2)
    recompute_norms(soup, [])
    torch.testing.assert_close(soup(images), wanted, rtol=1e-5, atol=1e-6)


def test_without_any_batch_nothing_is_counted():
    model = net()
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(ValueError, match="no rank has a batch"):
        recompute_norms(model, [])
    assert model.twice[0].momentum == 0.1
    assert before.keys() == model.state_dict().keys()


def test_a_state_goes_into_another_model():
    model, other = net(), Net()
    other.fc = model.fc = nn.Linear(2, 2)
    compiled = torch.compile(other)
    load_(compiled, weights(model))
    assert all(torch.equal(t, weights(compiled)[n]) for n, t in weights(model).items())
    assert list(weights(compiled)) == list(other.state_dict())


def test_a_state_that_does_not_fit_is_refused_in_one_line():
    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 3), nn.Linear(3, 3))
    model[2].weight = model[1].weight
    state = weights(model)
    assert "2.weight" not in state
    load_(model, state | {"2.weight": state["1.weight"]})
    for wrong, words in (
        ({**state, "x": state["0.bias"]}, "lacks nothing of the model, and has x besides"),
        ({n: t for n, t in state.items() if n != "0.bias"}, "lacks 0.bias of the model"),
        ({**state, "0.bias": torch.zeros(7)}, r"0.bias is float32 \[7\] in .* float32 \[3\] in"),
        ({**state, "2.weight": torch.ones(3, 3)}, "2.weight differs from 1.weight"),
    ):
        with pytest.raises(ValueError, match=words):
            load_(model, wrong)
    with torch.device("meta"), pytest.raises(ValueError, match="weight is on the meta device"):
        load_(nn.Linear(2, 3), state)
