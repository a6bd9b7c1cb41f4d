"""Facts about the points of the figures, and about the files that are drawn."""

from __future__ import annotations

import re
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from journals import one_shot, ood, phase, run, two_phases

from sms_dist.reports.figures import Figure, figures, save
from sms_dist.reports.runs import Run

ONE = "pruning.phases=1"


def with_pairs(accuracies: list[float], *settings: str) -> Run:
    """A soup of each two, one point above their mean."""
    pairs: list[dict[str, Any]] = [
        {"candidates": [i, j], "test_accuracy": (accuracies[i] + accuracies[j]) / 2 + 0.01}
        for i, j in combinations(range(len(accuracies)), 2)
    ]
    found = phase(1, 0.9, accuracies, pairs=pairs)
    return run([found], ONE, f"candidates.count={len(accuracies)}", *settings)


def points(figure: Figure, label: str = "random seed") -> list[tuple[float, float]]:
    """Return the points of a label in a figure of pairs."""
    own = figure.points[figure.points["label"] == label]
    return [(round(x, 6), round(y, 6)) for x, y in zip(own["x"], own["y"], strict=True)]


def curve(figure: Figure, label: str) -> list[tuple[float, float, float, float]]:
    """Return x, mean, lowest and highest seed of the points of a curve."""
    own = figure.points[figure.points["label"] == label]
    columns = ("x", "mean", "min", "max")
    return [tuple(round(v, 6) for v in row) for row in zip(*(own[c] for c in columns), strict=True)]


def drawable(runs: list[Run]) -> dict[str, Figure]:
    return dict(figures(runs)[0])


def test_pairs_are_soups_of_two_against_the_better_one() -> None:
    seeds = with_pairs([0.8, 0.9, 0.6])
    decay = with_pairs([0.7, 0.5], "candidates.vary={weight_decay: [1, 2]}")
    figure = drawable([decay, seeds])["figure_3"]
    assert list(figure.looks) == ["random seed", "weight decay"]
    assert set(figure.points["panel"]) == {"sparsity 50.0% (one shot)"}
    assert points(figure) == [(90, 86), (80, 71), (90, 76)]
    assert points(figure, "weight decay") == [(70, 61)]


def test_a_soup_of_two_candidates_is_a_pair_itself() -> None:
    runs = [run([phase(1, 0.9, [0.8, 0.85])], ONE, "candidates.count=2")]
    assert points(drawable(runs)["figure_3"]) == [(85, 90)]
    greedy = [run(one_shot(0.9), ONE, "candidates.count=2", "soup.rule=greedy")]
    assert "figure_3" not in drawable(greedy)


def test_figures_are_in_the_score_of_their_runs() -> None:
    runs = [run([phase(1, 25.5, [24.0, 25.0], score="bleu")], ONE, "candidates.count=2")]
    runs.append(run([phase(1, 0.5, [0.4, 0.3], score="miou")], ONE, "candidates.count=2"))
    bleu, miou = drawable(runs).values()
    assert bleu.x_label == "better of the two, test BLEU"
    assert miou.y_label == "soup of the two, test mIoU (%)"
    assert points(bleu) == [(25, 25.5)]
    assert points(miou) == [(40, 50)]


@pytest.mark.parametrize(
    ("score", "factor", "words"),
    [("bleu", 1, "test BLEU"), ("miou", 100, "test mIoU (percentage points)")],
)
def test_curves_are_differences_in_the_score_of_their_runs(
    score: str, factor: float, words: str
) -> None:
    runs = [
        run([phase(1, 0.75, [0.5, 0.25], score=score)], ONE, f"pruning.goal_sparsity={goal}")
        for goal in (0.5, 0.75)
    ]
    figure = drawable(runs)["figure_4a"]
    assert figure.y_label == f"soup \N{MINUS SIGN} best candidate\n{words}"
    assert [mean for _, mean, _, _ in curve(figure, "uniform")] == [0.25 * factor] * 2


def test_two_candidates_and_their_soup_are_a_pair_on_corrupted_samples() -> None:
    def of(kind: str) -> Run:
        found = {"soup": 0.5, "candidate_0": 0.4, "candidate_1": 0.45}
        lines = [ood(f"phase_1/{place}", {"fog": [at]}, kind) for place, at in found.items()]
        return run(one_shot(0.9), ONE, "candidates.count=2", f"name={kind}", also=lines)

    made = drawable([of("generated"), of("CIFAR-10-C")])
    assert [(f.title, f.y_label) for name, f in made.items() if name.startswith("figure_7")] == [
        ("digits_cnn on digits, generated corruptions", "soup of the two, test OOD accuracy (%)"),
        ("digits_cnn on digits, CIFAR-10-C", "soup of the two, test OOD accuracy (%)"),
    ]
    assert points(made["figure_7_1"]) == [(45, 50)]


