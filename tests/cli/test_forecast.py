"""Forecasts: each part is what can be worked out by hand, and more ranks cost what they must."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sms_dist.cli.forecast.forecast import forecast, step_seconds
from sms_dist.cli.forecast.links import (
    Layout,
    Link,
    all_reduce_bytes,
    all_reduce_seconds,
    measured_link,
)
from sms_dist.cli.forecast.rates import HostRates, Rates
from sms_dist.cli.forecast.traffic import (
    BEAT_BYTES,
    CONTROL_BYTES,
    EPOCH_BYTES,
    MOST_RANKS,
    control_bytes,
)
from sms_dist.cli.forecast.work import Samples, Work, busiest
from sms_dist.config import Config
from sms_dist.mesh.division import NUM_PARTS, parts_of
from sms_dist.mesh.watchdog import MOST_RANKS_A_SECOND
from sms_dist.methods import recipe
from sms_dist.methods.plan import Sizes, make_plan
from sms_dist.tasks.classification import num_totals

FREE = Link(1e30, 0.0)
SAMPLES = Samples(train=640, validation=0, test=64)
HOST = HostRates(processes=1, sample_seconds=0.01)
COUNTS = st.integers(1, 12)


def work_of(num_groups=1, group=1, samples=SAMPLES, **sections):
    """Ten steps of 64 samples an epoch; 1000 weights, of which 100 are never pruned."""
    sections = {"engine": {"ranks_per_candidate": group}, "soup": {"ensemble": False}} | sections
    config = Config.model_validate(
        {"data": {"batch_size": 64}, "pretrain": {"epochs": 2}, "retrain": {"epochs": 3}} | sections
    )
    plan = make_plan(recipe(config), num_groups, Sizes(900, 100, 10))
    return Work(config, plan, samples, 10, is_classification=True)


def on(ranks, group=1, per_host=None, within=FREE, between=FREE, overlap=0.0):
    return Layout(ranks, per_host or ranks, group, within, between, overlap)


def forecast_of(ranks, group=1, host=HOST, **sections):
    work = work_of(ranks // group, group, **sections)
    return forecast(work, Rates(hosts=(host,)), on(ranks, group))


def test_steps_of_the_longest_group_are_all_there_is_where_nothing_else_takes_time() -> None:
    found = forecast_of(2, pretrain={"epochs": 2, "ranks": 1})  # m=3: two waves
    assert [phase.seconds for phase in found.phases] == pytest.approx(
        [
            20 * 0.64,
            *[0.25 + 2 * 30 * 0.64] * 3,
        ]  # the second group waits, and looks up now and then
    )
    assert found.seconds == pytest.approx(sum(p.seconds for p in found.phases) + 2 * 0.001)
    assert found.rank_hours == pytest.approx(2 * found.seconds / 3600)


def test_a_group_shares_its_steps_and_pays_for_what_every_step_costs() -> None:
    host = HostRates(processes=1, sample_seconds=0.01, step_seconds=0.1)
    link = Link(bytes_per_second=1000.0, seconds=0.5)
    work, rates = work_of(1, 4), Rates(hosts=(host,))
    sending = 6 * (4000 / 4 / 1000 + 0.5)  # a ring of four: six messages of a quarter
    at = on(4, 4, within=link)
    assert step_seconds(work, rates, at, 4, 4) == pytest.approx(0.1 + 0.16 + sending)
    half = replace(at, overlap=0.5)
    assert step_seconds(work, rates, half, 4, 4) == pytest.approx(0.26 + sending - 0.13)


@settings(deadline=None, max_examples=30)
@given(COUNTS, COUNTS)
def test_more_groups_never_take_longer_nor_fewer_rank_hours(count, ranks) -> None:
    sections = {"candidates": {"count": count}, "pretrain": {"epochs": 2, "ranks": 1}}
    one, some = (forecast_of(num, **sections) for num in (1, ranks))
    waiting = 3 * 0.25 + 0.001 * ranks
    assert some.seconds <= one.seconds + waiting
    assert some.rank_hours >= one.rank_hours * 0.999


def test_a_wave_that_leaves_ranks_idle_is_faster_for_those_at_work() -> None:
    crowded = HostRates(processes=2, sample_seconds=0.02)
    rates = Rates(hosts=(HOST, crowded))
    work = work_of(2, pretrain={"epochs": 2, "ranks": 1})
    phase = forecast(work, rates, on(2)).phases[1]
    assert phase.training == pytest.approx(30 * 64 * (0.02 + 0.01))


def test_what_is_around_the_steps_is_added_where_it_happens() -> None:
    around = {"start_seconds": 7.0, "dense_seconds": 1.0, "candidate_seconds": 2.0}
    host = HostRates(processes=1, sample_seconds=0.01, phase_seconds=5.0, **around)
    more, less = (forecast_of(1, host=each) for each in (host, HOST))
    extra = [a.seconds - b.seconds for a, b in zip(more.phases, less.phases, strict=True)]
    assert extra == pytest.approx([1.0, *[3 * 2.0 + 5.0] * 3])
    assert more.seconds - less.seconds == pytest.approx(7.0 + sum(extra))


def test_dense_weights_from_elsewhere_take_no_training() -> None:
    found = forecast_of(1, pretrain={"from": "runs/a", "epochs": 2})
    assert found.phases[0].training == 0


def test_measuring_is_shared_among_the_ranks_as_far_as_it_has_parts() -> None:
    host = HostRates(processes=1, sample_seconds=0.0, evaluation_seconds=0.001)
    samples = Samples(train=640, validation=0, test=64 * 640)  # 640 batches

    def seconds(ranks):
        work = work_of(ranks, samples=samples)
        return forecast(work, Rates(hosts=(host,)), on(ranks)).phases[0].measuring

    assert seconds(1) == pytest.approx(64 * 640 * 0.001)
    assert [seconds(1) / seconds(n) for n in (2, 64, 4096)] == pytest.approx([2, 64, 64])


@settings(deadline=None)
@given(st.integers(0, 500), st.integers(1, 200))
def test_the_busiest_rank_has_as_many_batches_as_the_parts_that_it_gets(batches, ranks) -> None:
    bounds = [batches * part // NUM_PARTS for part in range(NUM_PARTS + 1)]
    shares = [
        sum(bounds[part + 1] - bounds[part] for part in parts_of(rank, ranks))
        for rank in range(ranks)
    ]
    assert busiest(batches, ranks) == max(shares)


def test_gradients_and_soups_are_the_bytes_that_travel() -> None:
    work = work_of(2, 2, candidates={"count": 2}, pruning={"goal_sparsity": 0.5, "phases": 1})
    found = forecast(work, Rates(hosts=(HOST,)), on(4, 2)).phases
    assert found[0].traffic.gradients == 20 * all_reduce_bytes(4000, 4)
    assert found[1].traffic.gradients == 2 * 30 * all_reduce_bytes(4000, 2)
    values = 450 + 100
    between_groups = 4 * (values + values)
    assert found[1].traffic.soup == between_groups + 2 * 4 * values


def test_where_only_surviving_gradients_travel_pretraining_sends_all_of_them() -> None:
    pruning = {"goal_sparsity": 0.5, "phases": 1}
    engine = {"ranks_per_candidate": 2, "gradients": "surviving"}
    work = work_of(1, 2, engine=engine, candidates={"count": 1}, pruning=pruning)
    found = forecast(work, Rates(hosts=(HOST,)), on(2, 2)).phases
    assert found[0].traffic.gradients == 20 * all_reduce_bytes(4000, 2)
    assert found[1].traffic.gradients == 30 * all_reduce_bytes(4 * (450 + 100), 2)


def test_one_rank_sends_nothing() -> None:
    for phase in forecast_of(1).phases:
        moved = phase.traffic
        assert (moved.gradients, moved.soup, moved.measuring, moved.control) == (0, 0, 0, 0)


@settings(deadline=None)
@given(st.integers(2, 4096), st.floats(1e6, 1e12), st.floats(1e-7, 1e-2))
def test_a_link_is_found_again_from_what_its_rings_take(ranks, speed, seconds) -> None:
    num_bytes = 10**9
    small, large = (all_reduce_seconds(n, ranks, Link(speed, seconds)) for n in (0, num_bytes))
    found = measured_link(ranks, small, large, num_bytes)
    assert found.seconds == pytest.approx(seconds)
    if (large - small) > 0.01 * large:
        assert found.bytes_per_second == pytest.approx(speed, rel=1e-3)


def test_a_group_inside_a_host_does_not_use_the_network() -> None:
    within, between = Link(1e9, 1e-6), Link(1e6, 1e-3)
    at = Layout(64, 8, 4, within, between)
    assert (at.num_hosts, at.num_groups) == (8, 16)
    assert at.in_row(4) == within
    assert at.in_row(16) == between  # a ring over two hosts, alone on their network
    assert at.in_row(3) == replace(between, bytes_per_second=5e5)  # some cross, two share a host
    assert at.in_column() == replace(between, bytes_per_second=1e6 / 8)
    assert Layout(8, 8, 4, within, between).in_column() == within


def test_memory_grows_with_what_lies_there() -> None:
    host = HostRates(processes=1, sample_seconds=0.01, process_bytes=10**6, sample_bytes=1000.0)
    small = forecast_of(4, 4, host=host, pretrain={"epochs": 0, "from": "a"})
    large = forecast_of(1, 1, host=host, pretrain={"epochs": 0, "from": "a"})
    assert large.memory_bytes - small.memory_bytes == pytest.approx(48 * 1000)  # 64 - 16 samples
    adamw = {"epochs": 0, "from": "a", "optimizer": "adamw"}
    more = forecast_of(1, 1, host=host, pretrain=adamw)
    assert more.memory_bytes - large.memory_bytes == pytest.approx(4000)  # a second moment


def test_rates_are_taken_of_as_many_processes_or_the_next_more() -> None:
    rates = Rates(hosts=tuple(HostRates(processes=n, sample_seconds=1.0) for n in (8, 1, 4)))
    assert [rates.at(n).processes for n in (1, 2, 4, 5, 9)] == [1, 4, 4, 8, 8]


def test_a_forecast_is_plain_data_and_quick_for_4096_ranks() -> None:
    work = work_of(4096, candidates={"count": 1000})
    found = forecast(work, Rates(hosts=(HOST,)), on(4096, per_host=8))
    document = json.loads(json.dumps(found.as_json()))
    assert (document["num_ranks"], document["num_hosts"]) == (4096, 512)
    assert document["phases"][1]["traffic"]["soup"] > 0


def test_an_evaluation_adds_up_as_many_values_as_a_classifier_has_scores() -> None:
    assert work_of().num_totals == num_totals(num_classes=10)


def test_heartbeats_grow_with_the_ranks_until_the_store_has_enough_to_do() -> None:
    alone, crowded = on(4, per_host=1), on(4, per_host=4)
    assert control_bytes(on(1), 100.0) == 0
    assert control_bytes(alone, 100.0) == 3 * 100 * (CONTROL_BYTES + 2 * BEAT_BYTES)
    assert control_bytes(crowded, 100.0) == 3 * 100 * (CONTROL_BYTES + 5 * BEAT_BYTES)
    assert MOST_RANKS == MOST_RANKS_A_SECOND
    assert control_bytes(on(4096, per_host=8), 1.0) == control_bytes(on(1001, per_host=8), 1.0)


def test_groups_tell_each_other_of_the_epochs_of_their_candidates() -> None:
    def told(epochs):
        work = work_of(4, retrain={"epochs": epochs}, candidates={"count": 2})
        return forecast(work, Rates(hosts=(HOST,)), on(4)).phases[1].traffic.measuring

    assert told(30) - told(20) == all_reduce_bytes(2 * 10 * EPOCH_BYTES, 4)
