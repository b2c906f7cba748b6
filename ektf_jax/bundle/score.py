"""Scores tables of any size: raw rows in, click probabilities out, in bounded memory."""

import contextlib
import csv
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ektf_jax import directories, metrics
from ektf_jax.bundle import judged
from ektf_jax.bundle.judged import Asked, Truth
from ektf_jax.data import columns, parts, rawfiles, rawrows, work
from ektf_jax.data.chunk import Chunk, shown
from ektf_jax.data.encoder import Encoded, Encoder
from ektf_jax.data.rawfiles import Layout
from ektf_jax.data.spec import TableSpec
from ektf_jax.errors import InputError, nearest, unknown

FORMATS = (".csv", ".tsv", ".parquet")


class Scored(NamedTuple):
    """How many rows; of each field the rows with a value that is not known; metrics, if there were labels.

    unweighted: the file that lacks the dataset's weights, so that metrics count each row once; None where
    they weigh rows, or the dataset has no weights. unjudged: why labels that are there give no metrics.
    """

    rows: int
    unseen: dict[str, int]
    metrics: list[dict[str, float]] | None
    unweighted: Path | None = None
    unjudged: str | None = None


class Part(NamedTuple):
    """A chunk of rows, encoded, with the columns to keep, and what is true of them if there are labels.

    read: bytes of the files up to its end.
    """

    rows: Encoded
    kept: pl.DataFrame
    truth: Truth | None
    read: int


class Table(NamedTuple):
    """A file to score: how it is written, and the columns that it has."""

    path: Path
    layout: Layout
    columns: Sequence[str]


class Scorer(Protocol):
    """What scores: a bundle, or a run (`load_run`). `students` is K; 0 of a single predictor."""

    @property
    def encoder(self) -> Encoder: ...
    @property
    def students(self) -> int: ...
    def logits(self, *columns: Any) -> NDArray[np.float32]:
        """Logits [K + 1, N] of ids [N, S] and, if fields are dense, their numbers [N, n]; or [1, N]."""


def score(
    predictor: Scorer,
    paths: Sequence[Path],
    out: Path,
    *,
    keep: Sequence[str] = (),
    names: Sequence[str] | None = None,
    by: str | None = None,
) -> Scored:
    """Write the probabilities of the rows of `paths` to `out`, a row for each in their order.

    Files are CSV, TSV (gzipped or not) or Parquet with the fields' columns in any order; text without a
    header is read as the dataset's own raw files are, with or without the label. `out` ends in .csv, .tsv or
    .parquet. It has the columns `keep`, then p_ensemble and p_0 .. p_{K-1}, or p alone of a single
    predictor. Where all files have the label, `names` are the metrics computed at the end (`judged.choose`),
    of the ensemble and then of the students. They weigh rows by the dataset's weights, where all files have
    that column, and are over the groups of the column `by`: text, as the files have it, where a field's
    missing values are one group and the first of several counts. Without names labels are not read. `out` is
    written whole or not at all, and is none of `paths`. Raises InputError that names file, line, column and
    value.
    """
    names = judged.choose(names, by)
    if not paths:
        raise InputError("--input names no file; name at least one")
    rawfiles.once(paths)
    if out.exists() and any(out.samefile(path) for path in paths):
        raise InputError(f"--out={out}: is the input, whose other columns would be lost; name another file")
    total = sum(path.stat().st_size for path in paths)
    spec = predictor.encoder.spec
    found = tables(spec, paths)
    lacking = None if not names or spec.weight is None else _lacking(spec, found, spec.weight)
    asked = Asked(by, spec.weight if lacking is None else None) if names else None
    if by is not None:
        _check_groups(spec, found, by)
    scored = _score(
        predictor, encoded_parts(predictor, found, keep, asked), total, paths[0], out, keep, names
    )
    return scored if lacking is None else scored._replace(unweighted=lacking.path)


def _lacking(spec: TableSpec, found: Sequence[Table], column: str) -> Table | None:
    """The first file without a column; those without the fields are for the reader to refuse."""
    fields = {field.name for field in spec.fields}
    return next((one for one in found if fields <= set(one.columns) and column not in one.columns), None)


