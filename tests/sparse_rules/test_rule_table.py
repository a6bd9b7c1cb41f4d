"""Rules by name: what can be known of them without weights, and what is refused."""

import inspect
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from sms_dist.sparse_rules import RULES, make_rule, rule_class
from sms_dist.sparse_rules.base import Setup
from sms_dist.sparse_rules.magnitude import MagnitudeRule

WEIGHTS = {"a": torch.tensor([[3.0, -1.0], [0.5, 2.0]]), "b": torch.tensor([[-4.0, 0.1]])}
SETUP = Setup(num_kept=3, num_steps=8, steps_per_epoch=2)
EACH = pytest.mark.parametrize("name", RULES)


def make(name, **options):
    return make_rule(name, options, WEIGHTS, SETUP)


def test_the_table_does_not_need_torch():
    code = "import sys; from sms_dist.sparse_rules import RULES; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@EACH
def test_rules_know_no_configuration_and_no_method(name):
    source = Path(inspect.getfile(rule_class(name))).read_text(encoding="utf-8")
    assert "from sms_dist.sparse_rules" in source
    for above in ("config", "phases", "methods"):
        assert f"sms_dist.{above}" not in source


@EACH
def test_the_table_says_of_a_rule_what_the_rule_does(name):
    rule = make(name)
    assert rule_class(name).keeps_latent == (name == "dpf")
    assert rule_class(name).controls_sparsity == isinstance(rule, MagnitudeRule)
    assert rule.allows_nesterov == (name != "gsm")
    assert bool(rule.parameters) == (name in ("dst", "str"))


@EACH
def test_options_are_frozen_and_have_defaults(name):
    options = rule_class(name).options()
    assert options.__dataclass_params__.frozen
    assert make(name).options is type(options)
    with pytest.raises(TypeError, match="refrsh"):
        make(name, refrsh=3)


def test_a_name_that_is_not_known_is_answered_with_the_nearest():
    with pytest.raises(ValueError, match="sparse training rule=dff is not known, did you mean dpf"):
        make("dff")


@EACH
def test_the_weights_are_left_alone_and_the_answer_repeats(name):
    before = {key: weight.clone() for key, weight in WEIGHTS.items()}
    for _ in range(2):
        rule = make(name)
        view, finished = rule.view(WEIGHTS), rule.finish(WEIGHTS)
        rule.after_step_(WEIGHTS)
        for key, weight in WEIGHTS.items():
            assert torch.equal(weight, before[key])
            assert torch.equal(view[key], make(name).view(WEIGHTS)[key])
            assert torch.equal(finished.tensors[key] != 0, finished.mask[key])


@EACH
def test_finished_weights_share_no_memory_with_the_latent_ones(name):
    tensors = make(name).finish(WEIGHTS).tensors
    assert all(tensors[key].data_ptr() != weight.data_ptr() for key, weight in WEIGHTS.items())


@pytest.mark.parametrize("name", [n for n in RULES if rule_class(n).controls_sparsity])
def test_exact_rules_keep_the_largest_weights_of_all_layers(name):
    mask = make(name).finish(WEIGHTS).mask
    assert mask["a"].tolist() == [[True, False], [False, True]]
    assert mask["b"].tolist() == [[True, False]]


@pytest.mark.parametrize("num_kept", [None, 0, 7])
def test_a_count_that_cannot_be_kept_is_refused(num_kept):
    for name in RULES:
        setup = Setup(num_kept, num_steps=8, steps_per_epoch=2)
        if rule_class(name).controls_sparsity:
            with pytest.raises(ValueError, match=r"pruning\.goal_sparsity"):
                make_rule(name, {}, WEIGHTS, setup)
        else:
            make_rule(name, {}, WEIGHTS, setup)
