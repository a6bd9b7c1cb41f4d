"""Plans: candidates dealt into waves, steps, surviving weights and bytes."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sms_dist.config import Config
from sms_dist.mesh.division import deal
from sms_dist.methods import recipe
from sms_dist.methods.plan import Sizes, make_plan, soup_bytes

SIZES = Sizes(num_prunable=1000, num_other=50, steps_per_epoch=9)
COUNTS, GROUPS = st.integers(1, 20), st.integers(1, 8)


def plan_of(num_groups=2, count=5, **candidates):
    config = Config(
        pruning={"goal_sparsity": 0.98, "phases": 3},
        retrain={"epochs": 4},
        candidates={"count": count} | candidates,
    )
    return make_plan(recipe(config), num_groups, SIZES)


@given(COUNTS, GROUPS)
def test_waves_cover_every_candidate_once_and_only_the_last_is_short(count, num_groups):
    for phase in plan_of(num_groups, count).phases:
        assert [i for wave in phase.waves for i in wave] == list(range(count))
        assert all(len(wave) == num_groups for wave in phase.waves[:-1])
        assert 0 < len(phase.waves[-1]) <= num_groups


@given(COUNTS, GROUPS)
def test_dealing_gives_each_group_its_place_in_every_wave(count, num_groups):
    waves = plan_of(num_groups, count).phases[0].waves
    for group in range(num_groups):
        dealt = deal(range(count), num_groups, group)
        assert list(dealt) == [wave[group] for wave in waves if group < len(wave)]


def test_more_groups_than_candidates_leave_some_without():
    assert [list(deal([7, 8], 3, group)) for group in range(3)] == [[7], [8], []]


def test_one_group_sends_nothing():
    assert soup_bytes(10**9, 5, num_groups=1) == 0
    assert all(phase.soup_bytes == 0 for phase in plan_of(num_groups=1).phases)


@pytest.mark.parametrize(
    ("num_candidates", "num_groups", "values"),
    [
        (2, 2, 100 + 100),  # half of each candidate goes over, half of the soup comes back
        (4, 2, 200 + 100),
        (3, 3, 200 + 200),
        (4, 4, 300 + 300),
    ],
)
def test_soup_bytes_are_golden(num_candidates, num_groups, values):
    assert soup_bytes(100, num_candidates, num_groups) == 4 * values
    assert soup_bytes(100, num_candidates, num_groups, itemsize=2) == 2 * values


def test_only_surviving_weights_and_other_parameters_travel():
    found = plan_of(num_groups=2, count=2).phases
    assert [phase.surviving for phase in found] == [271, 74, 20]
    assert [phase.soup_bytes for phase in found] == [4 * 2 * (n + 50) for n in (271, 74, 20)]


def test_steps_are_those_of_each_candidate():
    plan = plan_of(count=3, vary={"epochs": [1, 2, 5]})
    assert [phase.steps for phase in plan.phases] == [(9, 18, 45)] * 3


def test_a_plan_is_plain_data():
    plan = plan_of(count=2)
    document = json.loads(json.dumps(plan.as_json()))
    assert document["num_groups"] == 2
    assert document["sizes"]["num_prunable"] == 1000
    assert [phase["phase"]["sparsity"] for phase in document["phases"]][-1] == 0.98
    candidate = document["phases"][0]["phase"]["candidates"][1]
    assert candidate["index"] == 1
    assert candidate["retrain"]["epochs"] == 4


def test_a_plan_without_phases_is_empty():
    assert make_plan(recipe(Config(method={"name": "dense"})), 2, SIZES).phases == ()
