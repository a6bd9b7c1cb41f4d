"""Parts of a data set over ranks: each once, and no rank without work while others have some."""

import pytest

from sms_dist.data.loader import part_indices
from sms_dist.mesh.division import NUM_PARTS, parts_of


@pytest.mark.parametrize("num_ranks", [1, 2, 3, 7, 64, 100])
def test_every_part_has_one_rank(num_ranks):
    parts = [part for rank in range(num_ranks) for part in parts_of(rank, num_ranks)]
    assert parts == list(range(NUM_PARTS))


@pytest.mark.parametrize("num_batches", [8, 16, 32, 64, 79])
def test_two_ranks_get_nearly_the_same_number_of_batches(num_batches):
    work = [
        sum(
            len(list(part_indices(num_batches * 10, 10, part, NUM_PARTS)))
            for part in parts_of(rank, 2)
        )
        for rank in (0, 1)
    ]
    assert sum(work) == num_batches
    assert abs(work[0] - work[1]) <= 1
