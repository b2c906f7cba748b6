"""Numbers as bins between quantiles of the training rows, each a value of its field: "(3, 12.5]"."""

import numpy as np
import polars as pl

from ektf_jax.data import columns
from ektf_jax.data.columns import Settled

_PLAIN = Settled({}, {}, frozenset())


def between_quantiles(found: pl.DataFrame, count: int, min_count: int) -> pl.Series:
    """The bins that at least `min_count` rows are in, from the lowest, of `found`: value, count (rows).

    Edge k of `count` is the smallest number that a share k / `count` of the rows does not exceed (numpy's
    quantile by "inverted_cdf"). A bin ends with its upper edge. Equal edges are one, and none is the largest
    number, so that there are fewer bins than `count` where numbers repeat. The outer ones are open.
    """
    found = found.sort("value")
    upto = found["count"].cast(pl.Int64).cum_sum().to_numpy()
    if not len(upto):
        return pl.Series(dtype=pl.String)
    ends = np.flatnonzero(np.diff(upto * count // upto[-1], prepend=0))  # an edge lies at or before each
    uppers = columns.text("edge", found["value"].gather(ends[:-1]), _PLAIN).to_list()
    words = [f"({low}, {high}]" for low, high in zip(["-inf", *uppers], [*uppers, "inf"], strict=True)]
    return pl.Series(words, dtype=pl.String).filter(np.diff(upto[ends], prepend=0) >= min_count)


def place(values: pl.Series, words: pl.Series) -> pl.Series:
    """For each number (text; null for none) which of the bins it is in; null for none of them."""
    if not len(words):
        return values.set(values.is_not_null(), None)
    edges = [word[1:-1].split(", ") for word in words]
    low, high = np.array(edges, np.float64).T
    numbers = values.cast(pl.Float64)
    x = numbers.fill_null(np.nan).to_numpy()
    at = np.minimum(np.searchsorted(high, x, side="left"), len(words) - 1)
    inside = (low[at] < x) & (x <= high[at])
    return words.gather(at).set(pl.Series(~inside), None)
