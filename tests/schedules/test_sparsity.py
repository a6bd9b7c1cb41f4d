"""Sparsity over the phases: golden values, and counts that are exact."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sms_dist.pruning.allocation import num_kept
from sms_dist.schedules.sparsity import (
    cubic,
    fraction_per_phase,
    fraction_pruned,
    geometric,
    sparsities,
)

GOALS, PHASES = st.floats(0.01, 0.999), st.integers(1, 12)


@pytest.mark.parametrize(
    ("goal", "phases", "percentages"),
    [
        (0.98, 3, [72.856, 92.632, 98.0]),
        (0.90, 3, [53.584, 78.456, 90.0]),
        (0.90, 2, [68.377, 90.0]),
        (0.98, 1, [98.0]),
    ],
)
def test_sparsities_are_golden(goal, phases, percentages):
    assert [round(100 * s, 3) for s in geometric(goal, phases)] == percentages


@settings(deadline=None)
@given(GOALS, PHASES)
def test_every_phase_removes_the_same_fraction_of_what_remains(goal, phases):
    found = [0.0, *geometric(goal, phases)]
    fraction = fraction_per_phase(goal, phases)
    for before, after in pairwise(found):
        assert 1 - after == pytest.approx((1 - before) * (1 - fraction), rel=1e-9)


@settings(deadline=None)
@given(GOALS, PHASES)
def test_the_last_sparsity_is_the_goal_to_the_last_bit_and_they_rise(goal, phases):
    found = geometric(goal, phases)
    assert len(found) == phases
    assert found[-1] == goal
    assert found == sorted(found)


@settings(deadline=None)
@given(GOALS, PHASES, st.floats(0, 1))
def test_from_a_sparse_start_every_phase_still_removes_the_same_fraction(goal, phases, part):
    start = part * goal
    found = [start, *sparsities(goal, phases, start)]
    fraction = fraction_per_phase(goal, phases, start)
    assert found == sorted(found)
    assert found[-1] == goal
    for before, after in pairwise(found):
        assert 1 - after == pytest.approx((1 - before) * (1 - fraction), rel=1e-9)
    assert sparsities(goal, phases) == geometric(goal, phases)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((1.0, 3), "goal=1.0 is no sparsity"),
        ((-0.1, 3), "goal=-0.1 is no sparsity"),
        ((float("nan"), 3), "goal=nan is no sparsity"),
        ((0.5, 3, 0.9), "start=0.9 must lie between 0 and goal=0.5"),
        ((0.5, 0), "phases=0 must be a whole number"),
        ((0.5, 2.5), "phases=2.5 must be a whole number"),
    ],
)
def test_what_is_no_plan_of_sparsities_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        sparsities(*arguments)


@pytest.mark.parametrize(
    ("num_weights", "sparsity", "kept"),
    [
        (11_164_352, 0.98, 223_287),  # 10,941,064.96 go
        (26_842_032, 0.98, 536_841),  # 26,305,191.36 go
        (10, 0.25, 8),  # 2.5 go: round to even
        (10, 0.35, 6),
        (11, 0.5, 5),  # 5.5 go: round to even; not round(5.5), which would keep 6
        (7, 0.0, 7),
        (1, 0.4, 1),
    ],
)
def test_kept_counts_are_golden(num_weights, sparsity, kept):
    assert num_kept(num_weights, sparsity) == kept


@settings(deadline=None)
@given(st.integers(1, 10**8), GOALS, PHASES)
def test_counts_fall_from_phase_to_phase_and_are_within_half_a_weight(num_weights, goal, phases):
    found = geometric(goal, phases)
    counts = [num_kept(num_weights, s) for s in found]
    assert counts == sorted(counts, reverse=True)
    for count, sparsity in zip(counts, found, strict=True):
        assert abs(num_weights - count - sparsity * num_weights) <= 0.5


def test_cubic_is_golden():
    found = cubic(0.9, 5)
    assert found == pytest.approx([0.4392, 0.7056, 0.8424, 0.8928, 0.9])
    assert found[-1] == 0.9


@given(st.floats(0.01, 0.999), st.integers(1, 50))
def test_cubic_rises_steeply_first_and_ends_at_the_goal(goal, num_steps):
    found = [0.0, *cubic(goal, num_steps)]
    rises = [after - before for before, after in pairwise(found)]
    assert found[-1] == goal
    assert all(rise > 0 for rise in rises)
    assert all(later <= earlier + 1e-12 for earlier, later in pairwise(rises))


def test_cubic_may_start_above_0():
    assert cubic(0.9, 2, initial=0.5) == pytest.approx([0.9 - 0.4 / 8, 0.9])


def test_the_fraction_pruned_is_of_what_remained():
    assert fraction_pruned(0.5, 0.75) == 0.5
