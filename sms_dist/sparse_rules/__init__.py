"""Sparse training rules: how the prunable weights are masked and updated while they train.

A new rule is a class, a `Rule` of base.py with its options, and a line in the table below. It is
then a method too, one training under the rule, unless `METHODS` has another one of its name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from sms_dist.base.lookup import lookup, own

if TYPE_CHECKING:
    from torch import Tensor

    from sms_dist.sparse_rules.base import Rule, Setup


class Entry(NamedTuple):
    """A rule's class, as module:Class below this package, and what the rule does."""

    place: str
    about: str


# Classes are imported when they are needed: a name is checked without paying for torch.
RULES = {
    "dpf": Entry("magnitude:Dpf", "gradual pruning in which pruned weights go on learning"),
    "gsm": Entry("magnitude:Gsm", "only the weights that matter most get a gradient"),
    "dnw": Entry("magnitude:Dnw", "the largest weights compute, all of them learn"),
    "lc": Entry("magnitude:Lc", "weights drawn ever harder to their pruned selves"),
    "dst": Entry("thresholds:Dst", "a learned threshold for each neuron"),
    "str": Entry("thresholds:SoftThreshold", "a learned soft threshold for each layer"),
}


def rule_class(name: str) -> type[Rule]:
    """Return the class of a rule; ValueError for a name that is not in the table."""
    field = "sparse training rule"
    entry = lookup(RULES, name, field)
    kind: type[Rule] = own(f"{__name__}.{entry.place}", field)
    return kind


def make_rule(
    name: str, options: Mapping[str, Any], weights: Mapping[str, Tensor], setup: Setup
) -> Rule:
    """Return a fresh rule for the prunable weights, given by name; all ranks make the same one.

    `options` have been checked; those that are missing have their defaults. ValueError for a count
    of weights that cannot be kept.
    """
    rule, num_kept = rule_class(name), setup.num_kept
    if rule.controls_sparsity:
        num_weights = sum(weight.numel() for weight in weights.values())
        if num_kept is None:
            raise ValueError(
                f"pruning.goal_sparsity=null, but the sparse training rule {name} keeps an exact"
                " number of weights; give a fraction"
            )
        if not 0 < num_kept <= num_weights:
            raise ValueError(
                f"pruning.goal_sparsity leaves {num_kept} of {num_weights} weights; choose it so"
                " that at least one weight stays"
            )
    return rule(weights, setup, rule.options(**options))
