"""Rules by name: what can be known of them without weights, and what is refused."""

import subprocess
import sys

import pytest
import torch

from sms_dist.phases import SparseTraining
from sms_dist.sparse_rules import SPARSE_RULES, make_rule, rule_options
from sms_dist.sparse_rules.base import Setup
from sms_dist.sparse_rules.magnitude import MagnitudeRule

WEIGHTS = {"a": torch.tensor([[3.0, -1.0], [0.5, 2.0]]), "b": torch.tensor([[-4.0, 0.1]])}
SETUP = Setup(num_kept=3, num_steps=8, steps_per_epoch=2)
EACH = pytest.mark.parametrize("name", SPARSE_RULES)


def make(name, **options):
    return make_rule(SparseTraining(name, options), WEIGHTS, SETUP)


def test_the_table_does_not_need_torch():
    code = (
        "import sys; from sms_dist.sparse_rules import SPARSE_RULES, rule_options;"
        "from sms_dist.phases import SparseTraining;"
        "[rule_options(SparseTraining(name)) for name in SPARSE_RULES];"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@EACH
def test_the_table_says_of_a_rule_what_the_rule_does(name):
    rule = make(name)
    assert SPARSE_RULES[name].keeps_latent == (name == "dpf")
    assert SPARSE_RULES[name].controls_sparsity == isinstance(rule, MagnitudeRule)
    assert rule.allows_nesterov == (name != "gsm")
    assert bool(rule.parameters) == (name in ("dst", "str"))


@EACH
def test_options_have_defaults_and_explanations(name):
    fields = SPARSE_RULES[name].options.model_fields
    assert rule_options(SparseTraining(name)) == {key: f.default for key, f in fields.items()}
    assert all(field.description for field in fields.values())


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


@pytest.mark.parametrize("name", [n for n, rule in SPARSE_RULES.items() if rule.controls_sparsity])
def test_exact_rules_keep_the_largest_weights_of_all_layers(name):
    mask = make(name).finish(WEIGHTS).mask
    assert mask["a"].tolist() == [[True, False], [False, True]]
    assert mask["b"].tolist() == [[True, False]]


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("dff", {}, "sparse training rule=dff is not known, did you mean dpf"),
        ("dpf", {"refrsh": 3}, "method.refrsh is not a key, did you mean refresh"),
        ("dpf", {"refresh": 0}, "method.refresh=0 should be greater than or equal to 1"),
        ("dpf", {"refresh": 1.5}, "method.refresh=1.5"),
        ("gsm", {"momentum": 0.9}, "method.momentum is not a key"),
        ("lc", {"mu": 0.0}, "method.mu=0.0 should be greater than 0"),
        ("lc", {"final_mu": -0.9}, "method.final_mu=-0.9 should be greater than 0"),
        ("dst", {"alpha": -1.0}, "method.alpha=-1.0"),
        ("str", {"initial": "low"}, "method.initial='low'"),
    ],
)
def test_a_wrong_option_is_named_in_one_line(name, options, words):
    with pytest.raises(ValueError, match=words) as error:
        make(name, **options)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("num_kept", [None, 0, 7])
def test_a_count_that_cannot_be_kept_is_refused(num_kept):
    for name, rule in SPARSE_RULES.items():
        setup = Setup(num_kept, num_steps=8, steps_per_epoch=2)
        if rule.controls_sparsity:
            with pytest.raises(ValueError, match=r"pruning\.goal_sparsity"):
                make_rule(SparseTraining(name), WEIGHTS, setup)
        else:
            make_rule(SparseTraining(name), WEIGHTS, setup)