def _check_groups(spec: TableSpec, found: Sequence[Table], by: str) -> None:
    """Raise InputError, naming the file, where one lacks the column of the groups or the label."""
    if lacking := _lacking(spec, found, by):
        near, there = nearest(by, lacking.columns), shown(lacking.columns)
        raise InputError(
            f"{lacking.path}: has no column {by} for the groups of --by; {near}it has {there}, and all files"
            " need it: name another, or leave --by out"
        )
    if lacking := _lacking(spec, found, spec.label):
        raise InputError(
            f"{lacking.path}: has no column {spec.label}, the label, which metrics over groups (--by={by})"
            " need; add it, or leave --by out"
        )


def score_raw(
    predictor: Scorer,
    raw: Path,
    out: Path,
    *,
    split: str | None = None,
    split_seed: int = 2024,
    keep: Sequence[str] = (),
    names: Sequence[str] | None = None,
    by: str | None = None,
) -> Scored:
    """`score` for the raw files of the predictor's dataset in `raw`, which may have to be joined.

    `split` is one of those that `prepare` makes of them with `split_seed`; None: all rows. `keep` are among
    the label's and the fields' columns, `by` is a field.
    """
    names = judged.choose(names, by)
    if out.exists() and out.resolve().is_relative_to(raw.resolve()):
        raise InputError(f"--out={out}: is there already, among the raw files of --raw; name another file")
    spec = predictor.encoder.spec
    found = rawrows.read(spec, raw, split=split, split_seed=split_seed)
    columns = spec.columns
    if lacking := [name for name in keep if name not in columns]:
        raise InputError(f"--keep={lacking[0]}: of raw files only {', '.join(columns)} can be kept")
    if by is not None and by not in columns:
        raise unknown("--by", by, [field.name for field in spec.fields])
    asked = Asked(by, spec.weight) if names else None
    tasks = (
        partial(_part, predictor.encoder, found.spec, chunk, keep, {}, asked, wanted)
        for chunk, wanted in found.chunks
    )
    return _score(predictor, tasks, found.bytes, raw, out, keep, names)


def _score(
    predictor: Scorer,
    tasks: Iterator[Callable[[], Part]],
    total: int,
    where: Path,
    out: Path,
    keep: Sequence[str],
    names: Sequence[str],
) -> Scored:
    if out.suffix not in FORMATS:
        raise InputError(f"--out={out}: must end in one of {', '.join(FORMATS)}")
    predicted = columns_of(predictor)
    if taken := sorted(set(keep) & set(predicted)):
        raise InputError(f"--keep={taken[0]}: is a column of the predictions; rename it in the input")
    if twice := [name for at, name in enumerate(keep) if name in keep[:at]]:
        raise InputError(f"--keep names {twice[0]} twice; name it once")
    unseen = {field.name: 0 for field in predictor.encoder.fields}
    rows, labelled = 0, True
    with (
        directories.replacing_file(out) as (new, scratch),
        _writer(new, scratch) as append,
        contextlib.ExitStack() as files,
        work.bar("scoring", total, "B") as bar,
    ):
        judge = judged.Judge(scratch, files)
        for part in work.in_order(tasks):
            logits = predictor.logits(*part.rows.columns)
            logits = np.roll(logits, 1, axis=0)  # the ensemble comes first in a file
            found = metrics.probabilities(logits)
            append(pl.DataFrame([*part.kept, *map(pl.Series, predicted, found)]))
            unseen = {name: count + part.rows.unseen[name] for name, count in unseen.items()}
            rows += len(part.rows.ids)
            labelled = labelled and part.truth is not None
            if part.truth is not None:
                judge.add(logits, part.truth)
            bar.update(part.read - bar.n)
        if not rows:
            raise rawfiles.empty(where)
        found_metrics, unjudged = None, None
        try:
            found_metrics = judge.metrics(len(predicted), names) if labelled and names else None
        except ValueError as error:  # labels of one class, say: the predictions are as good
            unjudged = str(error)
    return Scored(rows, unseen, found_metrics, unjudged=unjudged)


def columns_of(predictor: Scorer) -> list[str]:
    """The columns of a scored file that hold probabilities, in their order."""
    return ["p_ensemble", *(f"p_{k}" for k in range(predictor.students))] if predictor.students else ["p"]


