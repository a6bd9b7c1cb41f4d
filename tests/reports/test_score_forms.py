"""Facts about tables of other scores than accuracy."""

from __future__ import annotations

import pytest
from journals import one_shot, phase, run

from sms_dist.reports import scores
from sms_dist.reports.runs import Run
from sms_dist.reports.table import Table
from sms_dist.reports.tables import make

ONE = "pruning.phases=1"


def rows(table: Table) -> dict[str, list[str]]:
    return {row.label: [table.shown(e) for e in row.entries] for row in table.rows}


def bleu(soup: float, *settings: str) -> Run:
    return run([phase(1, soup, [soup - 1, soup - 2], score="bleu")], ONE, *settings, dense=30.0)


def miou(soup: float, *settings: str) -> Run:
    found = phase(1, soup, [soup - 0.01], score="miou", theoretical_speedup=2.0)
    return run([found], ONE, *settings)


@pytest.mark.parametrize(
    ("name", "shown", "sentence", "axis"),
    [
        ("accuracy", "50.00%", "accuracy in %", "test accuracy (%)"),
        ("miou", "50.00%", "mIoU in %", "test mIoU (%)"),
        ("bleu", "0.50", "BLEU", "test BLEU"),
    ],
)
def test_a_score_has_its_unit_everywhere(name: str, shown: str, sentence: str, axis: str) -> None:
    assert scores.text(0.5, name) == shown
    assert (scores.sentence(name), scores.axis(name)) == (sentence, axis)
    assert scores.text(None, name) == scores.text(float("nan"), name) == "-"


def test_bleu_stays_as_it_is_in_the_tables_of_the_paper() -> None:
    (table,) = make("10", [bleu(25.4, "seed=0"), bleu(25.6, "seed=1")])[0]
    assert table.stub == "BLEU of"
    assert rows(table) == {
        "SMS (uniform)": ["25.50 ± 0.14"],
        "best candidate": ["24.50 ± 0.14"],
        "mean candidate": ["24.00 ± 0.14"],
    }
    assert table.caption[0].startswith("Test BLEU, mean ± standard deviation")


def test_bleu_stays_as_it_is_where_methods_are_compared() -> None:
    (general,) = make("methods", [bleu(25.4), run([], "method.name=dense", dense=30.0)])[0][:1]
    assert rows(general)["SMS (uniform)"][-4] == "25.40"
    (over_m,) = make("16", [bleu(25.4, "method.name=imp_m_times")])[0]
    assert rows(over_m) == {"IMP_mx": ["25.40"]}


def test_miou_is_shown_in_percent_by_its_name() -> None:
    (table,) = make("9", [miou(0.5873)])[0]
    assert (table.stub, rows(table)["SMS (uniform)"]) == ("mIoU of", ["58.73"])
    assert table.caption[0].startswith("Test mIoU in %, mean")
    (general,) = make("methods", [miou(0.5873)])[0]
    assert ("mIoU",) in general.columns
    (training,) = make("2", [miou(0.5, "method.name=gmp", "pruning.goal_sparsity=0.5")])[0]
    assert [head[1] for head in training.columns] == ["mIoU", "speedup"]
    assert rows(training) == {"GMP": ["50.00", "2.0"]}


def test_runs_of_several_scores_never_share_a_table() -> None:
    runs = [run(one_shot(0.9, m=1), ONE), miou(0.5), bleu(25.0)]
    general = make("methods", runs)[0]
    heads = [{head[0] for head in table.columns} for table in general]
    assert [head & {"accuracy", "mIoU", "BLEU"} for head in heads] == [
        *({"accuracy"}, {"mIoU"}, {"BLEU"}),
    ]
    stubs = [table.stub for table in make("6", runs)[0]]
    assert stubs == ["accuracy of", "mIoU of", "BLEU of"]
    assert len(make("robustness", runs)[0]) == 3
