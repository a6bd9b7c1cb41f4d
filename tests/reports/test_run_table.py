"""Facts about the table of a run."""

from __future__ import annotations

import io
from typing import Any

from rich.console import Console
from rich.table import Table

from sms_dist.reports.run_table import extent, run_table
from sms_dist.run.schema import Summary


def phase(number: int, soup: float | None, candidates: list[float | None]) -> dict[str, Any]:
    known = [accuracy for accuracy in candidates if accuracy is not None]
    return {
        "phase": number,
        "sparsity": 1 - 0.5**number,
        "score": "accuracy",
        "soup": {"test_accuracy": soup},
        "candidates": [
            {
                "index": index,
                "seed": 100 + index,
                "test_accuracy": accuracy,
                "diverged": accuracy is None,
            }
            for index, accuracy in enumerate(candidates)
        ],
        "best_candidate": max(known),
        "mean_candidate": sum(known) / len(known),
    }


def summary(method: str, phases: list[dict[str, Any]]) -> dict[str, Any]:
    head = {"method": method, "seed": 3, "score": "accuracy", "goal_sparsity": 0.75, "final": {}}
    return {**head, "dense": {"test_accuracy": 0.95}, "phases": phases}


def run_table_of(summary: dict[str, Any]) -> Table:
    return run_table(Summary.model_validate(summary))


def columns(table: Table) -> dict[str, list[str]]:
    return {str(column.header): [str(cell) for cell in column.cells] for column in table.columns}


def bold(table: Table) -> list[str]:
    cells = [cell for column in table.columns for cell in column.cells]
    return [str(cell) for cell in cells if getattr(cell, "style", "") == "bold"]


def shown(table: Table) -> str:
    out = io.StringIO()
    Console(file=out, width=80).print(table)
    return out.getvalue()


def test_a_soup_stands_beside_its_candidates_and_the_dense_model() -> None:
    table = run_table_of(summary("sms", [phase(1, 0.93, [0.91, 0.92]), phase(2, 0.9, [0.88, 0.9])]))
    assert columns(table) == {
        "phase": ["1", "2"],
        "sparsity": ["50.00%", "75.00%"],
        "soup": ["93.00%", "90.00%"],
        "best candidate": ["92.00%", "90.00%"],
        "mean candidate": ["91.50%", "89.00%"],
        "dense": ["95.00%", "95.00%"],
    }
    assert "sms, seed 3" in shown(table)


def test_the_best_pruned_model_of_a_row_is_bold_and_equals_share_it() -> None:
    table = run_table_of(summary("sms", [phase(1, 0.93, [0.91, 0.92]), phase(2, 0.9, [0.88, 0.9])]))
    assert bold(table) == ["93.00%", "90.00%", "90.00%"]


def test_one_candidate_is_one_column_named_after_the_method() -> None:
    table = run_table_of(summary("imp", [phase(1, 0.93, [0.93])]))
    assert list(columns(table)) == ["phase", "sparsity", "imp", "dense"]
    assert columns(table)["imp"] == ["93.00%"]
    assert bold(table) == []


def test_a_dense_run_shows_the_dense_accuracy_only() -> None:
    assert columns(run_table_of(summary("dense", []))) == {"dense": ["95.00%"]}


def test_a_diverged_candidate_is_named_below_the_table() -> None:
    text = shown(
        run_table_of(summary("sms", [phase(1, 0.93, [0.91, None]), phase(2, 0.9, [0.9, 0.8])]))
    )
    assert "diverged: candidate 1 of phase 1 (seed 101)" in text


def test_why_a_candidate_diverged_and_who_was_retried_stands_below_the_table() -> None:
    lost = {"kind": "not finite", "epoch": 3, "loss": None}
    found = phase(1, 0.93, [0.91, None, 0.92, 0.9])
    tries = {"attempts": [{"seed": 101, "divergence": lost}] * 2}
    found["candidates"][1] |= {
        "divergence": {"kind": "far", "loss": 2.3026, "median": 0.5},
        **tries,
    }
    found["candidates"][2] |= {"attempts": [{"seed": 2, "divergence": lost}]}
    later = phase(2, 0.93, [0.91, None])
    later["candidates"][1]["divergence"] = {"kind": "earlier"}
    text = " ".join(shown(run_table_of(summary("sms", [found, later]))).split())
    assert (
        "diverged: candidate 1 of phase 1 (seed 101), training loss of 2.303 far above the median, "
        "0.5; 3 seeds were tried retried: candidate 2 of phase 1 (seed 2), loss or weights not "
        "finite after epoch 3 diverged: candidate 1 of phase 2 (seed 101), left out since an "
        "earlier phase"
    ) in text


