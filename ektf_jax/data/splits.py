"""Which split a row is in: drawn by a seed, or as a column of the table says."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ektf_jax.data.chunk import SHOWN, check
from ektf_jax.data.schema import SPLITS
from ektf_jax.data.spec import numbers
from ektf_jax.errors import InputError

_FORMATS = ("%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%d %H:%M", "%Y-%m-%d")
_ZONE = r"(Z|[+-](?:[01]\d|2[0-3]):?[0-5]\d)$"
_MOST = 2.0**63


class First(NamedTuple):
    """The first value of a chunk's split column: its kind, which all others have too, its place, its text."""

    kind: str
    where: str
    value: str


def draw_splits(rows: int, split_seed: int, where: str = "the files") -> NDArray[np.uint8]:
    """The split of each row, as its place in SPLITS, drawn; see `tables.prepare`. InputError below 10 rows.

    `where` is what the error calls their files.
    """
    _check_rows(rows, where)
    # The same draws as permutation(rows), in half the memory.
    order = np.arange(rows, dtype=np.int32 if rows < 2**31 else np.int64)
    np.random.default_rng(split_seed).shuffle(order)
    return _shares(order)


def values_of(
    name: str, texts: pl.Series, rows: NDArray[np.int64], where: Callable[[int], str]
) -> tuple[First, pl.DataFrame]:
    """Read the distinct values of a chunk's split column; `rows` says in which row each is first.

    They are those of the kind of the first: names of splits, numbers, times with or without a zone. The frame
    has for each what orders it: `split`, a whole number or a place in SPLITS, then `rest`, a fraction.
    Raises InputError for a value of none of the kinds, or of another than the first.
    """
    texts = texts.fill_null("")
    first = texts[:1]
    kind = next((kind for kind, read in _KINDS.items() if not read(first)["split"].has_nulls()), "")
    if not kind:
        none = pl.repeat(False, 1, eager=True)
        check(name, first, none, rows[:1], where, f"it must be {', or '.join(_KINDS)}; correct the line")
    found = _KINDS[kind](texts)
    advice = f"it must be {kind}, as the first row has it; correct the line"
    check(name, texts, found["split"].is_not_null(), rows, where, advice)
    return First(kind, where(int(rows[0])), first[0]), found


def by_column(name: str, firsts: Sequence[First], order: pl.DataFrame, where: str) -> NDArray[np.uint8]:
    """The split of each row, as its place in SPLITS, by the column `name`.

    `firsts` are of the chunks, `order` has what `values_of` gives for each row. Of times the first 80 % are
    train, the next 10 % valid, the rest test; equal ones count in the order of the files. Raises InputError
    for chunks of different kinds, a split without rows, and fewer than 10 rows to share out.
    """
    for other in firsts[1:]:
        if other.kind != firsts[0].kind:
            raise InputError(
                f"{other.where}: {name} is {other.value[:SHOWN]!r}; it must be {firsts[0].kind}, as in"
                f" {firsts[0].where}; correct the line"
            )
    split = order["split"].to_numpy()
    if firsts[0].kind != _NAMES:
        _check_rows(len(split), where)
        return _shares(np.lexsort((order["rest"].to_numpy(), split)))
    rows = np.bincount(split, minlength=len(SPLITS))
    for split_name, count in zip(SPLITS, rows, strict=True):
        if not count:
            raise InputError(f"{where}: {name} is {split_name!r} in no row; each split needs some")
    return split.astype(np.uint8)


def _check_rows(rows: int, where: str) -> None:
    if rows < 10:
        raise InputError(f"{where}: {rows} rows, fewer than the 10 that a split needs; add rows")


def _shares(order: NDArray[Any]) -> NDArray[np.uint8]:
    """The split of each row from the rows in an order: the first 80 % train, the next 10 % valid."""
    rows = len(order)
    drawn = np.full(rows, 2, np.uint8)
    train, valid = rows * 8 // 10, rows // 10
    drawn[order[:train]] = 0
    drawn[order[train : train + valid]] = 1
    return drawn


def _ordered(split: pl.Series, rest: pl.Series | float = 0.0) -> pl.DataFrame:
    """`values_of`'s frame; null where a text is of another kind."""
    return pl.DataFrame({"split": split.cast(pl.Int64)}).with_columns(
        pl.lit(rest, pl.Float64).alias("rest") if isinstance(rest, float) else rest.alias("rest")
    )


def _of_names(texts: pl.Series) -> pl.DataFrame:
    return _ordered(texts.replace_strict(SPLITS, range(len(SPLITS)), default=None, return_dtype=pl.Int64))


def _of_numbers(texts: pl.Series) -> pl.DataFrame:
    found = numbers(texts)
    found = found.set(~(found.is_finite() & (found.abs() < _MOST)).fill_null(False), None)
    floor = found.floor()
    whole = texts.cast(pl.Int64, strict=False)  # nanoseconds have more digits than a float
    return _ordered(whole.fill_null(floor.cast(pl.Int64)), found - floor)


def _of_local_times(texts: pl.Series) -> pl.DataFrame:
    plain = texts.str.replace("T", " ", literal=True)
    found = pl.Series([None], dtype=pl.Int64).new_from_index(0, len(texts))
    for form in _FORMATS:
        found = found.fill_null(plain.str.strptime(pl.Datetime("us"), form, strict=False).cast(pl.Int64))
    finer = plain.str.extract(r"\.\d{6}(\d+)").fill_null("0")  # of a microsecond
    return _ordered(found, ("0." + finer).cast(pl.Float64))


def _of_points_in_time(texts: pl.Series) -> pl.DataFrame:
    zone = texts.str.extract(_ZONE).replace("Z", "+00:00")
    minutes = zone.str.slice(1, 2).cast(pl.Int64) * 60 + zone.str.slice(-2).cast(pl.Int64)
    minutes = minutes.zip_with(zone.str.starts_with("+").fill_null(True), -minutes)
    local = _of_local_times(texts.str.replace(_ZONE, ""))
    return _ordered(local["split"] - minutes * 60_000_000, local["rest"])


_NAMES = ", ".join(SPLITS[:-1]) + f" or {SPLITS[-1]}"
_KINDS: dict[str, Callable[[pl.Series], pl.DataFrame]] = {
    _NAMES: _of_names,
    "a number": _of_numbers,
    "a time such as 2024-07-31 or 2024-07-31 18:30:00": _of_local_times,
    "a time with its zone such as 2024-07-31 18:30:00+02:00": _of_points_in_time,
}
