"""Which samples are measured when some of a corrupted test set are enough."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from sms_dist.experiment.corruptions import some_batches
from sms_dist.mesh.division import NUM_PARTS


def chosen(count, batch_size, wanted):
    found = [
        places
        for index in range(NUM_PARTS)
        for places in some_batches(count, batch_size, wanted, index)
    ]
    return torch.cat(found)


@given(st.integers(1, 3000), st.integers(1, 200))
def test_all_samples_are_measured_once_when_all_are_wanted(count, batch_size):
    assert chosen(count, batch_size, count).tolist() == list(range(count))


@given(st.integers(1, 3000), st.integers(1, 200), st.integers(1, 3000))
def test_about_as_many_as_are_wanted_are_measured(count, batch_size, wanted):
    places = chosen(count, batch_size, wanted)
    assert abs(len(places) - min(count, wanted)) <= batch_size
    assert len(places.unique()) == len(places) > 0


def test_they_come_from_all_over_the_set():
    places = chosen(10_000, 100, 1_000)
    assert len(places) == 1_000
    assert places.min() < 1_000
    assert places.max() >= 9_000
    assert all(((places >= k) & (places < k + 1_000)).sum() == 100 for k in range(0, 10_000, 1_000))
