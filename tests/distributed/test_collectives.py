"""What ranks compute together has the bits of one process, and a mistake of one is known to all."""

from __future__ import annotations

import pytest
from launching import PROGRAMS, launch_forked, read_json

RANKS = range(4)


@pytest.fixture(scope="module", params=[1, 2], ids=["four_groups", "two_groups_of_two"])
def found(request, tmp_path_factory):
    """What each rank found."""
    folder = tmp_path_factory.mktemp("collectives")
    arguments = [request.param, folder / "found.json"]
    finished = launch_forked(PROGRAMS / "collectives.py", arguments, folder, ranks=4)
    assert finished.status == 0, finished
    return read_json(folder / "found.json")


def each(found, key):
    return [values[key] for values in found]


@pytest.mark.parametrize("what", ["mix", "weighted", "skipped"])
def test_the_sharded_soup_has_the_bits_of_one_mixed_whole(what, found):
    assert each(found, f"{what} goes wrong for") == [[]] * 4


def test_candidates_are_told_apart_by_index_though_some_are_missing(found):
    assert each(found, "gaps") == [True] * 4


def test_inner_products_over_slices_are_those_of_the_whole(found):
    assert each(found, "gram goes wrong for") == [[]] * 4


def test_the_first_rank_alone_runs_a_function_for_all(found):
    assert each(found, "from_first") == [{"from": 0}] * 4
    assert each(found, "called") == [[0], [], [], []]


def test_a_complaint_of_the_first_rank_reaches_all(found):
    assert each(found, "from_first complains") == ["no, says 0"] * 4


def test_together_everybody_keeps_what_it_computed(found):
    assert each(found, "together") == list(RANKS)


def test_a_complaint_of_any_rank_reaches_all(found):
    assert each(found, "together complains") == ["no, says 2"] * 4
    assert each(found, "together complains of files") == ["gone"] * 4


def test_each_difference_is_named_with_its_ranks(found):
    assert each(found, "agree") == [None] * 4
    (told,) = {*each(found, "agree complains")}
    first, second = told.splitlines()
    assert first.startswith("ranks do not agree on mask: b (ranks 0-2), c (rank 3 on host ")
    assert second.startswith("ranks do not agree on weather: ")


def test_json_of_different_sizes_is_gathered(found):
    wanted = [{"rank": rank, "text": "ü" * 500 * rank} for rank in RANKS]
    assert each(found, "gather_json") == [wanted] * 4


def test_a_state_is_broadcast_whole(found):
    assert each(found, "broadcast") == [[[0.0] * 6, [0]]] * 4


@pytest.mark.parametrize("axis", ["world", "data"])
def test_sums_over_parts_have_the_bits_of_one_rank(axis, found):
    assert each(found, f"parts over the {axis}") == [True] * 4


@pytest.mark.parametrize("axis", ["world", "data"])
def test_batch_norm_and_metrics_have_the_bits_of_one_rank(axis, found):
    assert each(found, f"batch norm, metrics over the {axis}") == [[True, True]] * 4


@pytest.mark.parametrize("axis", ["world", "data"])
def test_every_call_of_a_norm_on_any_rank_counts(axis, found):
    assert each(found, f"norms over the {axis}") == [[True] * 3] * 4


def test_buffers_of_the_ranks_of_a_group_become_one_state(found):
    assert each(found, "united") == [[True, 1, True]] * 4


def test_the_first_ranks_form_an_axis_and_the_others_are_left_out(found):
    assert each(found, "four first") == [[rank, 4, 4] for rank in RANKS]
    assert each(found, "two first") == [[0, 2, 2], [1, 2, 2], None, None]


def test_rows_of_the_mesh_are_consecutive_ranks(found):
    rows = [[0, 0, True], [0, 1, False], [1, 0, True], [1, 1, False]]
    columns = [[rank, 0, True] for rank in RANKS]
    assert each(found, "mesh") in (rows, columns)
