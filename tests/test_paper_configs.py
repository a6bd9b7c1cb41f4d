"""The configurations of the paper's pairs of data and model have its settings."""

from __future__ import annotations

from pathlib import Path

import pytest

from sms_dist.config.file import load
from sms_dist.schedules.learning_rate import pretraining_rates

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
FULL = [path for path in sorted(CONFIGS.glob("*.yaml")) if not path.stem.endswith("_small")]
OF_PAPER = [path for path in FULL if not load(path).data.name.startswith("digits")]
STEPS = 10  # of an epoch, here
# Table 3: epochs, batch, weight decay, and the rate at the start of some epochs.
TABLE_3 = {
    ("cifar10", "resnet18"): (
        (200, 128, 5e-4),
        {1: 0.1, 90: 0.1, 91: 0.01, 180: 0.01, 181: 0.001, 200: 0.001},
    ),
    ("celeba", "resnet18"): ((100, 256, 1e-5), {1: 0.1, 51: 0.05, 100: 0.001}),
    ("cifar100", "wrn20"): ((200, 128, 2e-4), {1: 0.1, 101: 0.05, 200: 0.0005}),
    ("imagenet", "resnet50"): ((90, 256, 1e-4), {1: 0.1, 46: 0.05, 82: 0.01}),
    ("imagenet", "maxvit_t"): (
        (200, 256, 1e-5),
        {1: 0, 11: 0.1, 21: 0.2, 60: 0.2, 61: 0.02, 120: 0.02, 121: 2e-3, 161: 2e-4, 200: 2e-4},
    ),
    ("cityscapes", "pspnet"): (
        (300, 12, 1e-5),
        {11: 0.05, 21: 0.1, 100: 0.1, 101: 0.01, 200: 0.01, 201: 1e-3, 271: 1e-4, 291: 1e-5},
    ),
    ("wmt16", "t5"): ((5, 16, 1e-5), {1: 0, 2: 0.1, 3: 0.01, 4: 0.001, 5: 0.0001}),
}
# Goal sparsity, phases, epochs and schedule of retraining: tables 5, 15, 1, 1, 7, 8, 10.
SOUPS = {
    "cifar10_resnet18": (0.98, 3, 20, "allr"),
    "celeba_resnet18": (0.95, 1, 20, "allr"),
    "cifar100_wrn20": (0.98, 3, 10, "allr"),
    "imagenet_resnet50": (0.9, 3, 10, "allr"),
    "imagenet_maxvit_t": (0.8, 1, 10, "allr"),
    "cityscapes_pspnet": (0.9, 2, 50, "llr"),
    "wmt16_t5": (0.5, 1, 2, "allr"),
}


@pytest.mark.parametrize("path", OF_PAPER, ids=lambda path: path.stem)
def test_pretraining_is_that_of_table_3(path: Path) -> None:
    config = load(path)
    pretrain = config.pretrain
    (epochs, batch, decay), rates = TABLE_3[config.data.name, config.model.name]
    assert (pretrain.epochs, config.data.batch_size, pretrain.weight_decay) == (
        epochs,
        batch,
        decay,
    )
    assert (pretrain.optimizer, pretrain.momentum, config.data.validation <= 0.1) == (
        "sgd", 0.9, True,
    )  # fmt: skip
    found = pretraining_rates(pretrain.curve, STEPS)
    assert {epoch: found[(epoch - 1) * STEPS] for epoch in rates} == pytest.approx(rates)


@pytest.mark.parametrize("name", SOUPS)
def test_the_pairs_are_pruned_and_retrained_as_in_the_paper(name: str) -> None:
    config = load(CONFIGS / f"{name}.yaml")
    pruning, retrain = config.pruning, config.retrain
    found = (pruning.goal_sparsity, pruning.phases, retrain.epochs, retrain.schedule)
    assert found == SOUPS[name]
    assert (config.method.name, config.soup.rule, config.candidates.count) == ("sms", "uniform", 3)
    assert (pruning.allocation, pruning.pattern) == ("global", "unstructured")


@pytest.mark.parametrize("name", SOUPS)
def test_the_pairs_have_small_versions_of_the_same_data_and_family(name: str) -> None:
    full, small = load(CONFIGS / f"{name}.yaml"), load(CONFIGS / f"{name}_small.yaml")
    assert (full.data.name, full.model.name) == (small.data.name, small.model.name)


def test_every_pair_of_table_3_is_there() -> None:
    loaded = [load(CONFIGS / f"{name}.yaml") for name in SOUPS]
    assert {(config.data.name, config.model.name) for config in loaded} == TABLE_3.keys()
