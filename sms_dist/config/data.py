"""The section `data`: what is trained on, how it is read, what is measured beside."""

from __future__ import annotations

from typing import Literal

from sms_dist.config.section import Count, Fraction, Natural, Pair, Section, Size


class DataConfig(Section):
    name: str = "digits_distorted"
    """see [data sets](data.md); `card`: shards of your own, described by their card.yaml;
    the path of a card, a .yaml file; `package.module:function`: your own data set"""
    path: str | None = None
    """folder of shards, or of the data set as it is downloaded; the digits are embedded and need
    none"""
    loader: Literal["resident", "streaming"] = "resident"
    """resident: all samples lie on the device; streaming: they are read while training"""
    batch_size: Count = 16
    """samples per optimizer step of a candidate, all its ranks together"""
    train_samples: Count | None = None
    """use only the first so many training samples (null: all)"""
    validation: Fraction = 0.1
    """fraction of the training samples kept for validation"""
    augment: bool | str = True
    """the data set's own augmentation while training (the digits have none), none at all, or
    `package.module:function`"""
    size: Size | None = None
    """height and width to which images are scaled when they are read (null: the data set's)"""
    target: str | None = None
    """celeba: the attribute to predict"""
    subgroup: str | None = None
    """celeba: the attribute whose combinations with the target are measured apart"""
    subgroups: dict[str, list[str]] = {}
    """measure the recall of groups of classes, e.g. {animals: [cat, dog], things: [car]}"""
    corruptions: str | None = None
    """also measure dense models and soups on corrupted test images: a CIFAR-C or ImageNet-C folder,
    or `generated`"""
    corruption_samples: Count | None = None
    """of these images, about so many, in batches from all over the test set (null: all)"""
    corrupt_candidates: bool = False
    """measure the candidates on them as well"""
    max_length: Count = 128
    """translation: tokens of a sentence, its end included"""
    max_length_policy: Literal["stop", "cut", "skip"] = "stop"
    """translation: what happens to training sentences that are longer"""
    vocabulary: str = "bytes"
    """translation: bytes, or a SentencePiece model file"""
    languages: Pair = ("en", "de")
    """translation: from and to, as the files are named"""
    num_beams: Count = 1
    """translation: beams of the search when measuring BLEU (1: greedy)"""
    workers: Natural = 0
    """streaming: processes that read and decode, of each rank (0: the rank itself)"""
    prefetch: Count = 4
    """streaming: batches that each worker prepares ahead"""
    shuffle_shards: Count | None = None
    """streaming: so many shards are mixed at a time, for slow disks (null: the order is that of
    the resident loader, over all samples)"""
    max_bad_samples: Natural = 0
    """streaming: damaged samples to leave out, on each rank, before it stops"""
    cache: str | None = None
    """folder for unpacked or fetched shards and their indices (null: beside the shards)"""
    remote: bool = False
    """allow shards that are addressed by URL or by `pipe:` commands, which run in a shell"""
