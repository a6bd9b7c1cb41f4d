"""What layers should keep by their shapes alone: the published examples, exactly."""

from fractions import Fraction
from math import prod

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sms_dist.pruning.shares import erk, uniform, uniform_plus

THREE = {str(shape): shape for shape in ((2, 4), (3, 6), (2, 4, 6))}
NET = {"conv": (4, 3, 3, 3), "hidden": (20, 6), "last": (10, 20)}  # 108, 120 and 200 weights
SHAPES = st.lists(st.lists(st.integers(1, 9), min_size=2, max_size=4), min_size=1, max_size=6)


def sparsities(shapes, shares):
    return [float(1 - kept / prod(shapes[name])) for name, kept in shares.items()]


@pytest.mark.parametrize(
    ("num_kept", "expected"),
    [
        (37, [0, 0.309524, 0.654762]),  # of 74: half
        # The published example "at .8" rounds what goes down in every layer, so that 16 stay.
        (16, [0.555556, 0.703704, 0.851852]),
        (15, [0.583333, 0.722222, 0.861111]),  # 80 % of all together
    ],
)
def test_erk_of_three_layers(num_kept, expected):
    assert sparsities(THREE, erk(THREE, num_kept)) == pytest.approx(expected, abs=5e-7)


@given(SHAPES, st.data())
def test_erk_shares_what_there_is_and_no_layer_gets_more_than_it_has(shapes, data):
    named = {str(i): tuple(shape) for i, shape in enumerate(shapes)}
    sizes = {name: prod(shape) for name, shape in named.items()}
    num_kept = data.draw(st.integers(0, sum(sizes.values())))
    shares = erk(named, num_kept)
    assert list(shares) == list(named)
    assert sum(shares.values()) == num_kept
    assert all(0 <= shares[name] <= sizes[name] for name in named)
    # of the layers that are not whole the density times prod / sum of the dims is one number
    partial = {shares[n] / sum(named[n]) for n in named if shares[n] < sizes[n]}
    assert len(partial) <= 1
    assert all(
        sizes[n] / sum(named[n]) <= max(partial, default=0)
        for n in named
        if partial and shares[n] == sizes[n]
    )


@given(st.integers(0, 428))
def test_uniform_takes_the_same_fraction_of_every_layer(num_kept):
    shares = uniform(NET, num_kept)
    assert {shares[name] / prod(shape) for name, shape in NET.items()} == {Fraction(num_kept, 428)}


def test_uniform_plus_keeps_the_first_convolution_whole():
    assert uniform_plus(NET, 268) == {"conv": 108, "hidden": 60, "last": 100}


def test_uniform_plus_keeps_a_fifth_of_the_last_layer_at_least():
    assert uniform_plus(NET, 172) == {"conv": 108, "hidden": 24, "last": 40}  # just so
    assert uniform_plus(NET, 160) == {"conv": 108, "hidden": 12, "last": 40}
    assert uniform_plus(NET, 148) == {"conv": 108, "hidden": 0, "last": 40}


def test_uniform_plus_refuses_what_leaves_less_than_nothing_for_the_middle():
    message = "keeps conv and 20 % of last: 148 weights, more than the 147 of 428 weights"
    with pytest.raises(ValueError, match=message):
        uniform_plus(NET, 147)


def test_uniform_plus_without_convolutions_has_no_first_one():
    shapes = {"first": (10, 10), "last": (10, 5)}
    assert uniform_plus(shapes, 75) == {"first": 50, "last": 25}
    assert uniform_plus(shapes, 15) == {"first": 5, "last": 10}


def test_a_single_convolution_cannot_be_pruned_by_uniform_plus():
    assert uniform_plus({"conv": (2, 2, 1, 1)}, 4) == {"conv": 4}
    with pytest.raises(ValueError, match="keeps conv: 4 weights"):
        uniform_plus({"conv": (2, 2, 1, 1)}, 3)
