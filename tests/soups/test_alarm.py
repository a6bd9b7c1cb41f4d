"""The instability alarm: silent where soups work, and it names what to try where they do not."""

import pytest

from sms_dist.experiment.soup import warnings_of
from sms_dist.run.schema import PhaseMetrics

WORKING = {90: 29.17, 92: 29.44, 94: 29.61, 96: 29.66, 98: 30.13}  # paper, table 18: mean distance
FAILING = {99: 32.95, 99.5: 39.41}


def warnings(document, earlier):
    record, *before = (PhaseMetrics.model_validate(each) for each in (document, *earlier))
    return list(warnings_of(record, before))


def phase(soup=0.9, candidates=(0.8, 0.85, None), l2=10.0, relative=0.1, barrier=None, k=2):
    """As in summary.json; a candidate of None diverged. Test accuracies say nothing bad."""
    found = [
        {"index": i, "seed": i, "diverged": True, "test_accuracy": None}
        if accuracy is None
        else {
            "index": i,
            "seed": i,
            "diverged": False,
            "test_accuracy": 0.1,
            "validation_accuracy": accuracy,
            "validation_loss": 0.5,
        }
        for i, accuracy in enumerate(candidates)
    ]
    distances = {"l2_mean": l2, "l2_relative": relative}
    if barrier is not None:
        distances["loss_barrier_max"] = barrier
    merged = {"test_accuracy": 0.2, "validation_accuracy": soup}
    return {
        "phase": k,
        "sparsity": 0.9,
        "score": "accuracy",
        "soup": merged,
        "candidates": found,
        "distances": distances,
    }


def test_nothing_is_said_of_a_soup_that_is_better_than_its_candidates():
    assert warnings(phase(barrier=0.0), [phase()]) == []


def test_a_soup_below_its_worst_candidate_is_told_with_both_numbers_and_what_to_try():
    (found,) = warnings(phase(soup=0.7999), [])
    assert found.startswith("phase 2: the soup's validation accuracy of 0.7999 is below")
    assert "0.8," in found
    for advice in ("retrain longer", "allr", "phases", "retrain.learning_rate", "soup.rule=greedy"):
        assert advice in found


def test_a_soup_as_good_as_its_worst_candidate_is_no_alarm():
    assert warnings(phase(soup=0.8), []) == []


def test_without_validation_samples_test_accuracies_are_compared():
    bare = phase()
    for document in (bare["soup"], *bare["candidates"]):
        document.pop("validation_accuracy", None)
    assert warnings(bare, []) == []
    bare["soup"]["test_accuracy"] = 0.05
    (found,) = warnings(bare, [])
    assert "test accuracy of 0.05" in found


@pytest.mark.parametrize("candidates", [(0.8,), (0.8, None, None)])
def test_of_a_single_candidate_nothing_is_said(candidates):
    alone = phase(soup=0.1, candidates=candidates, l2=99.0, relative=9.0, barrier=9.0)
    assert warnings(alone, [phase()]) == []


BETWEEN = 0.81  # the worst and the mean of the candidates


def test_the_papers_distances_are_usual_up_to_98_percent_and_jump_at_99():
    usual = [phase(soup=BETWEEN, l2=distance) for distance in WORKING.values()]
    for k, document in enumerate(usual):
        assert warnings(document, usual[:k]) == []
    before = usual
    for distance in FAILING.values():
        document = phase(soup=BETWEEN, l2=distance)
        (found,) = warnings(document, before)
        assert f"{distance:.4g}" in found
        assert "retrain longer" in found
        before = [*before, document]


def test_a_soup_that_gains_may_have_larger_distances_but_not_several_times_larger():
    assert warnings(phase(l2=2.345), [phase(l2=1.249)]) == []  # digits, allr: all is well
    (found,) = warnings(phase(l2=23.58), [phase(l2=1.249), phase(l2=2.345)])  # two phases later
    assert "10.06 times" in found


def test_a_jump_is_from_the_largest_distance_so_far_and_a_fall_is_none():
    assert warnings(phase(soup=BETWEEN, l2=29.0), [phase(l2=30.0), phase(l2=20.0)]) == []


def test_phases_with_one_candidate_or_without_distances_set_no_standard():
    without = phase()
    del without["distances"]
    assert warnings(phase(soup=BETWEEN, l2=29.0), [phase(l2=0.0), without]) == []


def test_candidates_farther_from_each_other_than_from_zero_are_told():
    assert warnings(phase(relative=0.99), []) == []
    (found,) = warnings(phase(relative=1.3), [])
    assert "1.30 times the norm" in found


@pytest.mark.parametrize(("barrier", "num"), [(0.0, 0), (0.04, 0), (0.051, 1), (2.0, 1)])
def test_a_loss_barrier_counts_from_a_tenth_of_the_candidates_own_loss(barrier, num):
    found = warnings(phase(barrier=barrier), [])
    assert len(found) == num
    assert all("loss rises" in sentence for sentence in found)


def test_where_losses_are_tiny_a_tiny_barrier_is_no_alarm():
    document = phase(barrier=0.015)
    for candidate in document["candidates"]:
        candidate["validation_loss"] = 0.01
    assert warnings(document, []) == []


def test_every_sign_has_its_own_sentence():
    failing = phase(soup=0.1, l2=11.0, relative=1.5, barrier=3.0)
    found = warnings(failing, [phase()])
    assert len(found) == 4
    assert all(sentence.count("; ") == 1 and not sentence.endswith(".") for sentence in found)
