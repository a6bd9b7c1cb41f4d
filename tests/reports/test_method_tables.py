"""Facts about the tables that compare final models."""

from __future__ import annotations

import pytest
from journals import one_shot, phase, run, two_phases

from sms_dist.reports.runs import Run
from sms_dist.reports.table import Table, Value
from sms_dist.reports.tables import make

GOALS = {0.5: 500, 0.75: 250}


def rows(table: Table) -> dict[str, list[str]]:
    return {row.label: [table.shown(e) for e in row.entries] for row in table.rows}


def trained(method: str, goal: float | None, accuracy: float, speedup: float, *more: str) -> Run:
    kept = GOALS.get(goal or 0, 497)
    found = phase(1, accuracy, [accuracy], kept, theoretical_speedup=speedup)
    sparsity = "null" if goal is None else goal
    return run([found], f"method.name={method}", f"pruning.goal_sparsity={sparsity}", *more)


def test_table_2_has_accuracy_and_speedup_of_each_goal() -> None:
    runs = [
        *(trained("gmp", 0.5, 0.8 + 0.02 * seed, 2.1, f"seed={seed}") for seed in (0, 1)),
        trained("gmp", 0.75, 0.7, 4.0),
        trained("bimp_sms", 0.5, 0.9, 2.0),
        trained("dst", None, 0.85, 2.2),
    ]
    (table,) = make("2", runs)[0]
    assert list(table.columns) == [
        ("Sparsity 50%", "accuracy"),
        ("Sparsity 50%", "speedup"),
        ("Sparsity 75%", "accuracy"),
        ("Sparsity 75%", "speedup"),
    ]
    assert rows(table) == {
        "BIMP+SMS": ["90.00", "2.0", "-", "-"],
        "GMP": ["81.00 ± 1.41 (n=2)", "2.1 ± 0.0 (n=2)", "70.00", "4.0"],
        "DST": ["85.00", "2.2", "-", "-"],
    }


def test_table_2_marks_three_places() -> None:
    accuracies = {"gsm": 0.6, "dnw": 0.9, "lc": 0.7, "dst": 0.8}
    (table,) = make("2", [trained(name, 0.5, a, 2.0) for name, a in accuracies.items()])[0]
    places = {r.label: e.rank for r in table.rows if isinstance(e := r.entries[0], Value)}
    assert places == {"GSM": 0, "DNW": 1, "LC": 3, "DST": 2}


def test_table_2_shows_the_best_configuration_by_its_mean() -> None:
    runs = [
        trained("dst", 0.5, 0.80, 2.0, "method.alpha=0.1", "seed=0"),
        trained("dst", 0.5, 0.60, 2.0, "method.alpha=0.1", "seed=1"),
        trained("dst", 0.5, 0.75, 3.0, "method.alpha=0.2", "seed=0"),
    ]
    (table,) = make("2", runs)[0]
    assert rows(table) == {"DST": ["75.00", "3.0"]}
    assert "The best of up to 2 configurations of a method stands for it." in table.caption


def test_seeds_of_a_method_without_a_goal_stand_in_one_column_of_table_2() -> None:
    def seed(number: int, kept: int) -> Run:
        found = phase(1, 0.8 + 0.1 * number, [0.8], kept, theoretical_speedup=2.0)
        words = ("method.name=str", "pruning.goal_sparsity=null", f"seed={number}")
        return run([found], *words)

    (table,) = make("2", [seed(0, 512), seed(1, 488)])[0]  # of 1000: 48.8 and 51.2 %
    assert rows(table) == {"STR": ["85.00 ± 7.07", "2.0 ± 0.0"]}
    assert table.columns[0] == ("Sparsity 50%", "accuracy")


