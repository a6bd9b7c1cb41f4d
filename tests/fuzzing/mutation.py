"""Makes many bad files out of a few good ones: bytes, values and names are changed by chance."""

from __future__ import annotations

import copy
from random import Random
from typing import Any

TOKENS = (
    *(b"\0", b"\n", b"\r", b"\t", b'"', b"'", b"{", b"}", b"[", b"]", b":", b",", b"-", b"#", b"|"),
    *(b"\x1b[2J", b"\xff\xfe", b"\xef\xbb\xbf", "\u202e".encode(), b"\\ud800", b"\x80"),
    *(b"\xed\xa0\x80", b"[" * 200, b"{" * 200, b'{"a":' * 200),
    *(b"../", b"/etc/passwd", b"$(touch owned)", b"`touch owned`", b"; touch owned", b"~/", b"%n"),
    *(b"&a ", b"*a", b"<<: ", b"!!python/object/apply:os.system ", b"!!binary ", b"=", b"---\n"),
    *(b"NaN", b"1e999", b"-1", b"9" * 30, b"9" * 5000, b"0x" + b"f" * 40, b"null", b"true", b"08"),
    *(b"2024-01-01", b"12:30:00", b"1_0", b".inf", b"1e-400"),
)  # fmt: skip
VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2, 3, 7, 255, 1000, 65536, 10**6),
    *(2**31, 2**53, 2**63 - 1, -(2**63), 10**12, 10**18, 10**30, 0.0, -0.0),
    *(0.5, 0.999999, 1e-300, 1e300, -1.5, 5e-324),
    *("", "a", "0", "../../x", "/dev/zero", "/", ".", "..", "~", "a/b", "a\nb", "\x00"),
    *("\x1b[31mred", "\u202eevil", "\ud800", "x" * 300, "x" * 5000, "$(touch owned)", "`id`"),
    *("'; ls #", '"', "-rf"),
    *([], {}, [[]], [{}], {"a": {}}, [0], ["a"], {"": 0}, [None], {"a": [1, 2, 3]}, [1e9] * 3),
    *("global", "uniform", "erk", "filters", "2:4", "1:1", "0:0", "9:4", "999999999:1000000000"),
    *("cosine", "steps", "swa", "greedy", "learned", "best", "adamw", "streaming", "deepspeed"),
)  # fmt: skip


def mutated_bytes(chance: Random, content: bytes, others: tuple[bytes, ...] = ()) -> bytes:
    """A few changes of single bytes, pieces, or the length."""
    found = bytearray(content)
    for _ in range(chance.choice((1, 1, 1, 2, 3, 8))):
        at = chance.randrange(len(found) + 1)
        length = chance.choice((1, 2, 4, 8, 64, 512))
        kind = chance.randrange(8)
        if kind == 0 and at < len(found):
            found[at] ^= 1 << chance.randrange(8)
        elif kind == 1 and at < len(found):
            found[at] = chance.choice((0, 1, 9, 10, 32, 45, 127, 128, 255))
        elif kind == 2:
            found[at:at] = chance.choice(TOKENS)
        elif kind == 3:
            del found[at : at + length]
        elif kind == 4:
            found[at:at] = found[at : at + length] * chance.choice((1, 1, 2, 30))
        elif kind == 5:
            found[at : at + length] = chance.randbytes(min(length, len(found) - at))
        elif kind == 6:
            del found[at:]
        elif others:
            other = chance.choice(others)
            start = chance.randrange(len(other) + 1)
            found[at:at] = other[start : start + 64 * length]
    return bytes(found)


def mutated_value(chance: Random, value: Any, others: tuple[Any, ...] = ()) -> Any:
    """A few places of a tree of lists and mappings are changed; the tree itself stays as it is."""
    root = [copy.deepcopy(value)]
    for _ in range(chance.choice((1, 1, 1, 2, 2, 3, 5))):
        _change(chance, chance.choice(_places(root)), root, others)
    return root[0]


def _places(root: list[Any]) -> list[tuple[Any, Any]]:
    """(container, key) of everything in a tree."""
    found: list[tuple[Any, Any]] = []
    waiting: list[Any] = [root]
    while waiting:
        parent = waiting.pop()
        for key in parent if isinstance(parent, dict) else range(len(parent)):
            found.append((parent, key))
            if isinstance(parent[key], dict | list):
                waiting.append(parent[key])
    return found


def _change(chance: Random, place: tuple[Any, Any], root: list[Any], others: Any) -> None:
    parent, key = place
    kind = chance.randrange(8)
    if kind <= 2:
        parent[key] = copy.deepcopy(chance.choice(VALUES))
    elif kind == 3 and parent is not root:
        del parent[key]
    elif kind == 4 and isinstance(parent, dict):
        parent[str(chance.choice((*VALUES, f"{key}x")))[:400]] = parent[key]
    elif kind == 5:
        parent[key] = [parent[key]] * chance.choice((0, 1, 2, 3, 1000))
    elif kind == 6:
        for _ in range(chance.choice((1, 3, 40, 2000))):
            parent[key] = {"a": parent[key]} if chance.random() < 0.5 else [parent[key]]
            if chance.random() < 0.001:
                break
    elif others:
        parent[key] = copy.deepcopy(chance.choice(_places([chance.choice(others)])))[0]
    if (
        isinstance(parent[key] if _has(parent, key) else None, int | float)
        and chance.random() < 0.3
    ):
        parent[key] = parent[key] * chance.choice((-1, 0, 2, 10, 1000, 1e6, 10**9))


def _has(parent: Any, key: Any) -> bool:
    return key in parent if isinstance(parent, dict) else key < len(parent)
