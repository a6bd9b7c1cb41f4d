"""The training loss: torch's cross-entropy, and means over all samples it saw."""

import math

import pytest
import torch
from torch.nn.functional import cross_entropy

from sms_dist import data
from sms_dist.config import DataConfig
from sms_dist.mesh.topology import Axis
from sms_dist.tasks.classification import Classification
from sms_dist.training.loop import Meter, TrainingLoss

ALONE, CPU = Axis(None, 0, 1), torch.device("cpu")
TASK = Classification(data.info(DataConfig()), DataConfig())
LOGITS = torch.randn(10, 4, generator=torch.Generator().manual_seed(0))
TARGETS = torch.arange(10) % 4


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_the_loss_is_the_summed_cross_entropy_of_torch(smoothing):
    value = Meter(TrainingLoss(TASK, smoothing), CPU).loss(LOGITS, TARGETS)
    expected = 10 * cross_entropy(LOGITS, TARGETS, label_smoothing=smoothing)
    torch.testing.assert_close(value, expected)


@pytest.mark.parametrize("cuts", [[], [1], [3, 4, 9]])
def test_averages_are_over_samples_and_not_over_batches(cuts):
    meter = Meter(TrainingLoss(TASK), CPU)
    pieces = zip(LOGITS.tensor_split(cuts), TARGETS.tensor_split(cuts), strict=True)
    for logits, targets in pieces:
        meter.loss(logits, targets)
    average = meter.average()
    assert average.loss == pytest.approx(float(cross_entropy(LOGITS, TARGETS)), rel=1e-6)
    assert average.accuracy == float((LOGITS.argmax(1) == TARGETS).double().mean())
    assert meter.average().loss == average.loss


def test_gradients_flow_through_the_loss_and_not_through_the_totals():
    logits = LOGITS.clone().requires_grad_()
    meter = Meter(TrainingLoss(TASK), CPU)
    meter.loss(logits, TARGETS).backward()
    one_hot = torch.nn.functional.one_hot(TARGETS, 4)
    torch.testing.assert_close(logits.grad, LOGITS.softmax(1) - one_hot)
    assert not meter.totals.requires_grad


def test_low_precision_outputs_are_summed_in_full_precision():
    meter = Meter(TrainingLoss(TASK), CPU)
    value = meter.loss(LOGITS.bfloat16(), TARGETS)
    assert value.dtype == torch.float32
    assert meter.totals.dtype == torch.float64


def test_the_average_of_nothing_is_zero():
    assert Meter(TrainingLoss(TASK), CPU).average().loss == 0.0
    assert Meter(TrainingLoss(TASK), CPU).average().accuracy == 0.0


def test_averaging_over_a_lone_rank_leaves_the_totals():
    meter = Meter(TrainingLoss(TASK), CPU)
    meter.loss(LOGITS, TARGETS)
    before = meter.totals.clone()
    assert meter.average_over(ALONE) == meter.average()
    assert torch.equal(meter.totals, before)


@pytest.mark.parametrize(
    ("bad", "loss"), [(math.nan, math.nan), (math.inf, math.nan), (-math.inf, math.inf)]
)
def test_one_bad_sample_makes_the_average_not_finite(bad, loss):
    meter = Meter(TrainingLoss(TASK), CPU)
    meter.loss(LOGITS, TARGETS)
    assert math.isfinite(meter.average().loss)
    meter.loss(torch.tensor([[bad, 0.0, 0.0, 0.0]]), torch.tensor([0]))
    assert not math.isfinite(meter.average().loss)
    assert meter.average().loss == pytest.approx(loss, nan_ok=True)
