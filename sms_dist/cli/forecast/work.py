"""What there is to do, in numbers: samples, parameters and bytes of a planned experiment."""

from __future__ import annotations

import math
from dataclasses import dataclass

from sms_dist import data
from sms_dist.config import Config
from sms_dist.data.dataset import DatasetInfo
from sms_dist.mesh.division import NUM_PARTS, parts_of
from sms_dist.methods.plan import PhasePlan, Plan, pretrain_ranks

FLOAT = 4  # bytes
DOUBLE = 8
TOTALS, CLASS_TOTALS = 49, 2  # that an evaluation adds up: metrics/classification.py


@dataclass(frozen=True)
class Samples:
    """Of each split."""

    train: int
    validation: int
    test: int


@dataclass(frozen=True)
class Work:
    config: Config
    plan: Plan
    samples: Samples
    num_classes: int
    is_classification: bool

    @property
    def num_parameters(self) -> int:
        return self.plan.sizes.num_prunable + self.plan.sizes.num_other

    def gradient_bytes(self, item: PhasePlan | None = None) -> int:
        """Of one step, as they travel inside a group; None: in pretraining."""
        engine, values = self.config.engine, self.num_parameters
        if item is not None and engine.gradients == "surviving" and item.phase.has_fixed_mask:
            values = item.surviving + self.plan.sizes.num_other
        halves = engine.name == "deepspeed" and engine.precision != "fp32"
        return values * (FLOAT // 2 if halves else FLOAT)

    @property
    def pretrain_steps(self) -> int:
        is_given = self.config.pretrain.from_ is not None
        return 0 if is_given else self.plan.dense_epochs * self.plan.sizes.steps_per_epoch

    def pretrain_ranks(self, num_ranks: int) -> int:
        """As a run chooses them."""
        wanted = self.config.pretrain.ranks
        if wanted is not None:
            return wanted
        smallest = self.samples.train // self.plan.sizes.steps_per_epoch
        return pretrain_ranks(num_ranks, smallest, self.config.engine.accumulation)

    @property
    def num_totals(self) -> int:
        """Values that an evaluation adds up; of other tasks about as many."""
        return TOTALS + CLASS_TOTALS * self.num_classes

    @property
    def has_ensemble(self) -> bool:
        return self.config.soup.ensemble and self.is_classification

    def share(self, num_ranks: int) -> float:
        """Samples of a step that fall to the rank which gets most."""
        return math.ceil(self.samples.train / self.plan.sizes.steps_per_epoch / num_ranks)

    def measured_samples(self, num_samples: int, num_ranks: int) -> float:
        """Of a split, those that the busiest rank looks at when it is measured."""
        batches = -(-num_samples // self.config.data.batch_size)
        return num_samples * busiest(batches, num_ranks) / max(batches, 1)


def work_of(config: Config, info: DatasetInfo, plan: Plan) -> Work:
    samples = Samples(*data.split_sizes(info, config.data), info.num_test)
    return Work(config, plan, samples, info.num_classes, info.task == "classification")


def busiest(num_batches: int, num_ranks: int) -> int:
    """Batches of the rank that has most: a stretch of parts each, a stretch of batches a part."""
    parts = (parts_of(rank, num_ranks) for rank in range(num_ranks))
    starts = [[num_batches * end // NUM_PARTS for end in (own.start, own.stop)] for own in parts]
    return max(after - before for before, after in starts)
