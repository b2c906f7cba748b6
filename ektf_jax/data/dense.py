"""Numbers that a model reads as numbers: their mean and deviation, and what is left of them without both."""

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ektf_jax.data.spec import FieldSpec

WORD = "(number)"  # the one known value of a dense field: any number
MISSING = 1.0  # what the OOV entry's vector is multiplied by
_MOST = 1e30  # a float32 that a product with a weight leaves finite


def scale_of(found: pl.DataFrame, transform: str | None) -> tuple[float, float]:
    """Mean and deviation over rows of `found`: value, count (rows). The deviation of one value alone is 1."""
    found = found.sort("value")  # so that sums are rounded the same, however rows came
    values, counts = _transformed(found["value"].to_numpy(), transform), found["count"].to_numpy()
    if not len(values):
        return 0.0, 1.0
    mean = float(np.sum(values * counts) / np.sum(counts))
    variance = float(np.sum((values - mean) ** 2 * counts) / np.sum(counts))
    return (mean, variance**0.5) if len(values) > 1 and variance > 0 else (mean, 1.0)


def standardised(values: pl.Series, spec: FieldSpec, scale: tuple[float, float]) -> NDArray[np.float32]:
    """Numbers (text; null for none) as a model reads them."""
    x = _transformed(values.cast(pl.Float64).fill_null(np.nan).to_numpy(), spec.transform)
    with np.errstate(over="ignore"):  # of a deviation next to 0
        found = np.clip((x - scale[0]) / scale[1], -_MOST, _MOST)
    return np.where(np.isnan(x), MISSING, found).astype(np.float32)


def _transformed(values: NDArray[np.float64], transform: str | None) -> NDArray[np.float64]:
    return values if transform is None else np.log1p(values)
