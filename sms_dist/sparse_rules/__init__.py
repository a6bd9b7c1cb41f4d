"""Sparse training rules: how the prunable weights are masked and updated while they train."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sms_dist.base.lookup import lookup, own

if TYPE_CHECKING:
    from torch import Tensor

    from sms_dist.sparse_rules.base import Rule, Setup

# Where the class of each rule is: a name is checked against the table without paying for torch.
RULES = {
    "dpf": "sms_dist.sparse_rules.magnitude:Dpf",
    "gsm": "sms_dist.sparse_rules.magnitude:Gsm",
    "dnw": "sms_dist.sparse_rules.magnitude:Dnw",
    "lc": "sms_dist.sparse_rules.magnitude:Lc",
    "dst": "sms_dist.sparse_rules.thresholds:Dst",
    "str": "sms_dist.sparse_rules.thresholds:SoftThreshold",
}


def rule_class(name: str) -> type[Rule]:
    """Return the class of a rule; ValueError for a name that is not in the table."""
    field = "sparse training rule"
    found: type[Rule] = own(lookup(RULES, name, field), field)
    return found


def make_rule(
    name: str, options: Mapping[str, Any], weights: Mapping[str, Tensor], setup: Setup
) -> Rule:
    """Return a fresh rule for the prunable weights, given by name; all ranks make the same one.

    `options` have been checked; those that are missing have their defaults. ValueError for a count
    of weights that cannot be kept.
    """
    rule = rule_class(name)
    if rule.controls_sparsity:
        _check_count(name, setup.num_kept, sum(w.numel() for w in weights.values()))
    return rule(weights, setup, rule.options(**options))


def _check_count(name: str, num_kept: int | None, num_weights: int) -> None:
    if num_kept is None:
        raise ValueError(
            f"pruning.goal_sparsity=null, but the sparse training rule {name} keeps an exact number"
            " of weights; give a fraction"
        )
    if not 0 < num_kept <= num_weights:
        raise ValueError(
            f"pruning.goal_sparsity leaves {num_kept} of {num_weights} weights; choose it so that "
            "at least one weight stays"
        )
