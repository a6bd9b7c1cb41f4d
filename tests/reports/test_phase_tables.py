"""Facts about the tables of phases x m, and of one-shot goals."""

from __future__ import annotations

import pytest
from journals import one_shot, phase, run, two_phases

from sms_dist.reports.runs import Run
from sms_dist.reports.table import Entry, Table, Value
from sms_dist.reports.tables import TABLES, make

IMP = "method.name=imp"


def rows(table: Table) -> dict[str, list[str]]:
    """Label -> what is shown, sub-rows with their parent's name."""
    return {
        f"{row.parent}: {row.label}" if row.parent else row.label: [
            table.shown(entry) for entry in row.entries
        ]
        for row in table.rows
    }


def best(table: Table) -> list[tuple[str, int]]:
    """(row, column) of what is bold."""

    def is_best(entry: Entry) -> bool:
        return isinstance(entry, Value) and entry.rank == 1

    return [(r.label, c) for r in table.rows for c, e in enumerate(r.entries) if is_best(e)]


def paper() -> list[Run]:
    """Two seeds of SMS with two rules and two m, and of the baselines."""
    found = []
    for seed, shift in ((0, 0.0), (1, 0.02)):
        at = f"seed={seed}"
        for m in (2, 3):
            count = f"candidates.count={m}"
            phases = two_phases(0.9 + shift + m / 100, m=m)
            found.append(run(phases, at, count))
            found.append(run(two_phases(0.85 + shift, m=m), at, count, "soup.rule=greedy"))
            times = two_phases(0.8 + shift, 0, m=1)
            found.append(run(times, at, count, "method.name=imp_m_times"))
        found.append(run(two_phases(0.7 + shift, 0, m=1), at, IMP))
    last = [phase(2, 0.6, [0.5, 0.5], 250)]
    found.append(run(last, "method.name=imp_reprune", "candidates.count=2"))
    return found


def test_table_1_has_the_papers_rows_and_columns() -> None:
    (table,) = make("1", paper())[0]
    assert list(table.columns) == [
        ("Sparsity 50.0% (phase 1)", "m = 2"),
        ("Sparsity 50.0% (phase 1)", "m = 3"),
        ("Sparsity 75.0% (phase 2)", "m = 2"),
        ("Sparsity 75.0% (phase 2)", "m = 3"),
    ]
    assert rows(table) == {
        "SMS (uniform)": ["93.00 ± 1.41", "94.00 ± 1.41", "83.00 ± 1.41", "84.00 ± 1.41"],
        "SMS (uniform): best candidate": [
            *("92.00 ± 1.41", "93.00 ± 1.41", "82.00 ± 1.41", "83.00 ± 1.41")
        ],
        "SMS (uniform): mean candidate": [
            *("92.00 ± 1.41", "93.00 ± 1.41", "82.00 ± 1.41", "83.00 ± 1.41")
        ],
        "SMS (greedy)": ["86.00 ± 1.41", "86.00 ± 1.41", "76.00 ± 1.41", "76.00 ± 1.41"],
        "SMS (greedy): best candidate": [
            *("85.00 ± 1.41", "85.00 ± 1.41", "75.00 ± 1.41", "75.00 ± 1.41")
        ],
        "SMS (greedy): mean candidate": [
            *("85.00 ± 1.41", "85.00 ± 1.41", "75.00 ± 1.41", "75.00 ± 1.41")
        ],
        "IMP_mx": ["81.00 ± 1.41", "81.00 ± 1.41", "71.00 ± 1.41", "71.00 ± 1.41"],
        "IMP-RePrune": ["-", "-", "60.00 (n=1)", "-"],
        "IMP": ["71.00 ± 1.41", "71.00 ± 1.41", "61.00 ± 1.41", "61.00 ± 1.41"],
    }
    assert best(table) == [("SMS (uniform)", column) for column in range(4)]
    assert table.title == "digits_cnn on digits, goal 90%"


