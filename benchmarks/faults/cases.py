"""One broken input: a file of the material is broken, the command that reads it runs, and its end is judged.

A case passes where the command refuses the file in one line that names it and leaves nothing behind; or where
its answer is right, as the kind of the file says.
"""

import random
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from benchmarks.faults.breaks import broken
from benchmarks.faults.nursery import Done, Nursery

LIMIT = 60  # seconds; all commands take less than five
# What is said beside an error: a log's warnings, Python's about what is odd in a config, each with its line
# of code, and a panic of a thread of polars.
_ASIDE = re.compile(
    r"^.*SyntaxWarning: .*\n(  .*\n)?"
    r"|^(WARNING|W\d{4} ).*\n"
    r"|^\n?thread '.*' .*panicked at .*\n.*\n(note: .*\n)?",
    re.M,
)


class Case(NamedTuple):
    """What a command was given, in a directory of its own, and what came of it; `base`: unbroken."""

    directory: Path
    file: Path
    before: bytes
    done: Done
    base: "Case | None"


@dataclass(frozen=True)
class Kind:
    """A format. `parts` of the material are copied, `files` among them broken, `right` judges an answer."""

    parts: tuple[str, ...]
    files: str
    command: Callable[[Path], list[str]]
    right: Callable[[Case], str | None]
    named: str = ""  # what a refusal may name instead of the file


class Found(NamedTuple):
    """A case's end: "refused", "right", or what is wrong."""

    way: str
    verdict: str
    wrong: str | None


def run(
    name: str, kind: Kind, seed: int, made: Path, scratch: Path, nursery: Nursery, bases: dict[str, Case]
) -> Found:
    """Break a file, run the command that reads it, and judge. The name and the seed decide all of it."""
    rng = random.Random(f"{name}:{seed}")
    if name not in bases:
        kept = scratch / "base" / name.replace("/", "_")
        bases[name] = _case(kind, made, kept, nursery, None, None)[1]
        if bases[name].done.status != 0:
            raise SystemExit(f"{name}: not even unbroken: {bases[name].done}")
    directory = scratch / "case"
    way, case = _case(kind, made, directory, nursery, rng, bases[name])
    found = judge(kind, case)
    shutil.rmtree(directory)
    return Found(way, *found)


def _case(
    kind: Kind, made: Path, directory: Path, nursery: Nursery, rng: random.Random | None, base: Case | None
) -> tuple[str, Case]:
    directory.mkdir(parents=True)
    for part in kind.parts:
        copy = shutil.copytree if (made / part).is_dir() else shutil.copyfile
        copy(made / part, directory / part)
    files = sorted(path for path in directory.glob(kind.files) if path.is_file() and path.stat().st_size)
    file = files[0] if rng is None else rng.choice(files)
    before, way = file.read_bytes(), ""
    if rng is not None:
        way, data = broken(before, rng)
        file.unlink()  # it may be linked to another
        file.write_bytes(data)
    listed = _files(directory)
    done = nursery.run(kind.command(directory), limit=LIMIT)
    if done.status == 2 and (left := sorted(_files(directory) - listed)):
        done = done._replace(status=0, err=f"left: {left}")
    return way, Case(directory, file, before, done, base)


def _files(directory: Path) -> set[str]:
    return {str(path.relative_to(directory)) for path in directory.rglob("*") if path.name != ".lock"}


def judge(kind: Kind, case: Case) -> tuple[str, str | None]:
    status, err = case.done.status, case.done.err
    if status is None:
        return "wrong", "hangs"
    if err.startswith("left: "):
        return "wrong", f"refused, but {err}"
    said = _ASIDE.sub("", err).splitlines()
    if status == 2 and len(said) == 1 and said[0].startswith("error: "):
        if case.file.name in said[0] or (kind.named and kind.named in said[0]):
            return "refused", None
        return "wrong", f"does not name {case.file.name}: {said[0][:300]}"
    if status == 0:
        wrong = kind.right(case)
        return ("right", None) if wrong is None else ("wrong", wrong)
    return "wrong", f"status {status}: {' / '.join(said[-3:])[-400:]}"
