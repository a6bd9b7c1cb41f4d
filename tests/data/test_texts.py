"""Parallel text in memory: what is left out, how batches are padded, which samples they hold."""

import gzip
from pathlib import Path

import pytest
import torch

from sms_dist import data
from sms_dist.base.randomness import stream
from sms_dist.config import DataConfig
from sms_dist.data.texts import reading
from sms_dist.data.texts.files import check, prepare
from sms_dist.data.texts.vocabulary import Bytes

CPU = torch.device("cpu")
ORDER, AUGMENTATION = stream(0, "order"), stream(0, "augmentation")
NUM_TRAIN, NUM_TEST = 50, 9
MULTI30K, PARALLEL, WMT16 = (
    data.source(DataConfig(name=name)) for name in ("multi30k", "parallel", "wmt16")
)


@pytest.fixture
def folder(tmp_path) -> Path:
    """Pair n: n % 7 + 1 letters, translated into twice as many."""
    path = tmp_path / "texts"
    path.mkdir()
    for split, num_pairs in (("train", NUM_TRAIN), ("test", NUM_TEST)):
        for language, factor in (("en", 1), ("de", 2)):
            text = [chr(97 + n % 26) * (n % 7 + 1) * factor for n in range(num_pairs)]
            (path / f"{split}.{language}").write_text("\n".join(text) + "\n")
    return path


def configured(folder: Path | None, **settings) -> DataConfig:
    path = None if folder is None else str(folder)
    return DataConfig(name="parallel", path=path, batch_size=8, **settings)


def opened(folder: Path, **settings):
    config = configured(folder, **settings)
    facts = PARALLEL.facts(config)
    if config.train_samples:
        facts = facts.__class__(**{**facts.__dict__, "num_train": config.train_samples})
    return PARALLEL.open(config, facts)


def replace_line(path: Path, number: int, text: str) -> None:
    lines = path.read_text().split("\n")
    lines[number - 1] = text
    path.write_text("\n".join(lines))


def decoded(tokens: torch.Tensor) -> list[str]:
    return [Bytes().decode(row) for row in tokens.tolist()]


def test_facts_count_the_lines_of_the_folder(folder):
    facts = PARALLEL.facts(configured(folder, max_length=99))
    assert (facts.num_train, facts.num_test) == (NUM_TRAIN, NUM_TEST)
    assert (facts.input_shape, facts.num_classes, facts.task) == ((99,), 259, "translation")


def test_without_the_folder_the_facts_are_those_of_the_published_set():
    assert MULTI30K.facts(configured(None)).num_train == 29_000
    assert WMT16.facts(configured(Path("not_here"))).num_test == 2_999


def test_a_vocabulary_that_is_not_there_lets_plan_but_not_open(folder):
    config = configured(folder, vocabulary="nowhere.model")
    facts = PARALLEL.facts(config)
    assert facts.num_classes == 259
    with pytest.raises(ValueError, match=r"data\.vocabulary=nowhere\.model: there is no such file"):
        PARALLEL.open(config, facts)


def test_all_pairs_are_there_and_a_tenth_of_them_for_validation(folder):
    texts = opened(folder)
    assert (len(texts.train), len(texts.validation), len(texts.test)) == (45, 5, 9)
    assert texts.test.references[2] == "cccccc"
    assert texts.train.references == ()


def test_inputs_are_the_source_and_the_target_shifted_by_one(folder):
    batch = next(opened(folder).loaders(8, CPU).test.part(0, 1, batch_size=9))
    source, shifted = batch.inputs
    assert decoded(source)[:3] == ["a", "bb", "ccc"]
    assert decoded(batch.targets)[:3] == ["aa", "bbbb", "cccccc"] == list(batch.references[:3])
    assert source.shape == (9, 8)
    assert batch.targets.shape == (9, 16)  # 15 rounded up
    assert source[0].tolist() == [100, 1, 0, 0, 0, 0, 0, 0]
    assert shifted[:, 0].tolist() == [0] * 9
    assert torch.equal(shifted[:, 1:], batch.targets[:, :-1])
    assert batch.size == 9
    assert batch.weight == (batch.targets != 0).sum()


