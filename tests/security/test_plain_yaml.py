"""YAML from strangers: plain values, or one line that names the line; never gigabytes."""

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from sms_dist.base.plain import MAX_YAML_DEPTH, MAX_YAML_EVENTS, Dumper, parse_yaml

LAUGHS = "a: &a [x, x]\n" + "".join(
    f"{new}: &{new} [*{old}, *{old}, *{old}]\n"
    for old, new in zip("abcdefghijklmno", "bcdefghijklmnop", strict=True)
)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**62), 2**62)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=("Cs", "Cc", "Cf"))),
    lambda children: st.lists(children) | st.dictionaries(st.text("ab1_-=<~"), children),
    max_leaves=10,
)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (LAUGHS, r"has a reference \(\*a\).*line 2"),
        ("base: &b {x: 1}\nother:\n  <<: *b\n", "has a reference"),
        ("a: !!python/object/apply:os.system [ls]", "has a tag"),
        ("a: !!binary aGk=", "has a tag"),
        ("a: !!int ''", "has a tag"),
        ("a: !!bool maybe", "has a tag"),
        ("a: 1\nb: 2\na: 3", "the key a is there twice, line 3"),
        ("? [a]\n: 1", "a list or a mapping stands where a key should"),
        ("[" * (MAX_YAML_DEPTH + 1), "nested too deep"),
        ("[" * 100_000, "nested too deep"),
        ("- [" + "x," * MAX_YAML_EVENTS + "]", "too many values"),
        ("a: " + "9" * 100_000, "integer is too large"),
        ("a: 9223372036854775808", "integer is too large"),
        ("a: 0x" + "f" * 30, "integer is too large"),
        ("a: .nan", "no finite number"),
        ("a: -.inf", "no finite number"),
        ("a: 1e999", "no finite number"),
        ("a:\n\t- 1", r"cannot start any token, line 2"),
        ("a: \x00", r"character 3 is U\+0000"),
        ("a: \x1b[2J", r"character 3 is U\+001B"),
        (b"a: \xff", "byte 3 is no UTF-8"),
        ("a: 1".encode("utf-16"), "no UTF-8"),
        ("a: 1\n---\nb: 2", "another document"),
        ("%YAML 9.9\n---\na", "found incompatible YAML document"),
        ("%TAG ! tag:a,b:\n--- !c d", "has a tag"),
    ],
)
def test_what_is_not_plain_is_refused_in_one_line(text, problem):
    with pytest.raises(ValueError, match=problem) as error:
        parse_yaml(text, "the file")
    assert str(error.value).startswith("the file is not YAML: ")
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 300


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2024-01-01", "2024-01-01"),
        ("12:30:00", "12:30:00"),
        ("1:30.5", "1:30.5"),
        ("010", 10),
        ("08", 8),
        ("1_000", 1000),
        ("0x1F", 31),
        ("-0", 0),
        ("1e3", 1000.0),
        ("1.e-4", 1e-4),
        ("1e", "1e"),
        ("=", "="),
        ("{<<: 1}", {"<<": 1}),
        ("yes", True),
        ("~", None),
        ("", None),
        (b"\xef\xbb\xbfa: 1", {"a": 1}),
    ],
)
def test_words_mean_what_they_look_like(text, value):
    assert parse_yaml(text, "x") == value
    assert type(parse_yaml(text, "x")) is type(value)


@settings(deadline=None)
@given(VALUES)
def test_what_is_written_is_what_is_read(value):
    text = yaml.dump(value, Dumper=Dumper, allow_unicode=True)
    assert parse_yaml(text, "x") == value


def test_the_same_list_twice_is_written_without_a_reference():
    shared = [1, 2]
    assert parse_yaml(yaml.dump({"a": shared, "b": shared}, Dumper=Dumper), "x")["b"] == shared
