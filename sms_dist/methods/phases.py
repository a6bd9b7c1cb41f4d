"""What a method asks for, as plain data: pretraining, then phases with their candidates."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from sms_dist.config import PretrainConfig, RetrainConfig
from sms_dist.sparse_rules import rule_class

Begin = Literal["soup", "own", "rewind"]
FIXED_MASK = "fixed_mask"  # no sparse training rule: what is pruned stays pruned


@dataclass(frozen=True)
class Candidate:
    """One copy of the pruned model and how it is retrained."""

    index: int
    seed: int
    retrain: RetrainConfig


@dataclass(frozen=True)
class SparseTraining:
    """The sparse training rule of a phase, by name, with its numbers."""

    rule: str = FIXED_MASK
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Phase:
    """Prune to `sparsity`, retrain the candidates side by side, merge them by `rule`.

    Candidates begin with the last soup; with what the candidate of their index became in the last
    phase ("own"); or with the kept weights of pretraining, of which those survive that are large in
    the last soup ("rewind").
    """

    index: int  # from 1
    sparsity: float | None  # None: whatever the sparse training rule leaves
    fraction: float  # of the weights that remained before this phase, pruned in it
    candidates: tuple[Candidate, ...]
    rule: str
    begin: Begin = "soup"
    first_epoch: int | None = None  # where pretraining's schedule goes on; None: one of retraining
    training: SparseTraining = SparseTraining()

    @property
    def has_fixed_mask(self) -> bool:
        return self.training.rule == FIXED_MASK

    @property
    def has_own_masks(self) -> bool:
        """Do candidates end with masks that may differ?"""
        return self.begin == "own" or not self.has_fixed_mask

    @property
    def keeps_latent(self) -> bool:
        """Do the dense weights behind the candidates go on, instead of the pruned ones?"""
        return not self.has_fixed_mask and rule_class(self.training.rule).keeps_latent


@dataclass(frozen=True)
class Recipe:
    """A method's answer to a configuration."""

    pretrain: PretrainConfig
    dense_epochs: int  # of pretrain.epochs, trained before the first phase
    phases: tuple[Phase, ...]
    kept_epoch: int | None = None  # its weights are kept for phases that rewind
