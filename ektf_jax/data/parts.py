"""Chunks on disk: of each column the distinct values, and for each row a small code that counts them."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ektf_jax.data import splits
from ektf_jax.data.chunk import Chunk, check
from ektf_jax.data.spec import LEAST, FieldSpec, TableSpec, numbers

HEAVIEST = 1e30  # sums over many rows are finite in 32 bits
_ROW = "row"  # columns themselves are called by their places here


class Part(NamedTuple):
    """A chunk on disk: `rows` rows from row `start` of all, for `splits`; () if their split is drawn.

    codes: columns "0" to "F-1", "label" and, where rows have some, "weight", a row per row. values: the same
    columns without label, one row, each a list of the distinct values that the codes count. sizes: the
    lengths of these lists. first: of the column that rows are split by, of which codes has
    `splits.values_of`; None without one.
    """

    codes: Path
    values: Path
    start: int
    rows: int
    splits: tuple[str, ...]
    sizes: tuple[int, ...]
    first: splits.First | None = None


def write(
    spec: TableSpec, chunk: Chunk, directory: Path, number: int, start: int, splits: tuple[str, ...]
) -> tuple[Part, NDArray[np.bool_]]:
    """Writes a chunk. Also says for each field whether it has a value that is not missing."""
    first, *rest = distinct(chunk.frame, spec.columns)
    labels = labels_of(spec, *first[:2], chunk.where)[first[2]]
    codes, values, filled = {}, {}, []
    more, first_split = _split_of(spec, chunk)
    for index, (field, (cells, rows, code)) in enumerate(zip(spec.fields, rest, strict=True)):
        found, has_value = values_of(field, cells, rows, chunk.where)
        codes[str(index)] = code
        values[str(index)] = found.implode()
        filled.append(has_value)
    part = Part(
        directory / f"{number}.codes",
        directory / f"{number}.values",
        start,
        len(labels),
        splits,
        tuple(len(cells) for cells, _, _ in rest),
        first_split,
    )
    if spec.weight is not None:
        ((cells, rows, code),) = distinct(chunk.frame, [spec.weight])
        more["weight"] = weights_of(spec.weight, cells, rows, chunk.where).gather(code)
    save(pl.DataFrame(codes | {"label": labels} | more), part.codes)
    save(pl.DataFrame(values), part.values)
    return part, np.array(filled)


def _split_of(spec: TableSpec, chunk: Chunk) -> tuple[dict[str, pl.Series], splits.First | None]:
    """What splits the rows of a chunk, of each row, if a column does."""
    if spec.split is None or not len(chunk.frame):
        return {}, None
    ((cells, rows, code),) = distinct(chunk.frame, [spec.split])
    first, found = splits.values_of(spec.split, cells, rows, chunk.where)
    return {column.name: column.gather(code) for column in found}, first


def save(frame: pl.DataFrame, path: Path) -> None:
    """Writes an IPC file."""
    frame.write_ipc(path)


def load(path: Path, columns: list[str] | None = None) -> pl.DataFrame:
    """Reads an IPC file. Opened here, as polars would read a path with brackets as a pattern."""
    with path.open("rb") as file:
        return pl.read_ipc(file, columns=columns)


def counts(column: str, part: Part, drawn: NDArray[np.uint8] | None) -> pl.DataFrame:
    """value, count: how many training rows of a chunk hold each value of a field."""
    values = load(part.values, [column])[column][0]
    codes = load(part.codes, [column])[column].to_numpy()
    if drawn is not None:
        codes = codes[drawn[part.start : part.start + part.rows] == 0]
    found = pl.Series("count", np.bincount(codes, minlength=len(values)))
    if isinstance(values.dtype, pl.List):
        values = values.list.unique()  # a row counts once, however often it holds a value
    frame = pl.DataFrame([values.alias("value"), found]).filter(pl.col("count") > 0)
    if isinstance(values.dtype, pl.List):
        frame = frame.explode("value")
    return frame.drop_nulls()


def distinct(
    frame: pl.DataFrame, names: Sequence[str]
) -> list[tuple[pl.Series, NDArray[np.int64], NDArray[Any]]]:
    """Of each column the distinct cells, the row that each is in first, and each row's cell as a code."""
    # By their places: polars takes names such as ^x$ for patterns.
    frame = pl.DataFrame([frame[name].alias(str(at)) for at, name in enumerate(names)])
    rows = np.arange(len(frame), dtype=np.uint32)
    firsts = frame.with_columns(pl.Series(_ROW, rows)).select(
        pl.col(_ROW).first().over(name).alias(name) for name in frame.columns
    )
    result = []
    number = np.empty(len(frame), np.uint32)
    for name in frame.columns:
        first = firsts[name].to_numpy()
        new = np.flatnonzero(first == rows)
        size = np.min_scalar_type(len(new))
        number[new] = np.arange(len(new), dtype=np.uint32)
        result.append((frame[name].gather(new), new, number.astype(size, copy=False)[first]))
    return result


