"""The resident loader: normalisation, shares and resumption."""

import numpy as np
import pytest
import torch

from sms_dist.base.randomness import stream
from sms_dist.data import resident as module
from sms_dist.data.augment import crop_flip
from sms_dist.data.card import Card
from sms_dist.data.dataset import Split
from sms_dist.data.decode import Decoded
from sms_dist.data.loader import Loader, Pixels
from sms_dist.data.resident import Resident, gathered

CPU = torch.device("cpu")
ORDER, AUGMENTATION = stream(0, "order"), stream(0, "augmentation")
PIXELS = stream(0, "test pixels").uniform(torch.arange(50), 3 * 8 * 8)
SPLIT = Split((PIXELS * 256).to(torch.uint8).view(50, 3, 8, 8), torch.arange(50))
MEAN, STD = (0.1, 0.2, 0.3), (0.5, 0.6, 0.7)


def resident(augment=None) -> Loader:
    return Resident(SPLIT, 16, Pixels(MEAN, STD, CPU), augment, CPU)


def test_inputs_are_normalised_per_channel():
    batch = next(resident().part(0, 1, batch_size=50))
    expected = (SPLIT.images.double() / 255 - torch.tensor(MEAN)[:, None, None]) / torch.tensor(
        STD
    )[:, None, None]
    assert batch.inputs[0].dtype == torch.float32
    torch.testing.assert_close(batch.inputs[0].double(), expected)


def test_two_ranks_together_see_the_batches_of_one_bit_for_bit():
    one = list(resident(crop_flip).epoch(ORDER, AUGMENTATION))
    two = [list(resident(crop_flip).epoch(ORDER, AUGMENTATION, rank, 2)) for rank in (0, 1)]
    assert len(one) == resident().num_steps == 4
    for whole, first, second in zip(one, *two, strict=True):
        assert torch.equal(torch.cat((first.inputs[0], second.inputs[0])), whole.inputs[0])
        assert torch.equal(torch.cat((first.targets, second.targets)), whole.targets)
        assert whole.size == first.size == second.size == len(whole.targets)


def test_a_resumed_epoch_goes_on_with_the_same_batches():
    whole = list(resident(crop_flip).epoch(ORDER, AUGMENTATION))
    rest = list(resident(crop_flip).epoch(ORDER, AUGMENTATION, start_step=2))
    assert len(rest) == 2
    assert all(torch.equal(a.inputs[0], b.inputs[0]) for a, b in zip(rest, whole[2:], strict=True))


@pytest.mark.parametrize("num_bytes", [1, 3 * 64 * 30, 3 * 64 * 40])  # 1, 2 and 3 steps of 12
def test_how_many_steps_are_read_at_once_does_not_matter(monkeypatch, num_bytes):
    split = Split(SPLIT.images, SPLIT.targets, subgroups=SPLIT.targets + 7)
    whole = list(resident(crop_flip).epoch(ORDER, AUGMENTATION))
    monkeypatch.setitem(module.BLOCK_BYTES, "cpu", num_bytes)
    loader = Resident(split, 16, Pixels(MEAN, STD, CPU), crop_flip, CPU)
    for some, batch in zip(loader.epoch(ORDER, AUGMENTATION), whole, strict=True):
        assert torch.equal(some.inputs[0], batch.inputs[0])
        assert torch.equal(some.targets, batch.targets)
        assert torch.equal(some.subgroups, batch.targets + 7)
        assert some[2:4] == batch[2:4]


def test_inputs_lie_in_memory_of_their_own():
    """Kernels may add up in another order where memory is aligned otherwise."""
    for batch in resident(crop_flip).epoch(ORDER, AUGMENTATION):
        (inputs,) = batch.inputs
        assert inputs.is_contiguous()
        assert inputs.untyped_storage().nbytes() == inputs.nbytes


def test_parts_are_never_augmented_and_more_parts_than_batches_leave_some_empty():
    loader = resident(crop_flip)
    parts = [list(loader.part(index, 7)) for index in range(7)]
    assert sum(not batches for batches in parts) == 3
    inputs = torch.cat([batch.inputs[0] for batches in parts for batch in batches])
    assert torch.equal(inputs, next(resident().part(0, 1, 50)).inputs[0])


def test_stored_images_that_do_not_fit_into_memory_are_refused(monkeypatch):
    card = Card(name="x", size=(8, 8), classes=2, mean=MEAN, std=STD, augment="random_resized_crop")
    large = [Decoded(np.zeros((3, 100, 100), np.uint8), 0)] * 4
    assert len(gathered(large, 4, card, "x", keeps_stored=True).stored) == 4
    monkeypatch.setattr(module.os, "sysconf", lambda name: 200)  # 40 kB
    assert gathered(large, 4, card, "x").stored is None
    with pytest.raises(ValueError, match=r"set data\.loader=streaming"):
        gathered(large, 4, card, "x", keeps_stored=True)


def test_an_empty_split_has_no_batches():
    loader = Resident(SPLIT.first(0), 16, Pixels(MEAN, STD, CPU), None, CPU)
    assert loader.num_steps == 0
    assert list(loader.epoch(ORDER, AUGMENTATION)) == list(loader.part(0, 1)) == []
