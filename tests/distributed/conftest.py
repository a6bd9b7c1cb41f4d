"""What several files start from."""

from __future__ import annotations

import pytest
from launching import start


@pytest.fixture(scope="session")
def dense_run(tmp_path_factory):
    """A finished run of the dense method: one plain process."""
    folder = tmp_path_factory.mktemp("dense") / "run"
    finished = start(folder, "method.name=dense")
    assert finished.status == 0, finished
    return folder


@pytest.fixture(scope="session")
def from_dense(dense_run):
    """The setting that starts a run from these dense weights."""
    return f"pretrain.from={dense_run}"