def test_what_stays_dense_is_named_in_one_line_with_the_sparsity_over_all() -> None:
    first, last = phase(1, 0.93, [0.93]), phase(2, 0.93, [0.93])
    assert extent(Summary.model_validate(summary("sms", [first, last]))) is None
    dense = {f"table.{i}": "embedding" for i in range(5)} | {"head.weight": "kept dense"}
    last |= {"global_sparsity": 0.58223, "dense_weights": dense}
    assert extent(Summary.model_validate(summary("sms", [first, last]))) == (
        "sparsity over all parameters: 58.22%; dense: table.0, table.1, table.2, table.3 and 2 "
        "more (embedding, kept dense)"
    )


def test_what_is_missing_is_a_dash() -> None:
    values = summary("sms", [phase(1, None, [0.91, 0.92])])
    values["dense"] = {}
    table = run_table_of(values)
    assert columns(table)["soup"] == ["-"]
    assert columns(table)["dense"] == ["-"]
    assert bold(table) == ["92.00%"]


def test_scores_of_every_task_bear_their_name_and_unit() -> None:
    def of(score: str, soup: float) -> Table:
        found = phase(1, None, [0.5, 0.4]) | {"score": score, "soup": {f"test_{score}": soup}}
        values = summary("sms", [found | {"best_candidate": 24.5, "mean_candidate": 0.45}])
        return run_table_of({**values, "score": score, "dense": {f"test_{score}": soup}})

    assert columns(of("miou", 0.58731))["soup"] == ["58.73%"]
    assert columns(of("bleu", 25.466))["dense"] == ["25.47"]
    assert columns(of("bleu", 25.466))["sparsity"] == ["50.00%"]
    assert bold(of("bleu", 25.466)) == ["25.47"]
    assert "test mIoU, sms, seed 3" in shown(of("miou", 0.5))
    assert "test BLEU, sms, seed 3" in shown(of("bleu", 0.5))
    assert "test accuracy, imp, seed 3" in shown(
        run_table_of(summary("imp", [phase(1, 0.9, [0.9])]))
    )


def test_the_table_fits_into_80_columns() -> None:
    lines = shown(run_table_of(summary("sms", [phase(1, 0.93, [0.9, 0.8])]))).splitlines()
    assert len(lines) == 6


def test_the_ensemble_stands_beside_the_soup_but_out_of_the_contest() -> None:
    found = phase(1, 0.93, [0.91, 0.92]) | {"ensemble": {"test_accuracy": 0.94}}
    table = run_table_of(summary("sms", [found, phase(2, 0.9, [0.88, 0.89])]))
    assert columns(table)["ensemble"] == ["94.00%", "-"]
    assert list(columns(table))[-2:] == ["ensemble", "dense"]
    assert bold(table) == ["93.00%", "90.00%"]
    assert max(map(len, shown(table).splitlines())) <= 80
    assert "94.00%" in shown(table)


def test_one_candidate_has_no_ensemble() -> None:
    found = phase(1, 0.93, [0.93]) | {"ensemble": {"test_accuracy": 0.93}}
    assert list(columns(run_table_of(summary("imp", [found])))) == [
        "phase",
        "sparsity",
        "imp",
        "dense",
    ]


def test_warnings_of_a_phase_stand_below_the_table() -> None:
    found = phase(2, 0.93, [0.91, 0.92]) | {
        "warnings": ["phase 2: left the basin", "phase 2: and more"]
    }
    text = shown(run_table_of(summary("sms", [phase(1, 0.93, [0.91, 0.92]), found])))
    assert [line.strip() for line in text.splitlines()[-2:]] == [
        "phase 2: left the basin",
        "phase 2: and more",
    ]


def test_a_dense_model_that_was_not_fully_trained_is_no_column() -> None:
    values = summary("gmp", [phase(1, 0.93, [0.93])])
    dense = {"test_accuracy": 0.2, "epochs_total": 30}
    names = {
        trained: list(
            columns(run_table_of({**values, "dense": {**dense, "epochs_trained": trained}}))
        )
        for trained in (0, 29, 30)
    }
    assert names[30] == [*names[0], "dense"]
    assert names[0] == names[29] == ["phase", "sparsity", "gmp"]
