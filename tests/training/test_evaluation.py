"""Evaluation: every sample counts once, with batch norm recomputed and nothing else moved."""

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from sms_dist import data
from sms_dist.base.randomness import stream
from sms_dist.config import Config, DataConfig
from sms_dist.data.dataset import Split
from sms_dist.data.loader import Pixels
from sms_dist.data.resident import Resident
from sms_dist.mesh.division import NUM_PARTS
from sms_dist.mesh.topology import Axis, Topology
from sms_dist.tasks.classification import Classification
from sms_dist.training.context import set_up
from sms_dist.training.evaluation import evaluate, measured

ALONE, CPU = Axis(None, 0, 1), torch.device("cpu")
HERE = Topology(ALONE, ALONE, ALONE, None, CPU)
THREE = replace(data.info(DataConfig()), classes=("a", "b", "c"))
TASK = Classification(THREE, DataConfig())
METRICS = {
    *("accuracy", "top5_accuracy", "loss", "ece"),
    *("balanced_accuracy", "worst_class_accuracy"),
}


def split_of(num):
    pixels = stream(0, "test pixels").uniform(torch.arange(num), 16)
    return Split((pixels * 256).to(torch.uint8).view(num, 1, 4, 4), torch.arange(num) % 3)


def loader(num, batch_size):
    return Resident(split_of(num), batch_size, Pixels((0.5,), (0.25,), CPU), None, CPU)


class Recording(nn.Module):
    """A linear model that remembers what it was shown, and in which mode."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(2)
        self.linear, self.seen, self.modes = nn.Linear(16, 3), [], set()

    def forward(self, images):
        self.seen += images.flatten(1).tolist()
        self.modes.add((self.training, torch.is_grad_enabled()))
        return self.linear(images.flatten(1))


@pytest.mark.parametrize(
    ("num", "batch_size"),
    [(1, 1), (7, 3), (63, 1), (64, 1), (65, 1), (129, 1), (1000, 7), (90, 90)],
)
def test_every_sample_counts_once(num, batch_size):
    model = Recording()
    metrics = evaluate(TASK, model, loader(num, batch_size), ALONE)
    inputs = next(loader(num, batch_size).part(0, 1, num)).inputs[0].flatten(1)
    assert model.seen == inputs.tolist()  # once each, in stored order
    with torch.no_grad():
        outputs, targets = model.linear(inputs), torch.arange(num) % 3
    assert metrics["accuracy"] == float((outputs.argmax(1) == targets).double().mean())
    assert metrics["loss"] == pytest.approx(float(cross_entropy(outputs, targets)), rel=1e-5)


def test_the_cases_above_have_fewer_and_more_batches_than_parts():
    assert 63 < NUM_PARTS < 65


def test_a_model_is_evaluated_in_evaluation_mode_without_gradients():
    model = Recording().train()
    evaluate(TASK, model, loader(10, 4), ALONE)
    assert model.modes == {(False, False)}


def test_weights_and_statistics_are_left_as_they_are():
    model = nn.Sequential(nn.BatchNorm2d(1), nn.Flatten(), nn.Dropout(0.5), nn.Linear(16, 3))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    first, again = (evaluate(TASK, model, loader(50, 8), ALONE) for _ in range(2))
    assert first == again
    assert all(torch.equal(tensor, before[n]) for n, tensor in model.state_dict().items())


@pytest.fixture(scope="module")
def context():
    config = Config(
        data={"name": "digits", "train_samples": 200, "validation": 0.2},
        model={"options": {"width": 4}},
    )
    return set_up(config, HERE)


def test_the_metrics_of_a_state_do_not_depend_on_its_batch_norm_statistics(context):
    state = context.new_model().state_dict()
    spoilt = {name: t * 3 + 1 if "running" in name else t for name, t in state.items()}
    without = {name: t for name, t in state.items() if "norm" not in name or "running" not in name}
    first, metrics = measured(context, state, ALONE)
    for other in (spoilt, without):
        again, same = measured(context, other, ALONE)
        assert same == metrics
        assert all(torch.equal(again[name], first[name]) for name in first)


def test_a_measured_state_has_all_tensors_and_the_weights_it_had(context):
    model = context.new_model()
    state, metrics = measured(context, model.state_dict(), ALONE)
    assert list(state) == list(model.state_dict())
    assert all(torch.equal(state[name], p) for name, p in model.named_parameters())
    assert not any(tensor.requires_grad for tensor in state.values())
    assert metrics.keys() == {f"{s}_{m}" for s in ("test", "validation") for m in METRICS}


def test_validation_and_test_metrics_are_those_of_their_splits(context):
    state, metrics = measured(context, context.new_model().state_dict(), ALONE)
    model = context.load(state)
    for name, split in (("test", context.loaders.test), ("validation", context.loaders.validation)):
        found = evaluate(context.task, model, split, ALONE)
        assert found == {m: metrics[f"{name}_{m}"] for m in METRICS}
    assert context.loaders.validation.num_samples == 40


def test_without_validation_samples_only_the_test_set_is_measured():
    config = Config(
        data={"name": "digits", "train_samples": 50, "validation": 0.0},
        model={"options": {"width": 4}},
    )
    bare = set_up(config, HERE)
    _, metrics = measured(bare, bare.new_model().state_dict(), ALONE)
    assert metrics.keys() == {f"test_{m}" for m in METRICS}
