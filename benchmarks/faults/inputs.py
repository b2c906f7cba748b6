"""Broken inputs: every format that we read, the command that reads it, and how its answer is judged.

A right answer is that of the unbroken file, or, of a file that is still one of its format, what a second
reader (plain.py, natives.py) makes of it. `KINDS` says of each format which.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks.faults import judges, material, natives, plain
from benchmarks.faults.cases import Case, Kind


def _overrides(directory: Path) -> list[str]:
    text = (directory / "overrides.txt").read_bytes().decode("utf-8", "surrogateescape").replace("\0", "")
    return [
        "config",
        f"--config={directory}/tiny.py",
        *(f"--config.{line}" for line in text.split("\n") if line),
    ]


def _table(suffix: str, file: str, named: str = "") -> Kind:
    return Kind(
        (suffix,),
        f"{suffix}/{file}",
        lambda at: material.prepare(at / suffix, at / "out"),
        lambda case: plain.disagrees(case.directory / suffix, case.directory / "out"),
        named,
    )


def _dataset(file: str, right: Callable[[Case], str | None] = judges.same_output) -> Kind:
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


def _native(name: str, files: str, read: Callable[[Path], natives.Table], made: str = "") -> Kind:
    """A dataset's own raw files."""
    made = made or name
    return Kind(
        (made,),
        f"{made}/{files}",
        lambda at: material.prepare_native(name, at / made, at / "out"),
        lambda case: natives.disagrees(read, case.directory / made, case.directory / "out"),
    )


def _scored(suffix: str, separator: str) -> Kind:
    return Kind(
        ("bundle", f"new.{suffix}", "every_scored.csv"),
        f"new.{suffix}",
        lambda at: [
            *("score", f"--bundle={at}/bundle", f"--input={at}/new.{suffix}"),
            *("--keep=city", f"--out={at}/out.csv"),
        ],
        partial(judges.scored, separator),
    )


def _trained(files: str) -> Kind:
    """What a dataset has beside ids and labels, read by training on it."""
    return Kind(
        ("sampled", "weighted.py"),
        f"sampled/{files}",
        lambda at: [
            *("train", f"--config={at}/weighted.py", f"--config.data.path={at}/sampled"),
            f"--workdir={at}/trained",
        ],
        partial(judges.same_run, "trained"),
    )


# What a config says of where its data lie and how it is told of; of students, which are there in full; and in
# groups of methods that it does not use.
_UNDECIDED = (
    r"\.config\.(data\.(path|residence)|train\.(log|checkpoint)_every|mesh\..*|ensemble\.students\..*"
    r"|transfer\.(?!(name|teachers|self|ektf)($|\W)).*)"
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
        "schema.json",
        partial(judges.json_otherwise, r"\.dataset|\.fields\[\d+\]\.name|\.source.*", judges.same_output),
    ),
    "encoded .npy": _dataset("*/*.npy"),
    "vocabulary.parquet": _dataset("vocabulary.parquet"),
    "checkpoint, evaluated": Kind(
        ("run",),
        "run/checkpoints/best/**/*",
        lambda at: ["evaluate", f"--workdir={at}/run"],
        judges.same_output,
        "checkpoints/best",
    ),
    "checkpoint, resumed": Kind(
        ("cut_off", "tiny.py"),
        "cut_off/checkpoints/**/*",
        lambda at: ["train", f"--config={at}/tiny.py", f"--workdir={at}/cut_off"],
        partial(judges.same_run, "cut_off"),
        "checkpoints",
    ),
    "result.json, reported": _reported("result.json", judges.metrics_shown),
    "metrics.jsonl, reported": _reported("metrics.jsonl", judges.epochs),
    "metrics.jsonl, one run": Kind(
        ("run",),
        "run/metrics.jsonl",
        lambda at: ["report", f"--run={at}/run", f"--data={at}/none", f"--out={at}/out"],
        judges.epochs,
    ),
    "run's config.json": _finished("config.json", judges.same_output, "run"),
    "run's dataset.json": _finished("dataset.json", judges.same_output, "run"),
    "run's resolved.json": _finished("resolved.json", judges.same_output, "run"),
    "run's result.json": _finished("result.json", judges.metrics_shown, "run"),
    "bundle.json": _bundle("bundle.json", partial(judges.same_files, "scored.csv")),
    "bundle's files": _bundle("*[!n]", partial(judges.same_files, "scored.csv")),
    "config": Kind(
        ("tiny.py",), "tiny.py", lambda at: ["config", f"--config={at}/tiny.py"], judges.config, "config."
    ),
    "overrides": Kind(("tiny.py", "overrides.txt"), "overrides.txt", _overrides, judges.overridden, "config"),
    "ml1m": _native("ml1m", "*.dat", natives.ml1m),
    "criteo train.txt": _native("criteo", "train.txt", natives.criteo),
    "criteo csv": _native("criteo", "*.csv", natives.criteo, "criteo_x4"),
    "kdd12": _native("kdd12", "[tu]*.txt", natives.kdd12),
    "ipinyou": _native("ipinyou", "*.csv", natives.ipinyou),
    "kkbox": _native("kkbox", "*.csv", natives.kkbox),
    "kkbox, joined": _native("kkbox", "*.csv", natives.kkbox, "kkbox_x1"),
    "scored table.csv": _scored("csv", ","),
    "scored table.tsv": _scored("tsv", "\t"),
    "scored table.parquet": _scored("parquet", ","),
    "dense, weights .npy": _trained("[tv]*/[dw]*.npy"),
    "vectors .npy": _trained("vectors/*.npy"),
    "pretrained.parquet": Kind(
        ("sample",),
        "sample/cities.parquet",
        lambda at: material.prepare(at / "sample", at / "out"),
        judges.vectors,
    ),
    "search space YAML": Kind(
        ("tiny.py", "axes.yaml"),
        "axes.yaml",
        lambda at: ["space", f"--config={at}/tiny.py", f"--space={at}/axes.yaml"],
        judges.axes,
    ),
    "search.json": Kind(
        ("searched",),
        "searched/search.json",
        lambda at: ["report", "--about=searches", f"--results={at}/searched", f"--out={at}/out"],
        judges.search_shown,
        "searched",
    ),
    "study.json": Kind(
        ("search", "tiny.py", "space.yaml"),
        "search/study.json",
        lambda at: material.search(at, at / "search"),
        partial(judges.harmless_only, _UNDECIDED),
        "search",
    ),
    "study.journal": Kind(
        ("search", "tiny.py", "space.yaml"),
        "search/study.journal",
        lambda at: material.search(at, at / "search"),
        judges.same_winner,
    ),
}
