"""What is said of a phase and of a run: the contents of summary.json."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sms_dist.config import Config

Document = dict[str, Any]
DETAILS = ("epochs", "retrain")  # of candidates: in their own metrics.json and in the journal
TAKEN = ("seconds", "resumed_at")  # how it went, not what came of it


def phase_summary(
    phase: int,
    sparsity: float,
    score: str,
    soup: Mapping[str, float],
    candidates: Sequence[Document],
) -> Document:
    """`score` names the metric that counts: best and mean are those of the candidates on test
    samples, without the ones that diverged."""
    found = [c[f"test_{score}"] for c in candidates if not c["diverged"]]
    brief = [{key: c[key] for key in c if key not in DETAILS} for c in candidates]
    return {
        "phase": phase,
        "sparsity": sparsity,
        "score": score,
        "soup": dict(soup),
        "candidates": brief,
        "best_candidate": max(found),
        "mean_candidate": sum(found) / len(found),
    }


def run_summary(
    config: Config, score: str, dense: Document, phases: Sequence[Document]
) -> Document:
    """The whole run; `final` is the last soup, or the dense model where nothing was pruned."""
    brief = {key: dense[key] for key in dense if key not in (*DETAILS, *TAKEN)}
    final = phases[-1]["soup"] if phases else brief
    return {
        "name": config.name,
        "method": config.method.name,
        "seed": config.seed,
        "score": score,
        "goal_sparsity": config.pruning.goal_sparsity,
        "dense": brief,
        "phases": list(phases),
        "final": {"sparsity": phases[-1]["sparsity"] if phases else 0.0, **final},
    }


def is_trained(dense: Mapping[str, Any]) -> bool:
    """False where a method pruned before dense training had come to its end."""
    trained, total = dense.get("epochs_trained"), dense.get("epochs_total")
    return trained is None or total is None or trained >= total


def test_scores(phase: Mapping[str, Any]) -> dict[str, float]:
    """Of a phase: what stands in one chart."""
    return {
        "soup": phase["soup"][f"test_{phase['score']}"],
        "best_candidate": phase["best_candidate"],
        "mean_candidate": phase["mean_candidate"],
    }
