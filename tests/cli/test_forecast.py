"""Forecasts: each part is what can be worked out by hand, and more ranks cost what they must."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sms_dist.cli.forecast import Estimate, Forecast, Rates, duration
from sms_dist.cli.plan import Planned
from sms_dist.cli.slurm.cluster import ClusterConfig
from sms_dist.config import Config
from sms_dist.methods import recipe
from sms_dist.methods.plan import Sizes, make_plan

# 640 samples to train on, in ten steps of 64 an epoch; none is evaluated.
INFO = SimpleNamespace(num_train=640, num_test=0, group=1)
RATES = Rates(sample_seconds=0.01)
GBIT = 1e9 / 8
FREE = {"within_gbit": 1e12, "within_microseconds": 0, "network_gbit": 1e12,
        "network_microseconds": 0}  # fmt: skip
COUNTS = st.integers(1, 12)


def estimate_of(ranks=1, group=1, per_host=None, links=FREE, info=INFO, norm=False, **sections):
    """1000 weights, of which 100 are never pruned."""
    data = {"batch_size": 64, "validation": 0.0}
    sections = {"engine": {"ranks_per_candidate": group}} | sections
    config = Config.model_validate(
        {"data": data, "pretrain": {"epochs": 2}, "retrain": {"epochs": 3}} | sections
    )
    plan = make_plan(recipe(config), ranks // group, Sizes(900, 100, 10))
    cluster = ClusterConfig(ranks_per_node=per_host or ranks, **links)
    return Estimate(Planned(config, info, ranks, plan, has_batch_norm=norm), cluster)


def forecast_of(*words, rates=RATES, **options) -> Forecast:
    return estimate_of(*words, **options).forecast(rates)


def test_steps_of_the_longest_group_are_all_there_is_where_nothing_else_takes_time() -> None:
    forecast = forecast_of(2, pretrain={"epochs": 2, "ranks": 1})  # m=3: two waves
    expected = [20 * 0.64, *[2 * 30 * 0.64] * 3]
    assert [phase.seconds for phase in forecast.phases] == pytest.approx(expected)
    assert forecast.seconds == pytest.approx(sum(expected))
    assert forecast.rank_hours == pytest.approx(2 * sum(expected) / 3600)


def test_a_group_shares_its_samples_and_waits_for_its_gradients() -> None:
    """A ring of four: six messages of a quarter of 4000 bytes, half a second each on their way."""
    links = FREE | {"within_gbit": 1000 / GBIT, "within_microseconds": 500_000}
    sending = 6 * (4000 / 4 / 1000 + 0.5)
    estimate = estimate_of(4, 4, links=links)
    assert estimate.training(RATES, 10, 4, None) == pytest.approx(10 * (0.16 + sending))
    hidden = estimate_of(4, 4, links=links | {"overlap": 0.5})
    assert hidden.training(RATES, 10, 4, None) == pytest.approx(10 * (0.16 + sending / 2))


@settings(deadline=None, max_examples=30)
@given(COUNTS, COUNTS)
def test_more_groups_never_take_longer_nor_fewer_rank_hours(count, ranks) -> None:
    sections = {"candidates": {"count": count}, "pretrain": {"epochs": 2, "ranks": 1}}
    one, some = (forecast_of(num, **sections) for num in (1, ranks))
    assert some.seconds <= one.seconds * 1.001
    assert some.rank_hours >= one.rank_hours * 0.999


def test_what_is_around_the_steps_is_added_where_it_happens() -> None:
    around = {"start_seconds": 7.0, "candidate_seconds": 2.0, "phase_seconds": 5.0}
    more, less = (forecast_of(1, rates=rates) for rates in (RATES.model_copy(update=around), RATES))
    extra = [a.seconds - b.seconds for a, b in zip(more.phases, less.phases, strict=True)]
    assert extra == pytest.approx([2.0, *[3 * 2.0 + 5.0] * 3])
    assert more.seconds - less.seconds == pytest.approx(7.0 + sum(extra))


def test_dense_weights_from_elsewhere_take_no_training() -> None:
    forecast = forecast_of(1, pretrain={"from": "runs/a", "epochs": 2})
    assert forecast.phases[0].seconds == 0


def test_evaluating_is_a_third_of_training_and_shared_as_far_as_it_has_parts() -> None:
    info = SimpleNamespace(num_train=640, num_test=64 * 300, group=1)

    def seconds(ranks):
        forecast = forecast_of(ranks, info=info)
        return forecast.phases[1].seconds - forecast.phases[1].training  # evaluating the soup

    assert seconds(1) == pytest.approx(64 * 300 * 0.01 / 3)
    assert [seconds(1) / seconds(n) for n in (2, 64, 4096)] == pytest.approx([2, 64, 64])


def test_batch_norm_is_a_pass_over_the_training_set() -> None:
    plain, norm = (forecast_of(norm=has).phases[0].seconds for has in (False, True))
    assert norm - plain == pytest.approx(640 * 0.01 / 3)


@pytest.mark.parametrize(("rule", "passes"), [("uniform", 1), ("greedy", 3), ("learned", 32)])
def test_a_rule_measures_the_soups_that_it_tries(rule, passes) -> None:
    sections = {"data": {"batch_size": 64, "validation": 0.0}, "soup": {"rule": rule}}
    phase = forecast_of(norm=True, **sections).phases[1]
    assert phase.seconds - phase.training == pytest.approx(passes * 640 * 0.01 / 3)


def test_gradients_and_soups_are_the_bytes_that_travel() -> None:
    sections = {"candidates": {"count": 2}, "pruning": {"goal_sparsity": 0.5, "phases": 1}}
    dense, phase = forecast_of(4, 2, **sections).phases
    assert dense.traffic.gradients == 20 * 2 * 3 * 4000
    assert phase.traffic.gradients == 2 * 30 * 2 * 4000
    values = 450 + 100
    between_groups = 4 * (values + values)
    assert phase.traffic.soup == between_groups + 2 * 4 * values


def test_where_only_surviving_gradients_travel_pretraining_sends_all_of_them() -> None:
    sections = {
        "pruning": {"goal_sparsity": 0.5, "phases": 1},
        "engine": {"ranks_per_candidate": 2, "gradients": "surviving"},
        "candidates": {"count": 1},
    }
    dense, phase = forecast_of(2, 2, **sections).phases
    assert dense.traffic.gradients == 20 * 2 * 4000
    assert phase.traffic.gradients == 30 * 2 * 4 * (450 + 100)


def test_one_rank_sends_nothing() -> None:
    for phase in forecast_of(1).phases:
        assert (phase.traffic.gradients, phase.traffic.soup) == (0, 0)


def test_a_group_inside_a_host_does_not_use_the_network() -> None:
    slow = FREE | {"network_gbit": 4000 * 8 / 1e9}  # a second for all gradients of a step

    def sending(group, per_host):
        return estimate_of(16, group, per_host, slow).sending(1, group, None)

    assert sending(4, 4) == pytest.approx(0.0)
    assert sending(16, 4) == pytest.approx(2 * 15 / 16)
    assert sending(4, 6) == pytest.approx(2 * 3 / 4)  # some cross from one host to the next


def test_ranks_of_a_host_share_its_network_when_groups_meet() -> None:
    slow = FREE | {"network_gbit": 1000 * 8 / 1e9}

    def soup(per_host):
        forecast = forecast_of(4, per_host=per_host, links=slow, candidates={"count": 4})
        return forecast.phases[1].seconds - forecast.phases[1].training

    assert soup(2) == pytest.approx(2 * soup(1))
    assert soup(4) == pytest.approx(0.0, abs=1e-6)


def test_memory_is_copies_of_the_weights_and_what_the_process_needs() -> None:
    rates = Rates(sample_seconds=0.01, process_bytes=10**6)
    sections = {"candidates": {"count": 1}}
    sgd = forecast_of(1, rates=rates, **sections)
    assert sgd.memory_bytes == 10**6 + (4 + 3) * 4000 + 2 * 900
    adamw = forecast_of(1, rates=rates, pretrain={"optimizer": "adamw", "epochs": 2}, **sections)
    assert adamw.memory_bytes - sgd.memory_bytes == 4000  # a second moment
    waves = forecast_of(1, rates=rates, candidates={"count": 3})
    assert waves.memory_bytes - sgd.memory_bytes == 2 * 4000  # those that are done
    engine = {"name": "deepspeed", "zero_stage": 1, "ranks_per_candidate": 2}
    shared = forecast_of(2, 2, rates=rates, engine=engine, **sections)
    assert sgd.memory_bytes - shared.memory_bytes == 2000  # half of the optimizer


def test_a_forecast_is_quick_for_4096_ranks() -> None:
    forecast = forecast_of(4096, per_host=8, candidates={"count": 1000})
    assert (forecast.num_ranks, forecast.num_hosts) == (4096, 512)
    assert forecast.phases[1].traffic.soup > 0


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(3.14, "3.1 s"), (99.97, "1.7 min"), (7200, "2.0 h"), (3600 * 240, "10.0 d")],
)
def test_times_have_the_digits_that_are_known(seconds, words) -> None:
    assert duration(seconds) == words
