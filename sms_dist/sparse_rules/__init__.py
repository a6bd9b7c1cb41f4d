"""Sparse training rules: how the prunable weights are masked and updated while they train."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from sms_dist.config_file import one_line
from sms_dist.config_section import Section
from sms_dist.lookup import lookup
from sms_dist.phases import SparseTraining
from sms_dist.sparse_rules import options

if TYPE_CHECKING:  # a configuration is checked against the table below without paying for torch
    from torch import Tensor

    from sms_dist.sparse_rules.base import Rule, Setup


def make_dpf(weights: Mapping[str, Tensor], setup: Setup, **numbers: Any) -> Rule:
    from sms_dist.sparse_rules.dpf import Dpf

    return Dpf(weights, setup, **numbers)


def make_gsm(weights: Mapping[str, Tensor], setup: Setup) -> Rule:
    from sms_dist.sparse_rules.gsm import Gsm

    return Gsm(setup)


def make_dnw(weights: Mapping[str, Tensor], setup: Setup) -> Rule:
    from sms_dist.sparse_rules.dnw import Dnw

    return Dnw(setup)


def make_lc(weights: Mapping[str, Tensor], setup: Setup, **numbers: Any) -> Rule:
    from sms_dist.sparse_rules.lc import Lc

    return Lc(weights, setup, **numbers)


def make_dst(weights: Mapping[str, Tensor], setup: Setup, **numbers: Any) -> Rule:
    from sms_dist.sparse_rules.dst import Dst

    return Dst(weights, **numbers)


def make_str(weights: Mapping[str, Tensor], setup: Setup, **numbers: Any) -> Rule:
    from sms_dist.sparse_rules.soft_threshold import SoftThreshold

    return SoftThreshold(weights, **numbers)


@dataclass(frozen=True)
class SparseRule:
    """What can be said of a rule before there are weights."""

    make: Callable[..., Rule]  # (weights, setup, **options)
    options: type[Section]
    keeps_latent: bool = False  # the dense weights behind the mask go on to the next phase
    controls_sparsity: bool = True  # exactly as many weights stay as wanted


SPARSE_RULES: dict[str, SparseRule] = {
    "dpf": SparseRule(make_dpf, options.Dpf, keeps_latent=True),
    "gsm": SparseRule(make_gsm, options.Gsm),
    "dnw": SparseRule(make_dnw, options.Dnw),
    "lc": SparseRule(make_lc, options.Lc),
    "dst": SparseRule(make_dst, options.Dst, controls_sparsity=False),
    "str": SparseRule(make_str, options.Str, controls_sparsity=False),
}


def rule_options(training: SparseTraining) -> dict[str, Any]:
    """All options of the rule, defaults filled in; ValueError for one it does not take."""
    rule = lookup(SPARSE_RULES, training.rule, "sparse training rule")
    try:
        return rule.options.model_validate(training.options).model_dump()
    except ValidationError as error:
        raise ValueError(f"method.{one_line(error, rule.options)}") from None


def make_rule(training: SparseTraining, weights: Mapping[str, Tensor], setup: Setup) -> Rule:
    """A fresh rule for the prunable weights, given by name; all ranks make the same one."""
    numbers = rule_options(training)
    rule = SPARSE_RULES[training.rule]
    if rule.controls_sparsity:
        _check_count(training.rule, setup.num_kept, sum(w.numel() for w in weights.values()))
    return rule.make(weights, setup, **numbers)


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
