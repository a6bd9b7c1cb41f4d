"""Whole numbers out of fractions: they add up, stay near and stay within what there is."""

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from sms_dist.pruning.apportion import apportion, num_kept

LAYERS = st.lists(st.tuples(st.fractions(0, 30, max_denominator=9), st.integers(0, 30)), min_size=1)


@given(LAYERS, st.data())
def test_counts_add_up_and_stay_within_the_capacities(layers, data):
    capacities = {str(i): capacity for i, (_, capacity) in enumerate(layers)}
    shares = {str(i): share for i, (share, _) in enumerate(layers)}
    wanted = sum(min(shares[n], Fraction(capacities[n])) for n in shares)
    total = data.draw(st.integers(-(-wanted // 1), sum(capacities.values())))
    counts = apportion(shares, capacities, total)
    assert sum(counts.values()) == total
    assert all(0 <= counts[name] <= capacities[name] for name in counts)


@given(st.lists(st.fractions(0, 30, max_denominator=9), min_size=1))
def test_where_there_is_room_counts_are_shares_rounded_up_or_down(fractions):
    shares = {str(i): share for i, share in enumerate(fractions)}
    shares["rest"] = -sum(fractions) % 1
    counts = apportion(shares, dict.fromkeys(shares, 31), int(sum(shares.values())))
    assert all(abs(counts[name] - shares[name]) < 1 for name in shares)


def test_what_a_layer_has_no_room_for_goes_to_the_others_by_their_room():
    shares = {"a": Fraction(10), "b": Fraction(10), "c": Fraction(10)}
    assert apportion(shares, {"a": 4, "b": 12, "c": 14}, 30) == {"a": 4, "b": 12, "c": 14}
    assert apportion(shares, {"a": 7, "b": 11, "c": 12}, 30) == {"a": 7, "b": 11, "c": 12}
    assert apportion(shares, {"a": 4, "b": 14, "c": 18}, 30) == {"a": 4, "b": 12, "c": 14}


def test_the_number_that_goes_is_rounded():
    assert num_kept(10, 0.54) == 5
    assert num_kept(160, 0.6) == 64
    assert num_kept(7, 0.0) == 7
