"""Accuracy under corruptions: the mean over all of them, and that of each."""

from __future__ import annotations

from collections.abc import Mapping


def ood_metrics(values: Mapping[tuple[str, int], float], score: str) -> dict[str, float]:
    """`ood_<score>` and `ood_<score>_<corruption>` from values by (corruption, severity).

    Every corruption has the same severities, so that the mean is that over the whole corrupted
    data set (the paper's B.2.3).
    """
    by_name: dict[str, list[float]] = {}
    for (corruption, _severity), value in values.items():
        by_name.setdefault(corruption, []).append(value)
    assert len({len(found) for found in by_name.values()}) == 1, "some severities are missing"
    means = {name: sum(found) / len(found) for name, found in by_name.items()}
    mean = sum(means.values()) / len(means)
    return {f"ood_{score}": mean} | {f"ood_{score}_{name}": v for name, v in means.items()}
