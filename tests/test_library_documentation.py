"""The blocks of docs/library.md run as they stand, and its table has every public name."""

from __future__ import annotations

import inspect
import re
import sys
from itertools import pairwise
from pathlib import Path

import pytest

import sms_dist as sms

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "distributed"))
from launching import launch_forked  # noqa: E402

PAGE = (ROOT / "docs" / "library.md").read_text(encoding="utf-8")
*BLOCKS, LOOP = re.findall(r"^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


def test_the_blocks_run_one_after_the_other(tmp_path):
    program = tmp_path / "page.py"
    program.write_text("\n".join(BLOCKS))
    finished = launch_forked(program, [], tmp_path)
    assert finished.status == 0, finished


def test_the_block_of_the_readme_makes_a_soup_as_sparse_as_it_says(tmp_path):
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    _, section = readme.split("## In a training loop of your own")
    (block,) = re.findall(r"^```python\n(.*?)^```", section, re.DOTALL | re.MULTILINE)
    mine = """
def train(net, seed):
    optimizer = sgd(net)
    for x, y in batches(seed % 1000):
        optimizer.zero_grad()
        F.cross_entropy(net(x), y).backward()
        optimizer.step()

model, batches_ = build(), batches(9)
"""
    after = """
assert mask.sparsity == 1 - mask.num_kept / mask.num_weights
assert abs(mask.sparsity - 0.9) * mask.num_weights <= 0.5
state = sms.weights(model)
assert all(not state[name][~kept].any() for name, kept in mask.items())
mean = sum(states[i]["0.weight"].double() for i in range(4)) / 4
assert torch.equal(state["0.weight"], mean.float())
print("it ran to its end")
"""
    program = tmp_path / "readme.py"
    program.write_text(BLOCKS[0] + mine + block.replace(", batches)", ", batches_)") + after)
    finished = launch_forked(program, [], tmp_path)
    assert finished.status == 0, finished
    assert "it ran to its end" in finished.out


@pytest.mark.parametrize(
    ("ranks", "per_candidate"), [(None, 1), (2, 1), (2, 2)], ids=["alone", "groups", "together"]
)
def test_the_whole_loop_makes_tighter_masks_on_any_ranks(ranks, per_candidate, tmp_path):
    program = tmp_path / "loop.py"
    asked = f"ranks_per_candidate={per_candidate}"
    program.write_text(LOOP.replace("ranks_per_candidate=1", asked))
    finished = launch_forked(program, [], tmp_path, ranks)
    assert finished.status == 0, finished
    assert "phase 3: 90.10% sparse, 4 candidates" in finished.out
    masks = [sms.Mask.load(tmp_path / f"mask_{k}.safetensors") for k in (1, 2, 3)]
    for loose, tight in pairwise(masks):
        assert all(not (tight[name] & ~loose[name]).any() for name in tight)


def test_the_table_has_every_name_with_its_parameters():
    table = PAGE.partition("## All names")[2]
    for name in set(sms.__all__) - {"__version__"}:
        assert re.search(rf"`{name}\b", table), name
    rows = dict(re.findall(r"^\| `(\w+)\((.*?)\)` \|", table, re.MULTILINE))
    for name, written in rows.items():
        if name == "Mask" or "..." in written:
            continue
        value = getattr(sms, name)
        own = [p.replace(annotation=p.empty) for p in inspect.signature(value).parameters.values()]
        signature = str(inspect.Signature(own))[1:-1]
        assert signature.replace("'", '"') == written, name
    assert len(rows) == 14
