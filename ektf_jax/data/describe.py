"""What an encoded dataset holds, counted: values, coverage, OOV shares and click rates of every field."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ektf_jax.data import encoded, parquet
from ektf_jax.data.chunk import SHOWN
from ektf_jax.data.encoded import Split
from ektf_jax.data.schema import SPLITS, Field, Schema
from ektf_jax.errors import InputError

_CHUNK_IDS = 1 << 22  # beside them a chunk's counts, V of them, take little time


class Counts(NamedTuple):
    """Of one split: ids [V], how often each occurs; clicked [V], how often in clicks; rows and clicks.

    known, empty [F]: the rows in which a field has a value of its vocabulary, and those in which it has
    nothing at all. An id that a multi-valued field holds twice in a row occurs twice.
    """

    ids: NDArray[np.int64]
    clicked: NDArray[np.int64]
    known: NDArray[np.int64]
    empty: NDArray[np.int64]
    rows: int
    clicks: int


class Value(NamedTuple):
    """A value of a field in the training rows: its text (None: all that are OOV), occurrences and clicks."""

    text: str | None
    occurrences: int
    clicks: int


class FieldDescription(NamedTuple):
    """A field; shares are from 0 to 1, and of the training rows where no split is named.

    values: how many its vocabulary has, without padding and OOV. coverage: the share of rows with at least
    one of them. empty: the share without any, not even an OOV one. oov: for each split, the share of OOV
    among all values there. heaviest: the values that occur most, from the most frequent.
    """

    name: str
    values: int
    coverage: float
    empty: float
    oov: dict[str, float]
    heaviest: tuple[Value, ...]


class Description(NamedTuple):
    """A dataset: its schema, the click rate of each split, its fields."""

    schema: Schema
    click_rate: dict[str, float]
    fields: tuple[FieldDescription, ...]


def describe(
    directory: Path, heaviest: int = 10, *, progress: Callable[[int], object] = lambda rows: None
) -> Description:
    """Counts the encoded dataset in `directory`, in memory of some 32 bytes for each of its V features.

    At most `heaviest` values of each field are listed. `progress` is called with the rows of each chunk.
    Raises InputError if the dataset is damaged.
    """
    schema = encoded.open_schema(directory)
    click_rate, oov = {}, {}
    for split in reversed(SPLITS):  # train last: its counts stay
        counts = count(encoded.open_split(directory, split), schema, progress)
        click_rate[split] = counts.clicks / counts.rows
        oov[split] = [_oov_share(counts, field) for field in schema.fields]
    top = [_heaviest(counts, field, heaviest) for field in schema.fields]
    texts = _texts(directory, np.concatenate(top))
    fields = tuple(
        FieldDescription(
            field.name,
            field.vocab_size - 2,
            float(counts.known[place] / counts.rows),
            float(counts.empty[place] / counts.rows),
            {split: oov[split][place] for split in SPLITS},
            tuple(
                Value(
                    None if at == field.oov else texts.get(at, f"id {at}"),
                    int(counts.ids[at]),
                    int(counts.clicked[at]),
                )
                for at in ids.tolist()
            ),
        )
        for place, (field, ids) in enumerate(zip(schema.fields, top, strict=True))
    )
    return Description(schema, {split: click_rate[split] for split in SPLITS}, fields)


def count(split: Split, schema: Schema, progress: Callable[[int], object] = lambda rows: None) -> Counts:
    """Counts one split, ids int32 [N,S] and labels float32 [N], in chunks of rows."""
    ids, clicked = np.zeros(schema.num_features, np.int64), np.zeros(schema.num_features, np.int64)
    known, filled = np.zeros(schema.num_fields, np.int64), np.zeros(schema.num_fields, np.int64)
    layout = list(enumerate(zip(schema.fields, schema.slots, strict=True)))
    rows, clicks = len(split.labels), 0
    step = max(1, _CHUNK_IDS // schema.num_slots)
    pairs = zip(encoded.chunks(split.ids, step), encoded.chunks(split.labels, step), strict=True)
    for (_, chunk), (_, labels) in pairs:
        hit = labels == 1
        ids += np.bincount(chunk.ravel(), minlength=len(ids))
        clicked += np.bincount(chunk[hit].ravel(), minlength=len(ids))
        clicks += int(hit.sum())
        for place, (field, (first, stop)) in layout:
            if field.max_len > 1:
                cells = chunk[:, first:stop]
                filled[place] += (cells != 0).any(axis=1).sum()
                known[place] += ((cells != 0) & (cells != field.oov)).any(axis=1).sum()
        progress(len(hit))
    for place, (field, _) in layout:
        if field.max_len == 1:  # a value is a row
            known[place] = ids[field.offset + 1 : field.oov].sum()
            filled[place] = known[place] + ids[field.oov]
    return Counts(ids, clicked, known, rows - filled, rows, clicks)


def _oov_share(counts: Counts, field: Field) -> float:
    values = counts.ids[field.offset + 1 : field.oov + 1]
    return float(values[-1] / max(1, values.sum()))


def _heaviest(counts: Counts, field: Field, most: int) -> NDArray[np.int64]:
    """The ids of a field that occur most; of equals the lower id."""
    values = counts.ids[field.offset + 1 : field.oov + 1]
    order = np.argsort(-values, kind="stable")[:most]
    return order[values[order] > 0] + field.offset + 1


def _texts(directory: Path, ids: NDArray[np.int64]) -> dict[int, str]:
    """The texts of ids, as far as there is a vocabulary."""
    path = directory / "vocabulary.parquet"
    if not path.is_file():
        return {}
    wanted = pl.Series("id", ids, dtype=pl.Int32)
    try:
        with path.open("rb") as file:  # polars would read a path with brackets as a pattern
            words = pl.scan_parquet(file).filter(pl.col("id").is_in(wanted.implode())).collect()
        return dict(zip(words["id"], words["value"], strict=True))
    except parquet.UNREADABLE as error:
        reason = " ".join(str(error).split())[:SHOWN]
        raise InputError(f"{path}: is damaged ({reason}); prepare the dataset again") from None