def labels_of(
    spec: TableSpec, texts: pl.Series, rows: NDArray[np.int64], where: Callable[[int], str]
) -> NDArray[np.uint8]:
    """The labels, 0 or 1, that texts are; `rows` says in which row of a chunk each is."""
    found = numbers(texts)
    good = found.is_in([0.0, 1.0]) if spec.above is None else found.is_finite()
    wanted = "0 or 1" if spec.above is None else "a number"
    if spec.least is not None:
        good, wanted = good & (found >= spec.least), f"{wanted}, at least {spec.least:g}"
    advice = "correct or remove the line"
    if spec.above is None and found.is_finite().all():
        advice += ", or say in the dataset file which numbers are clicks: `label: {name: ..., above: NUMBER}`"
    check(spec.label, texts, good, rows, where, f"the label must be {wanted}; {advice}")
    return (found > (0.5 if spec.above is None else spec.above)).cast(pl.UInt8).to_numpy()


def weights_of(
    name: str, texts: pl.Series, rows: NDArray[np.int64], where: Callable[[int], str]
) -> pl.Series:
    """The weights, float32, that texts are; `rows` says in which row of a chunk each is."""
    found = numbers(texts).cast(pl.Float32)
    good = found.is_between(0, float(np.float32(HEAVIEST)))
    advice = f"a weight must be a number from 0 to {HEAVIEST:g}; correct or remove the line"
    check(name, texts, good, rows, where, advice)
    return found


def values_of(
    field: FieldSpec, cells: pl.Series, rows: NDArray[np.int64], where: Callable[[int], str]
) -> tuple[pl.Series, bool]:
    """What a field counts for each distinct cell: text, null if that is nothing; lists if multi-valued.

    Of a field with bins and a dense one that is the number itself.
    """
    marks = list(field.missing)
    if field.kind == "multi":
        lists = cells
        if not isinstance(cells.dtype, pl.List):
            texts = cells.fill_null("")
            lists = texts.set(texts.is_in(marks), "").str.split(field.separator)
        filled = pl.element().filter(~pl.element().is_in(["", *marks]))
        lists = lists.fill_null([]).list.eval(filled)
        return lists, bool((lists.list.len() > 0).any())
    texts = cells.fill_null("")
    missing = texts.is_in(marks) | cells.is_null()  # null: Parquet has it so, and no text
    if field.is_number:
        return _numbers(field, texts, missing, rows, where)
    values = texts.set(missing, None)
    present = values.is_not_null().any()
    return values if field.fill is None else values.fill_null(field.fill), bool(present)


def _numbers(
    field: FieldSpec,
    texts: pl.Series,
    missing: pl.Series,
    rows: NDArray[np.int64],
    where: Callable[[int], str],
) -> tuple[pl.Series, bool]:
    found = numbers(texts)
    marks = numbers(pl.Series(field.missing, dtype=pl.String)).drop_nulls()
    if len(marks):
        missing = missing | found.is_in(marks.implode()).fill_null(False)
    good, wanted = missing | (found.is_finite() & (found >= LEAST)), "a number"
    if field.kind == "dense":
        good, wanted = good & (missing | (found <= HEAVIEST)), f"a number from {LEAST:g} to {HEAVIEST:g}"
    if field.transform is not None:
        good, wanted = good & (missing | (found > -1)), f"a number above -1 and at most {HEAVIEST:g}"
    advice = f"it must be {wanted}; correct the line, or name the text among those that mean missing"
    check(field.name, texts, good, rows, where, advice)
    found = found.set(missing, None)
    present = found.is_not_null().any()
    if field.fill is not None:
        found = found.fill_null(numbers(pl.Series([field.fill]))[0])
    if field.counts_numbers:
        return (found + 0.0).cast(pl.String), bool(present)  # -0.0 is 0.0
    return found.to_frame("x").select(_bucket(field.paper_buckets)).to_series(), bool(present)


def _bucket(paper: bool) -> pl.Expr:
    x = pl.col("x")
    low = pl.when(x.is_not_null()).then(1.0) if paper else x
    return pl.when(x > 2).then(x.log().pow(2).floor()).otherwise(low).cast(pl.Int64).cast(pl.String)
