"""Names of metrics and what they mean."""

import subprocess
import sys

import pytest

from sms_dist.tasks import SCORES, score


def test_only_losses_and_calibration_errors_are_better_small():
    assert {name for name, facts in SCORES.items() if not facts.larger_is_better} == {"loss", "ece"}


@pytest.mark.parametrize(
    ("name", "label", "scale"),
    [
        ("accuracy", "accuracy", 100),
        ("test_miou", "mIoU", 100),
        ("validation_bleu", "BLEU", 1),
        ("test_recall_blond_men", "recall blond men", 100),
        ("ood_accuracy", "OOD accuracy", 100),
        ("test_ood_accuracy_motion_blur", "OOD accuracy motion blur", 100),
        ("iou_sky", "IoU sky", 100),
    ],
)
def test_a_metric_is_known_by_name_with_or_without_its_samples(name, label, scale):
    facts = score(name)
    assert (facts.label, facts.scale) == (label, scale)


def test_what_is_no_metric_has_no_facts():
    assert score("sparsity") is None
    assert score("theoretical_speedup") is None


def test_names_cost_no_torch():
    code = (
        "import sys, sms_dist.tasks, sms_dist.data.corruptions; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
