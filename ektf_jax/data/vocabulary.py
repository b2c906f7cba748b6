"""The values that the fields of a table know, counted over chunks on disk, and their ids."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ektf_jax.data import bins, dense, parts, work
from ektf_jax.data.parts import Part
from ektf_jax.data.schema import Field, make_fields
from ektf_jax.data.spec import FieldSpec, TableSpec

_MERGED = 2_000_000  # distinct values of one field that a worker counts at a time


def count(
    spec: TableSpec, chunks: list[Part], drawn: NDArray[np.uint8] | None
) -> tuple[tuple[Field, ...], pl.DataFrame]:
    """The fields and the values they know: those that at least min_count training rows hold.

    The second result has columns field, value, id (fused): by count of rows from the highest, then by value,
    so that ids are frequency ranks; of a field with bins, these from the lowest; of a dense one, one.
    """
    training = [part for part in chunks if drawn is not None or "train" in part.splits]
    known, scales = {}, {}
    tasks = (partial(_counted, str(index), field, training, drawn) for index, field in enumerate(spec.fields))
    with work.bar("counting", len(spec.fields), "field") as bar:
        for field, values in zip(spec.fields, work.in_order(tasks), strict=True):
            known[field.name], scales[field.name] = values
            bar.update()
    fields, words = lay_out(known, spec.fields)
    return tuple(replace(field, scale=scales[field.name]) for field in fields), words


def lay_out(
    values: Mapping[str, pl.Series], specs: Sequence[FieldSpec]
) -> tuple[tuple[Field, ...], pl.DataFrame]:
    """`count`'s result from the known values of each field (text, in the order of their ids)."""
    laid = make_fields((spec.name, len(values[spec.name]) + 2, spec.max_len) for spec in specs)
    fields = tuple(
        replace(field, pooling=spec.pooling, target=spec.target)
        for field, spec in zip(laid, specs, strict=True)
    )
    tables = [
        pl.DataFrame(
            {
                "field": pl.repeat(field.name, len(values[field.name]), dtype=pl.String, eager=True),
                "value": values[field.name],
                "id": pl.int_range(field.offset + 1, field.oov, dtype=pl.Int32, eager=True),
            }
        )
        for field in fields
    ]
    return fields, pl.concat(tables)


def by_field(words: pl.DataFrame, fields: Sequence[Field]) -> list[pl.DataFrame]:
    """`count`'s second result by field: value, id."""
    return [words.filter(pl.col("field") == field.name).select("value", "id") for field in fields]


def slot_ids(
    values: pl.Series, field: Field, known: pl.DataFrame, spec: FieldSpec
) -> list[NDArray[np.int32]]:
    """Ids [N] for each slot of a field, of its values [N]: text, null for none, or lists of text.

    0 is an empty slot. What is not known, null too, is OOV.
    """
    if spec.kind == "dense":
        values = values.set(values.is_not_null(), dense.WORD)
    if spec.bins is not None:
        values = bins.place(values, known["value"])
    if not isinstance(values.dtype, pl.List):
        return [_ids(values, pl.repeat(False, len(values), eager=True), field, known)]
    slots = (values.list.get(slot, null_on_oob=True) for slot in range(field.max_len))
    return [_ids(value, value.is_null(), field, known) for value in slots]


def _ids(values: pl.Series, padding: pl.Series, field: Field, known: pl.DataFrame) -> NDArray[np.int32]:
    frame = pl.DataFrame({"value": values, "padding": padding})
    joined = frame.join(known, on="value", how="left", maintain_order="left")
    empty = pl.when("padding").then(0).otherwise(field.oov)
    return joined.select(pl.col("id").fill_null(empty).cast(pl.Int32)).to_series().to_numpy()


def _counted(
    column: str, field: FieldSpec, chunks: list[Part], drawn: NDArray[np.uint8] | None
) -> tuple[pl.Series, tuple[float, float] | None]:
    """A field's known values: by count from the highest, then by value; or its bins. A dense one's scale.

    Where chunks hold too many distinct values for memory they are counted in shares, by way of the disk:
    equal values have equal hashes, so that each is whole in one share.
    """
    shares = -(-sum(part.sizes[int(column)] for part in chunks) // _MERGED)
    if shares == 1:
        found = _known(field, (parts.counts(column, part, drawn) for part in chunks))
    else:
        spilled = [_spill(column, part, drawn, shares) for part in chunks]
        found = pl.concat(
            _known(field, (_share(path, *at[share]) for path, at in spilled)) for share in range(shares)
        )
        for path, _ in spilled:
            path.unlink()
    if field.quantiles is not None:
        return bins.between_quantiles(found, field.quantiles, field.min_count), None
    if field.kind == "dense":
        return pl.Series([dense.WORD]), dense.scale_of(found, field.transform)
    return found.sort(["count", "value"], descending=[True, False])["value"], None


def _spill(
    column: str, part: Part, drawn: NDArray[np.uint8] | None, shares: int
) -> tuple[Path, list[tuple[int, int]]]:
    """Writes a chunk's counts sorted by share; also says where each share starts and how long it is."""
    share = (pl.col("value").hash(0) % shares).alias("share")
    found = parts.counts(column, part, drawn).with_columns(share).sort("share")
    lengths = np.bincount(found["share"].to_numpy().astype(np.int64), minlength=shares)
    path = part.values.with_suffix(f".counts{column}")
    parts.save(found.drop("share"), path)
    return path, list(zip((np.cumsum(lengths) - lengths).tolist(), lengths.tolist(), strict=True))


def _share(path: Path, start: int, length: int) -> pl.DataFrame:
    return pl.scan_ipc(path, glob=False).slice(start, length).collect()


def _known(field: FieldSpec, found: Iterable[pl.DataFrame]) -> pl.DataFrame:
    """value, count of what the field may know; where all its numbers matter, these as such."""
    if not field.counts_numbers:
        return _merged(found, field.min_count)
    return _merged(found, 1).with_columns(pl.col("value").cast(pl.Float64))


def _merged(found: Iterable[pl.DataFrame], min_count: int) -> pl.DataFrame:
    """The sums of value, count over chunks, as far as they reach min_count."""
    pending: list[pl.DataFrame] = []
    for one in found:
        pending.append(one)
        if sum(len(one) for one in pending[1:]) > max(_MERGED, len(pending[0])):
            pending = [_summed(pending)]
    return _summed(pending).filter(pl.col("count") >= min_count)


def _summed(frames: list[pl.DataFrame]) -> pl.DataFrame:
    return pl.concat(frames).group_by("value").agg(pl.col("count").sum())
