"""Streaming gives what the resident loader gives, from any step on, with any number of workers."""

import gc
import gzip
import hashlib
import io
import json
import multiprocessing
import os
import random
import signal
import subprocess
import tarfile
import time
from itertools import chain, pairwise
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from PIL import Image

from sms_dist import data
from sms_dist.base.randomness import stream
from sms_dist.config import DataConfig
from sms_dist.data.card import OF_MASKS, AugmentName

CPU = torch.device("cpu")
ORDER, AUGMENTATION = stream(5, "order"), stream(5, "augmentation")
FORK = multiprocessing.get_context("fork")
CARD = """
name: tiny
size: [8, 8]
fit: {fit}
classes: 3
mean: [0.1, 0.2, 0.3]
std: [0.5, 0.6, 0.7]
augment: {augment}
samples: {{train: {train}, test: {test}}}
"""
NUM_TRAIN, NUM_TEST, PER_SHARD = 101, 23, 17


def png(number, size=(8, 8)):
    pixels = np.random.default_rng(number).integers(0, 256, (*size, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def write_shard(path, samples):
    """`samples`: key -> extension -> contents."""
    with tarfile.open(path, "w") as tar:
        for key, files in samples.items():
            for extension, content in files.items():
                member = tarfile.TarInfo(f"{key}.{extension}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))


def sample(number, is_bad=False, size=(8, 8)):
    image = png(number, size)
    return {"png": image[:40] if is_bad else image, "cls": str(number % 3).encode()}


def scene(number, is_bad=False, size=(8, 8)):
    """An image with a mask of three classes and void."""
    buffer = io.BytesIO()
    mask = np.random.default_rng(number).choice(np.array([0, 1, 2, 255], np.uint8), size)
    Image.fromarray(mask).save(buffer, "PNG")
    return {"png": png(number, size), "seg.png": buffer.getvalue()}


def write_set(
    folder,
    augment="crop_flip",
    fit="exact",
    is_bad=lambda i: False,
    size=lambda i: (8, 8),
    sample=sample,
):
    folder.mkdir(exist_ok=True)
    for name, first, count in (("train", 0, NUM_TRAIN), ("test", 1000, NUM_TEST)):
        numbers = range(first, first + count)
        for shard, start in enumerate(range(0, count, PER_SHARD)):
            samples = {
                f"s{i:04d}": sample(i, is_bad(i), size(i))
                for i in numbers[start : start + PER_SHARD]
            }
            write_shard(folder / f"{name}-{shard}.tar", samples)
    card = CARD.format(augment=augment, fit=fit, train=NUM_TRAIN, test=NUM_TEST)
    card += "task: segmentation\ntarget: seg.png\nvoid: 255\n" if sample is scene else ""
    (folder / "card.yaml").write_text(card)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_set(tmp_path_factory.mktemp("set"))


BAD = {3, 4, 70, 1005}


@pytest.fixture(scope="module")
def damaged(tmp_path_factory):
    return write_set(tmp_path_factory.mktemp("damaged"), is_bad=lambda i: i in BAD)


def config(folder, **changes):
    return DataConfig(name="card", path=str(folder), prefetch=2, **changes)


def streamed(folder, batch_size=8, **changes):
    return data.load(config(folder, loader="streaming", **changes)).loaders(batch_size, CPU)


def resident(folder, batch_size=8, **changes):
    return data.load(config(folder, **changes)).loaders(batch_size, CPU)


def digest(batch):
    content = batch.inputs[0].numpy().tobytes() + batch.targets.numpy().tobytes()
    return hashlib.sha256(content).hexdigest()


def parts(loader, num_parts=5, rank=0, num_ranks=1, batch_size=None):
    """Batches as one of several ranks asks for them."""
    own = range(num_parts * rank // num_ranks, num_parts * (rank + 1) // num_ranks)
    pieces = loader.parts(own, num_parts, batch_size)
    assert list(pieces) == list(own)
    return [batch for part in pieces.values() for batch in part]


def assert_equal(batches, others):
    for batch, other in zip(batches, others, strict=True):
        assert torch.equal(batch.inputs[0], other.inputs[0])
        assert torch.equal(batch.targets, other.targets)
        assert batch.targets.dtype == other.targets.dtype
        assert (batch.size, batch.weight) == (other.size, other.weight)
        assert (batch.subgroups is None) == (other.subgroups is None)
        assert batch.subgroups is None or torch.equal(batch.subgroups, other.subgroups)


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_batches_are_those_of_the_resident_loader_bit_for_bit(folder, workers):
    changes = {"subgroups": {"a": ["0", "2"], "b": ["1"]}}
    ours, theirs = streamed(folder, workers=workers, **changes), resident(folder, **changes)
    for rank in (0, 1):
        epochs = (x.train.epoch(ORDER, AUGMENTATION, rank, 2) for x in (ours, theirs))
        assert_equal(*epochs)
    for split in ("train", "validation", "test"):
        mine, other = getattr(ours, split), getattr(theirs, split)
        assert (mine.num_samples, mine.num_steps) == (other.num_samples, other.num_steps)
        for rank, num_ranks, size in ((0, 1, None), (0, 2, 3), (1, 2, 3)):
            assert_equal(
                parts(mine, 5, rank, num_ranks, size), parts(other, 5, rank, num_ranks, size)
            )
        shares = parts(mine, 64, 0, 2, 3) + parts(mine, 64, 1, 2, 3)
        assert_equal(shares, parts(other, 1, batch_size=3))


def test_workers_read_ahead_over_the_ends_of_parts(folder):
    loader = streamed(folder, workers=2, validation=0.0).train
    pieces = loader.parts(range(3, 12), 12)
    first = next(pieces[3])
    assert loader._workers._loader._iterator._send_idx == 5  # two for each, and one for the first
    rest = [batch for part in pieces.values() for batch in part]
    whole = parts(streamed(folder, validation=0.0).train, 12)
    assert_equal([first, *rest], whole[-1 - len(rest) :])


def any_size(number):
    return 9 + number % 7, 9 + number % 5


@pytest.mark.parametrize(
    ("fit", "size"),
    [
        ("exact", lambda i: (8, 8)),
        ("scale", any_size),
        ("crop", any_size),
        ("crop", lambda i: (8, 8)),
        ("scale", lambda i: (20, 31)),
        ("scale", lambda i: (1 + i % 3, 40 - i % 7)),
    ],
)
@pytest.mark.parametrize(
    ("augment", "sample"),
    [
        *((name, sample) for name in get_args(AugmentName) if name != "scale_crop_flip"),
        *((name, scene) for name in OF_MASKS),
    ],
)
def test_every_augmentation_of_images_of_any_size_is_that_of_the_resident_loader(
    tmp_path, augment, sample, fit, size
):
    folder = write_set(tmp_path / "set", augment, fit, size=size, sample=sample)
    ours, theirs = streamed(folder), resident(folder)
    for epoch in (AUGMENTATION, stream(5, "augmentation", 1)):
        assert_equal(ours.train.epoch(ORDER, epoch), theirs.train.epoch(ORDER, epoch))
    assert_equal(
        ours.train.epoch(ORDER, AUGMENTATION, 1, 2, 5),
        theirs.train.epoch(ORDER, AUGMENTATION, 1, 2, 5),
    )
    for split in ("train", "validation", "test"):
        assert_equal(parts(getattr(ours, split)), parts(getattr(theirs, split)))


def test_train_samples_leave_later_shards_closed(tmp_path):
    folder = write_set(tmp_path / "set")
    (folder / "train-2.tar").write_bytes(b"no tar")
    changes = {"train_samples": 2 * PER_SHARD - 3, "validation": 0.0, "augment": False}
    ours = streamed(folder, **changes).train
    assert ours.num_samples == 31
    assert_equal(parts(ours), parts(resident(folder, **changes).train))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_resumed_epoch_reads_nothing_that_came_before(folder, tmp_path, workers):
    """Everything else is damaged, and no damage allowed."""
    whole = list(streamed(folder, validation=0.0).train.epoch(ORDER, AUGMENTATION))
    rest = 4
    needed = set(ORDER.permutation(NUM_TRAIN)[-sum(b.size for b in whole[-rest:]) :].tolist())
    damaged = write_set(tmp_path / "set", is_bad=lambda i: i not in needed)
    train = streamed(damaged, workers=workers, validation=0.0).train
    assert_equal(train.epoch(ORDER, AUGMENTATION, start_step=len(whole) - rest), whole[-rest:])
    with pytest.raises(ValueError, match="cannot be decoded"):
        list(train.epoch(ORDER, AUGMENTATION, start_step=len(whole) - rest - 1))


def read_and_wait(folder, workers, tell):
    """An epoch in a process of its own, which then waits to be killed."""
    for batch in streamed(folder, workers=workers).train.epoch(ORDER, AUGMENTATION):
        tell.send(digest(batch))
    time.sleep(60)


def children(pid):
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def is_alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_until_gone(pids, seconds=15):
    deadline = time.monotonic() + seconds
    while any(map(is_alive, pids)):
        assert time.monotonic() < deadline, pids
        time.sleep(0.05)


def test_killed_anywhere_and_resumed_the_rest_of_the_epoch_is_the_same(folder):
    whole = [digest(batch) for batch in streamed(folder).train.epoch(ORDER, AUGMENTATION)]
    assert len(set(whole)) == len(whole) == 12
    for workers in (0, 2):
        step = random.randrange(1, len(whole))
        hear, tell = FORK.Pipe()
        process = FORK.Process(target=read_and_wait, args=(folder, workers, tell))
        process.start()
        before = [hear.recv() for _ in range(step)]
        its_workers = children(process.pid)
        process.kill()
        process.join()
        assert len(its_workers) == workers
        rest = streamed(folder, workers=workers).train.epoch(ORDER, AUGMENTATION, start_step=step)
        assert before + [digest(batch) for batch in rest] == whole
        wait_until_gone(its_workers)


@pytest.mark.parametrize("is_cycle", [False, True])
def test_loaders_that_are_dropped_leave_no_process(folder, is_cycle):
    before = children(os.getpid())
    kept = [streamed(folder, workers=2).train]
    kept.append(kept[0].epoch(ORDER, AUGMENTATION))
    next(kept[1])
    assert len(children(os.getpid())) == len(before) + 2
    if is_cycle:  # as tracebacks make them
        kept.append(kept)
    start = time.monotonic()
    del kept
    gc.collect()
    assert children(os.getpid()) == before
    assert time.monotonic() < start + 4  # workers that have to be killed take five seconds each


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_workers_go_on_when_they_are_sent_a_signal(folder, number):
    before = set(children(os.getpid()))
    loader = streamed(folder, workers=2).train
    batches = loader.epoch(ORDER, AUGMENTATION)
    found = [next(batches), next(batches)]  # one of each: both have begun their work
    workers = set(children(os.getpid())) - before
    assert len(workers) == 2
    for worker in workers:  # from elsewhere, as Slurm and torchrun send them to all processes
        subprocess.run(["/bin/sh", "-c", f"kill -{int(number)} {worker}"], check=True)
    time.sleep(0.2)
    assert all(map(is_alive, workers))
    assert_equal(chain(found, batches), streamed(folder).train.epoch(ORDER, AUGMENTATION))
    if number == signal.SIGTERM:
        os.kill(workers.pop(), number)  # from the parent
        del batches, loader
        wait_until_gone(workers)


def test_iterators_may_be_left_early_and_take_turns(folder):
    ours, theirs = streamed(folder, workers=2), streamed(folder)
    next(ours.train.epoch(ORDER, AUGMENTATION))  # and no more
    open_now = [
        (a.train.epoch(ORDER, AUGMENTATION), a.test.part(1, 2, 4), a.test.part(0, 2, 4))
        for a in (ours, theirs)
    ]
    for mine, other in zip(*open_now, strict=True):
        assert_equal([next(mine)], [next(other)])
    for mine, other in zip(*open_now, strict=True):
        assert_equal([next(mine)], [next(other)])
    for mine, other in zip(*open_now, strict=True):
        assert_equal(mine, other)


def test_reading_ahead_draws_no_random_numbers(folder):
    torch.manual_seed(0)
    list(streamed(folder, workers=1).train.epoch(ORDER, AUGMENTATION))
    drawn = torch.rand(3)
    torch.manual_seed(0)
    assert torch.equal(drawn, torch.rand(3))


def test_crops_of_images_of_any_size_depend_on_the_sample_alone(tmp_path):
    folder = write_set(
        tmp_path / "set", "random_resized_crop", "crop", size=lambda i: (9 + i % 7, 9 + i % 5)
    )
    one = list(streamed(folder).train.epoch(ORDER, AUGMENTATION))
    shares = [
        list(streamed(folder, workers=2).train.epoch(ORDER, AUGMENTATION, r, 2)) for r in (0, 1)
    ]
    for whole, first, second in zip(one, *shares, strict=True):
        assert torch.equal(torch.cat((first.inputs[0], second.inputs[0])), whole.inputs[0])
    (other, *_) = streamed(folder).train.epoch(ORDER, stream(6, "augmentation"))
    assert not torch.equal(other.inputs[0], one[0].inputs[0])
    assert torch.equal(other.targets, one[0].targets)


def test_with_shuffled_shards_few_are_read_at_a_time_and_each_sample_once(folder):
    changes = {"shuffle_shards": 2, "validation": 0.0, "augment": False, "workers": 2}
    train = streamed(folder, 5, **changes).train
    stored = torch.cat([b.inputs[0] for b in parts(train)]).flatten(1)
    read = torch.cat([b.inputs[0] for b in train.epoch(ORDER, AUGMENTATION)]).flatten(1)
    numbers = [int((stored == image).all(1).nonzero()) for image in read]
    assert sorted(numbers) == list(range(NUM_TRAIN))
    shards = [number // PER_SHARD for number in numbers]
    assert len(set(shards[: PER_SHARD + 7])) <= 2
    assert sum(a != b for a, b in pairwise(shards)) > 20  # mixed, nevertheless


@pytest.mark.parametrize("workers", [0, 2])
def test_a_damaged_sample_stops_the_run_by_name(damaged, workers):
    with pytest.raises(ValueError) as caught:
        parts(streamed(damaged, workers=workers, validation=0.0).train)
    message = str(caught.value)
    assert "train-0.tar: sample s0003 has an image that cannot be decoded" in message
    assert "data.max_bad_samples" in message
    assert "\n" not in message


@pytest.mark.parametrize("workers", [0, 2])
def test_allowed_damage_is_replaced_in_training_and_left_out_elsewhere(folder, damaged, workers):
    changes = {"validation": 0.0, "augment": False, "workers": workers}
    ours, theirs = streamed(damaged, max_bad_samples=4, **changes), streamed(folder, **changes)

    clean = torch.cat([b.inputs[0] for b in parts(theirs.train)])
    order = ORDER.permutation(NUM_TRAIN)
    replaced = torch.tensor([{3: 5, 4: 5, 70: 71}.get(i, i) for i in order.tolist()])
    found = list(ours.train.epoch(ORDER, AUGMENTATION))
    assert torch.equal(torch.cat([b.inputs[0] for b in found]), clean[replaced])
    assert [b.size for b in found] == [b.size for b in theirs.train.epoch(ORDER, AUGMENTATION)]
    assert len(ours.damaged()) == 3

    kept = [i for i in range(NUM_TRAIN) if i not in BAD]
    batches = parts(ours.train)
    assert torch.equal(torch.cat([b.inputs[0] for b in batches]), clean[kept])
    assert [b.size for b in batches] == [len(b.targets) for b in batches]
    assert sum(b.size for b in parts(ours.test, batch_size=1)) == NUM_TEST - 1
    assert len(ours.damaged()) == 4
    assert any("test-0.tar: sample s1005" in line for line in ours.damaged())


@pytest.mark.parametrize("workers", [0, 2])
def test_more_damage_than_is_allowed_stops_the_run(damaged, workers):
    ours = streamed(damaged, max_bad_samples=3, validation=0.0, workers=workers)
    parts(ours.train)
    parts(ours.train)  # the same ones do not count twice
    with pytest.raises(
        ValueError, match=r"4 samples are damaged, more than data\.max_bad_samples=3"
    ) as caught:
        parts(ours.test)
    assert "\n" not in str(caught.value)


def test_a_split_of_nothing_but_damage_is_an_error(tmp_path):
    folder = write_set(tmp_path / "set", is_bad=lambda i: True)
    ours = streamed(folder, max_bad_samples=500)
    with pytest.raises(ValueError, match="all 91 samples for train are damaged"):
        next(ours.train.epoch(ORDER, AUGMENTATION))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_shard_that_shrinks_meanwhile_is_an_error(tmp_path, workers):
    folder = write_set(tmp_path / "set")
    ours = streamed(folder, workers=workers, max_bad_samples=500, validation=0.0)
    (folder / "train-3.tar").write_bytes(b"")
    with pytest.raises(ValueError, match=r"train-3\.tar cannot be read any more"):
        parts(ours.train)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"png": png(0)}, r"train-0\.tar: sample bad has no class \(\.cls\)"),
        ({"cls": b"1"}, r"train-0\.tar: sample bad has no image"),
        ({"png": png(0), "cls": b"3"}, r"sample bad has the class '3', not one of 0 to 2"),
        ({"png": png(0, (9, 8)), "cls": b"1"}, r"sample bad has an image of 8x9 pixels, not 8x8"),
    ],
)
def test_a_sample_that_is_not_what_the_card_says_is_damaged(tmp_path, files, message):
    folder = write_set(tmp_path / "set")
    good = {f"s{i}": sample(i) for i in range(PER_SHARD - 1)}
    write_shard(folder / "train-0.tar", {"bad": files, **good})
    with pytest.raises(ValueError, match=message):
        parts(streamed(folder, validation=0.0).train)


def test_too_few_and_too_many_samples_are_errors(tmp_path):
    folder = write_set(tmp_path / "set")
    (folder / "test-1.tar").unlink()
    with pytest.raises(ValueError, match="test has 17 samples instead of 23"):
        streamed(folder)
    write_set(folder)
    write_shard(folder / "test-2.tar", {"more": sample(0)})
    with pytest.raises(ValueError, match="test has 24 samples instead of 23"):
        streamed(folder)


def write_index(folder, **changes):
    def facts(split):
        counts = {"train": [PER_SHARD] * 5 + [16], "test": [PER_SHARD, 6]}[split]
        return [
            {"file": f"{split}-{i}.tar", "samples": count, "sha256": "0" * 64}
            for i, count in enumerate(counts)
        ]

    splits = {split: facts(split) for split in ("train", "test")}
    splits["test"][1] |= changes
    text = json.dumps({"name": "tiny", "classes": ["0", "1", "2"], "splits": splits})
    (folder / "index.json").write_text(text)


def test_shards_may_lie_elsewhere_if_that_is_switched_on(tmp_path):
    folder, elsewhere = write_set(tmp_path / "set"), tmp_path / "elsewhere.tar"
    expected = parts(streamed(folder).test)
    (folder / "test-1.tar").rename(elsewhere)
    command = f"pipe:cat {elsewhere}"
    write_index(folder, file=command)
    with pytest.raises(ValueError, match=r"pipe:cat \.\.\. differs .*sha256"):
        streamed(folder, remote=True)
    write_index(folder, file=command, sha256=hashlib.sha256(elsewhere.read_bytes()).hexdigest())
    assert_equal(parts(streamed(folder, remote=True).test), expected)
    elsewhere.unlink()
    assert_equal(parts(streamed(folder, remote=True).test), expected)  # there is a copy
    assert_equal(parts(resident(folder, remote=True).test), expected)
    with pytest.raises(ValueError, match=r"pipe:cat .* set data\.remote=true"):
        resident(folder)


def test_compressed_shards_are_unpacked_for_either_loader(folder, tmp_path):
    packed = tmp_path / "packed"
    packed.mkdir()
    (packed / "card.yaml").write_text((folder / "card.yaml").read_text())
    for shard in folder.glob("*.tar"):
        (packed / f"{shard.name}.gz").write_bytes(gzip.compress(shard.read_bytes(), 1))
    expected = parts(resident(folder).train)
    assert_equal(parts(resident(packed).train), expected)
    assert_equal(parts(streamed(packed).train), expected)
    assert len(list((packed / ".cache").glob("*.tar"))) == 8  # made once, for both


def test_an_index_that_disagrees_is_an_error(tmp_path):
    folder = write_set(tmp_path / "set")
    write_index(folder)
    assert streamed(folder).test.num_samples == NUM_TEST
    write_index(folder, samples=7)
    with pytest.raises(ValueError, match=r"test-1\.tar has 6 samples, index\.json says 7"):
        streamed(folder)
    write_index(folder, file="https://example.org/test-1.tar")
    with pytest.raises(ValueError, match=r"https://example.*set data\.remote=true"):
        streamed(folder)
    write_index(folder, file="test-9.tar")
    with pytest.raises(ValueError, match=r"test-9\.tar: there is no such file"):
        streamed(folder)
