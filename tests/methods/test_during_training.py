"""Methods that prune while they train: pretrain.epochs is the whole budget."""

from __future__ import annotations

from dataclasses import fields

import pytest

from sms_dist.config import Config
from sms_dist.methods import METHODS, recipe, starts_from_dense
from sms_dist.sparse_rules import RULES, rule_class

SCRATCH = ["gsm", "dnw", "lc", "dst", "str"]
GRADUAL = ["gmp", "gmp_sms", "dpf", "dpf_sms"]


def config(method, phases=5, goal=0.9, epochs=90, **sections):
    return Config(
        method=method if isinstance(method, dict) else {"name": method},
        pruning={"goal_sparsity": goal, "phases": phases},
        pretrain={"epochs": epochs} | sections.pop("pretrain", {}),
        **sections,
    )


def made(name):
    return recipe(config(name, goal=None if name in ("dst", "str") else 0.9))


def epochs_of(found):
    return found.dense_epochs + sum(p.candidates[0].retrain.epochs for p in found.phases)


@pytest.mark.parametrize("name", [*SCRATCH, *GRADUAL, "bimp", "bimp_sms"])
def test_the_budget_is_spent_and_no_more(name):
    assert epochs_of(made(name)) == 90


@pytest.mark.parametrize("name", GRADUAL)
def test_gradual_pruning_is_golden(name):
    phases = made(name).phases
    assert [p.sparsity for p in phases] == pytest.approx([0.4392, 0.7056, 0.8424, 0.8928, 0.9])
    assert [p.first_epoch for p in phases] == [15, 30, 45, 60, 75]
    assert {p.candidates[0].retrain.epochs for p in phases} == {15}
    assert made(name).dense_epochs == 15


def test_gradual_phases_prune_the_fraction_of_what_remained():
    left = 1.0
    for phase in made("gmp").phases:
        left *= 1 - phase.fraction
        assert left == pytest.approx(1 - phase.sparsity)


def test_intervals_that_do_not_divide_the_epochs_still_cover_them():
    phases = recipe(config("gmp", phases=3, epochs=10)).phases
    ends = [p.first_epoch + p.candidates[0].retrain.epochs for p in phases]
    assert [p.first_epoch for p in phases[1:]] == ends[:-1]
    assert ends[-1] == 10


@pytest.mark.parametrize("name", ["gmp_sms", "dpf_sms"])
def test_copies_are_made_from_the_given_epoch_on(name):
    found = recipe(config({"name": name, "copies_from": 60})).phases
    assert [len(p.candidates) for p in found] == [1, 1, 1, 3, 3]
    found = recipe(config(name)).phases  # from the middle on
    assert [len(p.candidates) for p in found] == [1, 1, 3, 3, 3]


def test_a_lone_copy_is_its_own_soup_whatever_the_rule():
    found = recipe(config("gmp_sms", soup={"rule": "greedy"})).phases
    assert [p.rule for p in found] == ["uniform"] * 2 + ["greedy"] * 3


def test_only_dpf_lets_pruned_weights_learn_on():
    assert {p.training.rule for p in made("dpf").phases} == {"dpf"}
    assert all(p.has_fixed_mask for p in made("gmp").phases)


def test_bimp_trains_densely_to_a_rate_of_0_and_shares_the_rest():
    found = recipe(config("bimp", phases=4, pretrain={"schedule": "steps", "milestones": [40]}))
    assert (found.pretrain.schedule, found.pretrain.final_learning_rate) == ("linear", 0.0)
    assert (found.pretrain.epochs, found.dense_epochs) == (60, 60)
    assert [p.candidates[0].retrain.epochs for p in found.phases] == [8, 8, 7, 7]
    given = recipe(config({"name": "bimp_sms", "dense_epochs": 75}, phases=3))
    assert [p.candidates[0].retrain.epochs for p in given.phases] == [5, 5, 5]
    assert {len(p.candidates) for p in given.phases} == {3}


@pytest.mark.parametrize("name", SCRATCH)
def test_a_single_training_is_one_phase_from_the_initial_weights(name):
    found = made(name)
    (phase,) = found.phases
    assert (found.dense_epochs, phase.first_epoch, phase.training.rule) == (0, 0, name)
    assert phase.has_own_masks


@pytest.mark.parametrize("name", ["gsm", "lc"])
def test_some_may_start_from_the_dense_model(name):
    settings = config({"name": name, "from_scratch": False}, retrain={"epochs": 4})
    found = recipe(settings)
    (phase,) = found.phases
    assert (found.dense_epochs, phase.first_epoch) == (90, None)
    assert phase.candidates[0].retrain.epochs == 4
    assert starts_from_dense(found, settings)


@pytest.mark.parametrize("name", METHODS)
def test_dense_weights_from_elsewhere_are_for_methods_that_begin_with_them(name):
    goal = None if name in ("dst", "str") else 0.9
    settings = config(name, goal=goal, pretrain={"from": "somewhere"}, retrain={"epochs": 9})
    if name in (*SCRATCH, *GRADUAL, "bimp", "bimp_sms"):
        with pytest.raises(ValueError, match=r"^pretrain\.from=somewhere, but method\.name"):
            recipe(settings)
    else:
        assert starts_from_dense(recipe(settings), settings)


@pytest.mark.parametrize(
    ("name", "keys", "words"),
    [
        ("dpf", {"refrsh": 3}, "method.refrsh is not a key of method.name=dpf, did you mean refr"),
        ("dpf", {"refresh": 0}, "method.refresh=0 should be greater than or equal to 1"),
        ("dpf", {"refresh": 1.5}, "method.refresh=1.5"),
        ("dpf", {"refresh": True}, "method.refresh=True should be a valid integer"),
        ("gsm", {"momentum": 0.9}, "method.momentum is not a key"),
        ("lc", {"mu": 0.0}, "method.mu=0.0 should be greater than 0"),
        ("lc", {"mu": float("nan")}, "method.mu=nan should be a finite number"),
        ("lc", {"final_mu": -0.9}, "method.final_mu=-0.9 should be greater than 0"),
        ("dst", {"alpha": -1.0}, "method.alpha=-1.0"),
        ("str", {"initial": "low"}, "method.initial='low'"),
    ],
)
def test_a_wrong_option_of_a_rule_is_named_in_one_line(name, keys, words):
    with pytest.raises(ValueError, match=words) as error:
        recipe(config({"name": name, **keys}, goal=None if name in ("dst", "str") else 0.9))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", sorted(RULES))
def test_the_options_of_a_rule_are_keys_of_its_method(name):
    keys = METHODS[name].keys.model_fields
    for option in fields(rule_class(name).options):
        assert keys[option.name].default == option.default
        assert keys[option.name].description
