"""Facts about grids: how settings become points, and points get folders."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from sms_dist.cli.grid import points, split, starts_from_dense
from sms_dist.config import Config
from sms_dist.config import file as config_file

WORDS = st.text("abz09_-. ',\"[]{}:#é", max_size=8)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**62), 2**62) | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=5,
)


def flow(value: Any) -> str:
    """A value as YAML in one line, commas in words quoted."""
    text = yaml.safe_dump([value], default_flow_style=True, width=10**6, allow_unicode=True)
    return text.strip().removeprefix("[").removesuffix("]")


@settings(deadline=None)
@given(st.lists(VALUES, min_size=1, max_size=4))
def test_values_joined_by_commas_come_apart_again(values: list[Any]) -> None:
    pieces = split(",".join(flow(value) for value in values))
    assert [yaml.safe_load(piece) for piece in pieces] == values


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("0,1,2", ["0", "1", "2"]),
        ("sms, imp", ["sms", "imp"]),
        ("[1,2],[3]", ["[1,2]", "[3]"]),
        ("{a: [1,2], b: 3},{}", ["{a: [1,2], b: 3}", "{}"]),
        ('\'a,b\',"c,\\",d"', ["'a,b'", '"c,\\",d"']),
        ("'it''s, one',2", ["'it''s, one'", "2"]),
        ("don't,'a[1]','b]'", ["don't", "'a[1]'", "'b]'"]),
        ("['a]',2],3", ["['a]',2]", "3"]),
        ("", []),
    ],
)
def test_commas_inside_of_values_do_not_part(text: str, pieces: list[str]) -> None:
    assert split(text) == pieces


@settings(deadline=None)
@given(st.lists(st.integers(1, 3), min_size=1, max_size=3))
def test_the_grid_is_the_product_in_the_order_given(sizes: list[int]) -> None:
    settings = [f"k{i}={','.join(map(str, range(size)))}" for i, size in enumerate(sizes)]
    found = points(settings)
    expected = 1
    for size in sizes:
        expected *= size
    assert len({point.settings for point in found}) == expected == len(found)
    assert [point.settings for point in found] == sorted(point.settings for point in found)
    assert len({point.folder for point in found}) == expected


def test_a_single_value_is_a_plain_setting_and_not_named() -> None:
    (first, second) = points(["retrain.epochs=5", "seed=0,1", "candidates.vary={epochs: [1,2]}"])
    assert first.settings == ("retrain.epochs=5", "seed=0", "candidates.vary={epochs: [1,2]}")
    assert (first.folder, second.folder) == ("seed0", "seed1")
    assert second.label == "seed=1"
    (alone,) = points(["seed=1"])
    assert (alone.folder, alone.label) == ("single", "single")


@pytest.mark.parametrize(
    ("settings", "folder"),
    [
        (["method.name=sms,imp_m_times", "seed=3,1"], "sms_seed3"),
        (["soup.rule=greedy,uniform", "retrain.schedule=llr,clr"], "greedy_llr"),
        (["pruning.goal_sparsity=0.9,0.95"], "goal_sparsity0.9"),
        (["retrain.weight_decay=1e-4,2e-4"], "weight_decay0.0001"),
        (["retrain.epochs=5,6", "pretrain.epochs=7,8"], "retrain.epochs5_pretrain.epochs7"),
        (
            ["retrain.schedule=llr,ft", "pretrain.schedule=linear,cosine"],
            "retrain.schedulellr_pretrain.schedulelinear",
        ),
        (["data.augment=true,false"], "augmenttrue"),
    ],
)
def test_folders_are_readable(settings: list[str], folder: str) -> None:
    assert points(settings)[0].folder == folder


def test_a_folder_does_not_depend_on_the_other_values() -> None:
    few = {point.folder for point in points(["seed=0,1", "method.name=sms,imp"])}
    more = {point.folder for point in points(["seed=0,1,2", "method.name=sms,imp,dense"])}
    assert few < more


@settings(deadline=None)
@given(st.lists(VALUES, min_size=2, max_size=4, unique_by=flow))
def test_folders_are_safe_on_any_file_system(values: list[Any]) -> None:
    texts = [flow(value) for value in values]
    for point in points([f"a.b={','.join(texts)}", "method.name=x,y"]):
        assert re.fullmatch(r"[A-Za-z0-9_.+-]{1,140}", point.folder)
        assert not point.folder.startswith((".", "-"))


def test_values_that_only_look_alike_have_folders_of_their_own() -> None:
    found = points(["data.path=a/b,a-b,a b," + "x" * 40 + "," + "x" * 41])
    assert len({point.folder for point in found}) == 5
    long = points([f"section.key{i}={'v' * 30},w" for i in range(8)])
    assert len({point.folder for point in long}) == len(long) == 256


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["seed"], "--set seed: write key.path=v1,v2"),
        (["=1"], "write key.path=v1,v2"),
        (["seed="], "--set seed= has an empty value; write null"),
        (["seed=0,,1"], "has an empty value"),
        (["seed=0,1,"], "has an empty value"),
        (["seed=[0,1"], "--set seed=[0,1 is no list of YAML values; put in quotes what is not"),
        (["data.path=a[1],b"], "put in quotes what is not YAML"),
        (["seed=0", "seed=1"], "--set seed is there 2 times; write seed=v1,v2"),
    ],
)
def test_what_is_no_grid_is_refused(settings: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        points(settings)


def test_a_dense_run_takes_what_decides_the_dense_model() -> None:
    point = points(["method.name=sms,imp", "seed=4,5", "retrain.epochs=1,2", "data.name=digits"])[0]
    dense = point.dense()
    assert (dense.folder, dense.label) == ("dense-model_seed4", "dense model, seed=4")
    config = config_file.load(None, dense.settings)
    assert (config.method.name, config.seed, config.data.name) == ("dense", 4, "digits")
    assert config.retrain == Config().retrain


def test_a_dense_run_needs_nothing_of_the_configurations_other_sections() -> None:
    settings = ("candidates.count=2", "candidates.vary={epochs: [1, 2]}", "method.alpha=1")
    (point,) = points([*settings, "seed=4"])
    assert config_file.load(None, point.dense().settings).candidates == Config().candidates


@pytest.mark.parametrize(
    ("settings", "starts"),
    [
        (["method.name=sms"], True),
        (["method.name=imp_reprune"], True),
        (["method.name=gmp_sms"], False),
        (["method.name=bimp"], False),
        (["method.name=gsm"], False),
        (["method.name=gsm", "method.from_scratch=false"], True),
    ],
)
def test_methods_from_scratch_do_not_start_from_a_dense_model(
    settings: list[str], starts: bool
) -> None:
    assert starts_from_dense(config_file.load(None, settings)) is starts
