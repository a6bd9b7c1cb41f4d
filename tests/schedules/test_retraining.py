"""Learning rates of retraining: golden values, and the shape of each schedule."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sms_dist.config import PretrainConfig
from sms_dist.schedules.learning_rate import (
    RETRAINING,
    WITHOUT_WARMUP,
    History,
    Retraining,
    pretraining_rates,
    relative_distance,
    retraining_rates,
)

STEPS = 10  # per epoch


def history(epochs=20, **keys) -> History:
    curve = PretrainConfig(epochs=epochs, **keys).curve
    return History(tuple(pretraining_rates(curve, STEPS)), epochs)


LINEAR = history(learning_rate=0.2)
WARMED = history(learning_rate=0.2, warmup_epochs=5, schedule="cosine", final_learning_rate=0.01)
STEPPED = history(learning_rate=0.2, schedule="steps", milestones=(11, 16))


def rates_of(name, curve=LINEAR, epochs=5, warmup=0.1, distance=1.0):
    return retraining_rates(name, Retraining(curve, epochs, distance), epochs * STEPS, warmup)


@pytest.mark.parametrize("name", RETRAINING)
@pytest.mark.parametrize("curve", [LINEAR, WARMED, STEPPED])
@pytest.mark.parametrize("epochs", [1, 5, 30])
def test_there_is_one_rate_for_every_step_and_none_above_the_largest(name, curve, epochs):
    rates = rates_of(name, curve, epochs)
    assert len(rates) == epochs * STEPS
    assert all(0 <= rate <= curve.largest for rate in rates)


@pytest.mark.parametrize("name", [n for n in RETRAINING if n not in WITHOUT_WARMUP])
@pytest.mark.parametrize("warmup", [0.1, 0.4])
def test_the_warm_up_is_a_cosine_from_0_that_meets_the_body(name, warmup):
    rates = rates_of(name, epochs=10, warmup=warmup, distance=0.3)
    num = int(warmup * 100)
    rise = [rates[num] * (1 - math.cos(math.pi * i / num)) / 2 for i in range(num)]
    assert rates[0] == 0
    assert rates[:num] == pytest.approx(rise)
    assert rates[num // 2] == pytest.approx(rates[num] / 2)
    assert max(rates) == rates[num]


@pytest.mark.parametrize("name", [n for n in RETRAINING if n not in WITHOUT_WARMUP])
def test_without_a_warm_up_the_body_is_all(name):
    assert rates_of(name, warmup=0.0)[0] == rates_of(name, warmup=0.5)[25] > 0


@pytest.mark.parametrize("name", WITHOUT_WARMUP)
def test_ft_and_lrw_never_warm_up(name):
    assert rates_of(name, warmup=0.5) == rates_of(name, warmup=0.0)


def test_ft_keeps_the_last_rate_of_pretraining():
    assert rates_of("ft", STEPPED) == [STEPPED.rates[-1]] * 50
    assert STEPPED.rates[-1] == pytest.approx(0.002)


@settings(deadline=None, max_examples=200)
@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 100))
def test_lrw_replays_the_last_epochs_exactly(total, epochs, steps):
    epochs = min(epochs, total)
    curve = History(tuple(range(total * steps)), total)
    num = epochs * steps
    assert retraining_rates("lrw", Retraining(curve, epochs), num, 0.1) == [*curve.rates[-num:]]


def test_lrw_replays_where_floating_point_shares_would_miss_a_step():
    curve = History(tuple(range(11 * 41)), 11)
    rates = retraining_rates("lrw", Retraining(curve, 5), 5 * 41, 0.1)
    assert rates == [*curve.rates[-5 * 41 :]]


def test_lrw_spreads_the_last_epochs_over_another_number_of_steps():
    rates = retraining_rates("lrw", Retraining(LINEAR, 5), 25, 0.0)
    assert rates == [*LINEAR.rates[-50::2]]


def test_lrw_longer_than_pretraining_spreads_all_of_it():
    assert rates_of("lrw", epochs=40)[::2] == [*LINEAR.rates]


def test_slr_is_the_whole_curve_compressed():
    assert rates_of("slr", STEPPED, epochs=10, warmup=0.0) == [*STEPPED.rates[::2]]
    body = rates_of("slr", STEPPED, epochs=10)[10:]
    assert body == [STEPPED.rates[200 * i // 90] for i in range(90)]


def test_slr_has_the_largest_rate_in_place_of_the_warm_up_of_pretraining():
    rates = rates_of("slr", WARMED, epochs=10, warmup=0.0)
    assert rates[:25] == [0.2] * 25
    assert rates[25:] == [*WARMED.rates[50::2]]


def test_clr_is_a_cosine_from_the_largest_rate_to_the_last():
    rates = rates_of("clr", WARMED, epochs=10, warmup=0.0)
    last = WARMED.rates[-1]
    assert rates[0] == 0.2
    assert rates[50] == pytest.approx((0.2 + last) / 2)
    assert rates[-1] == pytest.approx(last, abs=1e-4)
    assert rates == sorted(rates, reverse=True)


def test_llr_is_a_line_from_the_largest_rate_to_0():
    rates = rates_of("llr", WARMED, epochs=10, warmup=0.0)
    assert rates == pytest.approx([0.2 * (1 - i / 100) for i in range(100)])
    assert rates_of("llr", epochs=10)[10:] == pytest.approx([0.2 * (1 - i / 90) for i in range(90)])


@pytest.mark.parametrize(
    ("distance", "epochs", "factor"),
    [
        (0.3, 5, 0.3),  # pruning decides: 5 of 20 epochs
        (0.1, 5, 0.25),  # length decides
        (0.1, 40, 1.0),
        (1.7, 5, 1.0),
        (0.0, 5, 0.25),
    ],
)
def test_allr_is_llr_times_the_larger_of_distance_and_length_up_to_1(distance, epochs, factor):
    expected = [factor * rate for rate in rates_of("llr", epochs=epochs)]
    assert rates_of("allr", epochs=epochs, distance=distance) == pytest.approx(expected)


def test_the_relative_distance_is_golden():
    removed = math.sqrt(sum(i * i for i in range(1, 10)))
    whole = math.sqrt(sum(i * i for i in range(1, 11)))
    assert relative_distance(whole, removed, 0.9) == pytest.approx(0.906924, abs=5e-7)


@pytest.mark.parametrize("fraction", [0.1, 0.5, 0.9])
def test_equal_magnitudes_have_the_relative_distance_1(fraction):
    assert relative_distance(math.sqrt(1000), math.sqrt(1000 * fraction), fraction) == (
        pytest.approx(1)
    )


@pytest.mark.parametrize("name", RETRAINING)
def test_another_largest_rate_rescales_the_schedule(name):
    scaled = rates_of(name, WARMED.scaled_to(0.8))
    assert scaled == pytest.approx([4 * rate for rate in rates_of(name, WARMED)])
    assert WARMED.scaled_to(None) == WARMED
    assert WARMED.scaled_to(0.8).largest == pytest.approx(0.8)


def test_an_unknown_schedule_names_the_legal_ones():
    with pytest.raises(ValueError, match=r"retrain\.schedule=alr is not known, did you mean allr"):
        rates_of("alr")
