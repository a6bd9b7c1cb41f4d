"""Every rule trains a small network from scratch, and does to its weights what it promises."""

import itertools
import math

import pytest
import torch
from digits_training import train

from sms_dist.sparse_rules import RULES, rule_class
from sms_dist.sparse_rules.magnitude import largest

OPTIONS = {"dst": {"alpha": 1e-3}, "str": {"initial": -3.5}}


@pytest.fixture(scope="module")
def trained():
    """Each rule after four epochs with the goal of 80 % sparsity, where it can have one."""
    return {name: train(name, OPTIONS.get(name), epochs=4, sparsity=0.8) for name in RULES}


@pytest.mark.parametrize("name", RULES)
def test_the_effective_weights_are_a_network_that_works(trained, name):
    result = trained[name]
    assert result.accuracy > 0.8  # chance is 0.1
    for key, tensor in result.tensors.items():
        assert torch.equal(tensor != 0, result.mask[key])
    if rule_class(name).controls_sparsity:
        num_weights = sum(kept.numel() for kept in result.mask.values())
        kept = sum(int(kept.sum()) for kept in result.mask.values())
        assert kept == num_weights - round(0.8 * num_weights)
    else:
        assert 0.3 < result.sparsity < 0.95


def test_dpf_lets_pruned_weights_return(trained):
    masks = []
    result = train("dpf", epochs=2, watch=lambda rule, weights: masks.append(rule.mask))
    pairs = itertools.pairwise(masks)
    changes = [i for i, (a, b) in enumerate(pairs) if any(not a[n].equal(b[n]) for n in a)]
    assert changes == [14, 30]  # after the steps 16 and 32 of 44
    returned = sum(int((masks[-1][n] & ~masks[0][n]).sum()) for n in masks[0])
    assert 0 < returned < 1000
    pruned = ~result.mask["conv3.weight"]
    assert result.latent["conv3.weight"][pruned].count_nonzero() > 1000


def test_gsm_pushes_the_weights_it_will_prune_towards_zero():
    def removed(**settings):
        """The part of the weights' norm that pruning removes in the end."""
        result = train("gsm", epochs=6, sparsity=0.8, **settings)
        squares = {name: w.square().sum() for name, w in result.latent.items()}
        kept = {name: w.square().sum() for name, w in result.tensors.items()}
        return 1 - float(sum(kept.values()) / sum(squares.values()))

    assert removed(weight_decay=5e-3, momentum=0.95) < 0.6 * removed(weight_decay=0.0)


def test_lc_draws_the_weights_to_their_compressed_copy():
    distances = []

    def watch(rule, weights):
        squares = sum((w - rule.theta[name]).square().sum() for name, w in weights.items())
        norm = sum(w.square().sum() for w in weights.values())
        distances.append(float((squares / norm).sqrt()))

    train("lc", {"mu": 0.01, "final_mu": 0.4}, epochs=10, sparsity=0.9, watch=watch)
    assert distances[-1] < 0.25 * distances[0]


def test_dst_is_sparser_with_a_larger_alpha():
    low, high = (train("dst", {"alpha": alpha}, epochs=3) for alpha in (1e-4, 3e-3))
    assert 0 < low.sparsity < high.sparsity - 0.2 < 1
    assert all(t.max() > t.min() for t in high.rule.parameters)  # neurons differ


def test_str_is_sparser_with_more_weight_decay_and_with_a_higher_start():
    base = train("str", epochs=3)
    decayed = train("str", epochs=3, weight_decay=1e-2)
    higher = train("str", {"initial": -3.0}, epochs=3)
    assert 0.05 < base.sparsity < decayed.sparsity - 0.1 < 1
    assert base.sparsity < higher.sparsity - 0.2
    assert len({math.floor(s.item() * 1e4) for s in decayed.rule.parameters}) == 4  # layers differ


def test_a_magnitude_mask_is_what_dpf_ends_with(trained):
    result = trained["dpf"]
    expected = largest(result.latent, sum(int(kept.sum()) for kept in result.mask.values()))
    assert all(torch.equal(expected[name], kept) for name, kept in result.mask.items())
