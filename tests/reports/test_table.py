"""A table as text, Markdown, LaTeX and CSV, word for word."""

from __future__ import annotations

import csv
import io
import re

from hypothesis import given, settings
from hypothesis import strategies as st

from sms_dist.reports.table import FORMATS, Row, Table, Value, latex, markdown, ranked, text
from sms_dist.reports.table import csv as csv_text


def accuracy(mean: float, std: float | None = None, n: int = 2, rank: int = 0) -> Value:
    return Value(mean, std, n, "accuracy", rank)


PHASE = "Sparsity 50.0% (phase 1)"
TABLE = Table(
    title="digits_cnn on digits, goal 90%",
    caption=("Mean ± deviation.", "n = 2 if nothing else is said."),
    stub="accuracy of",
    columns=((PHASE, "m = 2"), (PHASE, "m = 3")),
    rows=(
        Row("SMS (uniform)", (accuracy(0.9, 0.01, 2, 1), accuracy(0.91, None, 1, 1))),
        Row("best candidate", (accuracy(0.89, 0.02, 2, 2), None), parent="SMS (uniform)"),
        Row("IMP_mx", (accuracy(0.8, 0.0, 2, 3), Value(2.0, 0.25, 2, "speedup"))),
        Row("IMP", (accuracy(0.7, 0.012345), accuracy(0.7, 0.012345)), is_spanning=True),
    ),
)


def test_markdown() -> None:
    assert markdown(TABLE) == (
        "**digits_cnn on digits, goal 90%**\n"
        "\n"
        "| accuracy of | Sparsity 50.0% (phase 1), m = 2 | Sparsity 50.0% (phase 1), m = 3 |\n"
        "|---|---:|---:|\n"
        "| SMS (uniform) | **90.00 ± 1.00** | **91.00 (n=1)** |\n"
        "| &nbsp;&nbsp;best candidate | <u>89.00 ± 2.00</u> | - |\n"
        "| IMP_mx | *80.00 ± 0.00* | 2.0 ± 0.2 |\n"
        "| IMP | 70.00 ± 1.23 | 70.00 ± 1.23 |\n"
        "\n"
        "Mean ± deviation. n = 2 if nothing else is said.\n"
    )


def test_latex() -> None:
    assert latex(TABLE) == (
        r"""% needs \usepackage{booktabs}
\begin{table}
\centering
\caption{digits\_cnn on digits, goal 90\%. Mean $\pm$ deviation. $n$ = 2 if nothing else is said.}
\begin{tabular}{lrr}
\toprule
 & \multicolumn{2}{c}{Sparsity 50.0\% (phase 1)} \\
\cmidrule(lr){2-3}
accuracy of & $m$ = 2 & $m$ = 3 \\
\midrule
SMS (uniform) & \textbf{90.00 $\pm$1.00} & \textbf{91.00 ($n$=1)} \\
\quad best candidate & \underline{89.00 $\pm$2.00} & - \\
\addlinespace
IMP$_{m\times}$ & \textit{80.00 $\pm$0.00} & 2.0 $\pm$0.2 \\
\addlinespace
IMP & \multicolumn{2}{c}{70.00 $\pm$1.23} \\
\bottomrule
\end{tabular}
\end{table}
"""
    )


def test_csv_has_numbers_in_columns_of_their_own() -> None:
    head, *rows = csv.reader(io.StringIO(csv_text(TABLE)))
    assert head[:4] == ["accuracy of", *(f"{PHASE}, m = 2{end}" for end in ("", ": std", ": n"))]
    assert rows == [
        ["SMS (uniform)", "90", "1", "2", "91", "", "1"],
        ["SMS (uniform): best candidate", "89", "2", "2", "", "", ""],
        ["IMP_mx", "80", "0", "2", "2", "0.25", "2"],
        ["IMP", "70", "1.2345", "2", "70", "1.2345", "2"],
    ]


def test_text_marks_with_words_where_there_are_no_styles() -> None:
    lines = [line.rstrip() for line in text(TABLE).splitlines()]
    assert lines[0] == "digits_cnn on digits, goal 90%"
    assert [line.split() for line in lines[2:5]] == [
        ["Sparsity", "50.0%", "Sparsity", "50.0%"],
        ["(phase", "1)", "(phase", "1)"],
        ["accuracy", "of", "m", "=", "2", "m", "=", "3"],
    ]
    shown = [" ".join(line.split()) for line in lines if "±" in line]
    assert shown[:2] == [
        "SMS (uniform) * 90.00 ± 1.00 * 91.00 (n=1)",
        "best candidate (2nd) 89.00 ± 2.00 -",
    ]
    assert len({line.index("±") for line in lines[6:12] if "±" in line}) == 1


def test_a_terminal_gets_styles_and_a_table_that_fits() -> None:
    wide = text(TABLE, width=80)
    assert "\x1b[1m" in wide
    assert "*" not in wide
    narrow = text(TABLE, width=44)
    plain = re.sub(r"\x1b\[[0-9;]*m", "", narrow).splitlines()
    assert sum("SMS (uniform)" in line for line in plain) == 1  # both columns have one outer head
    apart = Table("t", (), "s", (("first" * 6,), ("second" * 5,)), (Row("row", ("a", "b")),))
    lines = text(apart, width=40).splitlines()
    assert sum("row" in line for line in lines) == 2
    assert sum("row" in line for line in text(apart, width=80).splitlines()) == 1
    assert max(map(len, lines)) < 80


def test_characters_with_a_meaning_are_escaped() -> None:
    odd = Table("50% & a_b", (), "s", (("x|y",),), (Row("a#{}\\~^", ("$",)),))
    assert r"50\% \& a\_b" in latex(odd)
    assert r"a\#\{\}\textbackslash{}\textasciitilde{}\textasciicircum{} & \$" in latex(odd)
    assert r"| s | x\|y |" in markdown(odd)


def test_every_format_copes_with_an_empty_table() -> None:
    for _, form in FORMATS.values():
        assert form(Table("t", (), "s", (), ()))


def ranks(entries: list[Value | None], places: int = 1) -> list[int]:
    return [entry.rank for entry in ranked(entries, places) if isinstance(entry, Value)]


def test_what_looks_the_same_shares_a_rank() -> None:
    values = [accuracy(mean) for mean in (0.70001, 0.70002, 0.69, 0.6)]
    assert ranks([*values, None], places=2) == [1, 1, 2, 0]


def test_the_smallest_error_is_the_best() -> None:
    assert ranks([Value(x, None, 1, "ece") for x in (0.03, 0.01, 0.02)], places=2) == [0, 1, 2]


def test_a_value_that_stands_alone_has_no_rank() -> None:
    assert ranks([None, accuracy(0.7)]) == [0]


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), min_size=2, max_size=8))
def test_the_best_is_never_below_another(means: list[float]) -> None:
    entries = ranked([accuracy(mean) for mean in means])
    best = [v.mean for v in entries if isinstance(v, Value) and v.rank == 1]
    assert best
    assert min(best) >= max(means) - 0.0001
