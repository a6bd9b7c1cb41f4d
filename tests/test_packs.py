"""Which candidates take their turns together: a function of the plan, not of what is done."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sms_dist.config import EngineConfig, RetrainConfig
from sms_dist.methods.packs import obstacle, pack_size, turns
from sms_dist.methods.phases import Candidate, Phase, SparseTraining


def phase(count, rule="fixed_mask"):
    candidates = tuple(Candidate(i, i, RetrainConfig()) for i in range(count))
    return Phase(1, 0.5, 0.5, candidates, "uniform", training=SparseTraining(rule))


def indices(found):
    return [([c.index for c in t.candidates], [c.index for c in t.pack]) for t in found]


def test_all_are_cut_into_packs_in_their_order():
    five = phase(5)
    found = turns(five, five.candidates, (), 2)
    assert indices(found) == [([0, 1], [0, 1]), ([2, 3], [2, 3]), ([4], [])]


def test_what_is_done_keeps_its_place():
    five = phase(5)
    found = turns(five, five.candidates[1:3], (), 3)
    assert indices(found) == [([1, 2], [0, 1, 2])]


def test_who_is_tried_again_is_alone():
    five = phase(5)
    found = turns(five, five.candidates, {1, 4}, 3)
    assert indices(found) == [([0, 2], [0, 1, 2]), ([1], []), ([3], [3, 4]), ([4], [])]


def test_packs_of_one_are_no_packs():
    three = phase(3)
    assert indices(turns(three, three.candidates, (), 1)) == [([0], []), ([1], []), ([2], [])]


@settings(deadline=None)
@given(st.integers(1, 12), st.integers(1, 12), st.data())
def test_everybody_to_do_has_one_turn(count, size, data):
    some = phase(count)
    todo = data.draw(st.lists(st.sampled_from(some.candidates), unique=True))
    again = data.draw(st.sets(st.integers(0, count - 1)))
    found = turns(some, todo, again, size)
    assert sorted(c.index for t in found for c in t.candidates) == sorted(c.index for c in todo)
    assert all(len(turn.candidates) <= max(len(turn.pack), 1) <= max(size, 1) for turn in found)


@pytest.mark.parametrize(
    ("wanted", "num_candidates", "num_groups", "size"),
    [(None, 8, 1, 8), (None, 8, 3, 3), (None, 3, 8, 1), (4, 8, 1, 4), (9, 8, 2, 8), (1, 8, 1, 1)],
)
def test_a_pack_is_what_falls_to_a_group_unless_told_otherwise(
    wanted, num_candidates, num_groups, size
):
    assert pack_size(wanted, num_candidates, num_groups) == size


def test_obstacles_are_told():
    assert obstacle(EngineConfig(), phase(3)) is None
    assert "dpf" in obstacle(EngineConfig(), phase(3, "dpf"))
    assert "fp16" in obstacle(EngineConfig(precision="fp16"), phase(3))
