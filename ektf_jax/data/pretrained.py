"""Vectors that others have trained for a field's values: read from Parquet, laid out by the vocabulary."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ektf_jax.data import columns, parquet
from ektf_jax.data.chunk import Rows
from ektf_jax.data.schema import Field, vectors_file
from ektf_jax.data.spec import TableSpec
from ektf_jax.errors import InputError, cause

VALUE, VECTOR = "value", "vector"  # the columns of a file
MOST_NUMBERS = 2**16


class Vectors(NamedTuple):
    """Values as text, and the vector of each, float32 [n, E]."""

    where: Path
    values: pl.Series
    vectors: NDArray[np.float32]


def paths(spec: TableSpec, raw: Path) -> list[Path]:
    """The files of vectors that a table's fields name, each once."""
    return [raw / name for name in dict.fromkeys(f.pretrained for f in spec.fields) if name is not None]


def read(spec: TableSpec, raw: Path) -> dict[str, Vectors]:
    """Read the vectors that fields name, by the names of their files, which are relative to `raw`."""
    return {f.pretrained: _read(raw / f.pretrained) for f in spec.fields if f.pretrained is not None}


def write(
    directory: Path,
    spec: TableSpec,
    fields: Sequence[Field],
    words: pl.DataFrame,
    found: Mapping[str, Vectors],
) -> tuple[Field, ...]:
    """Write the vectors of known values into a dataset, in the order of their ids; returns the fields with E.

    `words` are the known values (field, value, id). A value without a vector has zeros, as have padding and
    OOV. Raises InputError where no known value of a field has one.
    """
    described = []
    for place, (field, one) in enumerate(zip(fields, spec.fields, strict=True)):
        if one.pretrained is not None:
            known = words.filter(pl.col("field") == field.name)["value"]
            vectors = _aligned(field, known, found[one.pretrained])
            path = directory / vectors_file(place)
            path.parent.mkdir(exist_ok=True)
            with path.open("wb") as file:
                np.save(file, vectors, allow_pickle=False)
            field = replace(field, pretrained=vectors.shape[1], frozen=one.frozen)
        described.append(field)
    return tuple(described)


def _aligned(field: Field, known: pl.Series, found: Vectors) -> NDArray[np.float32]:
    """[vocab_size, E]: rows of zeros for padding and OOV, and between them those of the known values."""
    there = pl.DataFrame({"value": found.values}).with_row_index("row")
    rows = known.to_frame("value").join(there, on="value", how="left", maintain_order="left")["row"]
    has = rows.is_not_null().to_numpy()
    if not has.any():
        raise InputError(
            f"{found.where}: has none of the {len(known):,} values of field {field.name}, such as"
            f" {known[0] if len(known) else None!r}; its column {VALUE} must have them as the raw files do"
        )
    vectors = np.zeros((field.vocab_size, found.vectors.shape[1]), np.float32)
    vectors[1:-1][has] = found.vectors[rows.drop_nulls().to_numpy()]
    return vectors


def _read(path: Path) -> Vectors:
    try:
        with path.open("rb") as file:  # polars would read a path with brackets as a pattern
            table = pl.read_parquet(file)
    except parquet.UNREADABLE as error:
        raise InputError(
            f"{path}: cannot be read ({cause(error)}); it must be Parquet with columns {VALUE} and {VECTOR}"
        ) from None
    if missing := [name for name in (VALUE, VECTOR) if name not in table.columns]:
        raise InputError(
            f"{path}: lacks the columns {', '.join(missing)}; it must have {VALUE}, as the raw files have it,"
            f" and {VECTOR}, a list of numbers"
        )
    if not len(table):
        raise InputError(f"{path}: has no rows; give it the vectors, or leave pretrained out")
    settled = columns.settle([(str(path), table.schema)], [VALUE], ())
    values = columns.text(VALUE, table[VALUE], settled).alias("value")
    where = Rows(str(path), 0)
    if values.null_count():
        first = values.is_null().arg_max()
        assert first is not None
        raise InputError(f"{where(first)}: {VALUE} is missing; give each row one")
    if values.is_duplicated().any():
        first = values.is_duplicated().arg_max()
        assert first is not None
        rows = (values == values[first]).arg_true().to_list()
        raise InputError(
            f"{path}: rows {rows[0] + 1} and {rows[1] + 1}: {VALUE} is {values[first]!r} twice; give it one"
            " vector"
        )
    return Vectors(path, values, _matrix(path, table[VECTOR]))


def _matrix(path: Path, column: pl.Series) -> NDArray[np.float32]:
    """Vectors of one length, of finite numbers."""
    where = Rows(str(path), 0)
    if isinstance(column.dtype, pl.Array):
        column = column.arr.to_list()
    if not isinstance(column.dtype, pl.List) or not column.dtype.inner.is_numeric():
        raise InputError(f"{path}: column {VECTOR} has type {column.dtype}; it must be a list of numbers")
    lengths = column.list.len()
    length = int(lengths[0] or 0)
    if lengths.n_unique() > 1:  # null, too, of a list that is missing
        row = (lengths.ne_missing(lengths[0])).arg_max()
        assert row is not None
        raise InputError(
            f"{where(row)}: {VECTOR} has {lengths[row]} numbers and that of row 1 {lengths[0]}; all"
            " must have equally many"
        )
    if not 1 <= length <= MOST_NUMBERS:
        raise InputError(f"{path}: {VECTOR} has {length} numbers; it must have from 1 to {MOST_NUMBERS}")
    flat = column.explode().cast(pl.Float64).fill_null(np.nan).to_numpy()
    with np.errstate(over="ignore"):
        vectors = flat.astype(np.float32).reshape(len(column), length)
    if not np.isfinite(vectors).all():
        row, place = np.argwhere(~np.isfinite(vectors))[0]
        value = float(flat[row * length + place])
        raise InputError(
            f"{where(row)}: number {place} of {VECTOR} is {value:g}; it must be finite, as float32 too"
        )
    return vectors