def test_table_16_has_m_as_columns() -> None:
    runs = []
    for m in (3, 5):
        count = f"candidates.count={m}"
        runs.append(run(two_phases(0.9 + m / 100, m=1), "method.name=imp_m_times", count))
        phases = [phase(k, 0.5 + k * m / 100, [0.5], 100) for k in range(1, 2 * m + 1)]
        runs.append(run(phases, "method.name=imp_m_phases", count))
    (table,) = make("16", runs)[0]
    assert list(table.columns) == [("m = 3",), ("m = 5",)]
    assert rows(table) == {"IMP_mx": ["83.00", "85.00"], "IMP with m phases": ["68.00", "100.00"]}


def test_table_17_has_schedules_in_the_papers_order() -> None:
    runs = []
    for place, schedule in enumerate(("allr", "ft", "llr")):
        at = f"retrain.schedule={schedule}"
        runs.append(run(two_phases(0.9 + place / 100), "method.name=imp", at))
        swa = ("method.name=imp_swa", "retrain.swa_from=0")
        runs.append(run(two_phases(0.8), *swa, at))
    (table,) = make("17", runs)[0]
    assert list(table.columns) == [("FT",), ("LLR",), ("ALLR",)]
    assert rows(table) == {"IMP": ["81.00", "82.00", "80.00"], "IMP + SWA": ["70.00"] * 3}


def test_only_finished_runs_count_for_final_models() -> None:
    done = run(two_phases(0.9), "method.name=imp")
    begun = run(two_phases(0.9), "method.name=imp", "seed=1", folder="begun", is_done=False)
    tables, notes = make("17", [done, begun])
    assert rows(tables[0]) == {"IMP": ["80.00"]}
    assert notes == ["not finished, so left out of table 17: begun"]
    with pytest.raises(ValueError, match="is made of finished runs"):
        make("17", [begun])


def test_the_general_table_has_a_row_per_experiment() -> None:
    runs = [run(two_phases(0.9 + seed / 100), f"seed={seed}") for seed in (0, 1)]
    runs.append(run(two_phases(0.85), "soup.rule=greedy"))
    runs.append(run([], "method.name=dense", dense=0.97))
    runs.append(run(two_phases(0.7, 0, m=1), "method.name=imp"))
    (table,) = make("methods", runs)[0]
    assert list(table.columns) == [
        *(("m",), ("sparsity",), ("surviving",), ("accuracy",)),
        *(("epochs", "dense"), ("epochs", "candidate"), ("epochs", "all")),
    ]
    assert rows(table) == {
        "dense": ["-", "-", "-", "97.00", "8", "0", "8"],
        "SMS (uniform)": [
            *("3", "75.00%", "250 / 1,000", "80.50 ± 0.71 (n=2)", "8", "8", "24"),
        ],
        "SMS (greedy)": ["3", "75.00%", "250 / 1,000", "75.00", "8", "8", "24"],
        "IMP": ["-", "75.00%", "250 / 1,000", "60.00", "8", "8", "16"],
    }
    marks = {r.label: e.rank for r in table.rows if isinstance(e := r.entries[3], Value)}
    assert marks == {"dense": 0, "SMS (uniform)": 1, "SMS (greedy)": 0, "IMP": 0}


def test_the_general_table_tells_settings_and_data_apart() -> None:
    runs = [run(two_phases(0.9), f"retrain.epochs={epochs}") for epochs in (4, 5)]
    runs.append(run(two_phases(0.5), "data.name=cifar10", "model.name=wrn20"))
    (table,) = make("methods", runs)[0]
    found = [[table.shown(e) for e in row.entries] for row in table.rows]
    assert [entries[:2] for entries in found] == [
        ["cifar10", "wrn20"],
        ["digits", "digits_cnn"],
        ["digits", "digits_cnn"],
    ]
    assert [entries[-1] for entries in found] == ["-", "epochs=4", "epochs=5"]


def test_sparsities_that_differ_between_seeds_are_averaged() -> None:
    runs = [
        run(one_shot(0.9, kept=kept), "method.name=str", f"seed={seed}")
        for seed, kept in enumerate((100, 120))
    ]
    (table,) = make("methods", runs)[0]
    assert rows(table)["STR"][:2] == ["89.00 ± 1.41%", "100-120 / 1,000"]