def test_the_caption_says_where_the_numbers_come_from() -> None:
    (table,) = make("1", paper())[0]
    words = " ".join(table.caption)
    for fact in (
        "over seeds. Seeds 0, 1. Pretraining epochs: 8. Retraining epochs per phase: 4, by LLR",
        "allocation global, pattern unstructured",
        "From 15 runs in runs.",
        "n = 2 where nothing else is said.",
    ):
        assert fact in words


def test_runs_that_cannot_be_compared_get_tables_of_their_own() -> None:
    runs = [run(two_phases(0.9), f"retrain.epochs={epochs}") for epochs in (4, 5)]
    tables, notes = make("1", [*runs, run(two_phases(0.9), "data.name=digits_distorted")])
    assert len(tables) == 3
    assert notes == ["3 settings, one table each: the runs differ in data.name, retrain.epochs"]
    assert [table.title for table in tables] == [
        "digits_cnn on digits, goal 90%, retrain.epochs=4",
        "digits_cnn on digits, goal 90%, retrain.epochs=5",
        "digits_cnn on digits_distorted, goal 90%, retrain.epochs=4",
    ]


def test_what_varies_between_candidates_makes_rows_of_its_own() -> None:
    vary = "candidates.vary={weight_decay: [0.1, 0.2]}"
    runs = [run(two_phases(0.9), "candidates.count=2")]
    runs.append(run(two_phases(0.8), "candidates.count=2", vary))
    (table,) = make("1", runs)[0]
    assert [row.label for row in table.rows if not row.parent] == [
        "SMS (uniform)",
        "SMS (uniform, weight_decay=[0.1, 0.2])",
    ]


def test_an_unfinished_run_counts_for_the_phases_it_has() -> None:
    done = run(two_phases(0.9), "seed=0")
    begun = run(two_phases(0.8)[:1], "seed=1", folder="runs/begun", is_done=False)
    (table,) = make("1", [done, begun])[0]
    assert rows(table)["SMS (uniform)"] == ["85.00 ± 7.07", "80.00 (n=1)"]
    assert "Not finished, counted for the phases they have: runs/begun." in table.caption


def test_one_shot_tables_have_goals_as_columns() -> None:
    def goal(sparsity: float) -> tuple[str, str]:
        return "pruning.phases=1", f"pruning.goal_sparsity={sparsity}"

    runs = [run(one_shot(0.9, kept=250), *goal(0.75)), run(one_shot(0.8, kept=100), *goal(0.9))]
    runs.append(run(one_shot(0.95, 0, m=1, kept=250), *goal(0.75), IMP))
    (table,) = make("6", [*runs, run(two_phases(0.9))])[0]
    assert list(table.columns) == [
        ("Sparsity 75.0% (one shot)", "m = 3"),
        ("Sparsity 90.0% (one shot)", "m = 3"),
    ]
    assert rows(table)["SMS (uniform)"] == ["90.00", "80.00"]
    assert rows(table)["IMP"] == ["95.00", "-"]
    assert best(table) == [("SMS (uniform)", 1), ("IMP", 0)]


@pytest.mark.parametrize("name", ["8", "11", "12", "2", "16", "17"])
def test_a_table_without_runs_says_what_it_is_made_of(name: str) -> None:
    with pytest.raises(ValueError, match=rf"--table {name} is made of .*none among the 1 given"):
        make(name, [run(two_phases(0.9), "pruning.phases=3")])


def test_methods_that_do_not_belong_are_counted() -> None:
    runs = [run(two_phases(0.9)), run([], "method.name=dense"), run([], "method.name=dense")]
    assert make("1", runs)[1] == ["not part of table 1: 2 of dense"]


def test_structured_tables_take_structured_runs() -> None:
    filters = run(two_phases(0.9), "pruning.pattern=filters")
    (table,) = make("11", [filters, run(two_phases(0.8))])[0]
    assert rows(table)["SMS (uniform)"] == ["90.00", "80.00"]


def test_an_unknown_table_names_the_valid_ones() -> None:
    with pytest.raises(ValueError, match=r"--table=3 is not known.*: 1, 10, 11, 12, 13,"):
        make("3", [])
    assert set(TABLES) >= {str(n) for n in (1, 2, *range(4, 18))}
