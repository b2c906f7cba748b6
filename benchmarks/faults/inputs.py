"""Broken inputs: a real file of every format that we read, broken in some way, and the command that reads it.

A case passes where the command refuses the file in one line that names it and leaves nothing behind; or where
its answer is right: that of the unbroken file, or, of a file that is still one of its format, what a second
reader (plain.py) makes of it. `KINDS` says of each format how that is decided.
"""

import json
import random
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.faults import material, plain
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
_TIMES = re.compile(r"[\d,.]+ rows/s|in [\d.]+ s|seconds +[\d.]+")


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


def run(kind: str, seed: int, made: Path, scratch: Path, nursery: Nursery, bases: dict[str, Case]) -> Found:
    """Break a file, run the command that reads it, and judge. The seed decides all of it."""
    rng = random.Random(f"{kind}:{seed}")
    if kind not in bases:
        kept = scratch / "base" / kind.replace("/", "_")
        bases[kind] = _case(KINDS[kind], made, kept, nursery, None, None)[1]
        if bases[kind].done.status != 0:
            raise SystemExit(f"{kind}: not even unbroken: {bases[kind].done}")
    directory = scratch / "case"
    way, case = _case(KINDS[kind], made, directory, nursery, rng, bases[kind])
    found = _judge(KINDS[kind], case)
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


def _judge(kind: Kind, case: Case) -> tuple[str, str | None]:
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


def _same_output(case: Case) -> str | None:
    """The answer is that of the unbroken file."""
    assert case.base is not None
    ours, theirs = (_TIMES.sub("", one.done.out.replace(str(one.directory), "")) for one in (case, case.base))
    return None if ours == theirs else f"another answer: {_first_difference(ours, theirs)}"


def _first_difference(ours: str, theirs: str) -> str:
    for one, other in zip(ours.splitlines(), theirs.splitlines(), strict=False):
        if one != other:
            return f"{one!r} for {other!r}"
    return "more or fewer lines"


def _same_files(name: str, case: Case) -> str | None:
    """What was written is what came of the unbroken file."""
    assert case.base is not None
    ours, theirs = ((one.directory / name).read_bytes() for one in (case, case.base))
    return None if ours == theirs else f"another {name}"


def _same_run(case: Case) -> str | None:
    """The metrics of the run are those of the unbroken one, to the bit."""
    assert case.base is not None
    results = [
        plain.strict_json((one.directory / "cut_off/result.json").read_bytes()) for one in (case, case.base)
    ]
    for key in ("valid", "test", "best_epoch", "epochs", "params"):
        if results[0][key] != results[1][key]:
            return f"another {key}"
    return None


def _json_otherwise(harmless: str, otherwise: Callable[[Case], str | None], case: Case) -> str | None:
    """Where nothing else changed than leaves that stand for themselves, such as names, all is right."""
    try:
        before, after = (plain.strict_json(data) for data in (case.before, case.file.read_bytes()))
    except (ValueError, RecursionError) as error:
        return f"a plain reader refuses it ({error!r})"
    if all(re.fullmatch(harmless, path) for path in plain.changed(before, after)):
        return None
    return otherwise(case)


def _metrics_shown(case: Case) -> str | None:
    """The table has the ensemble's test metrics as the file has them."""
    if _same_output(case) is None:
        return None
    try:
        result = plain.strict_json(case.file.read_bytes())
        auc, logloss = (result["test"]["ensemble"][name] for name in ("auc", "logloss"))
    except (ValueError, LookupError, TypeError) as error:
        return f"a plain reader refuses it ({error!r})"
    shown = [number for number in (f"{auc:.4f}", f"{logloss:.4f}") if number not in case.done.out]
    return f"{shown} is not in the table" if shown else None


def _epochs(case: Case) -> str | None:
    """A plain reader takes every line for an evaluation, too."""
    try:
        plain.epochs(case.file)
    except Exception as error:
        return f"a plain reader refuses it ({error!r})"
    return None


def _config(case: Case) -> str | None:
    """Python, run by itself, returns a config with the same values."""
    space: dict[str, Any] = {"__name__": "config_file"}
    try:
        exec(compile(case.file.read_bytes(), "config", "exec"), space)
        config = json.loads(json.dumps(space["get_config"]().to_dict()))  # tuples are lists there, too
    except Exception as error:
        return f"Python refuses it ({error!r})"
    ours = plain.leaves(plain.strict_json(case.done.out.encode()))
    for key, value in plain.leaves(config).items():
        if key in ours and ours[key] != value:
            return f"{key} is {ours[key]!r}, not {value!r}"
    return None


def _overrides(directory: Path) -> list[str]:
    text = (directory / "overrides.txt").read_bytes().decode("utf-8", "surrogateescape").replace("\0", "")
    return [
        "config",
        f"--config={directory}/tiny.py",
        *(f"--config.{line}" for line in text.split("\n") if line),
    ]


