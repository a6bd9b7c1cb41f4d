"""sms-dist data with parallel text: from downloaded files to a folder and a vocabulary."""

import gzip

from click.testing import CliRunner

from sms_dist.cli.commands.data import data


def said(*arguments):
    result = CliRunner().invoke(data, [str(argument) for argument in arguments])
    return result.exit_code, result.output.splitlines()


def test_text_is_prepared_checked_and_gets_a_vocabulary(tmp_path):
    downloaded, prepared = tmp_path / "downloaded", tmp_path / "prepared"
    downloaded.mkdir()
    for split in ("train", "test_2016_flickr"):
        for language, word in (("en", "dog"), ("de", "Hund")):
            text = "".join(f"{word} {number} {word * (number % 3)}\n" for number in range(90))
            (downloaded / f"{split}.{language}.gz").write_bytes(gzip.compress(text.encode()))
    assert said("prepare", "multi30k", "--from", downloaded, "--to", prepared) == (
        0,
        ["train: 90 pairs, 0 empty ones left out", "test: 90 pairs"],
    )
    assert said("check", prepared) == (0, [f"ok       {prepared}"])
    assert said("vocabulary", prepared, "--size", 280, "--to", tmp_path / "pieces.model")[0] == 0
    assert (tmp_path / "pieces.model").is_file()
    (prepared / "test.en.gz").unlink()
    assert said("check", prepared) == (1, [f"problem  {prepared / 'test.en.gz'} is missing"])