def test_each_phase_is_a_panel() -> None:
    figure = drawable([run(two_phases(0.9), "candidates.count=2")])["figure_3"]
    assert list(figure.points["panel"].unique()) == [
        "sparsity 50.0% (phase 1)",
        "sparsity 75.0% (phase 2)",
    ]


def test_the_curve_over_sparsity_is_an_envelope_with_extremes() -> None:
    runs = []
    for goal in (0.5, 0.75):
        at = (ONE, f"pruning.goal_sparsity={goal}")
        for seed, gain in enumerate((0.01, 0.03)):
            runs.append(run(one_shot(0.8, gain), *at, f"seed={seed}", "retrain.schedule=llr"))
            runs.append(run(one_shot(0.8, -0.01), *at, f"seed={seed}", "retrain.schedule=allr"))
        runs.append(run(one_shot(0.8, 0.005), *at, "soup.rule=greedy"))
    figure = drawable(runs)["figure_4a"]
    assert list(figure.looks) == ["uniform", "greedy"]
    assert curve(figure, "uniform") == [(50, 2, 1, 3), (75, 2, 1, 3)]
    assert curve(figure, "greedy")[0] == (50, 0.5, 0.5, 0.5)


def test_the_curve_over_epochs_compares_equal_seeds_and_settings() -> None:
    runs = []
    for epochs in (2, 4):
        for seed in (0, 1):
            at = (ONE, f"retrain.epochs={epochs}", f"seed={seed}", "pruning.goal_sparsity=0.75")
            runs.append(run(one_shot(0.8 + 0.1 * seed), *at))
            rival = 0.79 + 0.1 * seed - epochs / 100
            runs.append(run(one_shot(rival, 0, m=1), *at, "method.name=imp_m_times"))
    alone = run(one_shot(0.1), ONE, "retrain.epochs=9", "pruning.goal_sparsity=0.75")
    figure = drawable([*runs, alone])["figure_4b"]
    assert list(figure.looks) == ["75%"]
    assert curve(figure, "75%") == [(2, 3, 3, 3), (4, 5, 5, 5)]


def test_what_cannot_be_drawn_says_what_it_needs() -> None:
    made, missing = figures([run(two_phases(0.9, m=3), "candidates.count=3")])
    assert made == {}
    assert [note.partition(" is not drawn")[0] for note in missing] == [
        *("figure 3", "figure 4a", "figure 4b", "figure 7"),
    ]


def test_runs_of_different_data_are_figures_of_their_own() -> None:
    runs = [with_pairs([0.8, 0.9]), with_pairs([0.8, 0.9], "data.name=digits_distorted")]
    assert list(drawable(runs)) == ["figure_3_1", "figure_3_2"]


def texts(svg: Path) -> list[str]:
    return re.findall(r"<text[^>]*>([^<]+)</text>", svg.read_text())


def test_a_scatter_is_drawn_with_its_text_as_text(tmp_path: Path) -> None:
    documents = [phase(k, 0.5, [0.4, 0.45], 1000 - 100 * k, score="miou") for k in range(1, 6)]
    runs = [run(documents, "candidates.count=2", "pruning.phases=5", f"seed={k}") for k in (0, 1)]
    runs.append(
        run(
            documents,
            "candidates.count=2",
            "pruning.phases=5",
            "candidates.vary={weight_decay: [1, 2]}",
        )
    )
    png, svg = save(drawable(runs)["figure_3"], tmp_path / "figure_3")
    assert png.read_bytes().startswith(b"\x89PNG")
    found = texts(svg)
    assert found.count("better of the two, test mIoU (%)") == 5
    assert found.count("soup of the two, test mIoU (%)") == 2  # rows of four panels
    assert {"digits_cnn on digits", "sparsity 50.0% (phase 5)", "no gain"} <= {*found}
    assert {"random seed", "weight decay"} <= {*found}


def test_curves_are_drawn_and_the_same_again(tmp_path: Path) -> None:
    goals = [f"pruning.goal_sparsity={goal}" for goal in (0.5, 0.75)]
    figure = drawable([run(one_shot(0.9), ONE, goal) for goal in goals])["figure_4a"]
    files = [save(figure, tmp_path / name) for name in ("one", "two")]
    assert [file.name for file in files[0]] == ["one.png", "one.svg"]
    words = {"sparsity (%)", "soup rule", "uniform", "digits_cnn on digits, one shot, m = 3"}
    assert words <= {*texts(files[0][1])}
    assert files[0][1].read_bytes() == files[1][1].read_bytes()
