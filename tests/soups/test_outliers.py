"""Candidates alone far from the others."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sms_dist.soups.alarm import outliers

LOSSES = st.lists(st.floats(0, 1e30), max_size=12).map(lambda losses: dict(enumerate(losses)))


@pytest.mark.parametrize(
    ("losses", "found"),
    [
        ([0.5, 0.52, 2.303], {2: 0.52}),  # ln(10): it learned nothing of ten classes
        ([1e6, 1.5, 1.6, 1.4], {0: 1.55}),
        ([6.9, 2.5, 6.9, 2.5, 2.5], {0: 2.5, 2: 2.5}),
        ([0.0001, 0.0002, 0.09], {}),  # all of them learned it
        ([0.5, 2.3], {}),  # who of the two?
        ([2.3, 2.3, 0.5], {}),  # most are broken
        ([0.5, 0.5, 2.3, 2.3], {}),
        ([1.0, 2.0, 4.2], {}),  # wide, none alone
        ([2.1, 2.2, 2.303], {}),  # hardly better
        ([], {}),
    ],
)
def test_who_is_far_above_the_median(losses, found):
    assert outliers(dict(enumerate(losses)), 2.0) == found


@pytest.mark.parametrize(
    "healthy",  # the widest of some hundred phases of healthy digits runs
    [
        [0.0845, 0.0394, 0.0602],
        [0.0059, 0.0057, 0.0079],
        [0.7082, 0.6403, 0.791],
        [0.0046, 0.0047, 0.0062],
        [0.442, 0.4563, 0.4417],
    ],
)
def test_healthy_candidates_are_not_far(healthy):
    assert outliers(dict(enumerate(healthy)), 2.0) == {}


@given(LOSSES)
def test_those_far_are_fewer_than_half(losses):
    assert 2 * len(outliers(losses, 2.0)) < max(1, len(losses))


@given(LOSSES, st.floats(1.01, 100))
def test_the_larger_the_limit_the_fewer_and_never_one_below_another_that_stays(losses, times):
    some, fewer = outliers(losses, times), outliers(losses, 2 * times)
    assert fewer.keys() <= some.keys()
    stay = [loss for i, loss in losses.items() if i not in some]
    assert all(losses[i] > max(stay) for i in some)


@given(LOSSES, st.randoms())
def test_the_order_of_candidates_does_not_matter(losses, random):
    items = list(losses.items())
    random.shuffle(items)
    assert outliers(dict(items), 2.0) == outliers(losses, 2.0)
