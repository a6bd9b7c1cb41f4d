"""Files of parallel text: each layout is read in pairs, and errors name file and line."""

import gzip
from pathlib import Path

import pytest

from sms_dist.data import card as cards
from sms_dist.data.texts.files import count_sentences, find, lines, pairs

EN_DE = ("en", "de")


def card(name: str) -> cards.TextCard:
    return cards.read(cards.path_of(name, None))


def write(folder: Path, **texts: str) -> Path:
    folder.mkdir(exist_ok=True)
    for name, text in texts.items():
        (folder / name.replace("__", ".")).write_bytes(text.encode())
    return folder


def read(folder: Path, split: str = "train", name: str = "parallel") -> list[tuple[str, str]]:
    files = find(card(name), folder, split, EN_DE)
    return [(pair.source.text, pair.target.text) for pair in pairs(files)]


def test_lines_of_two_files_belong_together(tmp_path):
    write(tmp_path, train__en="one\ntwo\n", train__de="eins\nzwei\n")
    assert read(tmp_path) == [("one", "eins"), ("two", "zwei")]


def test_a_gzip_file_is_read_like_a_plain_one(tmp_path):
    write(tmp_path, train__en="one\n")
    (tmp_path / "train.de.gz").write_bytes(gzip.compress(b"eins\n"))
    assert read(tmp_path) == [("one", "eins")]
    assert count_sentences(tmp_path / "train.de.gz") == 1


def test_only_a_newline_ends_a_line_and_the_last_one_may_lack_it(tmp_path):
    write(tmp_path, train__en="a\u2028b\x0bc\r\n d ", train__de="x\ny")
    assert read(tmp_path) == [("a\u2028b\x0bc", "x"), ("d", "y")]
    assert count_sentences(tmp_path / "train.en") == count_sentences(tmp_path / "train.de") == 2


def test_no_lines_are_counted_in_an_empty_file(tmp_path):
    write(tmp_path, train__en="")
    assert count_sentences(tmp_path / "train.en") == 0


def test_different_numbers_of_lines_name_both_files_and_counts(tmp_path):
    write(tmp_path, train__en="1\n2\n3\n", train__de="1\n")
    with pytest.raises(ValueError, match=r"train\.de has 1 lines and .*train\.en has 3;"):
        read(tmp_path)


def test_bytes_that_are_not_utf_8_are_named_by_file_and_line(tmp_path):
    write(tmp_path, train__en="a\nb\n")
    (tmp_path / "train.de").write_bytes("a\nfür\n".encode("latin-1"))
    with pytest.raises(ValueError, match=r"train\.de, line 2: byte 0xfc is not UTF-8"):
        read(tmp_path)


def test_a_truncated_gzip_file_is_named(tmp_path):
    write(tmp_path, train__en="a\n")
    (tmp_path / "train.de.gz").write_bytes(gzip.compress(b"a\n" * 1000)[:-9])
    with pytest.raises(ValueError, match=r"train\.de\.gz is no complete gzip file"):
        read(tmp_path)


def test_a_missing_file_is_named(tmp_path):
    write(tmp_path, train__en="a\n")
    with pytest.raises(ValueError, match=r"train\.de: there is no such file, nor train\.de\.gz"):
        read(tmp_path)


@pytest.mark.parametrize("languages", [("en", "en"), ("en", "../de"), ("", "de")])
def test_languages_are_two_codes_and_no_paths(tmp_path, languages):
    with pytest.raises(ValueError, match=r"data\.languages="):
        find(card("parallel"), tmp_path, "train", languages)


def test_multi30k_is_tested_on_flickr_2016(tmp_path):
    write(tmp_path, train__en="", train__de="", test_2016_flickr__en="a", test_2016_flickr__de="b")
    assert read(tmp_path, "test", "multi30k") == [("a", "b")]


def test_wmt16_joins_all_corpora_as_they_are_unpacked(tmp_path):
    training = tmp_path / "training"
    for stem in ("europarl-v7.de-en", "commoncrawl.de-en"):
        write(training, **{f"{stem}.en": f"{stem}\n", f"{stem}.de": "x\n"})
    write(training, **{"commoncrawl.de-en.annotation": "no pair\n"})
    assert [a for a, _ in read(tmp_path, "train", "wmt16")] == [
        "commoncrawl.de-en",
        "europarl-v7.de-en",
    ]


@pytest.mark.parametrize("direction", ["ende", "deen"])
def test_wmt16_is_tested_on_newstest2016_out_of_sgm_files(tmp_path, direction):
    source, target = direction[:2], direction[2:]
    text = '<doc>\n<seg id="1">A &amp; B </seg>\n<p><seg id="2">C {code}</seg></p>\n</doc>\n'
    names = (f"newstest2016-{direction}-src.{source}", f"newstest2016-{direction}-ref.{target}")
    for name, code in zip(names, (source, target), strict=True):
        write(tmp_path / "test", **{f"{name}.sgm": text.replace("{code}", code)})
    assert read(tmp_path, "test", "wmt16") == [("A & B", "A & B"), ("C en", "C de")]
    path = tmp_path / "test" / f"{names[0]}.sgm"
    assert [line.number for line in lines(path)] == [2, 3]
    assert count_sentences(path) == 2


def test_wmt16_says_what_it_looks_for(tmp_path):
    with pytest.raises(ValueError, match=r"neither train\.en nor europarl-v7\.de-en\.en"):
        read(tmp_path, "train", "wmt16")
