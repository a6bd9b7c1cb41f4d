"""Which candidates form a stack: a function of the plan, not of what is done."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sms_dist.config import EngineConfig, RetrainConfig
from sms_dist.methods.phases import Candidate, Phase, SparseTraining
from sms_dist.stacks import obstacle, stack_size, stacks_of


def phase(count, rule="fixed_mask"):
    candidates = tuple(Candidate(i, i, RetrainConfig()) for i in range(count))
    return Phase(1, 0.5, 0.5, candidates, "uniform", training=SparseTraining(rule))


def indices(found):
    return [([c.index for c in s.todo], [c.index for c in s.places]) for s in found]


def test_all_are_cut_into_stacks_in_their_order():
    five = phase(5)
    found = stacks_of(five, five.candidates, (), 2)
    assert indices(found) == [([0, 1], [0, 1]), ([2, 3], [2, 3]), ([4], [4])]


def test_what_is_done_keeps_its_place():
    five = phase(5)
    found = stacks_of(five, five.candidates[1:3], (), 3)
    assert indices(found) == [([1, 2], [0, 1, 2])]


def test_a_candidate_that_is_tried_again_trains_by_itself():
    five = phase(5)
    found = stacks_of(five, five.candidates, {1, 4}, 3)
    assert indices(found) == [([0, 2], [0, 1, 2]), ([1], [1]), ([3], [3, 4]), ([4], [4])]


def test_a_stack_of_one_is_a_candidate_by_itself():
    three = phase(3)
    assert indices(stacks_of(three, three.candidates, (), 1)) == [
        ([0], [0]),
        ([1], [1]),
        ([2], [2]),
    ]


@settings(deadline=None)
@given(st.integers(1, 12), st.integers(1, 12), st.data())
def test_every_candidate_to_do_is_in_one_stack(count, size, data):
    some = phase(count)
    todo = data.draw(st.lists(st.sampled_from(some.candidates), unique=True))
    again = data.draw(st.sets(st.integers(0, count - 1)))
    found = stacks_of(some, todo, again, size)
    assert sorted(c.index for s in found for c in s.todo) == sorted(c.index for c in todo)
    assert all(1 <= len(stack.todo) <= len(stack.places) <= size for stack in found)
    assert all(stack.is_single for stack in found if {c.index for c in stack.todo} & again)


@pytest.mark.parametrize(
    ("wanted", "num_candidates", "num_groups", "size"),
    [(None, 8, 1, 8), (None, 8, 3, 3), (None, 3, 8, 1), (4, 8, 1, 4), (9, 8, 2, 8), (1, 8, 1, 1)],
)
def test_a_stack_is_what_falls_to_a_group_unless_configured(
    wanted, num_candidates, num_groups, size
):
    assert stack_size(wanted, num_candidates, num_groups) == size


def test_obstacles_are_told():
    assert obstacle(EngineConfig(), phase(3)) is None
    assert "dpf" in obstacle(EngineConfig(), phase(3, "dpf"))
    assert "fp16" in obstacle(EngineConfig(precision="fp16"), phase(3))
