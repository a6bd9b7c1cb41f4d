"""Facts about means, deviations and places."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sms_dist.reports.grid import NUMBER, Form, Value, grouped, placed, value


def test_the_deviation_divides_by_n_minus_one() -> None:
    found = value([0.76, 0.78, 0.80])
    assert found is not None
    assert found.mean == pytest.approx(0.78)
    assert found.std == pytest.approx(0.02)  # sqrt((.0004 + 0 + .0004) / 2)
    assert (found.texts(), found.n) == (("78.00", "2.00"), 3)


def test_one_number_has_no_deviation_and_none_has_no_value() -> None:
    assert value([0.5]) == Value(0.5, None, 1)
    assert value([None, 0.5]) == Value(0.5, None, 1)
    assert value([None]) is None


def test_speedups_are_plain_numbers() -> None:
    found = value([6.04, 6.16], NUMBER)
    assert found is not None
    assert found.texts() == ("6.1", "0.1")


def test_what_looks_the_same_shares_a_place() -> None:
    values = [value([x]) for x in (0.70001, 0.70002, 0.69, 0.6)]
    places = [v.place for v in placed([*values, None], places=2) if v]
    assert places == [1, 1, 2, 0]


def test_the_smallest_error_is_the_best() -> None:
    values = [value([x], Form(100, 2, larger_is_better=False)) for x in (0.03, 0.01, 0.02)]
    assert [v.place for v in placed(values, places=2) if v] == [0, 1, 2]


def test_a_value_that_stands_alone_is_not_marked() -> None:
    assert placed([None, value([0.7])]) == [None, value([0.7])]


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), min_size=2, max_size=8))
def test_the_best_is_never_below_another(means: list[float]) -> None:
    marked = placed([value([mean]) for mean in means])
    best = [v.mean for v in marked if v and v.place == 1]
    assert best
    assert min(best) >= max(means) - 0.0001


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), min_size=2, max_size=8), st.floats(0, 1))
def test_a_shift_moves_the_mean_and_leaves_the_deviation(
    numbers: list[float], shift: float
) -> None:
    old, new = value(numbers), value(number + shift for number in numbers)
    assert old is not None
    assert new is not None
    assert math.isclose(new.mean, old.mean + shift, abs_tol=1e-9)
    assert math.isclose(new.std or 0, old.std or 0, abs_tol=1e-9)


def test_groups_keep_the_order() -> None:
    assert grouped([3, 1, 4, 1, 5], lambda number: number % 2) == {1: [3, 1, 1, 5], 0: [4]}