def test_two_ranks_see_the_pairs_of_one_and_know_the_tokens_of_both(folder):
    loader = opened(folder).loaders(8, CPU).train
    one = list(loader.epoch(ORDER, AUGMENTATION))
    two = [list(loader.epoch(ORDER, AUGMENTATION, rank, 2)) for rank in (0, 1)]
    assert len(one) == loader.num_steps == 6
    for whole, first, second in zip(one, *two, strict=True):
        assert decoded(first.targets) + decoded(second.targets) == decoded(whole.targets)
        assert whole.weight == first.weight == second.weight == (whole.targets != 0).sum()
        assert whole.size == first.size == second.size == len(whole.targets)
        longest = int((first.inputs[0] != 0).sum(1).max())
        assert first.inputs[0].shape[1] == -(-longest // 8) * 8


def test_an_epoch_holds_every_training_pair_once(folder):
    texts = opened(folder)
    loader = texts.loaders(8, CPU).train
    read = [text for b in loader.epoch(ORDER, AUGMENTATION) for text in decoded(b.targets)]
    stored = decoded(texts.train.targets.padded(torch.arange(45)))
    assert read != stored
    assert sorted(read) == sorted(stored)


def test_a_resumed_epoch_goes_on_with_the_same_batches(folder):
    loader = opened(folder).loaders(8, CPU).train
    whole = list(loader.epoch(ORDER, AUGMENTATION))
    rest = list(loader.epoch(ORDER, AUGMENTATION, start_step=2))
    assert len(rest) == 4
    assert all(torch.equal(a.targets, b.targets) for a, b in zip(rest, whole[2:], strict=True))


def test_parts_together_are_the_split_in_stored_order(folder):
    texts = opened(folder)
    loader = texts.loaders(4, CPU).test
    batches = [batch for index in range(5) for batch in loader.part(index, 5)]
    assert [text for batch in batches for text in batch.references] == list(texts.test.references)
    assert len(batches) == 3


def test_no_validation_pairs_make_no_batches(folder):
    loader = opened(folder, validation=0.0).loaders(8, CPU).validation
    assert loader.num_steps == 0
    assert list(loader.epoch(ORDER, AUGMENTATION)) == list(loader.part(0, 1)) == []


def test_pairs_are_the_same_however_many_are_in_memory_as_text(folder, monkeypatch):
    replace_line(folder / "train.de", 3, "")
    settings = {"max_length": 9, "max_length_policy": "skip", "validation": 0.3}
    whole = opened(folder, **settings)
    monkeypatch.setattr(reading, "BLOCK", 7)
    divided = opened(folder, **settings)
    assert divided.facts == whole.facts
    assert divided.validation.references == whole.validation.references
    everything = torch.arange(len(whole.train))
    assert torch.equal(divided.train.sources.padded(everything),
                       whole.train.sources.padded(everything))  # fmt: skip


def test_the_first_pairs_suffice_when_fewer_are_wanted(folder):
    texts = opened(folder, train_samples=20)
    assert len(texts.train) + len(texts.validation) == 20


def test_validation_pairs_do_not_depend_on_what_is_left_out(folder):
    all_ = opened(folder, max_length=100)
    few = opened(folder, max_length=9, max_length_policy="skip")
    assert few.validation.references == all_.validation.references
    assert len(few.train) < len(all_.train)


def test_a_sentence_that_is_too_long_is_named(folder):
    with pytest.raises(ValueError, match=r"train\.de, line 5 has 11 tokens and data\.max_length=9"):
        opened(folder, max_length=9)


def test_long_sentences_are_cut_to_the_limit_with_their_end(folder):
    texts = opened(folder, max_length=9, max_length_policy="cut", validation=0.0)
    assert texts.facts == {
        "train_empty": 0, "train_skipped": 0, "train_cut": 21, "validation_cut": 0, "test_cut": 3,
    }  # fmt: skip
    assert len(texts.train) == 50
    targets = texts.test.targets.padded(torch.arange(9))
    assert targets.shape[1] == 9
    assert targets[4].tolist() == [104] * 8 + [1]
    assert texts.test.references[4] == "e" * 10  # measured against all of it


def test_long_pairs_are_skipped_in_training_and_cut_in_testing(folder):
    texts = opened(folder, max_length=9, max_length_policy="skip", validation=0.0)
    assert (len(texts.train), texts.info.num_train, len(texts.test)) == (29, 29, 9)
    assert (texts.facts["train_skipped"], texts.facts["test_cut"]) == (21, 3)
    assert texts.train.targets.padded(torch.arange(29)).shape[1] == 9


def test_empty_training_pairs_are_left_out_and_counted(folder):
    replace_line(folder / "train.de", 3, "  ")
    replace_line(folder / "train.en", 7, "")
    texts = opened(folder, validation=0.0)
    assert (len(texts.train), texts.facts["train_empty"]) == (48, 2)
    assert "ccc" not in decoded(texts.train.sources.padded(torch.arange(3)))


def test_a_set_in_several_files_is_the_same_set(folder, tmp_path):
    replace_line(folder / "train.de", 3, "")
    parts = tmp_path / "parts"
    parts.mkdir()
    for language in ("en", "de"):
        lines = (folder / f"train.{language}").read_text().splitlines(keepends=True)
        for stem, part in (("a", lines[:20]), ("b", lines[20:])):
            (parts / f"{stem}.de-en.{language}").write_text("".join(part))
        (parts / f"test.{language}").write_bytes((folder / f"test.{language}").read_bytes())
    config = DataConfig(name="wmt16", path=str(parts), validation=0.3)
    divided = WMT16.open(config, WMT16.facts(config))
    whole = opened(folder, validation=0.3)
    assert divided.facts == whole.facts
    assert divided.validation.references == whole.validation.references
    assert torch.equal(divided.train.targets.padded(torch.arange(34)),
                       whole.train.targets.padded(torch.arange(34)))  # fmt: skip


def test_an_empty_test_sentence_is_an_error(folder):
    replace_line(folder / "test.de", 3, " ")
    with pytest.raises(ValueError, match=r"test\.de, line 3 is empty"):
        opened(folder)


@pytest.mark.parametrize("language", ["en", "de"])
def test_a_longer_file_is_an_error_on_either_side(folder, language):
    with (folder / f"train.{language}").open("a") as file:
        file.write("more\n")
    with pytest.raises(ValueError, match=r"has 50 lines and .* has 51"):
        opened(folder)


def test_a_folder_has_to_be_given(folder):
    with pytest.raises(ValueError, match=r"needs data\.path.*train\.en and train\.de"):
        PARALLEL.open(configured(None), PARALLEL.described(configured(None)))


def test_prepared_text_is_the_same_text_and_twice_the_same_bytes(folder, tmp_path):
    replace_line(folder / "train.de", 3, "")
    for name in ("a", "b"):
        prepare(PARALLEL.card, folder, tmp_path / name, progress=lambda line: None)
    before, after = (opened(f, validation=0.0) for f in (folder, tmp_path / "a"))
    everything = torch.arange(49)
    assert torch.equal(before.train.targets.padded(everything),
                       after.train.targets.padded(everything))  # fmt: skip
    assert before.test.references == after.test.references
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()
    assert check(tmp_path / "a") == []


def test_an_index_tells_the_counts_and_what_has_changed(folder, tmp_path):
    target = tmp_path / "prepared"
    prepare(PARALLEL.card, folder, target, progress=lambda line: None)
    (target / "train.de.gz").write_bytes(gzip.compress(b"x\n"))
    (target / "test.en.gz").unlink()
    assert PARALLEL.facts(configured(target)).num_train == NUM_TRAIN  # no file was read
    assert [problem.rpartition("/")[2] for problem in check(target)] == [
        "train.de.gz differs from what was written (sha256)",
        "test.en.gz is missing",
    ]


def test_an_index_of_another_set_or_language_is_refused(folder, tmp_path):
    prepare(PARALLEL.card, folder, tmp_path / "prepared", progress=lambda line: None)
    with pytest.raises(ValueError, match=r"data\.name=multi30k, but .* holds parallel"):
        MULTI30K.facts(configured(tmp_path / "prepared"))
    with pytest.raises(ValueError, match=r"data\.languages=\['en', 'fr'\], but"):
        PARALLEL.facts(configured(tmp_path / "prepared", languages=("en", "fr")))


def test_prepare_never_overwrites(folder):
    with pytest.raises(ValueError, match="is not an empty folder"):
        prepare(PARALLEL.card, folder, folder)
