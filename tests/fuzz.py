"""Throws bad files at everything that reads files: it works, or one clear line says what is wrong.

    python tests/fuzz.py --inputs 10000        configurations, run folders, weights, shards, status
    python tests/fuzz.py --only shards:1234    one input again, with its traceback

Nothing else may come of an input: no other exception, no second of the processor's time, no write
outside the scratch folder, no process, no connection. The same seed gives the same inputs.
"""

from __future__ import annotations

import argparse
import faulthandler
import hashlib
import sys
import tempfile
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from fuzzing import configs, run_folders, shards, status
from fuzzing.guard import Guard, Outcome, limit_memory

Make = Callable[[Random], Callable[[], None]]
CANARY = 20  # files that nobody should touch


def makers(scratch: Path) -> dict[str, Make]:
    """Kind of input -> a function from chance to something that reads one such input."""
    run = run_folders.real_run(scratch / "run")
    return {
        "configs": configs.prepare(scratch),
        "run_folders": run_folders.prepare_documents(scratch, run),
        "weights": run_folders.prepare_weights(scratch, run),
        "shards": shards.prepare(scratch),
        "status": status.prepare(scratch),
    }


def one(make: Make, kind: str, number: int, seed: int) -> Callable[[], None]:
    """The input of that number."""
    return make(Random(f"{seed}/{kind}/{number}"))


def tried(guard: Guard, kinds: dict[str, Make], inputs: int, seed: int) -> dict[str, list[Outcome]]:
    """The outcomes of so many inputs of each kind."""
    return {
        kind: [guard.watched(one(make, kind, number, seed)) for number in range(inputs)]
        for kind, make in kinds.items()
    }


def main() -> int:
    """Exit status 0 where nothing was found."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--inputs", type=int, default=10_000, help="in all [10000]")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--messages", action="store_true", help="print with what was refused")
    parser.add_argument("--only", help="KIND:NUMBER, or KIND")
    given = parser.parse_args()
    faulthandler.dump_traceback_later(3600, exit=True)
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as name:
        return _all(Path(name), given)


def _all(root: Path, given: argparse.Namespace) -> int:
    scratch, canary = root / "scratch", root / "canary"
    scratch.mkdir()
    _fill(canary)
    before = _digest(canary)
    kinds = makers(scratch)
    tempfile.tempdir = str(scratch)
    guard = Guard(scratch)
    limit_memory()
    kind, _, number = (given.only or "").partition(":")
    if number:
        return _again(one(kinds[kind], kind, int(number), given.seed), guard)
    kinds = {kind: kinds[kind]} if kind else kinds
    found = tried(guard, kinds, given.inputs // len(kinds), given.seed)
    is_untouched = _digest(canary) == before
    if given.messages:
        said = Counter(f"{each.message[:230]!r}" for outs in found.values() for each in outs)
        print(*(f"{count:6} {line}" for line, count in said.most_common()), sep="\n")
    return _report(found, is_untouched)


def _again(read: Callable[[], None], guard: Guard) -> int:
    def loud() -> None:
        try:
            read()
        except BaseException:
            traceback.print_exc()
            raise

    outcome = guard.watched(loud)
    print(outcome)
    return int(outcome.fault is not None)


def _report(found: dict[str, list[Outcome]], is_untouched: bool) -> int:
    print(f"{'':12} {'inputs':>7} {'accepted':>9} {'refused':>8} {'faults':>7} {'slowest (s)':>12}")
    for kind, outcomes in found.items():
        faults = [each for each in outcomes if each.fault]
        accepted = sum(each.is_accepted for each in outcomes)
        refused = len(outcomes) - accepted - sum(not each.is_accepted for each in faults)
        slowest = max(each.seconds for each in outcomes)
        print(
            f"{kind:12} {len(outcomes):7} {accepted:9} {refused:8} {len(faults):7} {slowest:12.2f}"
        )
    print("canary files:", "untouched" if is_untouched else "CHANGED")
    total = 0
    for kind, outcomes in found.items():
        named = [(each.fault, number) for number, each in enumerate(outcomes) if each.fault]
        counted = Counter(fault.partition(": ")[0] for fault, _ in named)
        for start, count in counted.most_common():
            fault, number = next(pair for pair in named if pair[0].partition(": ")[0] == start)
            print(f"{count:6} x {kind}:{number} {fault}")
        total += len(named)
    return int(total > 0 or not is_untouched)


def _fill(folder: Path) -> None:
    folder.mkdir()
    for number in range(CANARY):
        (folder / f"{number}.txt").write_text(str(number))


def _digest(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        digest.update(f"{path.name}{path.stat().st_mtime_ns}".encode() + path.read_bytes())
    return digest.hexdigest()


if __name__ == "__main__":
    sys.exit(main())
