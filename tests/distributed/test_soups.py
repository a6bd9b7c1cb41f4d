"""Soups and ensembles are the same, bit for bit, whichever groups hold the candidates."""

from __future__ import annotations

import pytest
from launching import PROGRAMS, launch_forked, read_json

from sms_dist.soups.rules import RULES

MESHES = ["4x1", "2x2", "1x4"]


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What each rank found on each mesh."""
    folder = tmp_path_factory.mktemp("soups")
    finished = launch_forked(PROGRAMS / "soups.py", [folder / "found.json"], folder, ranks=4)
    assert finished.status == 0, finished
    return read_json(folder / "found.json")


@pytest.mark.parametrize("mesh", MESHES)
@pytest.mark.parametrize("rule", RULES)
def test_every_rule_gives_the_bits_of_one_process_on_every_mesh(rule, mesh, found):
    (wanted,) = {str(rank["alone"][rule]) for rank in found}
    assert {str(rank[mesh][rule]) for rank in found} == {wanted}


@pytest.mark.parametrize("mesh", MESHES)
@pytest.mark.parametrize("what", ["ensemble", "pairs", "barrier"])
def test_what_is_measured_has_the_bits_of_one_process_on_every_mesh(what, mesh, found):
    (wanted,) = {str(rank["alone"][what]) for rank in found}
    assert {str(rank[mesh][what]) for rank in found} == {wanted}


def test_the_rules_do_choose_differently(found):
    coefficients = {rule: found[0]["alone"][rule][0] for rule in RULES}
    assert coefficients["uniform"] == pytest.approx([1 / 3] * 3)
    assert coefficients["best"] == [1, 0, 0]
    assert len(set(coefficients["learned"])) == len(set(coefficients["distilled"])) == 3
    assert coefficients["learned"] != coefficients["distilled"]


@pytest.mark.parametrize("mesh", [*MESHES, "alone"])
def test_a_soup_has_mean_buffers_and_counts_of_the_first_candidate(mesh, found):
    for rank in found:
        soup, differing = rank[mesh]["buffers"]
        assert soup == {
            "weight": "[1.0]",
            "mean": "[1.0, 1.0, 1.0]",
            "wide": "[1.0, 1.0]",
            "wave": "[1j, 1j]",
            "hidden": "[1.0, -inf]",
            "steps": "7",
            "table": "[[300, 300, 300], [300, 300, 300]]",
            "flag": "[False]",
        }
        assert differing == ["steps", "flag"]


def test_every_pair_is_measured(found):
    pairs = found[0]["4x1"]["pairs"]
    assert [pair["candidates"] for pair in pairs] == [[0, 1], [0, 3], [1, 3]]
