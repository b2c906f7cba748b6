"""Types of columns, in Parquet files or frames, and the one text that a value has in all of them."""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from decimal import Decimal
from typing import NamedTuple, cast

import polars as pl

from ektf_jax.errors import InputError

Types = Mapping[str, pl.DataType]
_NARROW = frozenset({pl.Float16(), pl.Float32()})
_DIGITS = re.compile(r"[+-]?\d+(\.\d*)?", re.ASCII)


class Settled(NamedTuple):
    """What holds for the columns of all files: the types of their single values, all of one kind; the kind;
    which may hold lists."""

    types: Mapping[str, frozenset[pl.DataType]]
    kinds: Mapping[str, str]
    lists: frozenset[str]

    def value(self, name: str, text: str) -> str:
        """The text that a value of a column has, from another that it can be written as."""
        kind = self.kinds.get(name)
        if kind == "truth":
            return {"true": "1", "false": "0"}.get(text.lower(), text)
        return number(text) if kind == "number" else text


def narrow(settled: Settled) -> list[str]:
    """The columns of numbers that the files have as floats of 32 bits or less, in one of them at least."""
    return [name for name, types in settled.types.items() if types & _NARROW]


def widened(settled: Settled, narrow: Collection[str]) -> Settled:
    """Settled as if the columns `narrow`, where they are numbers, were narrow floats in one more file."""
    more = frozenset({pl.Float32()})
    types = {
        name: found | more if name in narrow and settled.kinds.get(name) == "number" else found
        for name, found in settled.types.items()
    }
    return settled._replace(types=types)


def settle(found: Iterable[tuple[str, Types]], wanted: Sequence[str], lists: Collection[str]) -> Settled:
    """Settles the columns `wanted`, from the name and the columns' types of each file that has rows.

    Raises InputError for a type that a field cannot be, for a list in a column that is not among `lists`, and
    for types that cannot agree, naming both files and both types.
    """
    types: dict[str, set[pl.DataType]] = {name: set() for name in wanted}
    first: dict[str, tuple[str, str, pl.DataType]] = {}
    for where, schema in found:
        for name in wanted:
            if name not in schema:
                continue
            whole = schema[name]
            single = cast(pl.DataType, whole.inner) if isinstance(whole, pl.List) else whole
            kind = _kind(single)
            if not kind and single != pl.Null:
                raise InputError(
                    f"{where}: column {name} has type {whole}, which a field cannot be; write it as text, as"
                    " a number, or as a list of either"
                )
            if single is not whole and name not in lists:
                raise InputError(
                    f"{where}: column {name} has type {whole}, a list, which only a field declared multi can"
                    " be; declare it so, or write single values"
                )
            if not kind:
                continue
            before = first.setdefault(name, (kind, where, whole))
            if before[0] != kind:
                raise InputError(
                    f"{where}: column {name} has type {whole}, but in {before[1]} it has type {before[2]},"
                    " and values of the two cannot be told to be the same; write one of them again with the"
                    " type of the other"
                )
            types[name].add(single)
    kinds = {name: kind for name, (kind, _, _) in first.items()}
    return Settled({name: frozenset(each) for name, each in types.items()}, kinds, frozenset(lists))


def text(name: str, column: pl.Series, settled: Settled) -> pl.Series:
    """A column as text, or as lists of text, the same for equal values of whichever type; NaN is null.

    Whole numbers have no decimal point; other numbers are as short as tells them from their neighbours of
    the narrowest floating type in which the dataset has the column and that holds them exactly. Points in
    time have no trailing zeros; those of a time zone are in UTC.
    """
    types = settled.types.get(name, frozenset())
    column = column.alias("x")  # polars's methods take a name such as ^x$ for a pattern
    if isinstance(column.dtype, pl.List):
        inner = pl.element().map_batches(lambda values: _text(values, types), return_dtype=pl.String)
        return column.list.eval(inner)
    values = _text(column, types)
    if name in settled.lists and _kind(column.dtype) not in ("", "text"):
        return values.to_frame().select(pl.concat_list("x")).to_series()  # there is nothing to split
    return values


def number(text: str) -> str:
    """The text that a number has as a value, however it is written; other texts as they are."""
    values = pl.Series([text]).cast(pl.Float64, strict=False)
    rounded = _float(values, frozenset())[0]
    if rounded is None:
        return text
    if _DIGITS.fullmatch(text) and Decimal(rounded) != Decimal(text):  # more digits than a float has
        plain = f"{Decimal(text):f}"
        return plain.rstrip("0").rstrip(".") if "." in plain else plain
    return str(rounded)


def _kind(dtype: pl.DataType) -> str:
    """Values can be equal to those of types of the same kind; "" for types that no single value has."""
    if dtype in (pl.String, pl.Categorical, pl.Enum):
        return "text"
    if dtype.is_numeric():
        return "number"
    if isinstance(dtype, pl.Datetime):
        return "local time" if dtype.time_zone is None else "point in time"
    return {pl.Boolean: "truth", pl.Date: "date", pl.Time: "time"}.get(type(dtype), "")


def _text(values: pl.Series, types: frozenset[pl.DataType]) -> pl.Series:
    dtype = values.dtype
    if dtype == pl.Boolean:
        return values.cast(pl.Int8).cast(pl.String)
    if isinstance(dtype, pl.Decimal):
        texts = values.cast(pl.String)
        return _scientific(_stripped(texts) if dtype.scale else texts)
    if dtype.is_float():
        return _float(values, types)
    if isinstance(dtype, pl.Datetime):
        if dtype.time_zone is None:
            return _stripped(values.cast(pl.String))
        utc = values.dt.convert_time_zone("UTC").dt.replace_time_zone(None)
        return _stripped(utc.cast(pl.String)) + "+00:00"
    if dtype == pl.Time:
        return _stripped(values.dt.to_string("%H:%M:%S%.9f"))
    return values.cast(pl.String)


def _float(values: pl.Series, types: frozenset[pl.DataType]) -> pl.Series:
    values = values.fill_nan(None)
    wide = values.cast(pl.Float64)
    if values.dtype == pl.Float64:
        texts = wide.cast(pl.String)
        if types & _NARROW:
            narrow = wide.cast(pl.Float32)
            texts = _scientific(narrow.cast(pl.String)).zip_with(narrow.cast(pl.Float64) == wide, texts)
    else:
        texts = _scientific(values.cast(pl.Float32).cast(pl.String))
    texts = texts.str.strip_suffix(".0")
    # Up to 2^24 the digits of a whole number are few enough in any type; the text of larger ones is rounded.
    large = wide.is_finite() & (wide.abs() > 2.0**24) & (wide == wide.floor())
    if large.any():
        texts = wide.cast(pl.Int128, strict=False).cast(pl.String).zip_with(large, texts).fill_null(texts)
    return texts.set(wide == 0, "0")


def _stripped(texts: pl.Series) -> pl.Series:
    """Texts with a decimal point, without zeros at the end."""
    return texts.str.strip_chars_end("0").str.strip_chars_end(".")


def _scientific(texts: pl.Series) -> pl.Series:
    """Small numbers in the form that 64-bit ones have: 1.2e-7 for 0.00000012."""
    small = texts.str.contains(r"^-?0\.00000\d*[1-9]").fill_null(False)
    if not small.any():
        return texts
    zeros = texts.str.extract(r"^-?0\.(0*)").str.len_chars()
    digits = texts.str.replace(r"^(-?)0\.0*", "$1").str.replace(r"^(-?\d)(\d+)$", "$1.$2")
    written = digits + "e-" + (zeros + 1).cast(pl.String)
    return written.zip_with(small, texts)
