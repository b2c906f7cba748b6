"""Break inputs and end commands at any moment: python -m benchmarks.faults --inputs=1000 --kills=1000

What is tried is drawn from its number, which goes on from the last call's: counts in
results/benchmarks/faults.json add up. Broken files that were found wrong are tried again at the next call.
`found` there, what was found and how it was mended, is written by hand.
--only=NAME, which may be there several times, takes some formats or commands alone, --case=NUMBER one case of
one of them, and prints it without counting.
"""

import tempfile
from itertools import cycle
from pathlib import Path
from typing import Any

from absl import app, flags

from benchmarks.faults import cases, inputs, kills, material, record
from benchmarks.faults.nursery import Nursery, build

_INPUTS = flags.DEFINE_integer("inputs", 0, "How many broken files.", lower_bound=0)
_KILLS = flags.DEFINE_integer("kills", 0, "How many commands end early.", lower_bound=0)
_ONLY = flags.DEFINE_multi_string("only", [], "A format or command alone; several times for several.")
_CASE = flags.DEFINE_integer("case", None, "One case of --only, by its number.")


def main(argv: list[str]) -> None:
    """Try, print what is wrong, and count."""
    del argv
    content = record.read()
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        directory = Path(folder).resolve()
        for name in ("made", "scratch"):
            (directory / name).mkdir()
        with Nursery(directory / "scratch", build(directory)) as nursery:
            material.make(directory / "made", nursery)
            if _INPUTS.value:
                _break(content, directory, nursery)
            if _KILLS.value:
                _kill(content, directory, nursery)


def _break(content: dict[str, Any], directory: Path, nursery: Nursery) -> None:
    names = [name for name in inputs.KINDS if name in _ONLY.value or not _ONLY.value]
    bases: dict[str, cases.Case] = {}
    if _CASE.value is None:
        _again(content, directory, nursery, bases)
    for name, _ in zip(cycle(names), range(_INPUTS.value), strict=False):
        tried = content["inputs"].get(name, {}).get("tried", 0)
        seed = tried if _CASE.value is None else _CASE.value
        found = _run(name, seed, directory, nursery, bases)
        record.count(content["inputs"], name, "tried", found.way, found.verdict)
        if found.wrong is not None:
            told = f"{found.way}: {found.wrong.replace(str(directory), 'DIR')}"
            print(f"{name}, case {seed}: {told}", flush=True)
            content["open"].append({"of": name, "case": seed, "said": told})
        if _CASE.value is None:  # also of a call that is stopped
            record.write(content)


def _run(
    name: str, seed: int, directory: Path, nursery: Nursery, bases: dict[str, cases.Case]
) -> cases.Found:
    made, scratch = directory / "made", directory / "scratch"
    return cases.run(name, inputs.KINDS[name], seed, made, scratch, nursery, bases)


def _again(content: dict[str, Any], directory: Path, nursery: Nursery, bases: dict[str, cases.Case]) -> None:
    """Try what was wrong again; what is mended counts as what it is now."""
    for one in [one for one in content["open"] if one["of"] in inputs.KINDS]:
        name = one["of"]
        found = _run(name, one["case"], directory, nursery, bases)
        if found.wrong is None:
            content["open"].remove(one)
            content["inputs"][name]["wrong"] -= 1
            record.count(content["inputs"], name, found.verdict)
        print(f"again: {name}, case {one['case']}: {found.verdict}", flush=True)


def _kill(content: dict[str, Any], directory: Path, nursery: Nursery) -> None:
    (directory / "other").mkdir()
    names = [name for name in kills.TASKS if name in _ONLY.value or not _ONLY.value]

    def tell(name: str, fault: str, wrong: str | None) -> None:
        # What had ended before the fault counts apart, and what came of it afterwards is of a fault counted.
        tried = () if fault in ("ended before", "afterwards") else ("tried",)
        record.count(content["kills"], name, *tried, "wrong" if wrong else fault)
        if wrong:
            told = wrong.replace(str(directory), "DIR")
            print(f"{name}, {told}", flush=True)
            content["open"].append({"of": name, "said": told})

    with Nursery(directory / "other", build(directory / "other")) as other:
        bench = kills.Bench(directory / "made", directory / "scratch", nursery, other, tell)
        left = _KILLS.value
        for name in cycle(names):
            counted = content["kills"].setdefault(name, {})
            seed = counted["series"] = counted.get("series", 0) + 1
            left -= bench.run(name, seed if _CASE.value is None else _CASE.value, left)
            if _CASE.value is not None:
                return
            record.write(content)
            if left <= 0:
                return


if __name__ == "__main__":
    app.run(main)
