"""Classification: the loss of torch, and sub-groups that only measuring sees."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from sms_dist import data
from sms_dist.config import DataConfig
from sms_dist.data.card import OWN, names
from sms_dist.data.loader import Batch
from sms_dist.tasks import TASKS
from sms_dist.tasks.classification import Classification

CONFIG = DataConfig()
INFO = replace(data.info(CONFIG), classes=("a", "b", "c"), subgroups=("left", "right"))
TASK = Classification(INFO, CONFIG)
LOGITS = torch.randn(8, 3, generator=torch.Generator().manual_seed(0))
TARGETS = torch.tensor([0, 1, 2, 0, 1, 2, 0, 1])


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_the_loss_is_the_summed_cross_entropy_of_torch(smoothing):
    expected = 8 * F.cross_entropy(LOGITS, TARGETS, label_smoothing=smoothing)
    torch.testing.assert_close(TASK.loss(LOGITS, TARGETS, smoothing), expected)
    torch.testing.assert_close(TASK.loss((LOGITS, -LOGITS), TARGETS, smoothing), expected)
    assert TASK.weight(TARGETS) == 8


def test_the_recall_of_a_subgroup_is_over_its_own_samples():
    subgroups = torch.tensor([0, 0, 0, 1, 1, 1, 1, 1])
    said = TARGETS.clone()
    said[0], said[3] = 1, 1  # one wrong in each
    model = nn.Embedding.from_pretrained(torch.eye(3))
    batch = Batch((said,), TARGETS, 8, 8.0, subgroups)
    found = TASK.metrics(TASK.totals(model, batch))
    assert found["accuracy"] == 6 / 8
    assert found["recall_left"] == pytest.approx(2 / 3)
    assert found["recall_right"] == pytest.approx(4 / 5)
    assert found["worst_subgroup_recall"] == pytest.approx(2 / 3)


def test_the_divergence_is_that_of_torch():
    expected = F.kl_div(
        LOGITS.log_softmax(1), LOGITS.flip(0).softmax(1), reduction="batchmean"
    ) * len(LOGITS)
    torch.testing.assert_close(TASK.divergence(LOGITS, LOGITS.flip(0), TARGETS), expected)


def test_every_data_set_has_a_task():
    shipped = [DataConfig(name=name) for name in names() if name != OWN]
    assert {data.described(config).task for config in shipped} == TASKS.keys()
