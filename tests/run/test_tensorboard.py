"""Facts about the TensorBoard files, read back while their writer is still open."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.hparams import plugin_data_pb2

from sms_dist.run.logbook import CandidateBoard, RunBoard


def events_in(folder: Path) -> Any:
    return EventAccumulator(str(folder)).Reload()


def points(folder: Path, tag: str) -> list[tuple[int, Any]]:
    return [(event.step, pytest.approx(event.value)) for event in events_in(folder).Scalars(tag)]


def draw_phase(board: RunBoard, phase: int) -> None:
    board.phase(
        phase,
        {"soup": 0.9, "best_candidate": 0.89, "mean_candidate": None},
        sparsity=0.5 * phase,
        layer_sparsities={"conv1": 0.2, "block.0.conv": 0.6},
        distances={"mean_l2": 1.5, "max_l2": 2.0},
        weights={"conv1": torch.randn(20), "gone": torch.zeros(0)},
    )


def test_a_candidate_draws_its_epochs(tmp_path: Path) -> None:
    board = CandidateBoard(tmp_path)
    for epoch, accuracy in ((1, 0.5), (2, 0.75)):
        board.epoch(
            epoch,
            loss=1 / epoch,
            learning_rate=0.1,
            accuracy=accuracy,
            samples_per_second=1000.0,
        )
    board.final(2, {"test_accuracy": 0.8})
    assert points(tmp_path, "final/test_accuracy") == [(2, 0.8)]
    assert points(tmp_path, "train/loss") == [(1, 1.0), (2, 0.5)]
    assert points(tmp_path, "train/accuracy") == [(1, 0.5), (2, 0.75)]
    board.close()


def test_epochs_drawn_again_after_a_resume_count_once(tmp_path: Path) -> None:
    for first in (1, 2):
        board = CandidateBoard(tmp_path, resume_at=first if first > 1 else None)
        for epoch in range(first, 4):
            board.epoch(
                epoch,
                loss=float(first),
                learning_rate=0.1,
                accuracy=0.5,
                samples_per_second=1.0,
            )
        board.close()
    assert points(tmp_path, "train/loss") == [(1, 1.0), (2, 2.0), (3, 2.0)]


def test_a_run_draws_its_phases_over_the_phase_number(tmp_path: Path) -> None:
    board = RunBoard(tmp_path)
    board.dense(0.95)
    draw_phase(board, 1)
    draw_phase(board, 2)
    assert points(tmp_path, "test_accuracy/soup") == [(1, 0.9), (2, 0.9)]
    assert points(tmp_path, "test_accuracy/dense") == [(1, 0.95), (2, 0.95)]
    assert points(tmp_path, "sparsity") == [(1, 0.5), (2, 1.0)]
    assert points(tmp_path, "distance/max_l2") == [(1, 2.0), (2, 2.0)]
    tags = events_in(tmp_path).Tags()
    assert tags["histograms"] == ["weights/conv1"]
    assert "test_accuracy/mean_candidate" not in tags["scalars"]
    board.close()


def charts_in(folder: Path) -> dict[str, list[str]]:
    event = events_in(folder).Tensors("custom_scalars__config__")[0]
    layout = layout_pb2.Layout.FromString(event.tensor_proto.string_val[0])
    return {chart.title: list(chart.multiline.tag) for chart in layout.category[0].chart}


def test_scores_of_another_task_share_a_chart_of_their_name(tmp_path: Path) -> None:
    board = RunBoard(tmp_path, "miou")
    board.dense(0.95)
    draw_phase(board, 1)
    (pattern,) = charts_in(tmp_path)["test mIoU"]
    drawn = [tag for tag in events_in(tmp_path).Tags()["scalars"] if re.match(pattern, tag)]
    assert sorted(drawn) == ["test_miou/best_candidate", "test_miou/dense", "test_miou/soup"]
    board.close()


def test_soup_and_candidates_share_a_chart(tmp_path: Path) -> None:
    RunBoard(tmp_path).close()
    charts = charts_in(tmp_path)
    assert charts["test accuracy"] == ["^test_accuracy/"]
    drawn = [tag for tags in charts.values() for tag in tags]
    assert len(drawn) == len(set(drawn)) == 5


def test_hyperparameters_stand_in_the_same_run_as_the_curves(tmp_path: Path) -> None:
    board = RunBoard(tmp_path)
    board.hparams({"method": "sms", "seed": 1, "augment": True}, {"soup_accuracy": 0.9})
    assert [path.is_file() for path in tmp_path.iterdir()] == [True]
    assert points(tmp_path, "final/soup_accuracy") == [(0, 0.9)]
    metadata = events_in(tmp_path).SummaryMetadata("_hparams_/session_start_info")
    data = plugin_data_pb2.HParamsPluginData.FromString(metadata.plugin_data.content)
    assert data.session_start_info.hparams["method"].string_value == "sms"
    board.close()