def _overridden(case: Case) -> str | None:
    """Every value is what Python reads of its text as the type of the key."""
    ours = plain.leaves(plain.strict_json(case.done.out.encode()))
    kinds: dict[str, Callable[[str], Any]] = {
        "seed": int,
        "data.path": str,
        "data.batch_size": int,
        "train.learning_rate": float,
        "train.max_epochs": int,
        "embedding.l2": float,
        "embedding.sharing": _number_or_text,
    }
    for line in case.file.read_bytes().decode("utf-8", "surrogateescape").replace("\0", "").split("\n"):
        key, _, text = line.partition("=")
        if not line:
            continue
        if key not in kinds:
            return f"takes the key {key!r}"
        try:
            value = kinds[key](text)
        except ValueError as error:
            return f"takes {line!r} ({error})"
        if ours[f".{key}"] != value:
            return f"{key} is {ours[f'.{key}']!r} of {line!r}"
    return None


def _number_or_text(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def _table(suffix: str, file: str, named: str = "") -> Kind:
    return Kind(
        (suffix,),
        f"{suffix}/{file}",
        lambda at: material.prepare(at / suffix, at / "out"),
        lambda case: plain.disagrees(case.directory / suffix, case.directory / "out"),
        named,
    )


def _dataset(file: str, right: Callable[[Case], str | None] = _same_output) -> Kind:
    return Kind(
        ("data",), f"data/{file}", lambda at: ["describe", f"--data={at}/data", f"--out={at}/out"], right
    )


def _bundle(file: str, right: Callable[[Case], str | None]) -> Kind:
    return Kind(
        ("bundle", "new.csv"),
        f"bundle/{file}",
        lambda at: ["score", f"--bundle={at}/bundle", f"--input={at}/new.csv", f"--out={at}/scored.csv"],
        right,
        "bundle/",
    )


def _finished(file: str, right: Callable[[Case], str | None], named: str = "") -> Kind:
    """What a finished run records, read by training it again, which has nothing to do."""
    return Kind(
        ("run", "tiny.py"),
        f"run/{file}",
        lambda at: ["train", f"--config={at}/tiny.py", f"--workdir={at}/run"],
        right,
        named,
    )


def _reported(file: str, right: Callable[[Case], str | None]) -> Kind:
    return Kind(
        ("run",), f"run/{file}", lambda at: ["report", f"--results={at}/run", f"--out={at}/out"], right
    )


def _ids(file: str, named: str = "") -> Kind:
    return Kind(
        ("ids",),
        f"ids/{file}",
        lambda at: material.open_parts(at / "ids", at / "out"),
        lambda case: plain.ids_disagree(case.directory / "ids", case.directory / "out"),
        named,
    )


# Format -> how it is read and judged. Digests protect .npy and all of a bundle but bundle.json.
KINDS: dict[str, Kind] = {
    "table.csv": _table("csv", "rows.csv"),
    "table.tsv": _table("tsv", "rows.tsv"),
    "table.parquet": _table("parquet", "rows.parquet"),
    "dataset YAML": _table("csv", "table.yaml", "rows.csv"),  # which lacks a column that the YAML names
    "parts of ids": _ids("*/*.parquet"),
    "schema.json of ids": _ids("schema.json", "/ids/"),  # or the part that lacks what it names
    "vocabulary of ids": _ids("vocabulary.parquet"),
    "vectors of ids": _ids("vectors/*"),
    "schema.json": _dataset(
        "schema.json", partial(_json_otherwise, r"\.dataset|\.fields\[\d+\]\.name|\.source.*", _same_output)
    ),
    "encoded .npy": _dataset("*/*.npy"),
    "vocabulary.parquet": _dataset("vocabulary.parquet"),
    "checkpoint, evaluated": Kind(
        ("run",),
        "run/checkpoints/best/**/*",
        lambda at: ["evaluate", f"--workdir={at}/run"],
        _same_output,
        "checkpoints/best",
    ),
    "checkpoint, resumed": Kind(
        ("cut_off", "tiny.py"),
        "cut_off/checkpoints/**/*",
        lambda at: ["train", f"--config={at}/tiny.py", f"--workdir={at}/cut_off"],
        _same_run,
        "checkpoints",
    ),
    "result.json, reported": _reported("result.json", _metrics_shown),
    "metrics.jsonl, reported": _reported("metrics.jsonl", _epochs),
    "metrics.jsonl, one run": Kind(
        ("run",),
        "run/metrics.jsonl",
        lambda at: ["report", f"--run={at}/run", f"--data={at}/none", f"--out={at}/out"],
        _epochs,
    ),
    "run's config.json": _finished("config.json", _same_output, "run"),
    "run's dataset.json": _finished("dataset.json", _same_output, "run"),
    "run's resolved.json": _finished("resolved.json", _same_output, "run"),
    "run's result.json": _finished("result.json", _metrics_shown, "run"),
    "bundle.json": _bundle("bundle.json", partial(_same_files, "scored.csv")),
    "bundle's files": _bundle("*[!n]", partial(_same_files, "scored.csv")),
    "config": Kind(
        ("tiny.py",), "tiny.py", lambda at: ["config", f"--config={at}/tiny.py"], _config, "config."
    ),
    "overrides": Kind(("tiny.py", "overrides.txt"), "overrides.txt", _overrides, _overridden, "config"),
}