def encoded_parts(
    predictor: Scorer, found: Sequence[Table], keep: Sequence[str] = (), asked: Asked | None = None
) -> Iterator[Callable[[], Part]]:
    """What is left to do with each chunk of rows once it is read. None asked: labels are not read."""
    spec = predictor.encoder.spec
    names = [field.name for field in spec.fields]
    paths = [table.path for table in found]
    judged_by = [] if asked is None else [spec.label, *asked.columns]
    settled = rawfiles.settle(paths, list(dict.fromkeys([*names, *keep, *judged_by])), spec.lists)
    settled = columns.widened(settled, predictor.encoder.narrow)
    spec = spec.as_values(settled.value)
    # Numbers and truths that are kept stay such, where all files agree on their type.
    kept_types = {name: types for name in keep if len(types := settled.types.get(name, ())) == 1}
    casts = {name: next(iter(types)) for name, types in kept_types.items()}
    done = 0
    for path, layout, columns_there in found:
        judging = asked if spec.label in columns_there else None
        wanted = list(dict.fromkeys([*names, *keep, *(judged_by if judging else [])]))
        for chunk in rawfiles.chunks(path, layout, wanted, settled=settled, may_be_empty=True):
            chunk = chunk._replace(read=done + chunk.read)
            yield partial(_part, predictor.encoder, spec, chunk, keep, casts, judging)
        done += path.stat().st_size


def _part(
    encoder: Encoder,
    spec: TableSpec,
    chunk: Chunk,
    keep: Sequence[str],
    casts: dict[str, pl.DataType],
    asked: Asked | None,
    wanted: NDArray[np.bool_] | None = None,
) -> Part:
    found = encoder.chunk(chunk, spec, wanted)
    truth = None if asked is None else judged.truth_of(spec, asked, chunk, wanted)
    kept = pl.DataFrame([_as_before(chunk.frame[name], casts.get(name)) for name in keep])
    return Part(found, kept if wanted is None else kept.filter(wanted), truth, chunk.read)


def _as_before(values: pl.Series, dtype: pl.DataType | None) -> pl.Series:
    if dtype is None or not (dtype.is_numeric() or dtype == pl.Boolean) or values.dtype != pl.String:
        return values
    return values.cast(pl.Int8).cast(dtype) if dtype == pl.Boolean else values.cast(dtype)


def tables(spec: TableSpec, paths: Sequence[Path]) -> list[Table]:
    """Files by their first lines: how each is written, and the columns that it has."""
    names = [field.name for field in spec.fields]
    return [Table(path, *_layout(path, spec, names)) for path in paths]


def _layout(path: Path, spec: TableSpec, names: Sequence[str]) -> tuple[Layout, Sequence[str]]:
    """How a file is written, and the columns that it has."""
    line = rawfiles.first_line(path)
    if line is None:
        return spec.layout, list(rawfiles.types(path))
    for separator in dict.fromkeys((spec.layout.separator, ",", "\t")):
        quoting = spec.layout.quoting or separator == ","
        with contextlib.suppress(csv.Error):
            header = next(csv.reader([line], delimiter=separator)) if quoting else line.split(separator)
            if set(names) <= set(header):
                return Layout(separator, quoting=quoting), header
    whole = spec.layout.columns
    if whole is None:
        return spec.layout, line.split(spec.layout.separator)  # reading it says what the header lacks
    bare = tuple(name for name in whole if name != spec.label)
    here = bare if len(line.split(spec.layout.separator)) == len(bare) else whole
    return Layout(spec.layout.separator, here, spec.layout.quoting, spec.layout.loose), here


@contextlib.contextmanager
def _writer(new: Path, scratch: Path) -> Iterator[Callable[[pl.DataFrame], None]]:
    """append(frame), which adds rows to a file whose format its name says."""
    if new.suffix != ".parquet":
        with new.open("wb") as file:
            header = True

            def append(frame: pl.DataFrame) -> None:
                nonlocal header
                frame.write_csv(file, include_header=header, separator="," if new.suffix == ".csv" else "\t")
                header = False

            yield append
        return
    written: list[Path] = []

    def spill(frame: pl.DataFrame) -> None:
        written.append(scratch / f"{len(written)}.part")
        parts.save(frame, written[-1])

    yield spill
    # Rows go by way of the disk: polars writes a Parquet file from what it can scan, in bounded memory.
    if written:
        pl.concat([pl.scan_ipc(path, glob=False) for path in written]).sink_parquet(new)
