"""JSON from strangers: values within limits, or a ValueError that names the file."""

import os

import pytest

from sms_dist.base import plain
from sms_dist.base.plain import LONGEST, printable, shown


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[" * 100_000, "nested too deep"),
        ('{"a":' * 40 + "1" + "}" * 40, "nested too deep"),
        ("9" * 5000, "4300 digits"),
        ("99999999999999999999", "integer is too large"),
        ("1e999", "inf is no finite number"),
        ("NaN", "no finite number"),
        ("-Infinity", "no finite number"),
        ('{"a": 1, "a": 2}', "'a' is there twice"),
        ('{"a": 1', "Expecting"),
        (b'{"a": "\xff"}', "no UTF-8"),
        ("{}".encode("utf-16"), "no UTF-8"),
        ("", "Expecting value"),
    ],
)
def test_what_is_not_plain_is_refused(text, problem):
    with pytest.raises(ValueError, match=problem) as error:
        plain.parse_json(text, "the file")
    assert type(error.value) is ValueError
    assert str(error.value).startswith("the file is not JSON: ")


def test_plain_values_are_read(tmp_path):
    (tmp_path / "a.json").write_text('{"a": [1, -2.5, null, true, "x", {"b": []}]}')
    assert plain.read_object(tmp_path / "a.json") == {"a": [1, -2.5, None, True, "x", {"b": []}]}


def test_a_file_that_is_too_large_strange_or_missing_is_named(tmp_path):
    (tmp_path / "a.json").write_text("[1, 2, 3]")
    with pytest.raises(ValueError, match="larger than 5 bytes"):
        plain.read_object(tmp_path / "a.json", max_bytes=5)
    with pytest.raises(ValueError, match="not a JSON object"):
        plain.read_object(tmp_path / "a.json")
    os.mkfifo(tmp_path / "pipe")  # reading it would wait for ever
    for path in (tmp_path / "none", tmp_path, tmp_path / "pipe", tmp_path / ("x" * 5000)):
        with pytest.raises(ValueError, match="there is no such file"):
            plain.read_object(path)


@pytest.mark.parametrize(
    "text", ["a\nb", "\x1b[2Jx", "\u202eabc", "\x07", "\ud800", "a\u2028b", "\x85"]
)
def test_what_a_terminal_would_obey_is_written_out(text):
    line = printable(f"file {text} is bad")
    assert line.isprintable()
    assert line.startswith("file ")
    assert shown(text).isprintable()


def test_ordinary_text_stays_as_it_is_and_long_text_is_cut():
    assert printable("grüße 漢字 'x'") == "grüße 漢字 'x'"
    assert len(printable("x" * 10**6)) == LONGEST
