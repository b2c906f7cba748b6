"""Vocabularies of categorical fields, and the ids they give to values."""

from collections.abc import Mapping

import numpy as np
import polars as pl

from ektf_jax.data.schema import Field, make_fields


def build(
    train: pl.DataFrame, max_lens: Mapping[str, int], min_count: int = 1
) -> tuple[tuple[Field, ...], pl.DataFrame]:
    """Lays out the fields named by `max_lens`, in its order, with the values that `train` holds.

    A field is a column of single values (max_len 1) or of lists, of which the first max_len values count.
    Values rarer than `min_count` are left to the out-of-vocabulary entry. The second result has columns
    field, value, id (fused): by count from the highest, then by value, so that ids are frequency ranks.
    """
    values = {name: _ranked(train, name, max_len, min_count) for name, max_len in max_lens.items()}
    return lay_out(values, max_lens)


def lay_out(
    values: Mapping[str, pl.Series], max_lens: Mapping[str, int]
) -> tuple[tuple[Field, ...], pl.DataFrame]:
    """`build`'s result from the known values of each field (text, in the order of their ids)."""
    fields = make_fields((name, len(values[name]) + 2, max_len) for name, max_len in max_lens.items())
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


def encode(frame: pl.DataFrame, fields: tuple[Field, ...], vocabulary: pl.DataFrame) -> np.ndarray:
    """Encodes a column per field to fused ids, int32 [N,S]; `fields` and `vocabulary` are `build`'s.

    Lists are cut to max_len values and padded with 0 on the right. A value that the vocabulary lacks gets
    its field's out-of-vocabulary id.
    """
    ids = np.empty((len(frame), sum(field.max_len for field in fields)), np.int32)
    start = 0
    for field in fields:
        known = vocabulary.filter(pl.col("field") == field.name)
        slots = range(start, start + field.max_len)
        for slot, values in zip(slots, _slots(frame, field.name, field.max_len), strict=True):
            ids[:, slot] = (
                values.replace_strict(known["value"], known["id"], default=field.oov, return_dtype=pl.Int32)
                .set(values.is_null(), 0)
                .to_numpy()
            )
        start = slots.stop
    return ids


def _ranked(train: pl.DataFrame, name: str, max_len: int, min_count: int) -> pl.Series:
    values = pl.concat(_slots(train, name, max_len)).drop_nulls().alias("value")
    counts = values.value_counts(name="count").filter(pl.col("count") >= min_count)
    return counts.sort(["count", "value"], descending=[True, False])["value"]


def _slots(frame: pl.DataFrame, name: str, max_len: int) -> list[pl.Series]:
    """A field's values as text, a series per slot; null is padding.

    A missing single value is a value of its own, ""; in a list it is left out.
    """
    column = frame[name]
    if not isinstance(column.dtype, pl.List):
        return [column.cast(pl.String).fill_null("")]
    filled = pl.element().filter(pl.element() != "")
    lists = column.cast(pl.List(pl.String)).list.eval(filled)
    return [lists.list.get(index, null_on_oob=True) for index in range(max_len)]
