"""Safetensors files from strangers: the header is believed only where it fits the file."""

import json

import pytest

from sms_dist.base.safetensors_file import MAX_HEADER, check
from sms_dist.base.weights_file import load

GOOD = {
    "a": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]},
    "b": {"dtype": "BOOL", "shape": [4], "data_offsets": [24, 28]},
}


def content(header, num_bytes=28, length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    size = len(text) if length is None else length
    return size.to_bytes(8, "little") + text + bytes(num_bytes)


def changed(name="b", **facts):
    return {**GOOD, name: {**GOOD[name], **facts}}


@pytest.mark.parametrize(
    ("bad", "problem"),
    [
        (b"", "it has 0 bytes only"),
        (b"1234567", "it has 7 bytes only"),
        (content(GOOD, length=2**63), f"{MAX_HEADER} are the most"),
        (content(GOOD, length=MAX_HEADER), "the whole file has"),
        (content(GOOD, length=5), "not JSON"),
        (content(b"[]"), "not a JSON object"),
        (content(b"\xff\xfe"), "no UTF-8"),
        (content(b"[" * 50_000), "nested too deep"),
        (content(b'{"a": 1, "a": 2}'), "is there twice"),
        (content({"a": 1}), "just dtype, shape and data_offsets"),
        (content(changed(more=1)), "just dtype, shape and data_offsets"),
        (content({**GOOD, "__metadata__": {"x": 1}}), "__metadata__"),
        (content(changed(dtype="OBJECT")), "unknown dtype"),
        (content(changed(dtype=["F32"])), "unknown dtype"),
        (content(changed(shape=[-4])), "shape that is no list"),
        (content(changed(shape=[True] * 4)), "shape that is no list"),
        (content(changed(shape=[4.0])), "shape that is no list"),
        (content(changed(shape=[1] * 17 + [4])), "shape that is no list"),
        (content(changed(shape=[0, 2**62], data_offsets=[24, 24])), "too large"),
        (content(changed(shape=[2**40, 2**40])), "too large"),
        (content(changed(shape=[5])), "does not take the bytes"),
        (content(changed(data_offsets=[28, 24])), "does not take the bytes"),
        (content(changed(data_offsets=[24])), "data_offsets that are not two"),
        (content(changed(data_offsets=[20, 24])), "overlaps"),
        (content(changed(data_offsets=[26, 30]), 30), "leaves bytes unused"),
        (content(GOOD, 27), "its tensors take 28 bytes, and it has 27"),
        (content(GOOD, 29), "its tensors take 28 bytes, and it has 29"),
        (content({"x" * 1001: GOOD["a"]}, 24), "1001 characters"),
    ],
)
def test_a_header_that_does_not_fit_is_refused(bad, problem, tmp_path):
    path = tmp_path / "w.safetensors"
    path.write_bytes(bad)
    with pytest.raises(ValueError, match=problem) as error:
        check(path, "the file")
    assert str(error.value).startswith("the file is no safetensors file: ")
    assert "copy it again" in str(error.value)
    assert str(error.value).isprintable()
    with pytest.raises(ValueError, match=problem):
        load(path)


def test_the_good_one_is_read(tmp_path):
    (tmp_path / "w.safetensors").write_bytes(content(GOOD))
    found = load(tmp_path / "w.safetensors")
    assert {name: tuple(tensor.shape) for name, tensor in found.items()} == {"a": (2, 3), "b": (4,)}


def test_names_that_a_terminal_would_obey_are_written_out(tmp_path):
    facts = {"dtype": "?", "shape": [], "data_offsets": [0, 0]}
    (tmp_path / "w").write_bytes(content({"\x1b[2J\u202e": facts}))
    with pytest.raises(ValueError, match="dtype") as error:
        check(tmp_path / "w")
    assert str(error.value).isprintable()
