"""Rows of a table in memory, and the words in which errors speak of them."""

from collections.abc import Callable, Collection
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ektf_jax.errors import InputError

SHOWN = 100  # characters of a bad value that a message quotes


class Chunk(NamedTuple):
    """Rows in file order, every column as text (null or "" where empty) or as lists of text.

    where: row in the chunk -> "FILE:LINE". read: bytes of the file read so far.
    """

    frame: pl.DataFrame
    where: Callable[[int], str]
    read: int


class Rows:
    """Row of a chunk -> "WHAT: row N", from the row of WHAT that the chunk starts at."""

    def __init__(self, what: str, start: int):
        self._what, self._start = what, start

    def __call__(self, row: int) -> str:
        return f"{self._what}: row {self._start + row + 1}"


def shown(names: Collection[str]) -> str:
    """Columns' names for a message."""
    text = ", ".join(names)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


def check(
    name: str,
    texts: pl.Series,
    good: pl.Series,
    rows: NDArray[np.int64],
    where: Callable[[int], str],
    advice: str,
) -> None:
    """Raise InputError for the first of a column's texts that is not good; `rows` has the row of each."""
    bad = np.flatnonzero(~good.fill_null(False).to_numpy())
    if len(bad):
        value = str(texts[int(bad[0])] or "")[:SHOWN]
        raise InputError(f"{where(int(rows[bad[0]]))}: {name} is {value!r}; {advice}")
