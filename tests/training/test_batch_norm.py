"""Recomputed batch norm: torch's own cumulative statistics, whatever stood there before."""

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import update_bn

from sms_dist.base.randomness import stream
from sms_dist.data.augment import crop_flip
from sms_dist.data.dataset import Split
from sms_dist.data.loader import Pixels
from sms_dist.data.resident import Resident
from sms_dist.mesh.topology import Axis
from sms_dist.soups.norms import recompute_

ALONE, CPU = Axis(None, 0, 1), torch.device("cpu")
NUM_SAMPLES = 203
PIXELS = stream(0, "test pixels").uniform(torch.arange(NUM_SAMPLES), 36)
SPLIT = Split(
    (PIXELS * 256).to(torch.uint8).view(NUM_SAMPLES, 1, 6, 6), torch.arange(NUM_SAMPLES) % 3
)
STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


def loader(augment=None):
    return Resident(SPLIT, 16, Pixels((0.4,), (0.3,), CPU), augment, CPU)


def new_model(dropout=0.0, momentum=0.1):
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3),
        nn.BatchNorm2d(4, momentum=momentum),
        nn.ReLU(),
        nn.Dropout(dropout),
        nn.Flatten(),
        nn.Linear(64, 5),
        nn.BatchNorm1d(5, momentum=momentum),
        nn.Linear(5, 3),
    )


def recomputed(model, augment=None):
    recompute_(model, loader(augment), ALONE, CPU)
    return model


def statistics(model):
    return {n: t for n, t in model.state_dict().items() if n.endswith(STATISTICS)}


def assert_same_bits(first, second):
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        assert torch.equal(tensor, second[name]), name


def test_statistics_are_those_of_torch_over_the_same_batches():
    model, reference = new_model(), new_model()
    recomputed(model)
    batches = [batch.inputs[0] for batch in loader().part(0, 1)]
    update_bn(batches, reference)
    for name, tensor in statistics(reference).items():
        torch.testing.assert_close(statistics(model)[name], tensor, rtol=1e-5, atol=1e-6)
    assert model[1].num_batches_tracked == len(batches) == 13


@pytest.mark.parametrize("before", [5.0, -1e30, float("inf"), float("nan")])
def test_what_stood_there_before_does_not_matter(before):
    model = new_model()
    for layer in (model[1], model[6]):
        layer.running_mean.fill_(before)
        layer.running_var.fill_(abs(before))
        layer.num_batches_tracked.fill_(77)
    assert_same_bits(statistics(recomputed(model)), statistics(recomputed(new_model())))


def test_recomputing_twice_changes_nothing():
    model = recomputed(new_model())
    first = {name: tensor.clone() for name, tensor in statistics(model).items()}
    assert_same_bits(statistics(recomputed(model)), first)


def test_dropout_is_off_and_no_random_number_is_drawn():
    before = torch.random.get_rng_state()
    assert_same_bits(statistics(recomputed(new_model(0.9))), statistics(recomputed(new_model())))
    torch.random.set_rng_state(before)
    model = new_model(0.9)
    before = torch.random.get_rng_state()
    recomputed(model)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_images_are_not_augmented():
    augmented = recomputed(new_model(), crop_flip)
    assert_same_bits(statistics(augmented), statistics(recomputed(new_model())))


@pytest.mark.parametrize("momentum", [0.1, 0.25, None])
@pytest.mark.parametrize("training", [True, False])
def test_momentum_stays_and_the_model_is_left_in_evaluation(momentum, training):
    model = recomputed(new_model(momentum=momentum).train(training))
    assert model[1].momentum == model[6].momentum == momentum
    assert not any(module.training for module in model.modules())


def test_weights_are_left_as_they_are_without_gradients():
    model, before, modes = new_model(), new_model(), set()
    model.register_forward_pre_hook(lambda *_: modes.add(torch.is_grad_enabled()))
    recomputed(model)
    assert modes == {False}
    assert_same_bits(dict(model.named_parameters()), dict(before.named_parameters()))
    assert all(parameter.grad is None for parameter in model.parameters())


def test_layers_without_running_statistics_are_let_alone():
    torch.manual_seed(1)
    bare = nn.BatchNorm2d(1, track_running_stats=False)
    model = recomputed(nn.Sequential(bare, nn.BatchNorm2d(1), nn.Flatten(), nn.Linear(36, 3)))
    assert bare.running_mean is None
    assert model[1].num_batches_tracked == 13


def test_a_model_without_batch_norm_is_shown_nothing_and_stays_as_it_is():
    model = nn.Sequential(nn.Flatten(), nn.Linear(36, 3))
    model.register_forward_pre_hook(lambda *_: pytest.fail("a batch for nothing"))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    assert_same_bits(recomputed(model).state_dict(), before)
