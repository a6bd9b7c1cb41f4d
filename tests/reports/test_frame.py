"""Facts about the tidy frame of all numbers, and about means and deviations."""

from __future__ import annotations

import math

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from journals import one_shot, ood, phase, run

from sms_dist.reports.frame import differing, experiments, numbers, values
from sms_dist.reports.runs import grouped
from sms_dist.reports.table import Value


def value(numbers: list[float | None], metric: str = "accuracy") -> Value | None:
    """Return the value of some numbers of one group."""
    frame = pd.DataFrame({"metric": metric, "model": "soup", "value": numbers})
    return values(frame.dropna(subset="value"), "model").get((metric, "soup"))


def test_the_deviation_divides_by_n_minus_one() -> None:
    result = value([0.76, 0.78, 0.80])
    assert result is not None
    assert result.mean == pytest.approx(0.78)
    assert result.std == pytest.approx(0.02)  # sqrt((.0004 + 0 + .0004) / 2)
    assert (result.texts(), result.n) == (["78.00", "2.00"], 3)


def test_one_number_has_no_deviation_and_none_has_no_value() -> None:
    assert value([0.5]) == Value(0.5, None, 1, "accuracy")
    assert value([None, 0.5]) == Value(0.5, None, 1, "accuracy")
    assert value([None]) is None


def test_equal_numbers_have_no_deviation_at_all() -> None:
    result = value([0.1 + 0.2, 0.1 + 0.2, 0.1 + 0.2])
    assert result is not None
    assert result.std == 0


def test_speedups_are_plain_numbers() -> None:
    result = value([6.04, 6.16], "speedup")
    assert result is not None
    assert result.texts() == ["6.1", "0.1"]


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), min_size=2, max_size=8), st.floats(0, 1))
def test_a_shift_moves_the_mean_and_leaves_the_deviation(
    numbers: list[float], shift: float
) -> None:
    old, new = value([*numbers]), value([number + shift for number in numbers])
    assert old is not None
    assert new is not None
    assert math.isclose(new.mean, old.mean + shift, abs_tol=1e-9)
    assert math.isclose(new.std or 0, old.std or 0, abs_tol=1e-7)


def test_the_frame_has_a_row_for_each_number() -> None:
    lines = [ood("phase_1/soup", {"fog": [0.5, 0.3]}), ood("phase_1/candidate_0", {"fog": [0.2]})]
    found = phase(1, 0.9, [0.8, 0.7], 250, metrics={"ece": 0.1}, theoretical_speedup=3.0)
    frame = numbers([run([found], "candidates.count=2", also=lines)])
    shown = frame.set_index(["phase", "model", "metric"])["value"].to_dict()
    assert shown == {
        (0, "dense", "accuracy"): 0.95,
        (1, "soup", "accuracy"): 0.9,
        (1, "soup", "ece"): 0.1,
        (1, "soup", "ood_accuracy"): 0.4,
        (1, "soup", "ood_accuracy (generated)"): 0.4,
        (1, "soup", "ood_accuracy_severity_1"): 0.5,
        (1, "soup", "ood_accuracy_severity_2"): 0.3,
        (1, "soup", "ood_accuracy_fog"): 0.4,
        (1, "soup", "sparsity"): 0.75,
        (1, "soup", "speedup"): 3.0,
        (1, "best candidate", "accuracy"): 0.8,
        (1, "mean candidate", "accuracy"): 0.75,
        (1, "best candidate", "ood_accuracy"): 0.2,
        (1, "mean candidate", "ood_accuracy"): 0.2,
    }
    assert set(frame["m"]) == {"m = 2"}
    assert list(frame["is_final"]) == [False, *[True] * 13]


def test_the_goal_of_a_method_without_one_is_what_it_reached() -> None:
    free = ("method.name=str", "pruning.goal_sparsity=null")
    frame = numbers([run(one_shot(0.9, kept=120), *free), run(one_shot(0.9), "method.name=imp")])
    goals = frame[frame["model"] == "soup"].groupby("run", sort=False)["goal"].first()
    assert list(goals) == [0.88, 0.9]


def test_experiments_of_the_same_name_are_told_apart_by_what_differs() -> None:
    runs = [run(one_shot(0.9), f"seed={seed}", "retrain.epochs=5") for seed in (0, 1)]
    runs += [run(one_shot(0.9), "candidates.vary={epochs: [1, 2, 3]}"), run(one_shot(0.9))]
    found = {words: len(own) for words, own in experiments(runs, lambda run: run.place)}
    assert found == {
        "retrain.epochs=5": 2,
        "candidates.vary.epochs=[1, 2, 3], retrain.epochs=4": 1,
        "retrain.epochs=4": 1,
    }
    assert differing(runs[:2]) == []


def test_groups_keep_the_order() -> None:
    assert grouped([3, 1, 4, 1, 5], lambda number: number % 2) == {1: [3, 1, 1, 5], 0: [4]}
