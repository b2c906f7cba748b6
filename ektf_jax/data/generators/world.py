"""What a dataset's raw files are a function of: columns with their distributions, hidden effects, labels."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ektf_jax.data.generators import draws
from ektf_jax.data.generators.draws import Ints
from ektf_jax.data.synthetic import intercept

CHUNK_ROWS = 8192  # in flight: a few MB, that fit the cache; the files do not depend on it
_FEWEST_CLICKS = 40  # expected in a small file, whatever the real click rate
_CALIBRATION = 2**48 + np.arange(1 << 16)  # counters that no row has


@dataclass(frozen=True)
class Column:
    """How a column's values fall: rank 1 is the most frequent, 0 is missing.

    values: distinct values frequent enough, at full size, to be in the published vocabulary. missing: share
    of the draws. rare: share of the draws that hit one of many values too rare for it. of: the column whose
    value determines this one's. exponent: of the power law; None takes the steepest at which the last of
    `values` still clears the threshold at full size. octaves: the hidden effect belongs to the order of
    magnitude, not to the value.
    """

    name: str
    values: int
    missing: float = 0.0
    rare: float = 0.0
    of: str = ""
    exponent: float | None = None
    octaves: bool = False


@dataclass(frozen=True, eq=False)
class Recipe:
    """A dataset: its columns, what its labels depend on, and its files.

    world: the datasets that share it hold the same data. real: what it imitates. rows: of the real training
    split. threshold: of the published vocabulary. effects: columns with an effect of first order. pair: two
    whose hidden effects multiply. rates: shares of rows whose label is at least 1, 2, ...; one for clicks.
    files: by name, what makes their contents, in this order. spread: deviation of the true logit.
    """

    world: str
    real: str
    rows: int
    threshold: int
    columns: tuple[Column, ...]
    effects: tuple[str, ...]
    pair: tuple[str, str]
    rates: tuple[float, ...]
    files: "Mapping[str, Callable[[World], Iterable[bytes]]]"
    spread: float = 1.3


class Chunk(NamedTuple):
    """Rows of a file: their labels [N] and the rank [N] of every column."""

    labels: Ints
    ranks: dict[str, Ints]


@dataclass
class World:
    """One (recipe, rows, seed). `seen`: for columns that determine others, which ranks have been drawn."""

    recipe: Recipe
    rows: int
    seed: int
    progress: Callable[[int], object] = lambda rows: None
    scale: float = field(init=False)
    cuts: list[float] = field(init=False)
    seen: dict[str, NDArray[np.bool_]] = field(init=False)

    def __post_init__(self) -> None:
        logits = self._effects(self._draw(_CALIBRATION))
        self.scale = self.recipe.spread / float(logits.std())
        least = min(0.5, _FEWEST_CLICKS / self.rows)
        self.cuts = [intercept(logits * self.scale, max(rate, least)) for rate in self.recipe.rates]
        described = {column.of for column in self.recipe.columns if column.of}
        self.seen = {name: np.zeros(self.size(name) + 1, bool) for name in described}

    def size(self, name: str) -> int:
        """How many values a column can take: its ranks are 1 to this."""
        column = next(column for column in self.recipe.columns if column.name == name)
        return column.values + rares(self.recipe, column)

    def chunks(self, start: int, stop: int) -> Iterator[Chunk]:
        """The rows start to stop - 1."""
        for first in range(start, stop, CHUNK_ROWS):
            counters = np.arange(first, min(first + CHUNK_ROWS, stop))
            ranks = self._draw(counters)
            for name, seen in self.seen.items():
                seen[ranks[name]] = True
            noise = draws.uniform(self._key("label"), counters)
            logits = self._effects(ranks) * self.scale - np.log(noise / (1 - noise))
            labels = np.zeros_like(counters)
            for cut in self.cuts:
                labels += logits + cut > 0
            yield Chunk(labels, ranks)
            self.progress(counters.size)

    def split(self, name: str) -> Iterator[Chunk]:
        """The rows of train, valid or test, 8:1:1."""
        tenth = self.rows // 10
        cuts = {"train": (0, -2), "valid": (-2, -1), "test": (-1, 0)}[name]
        start = self.rows + cuts[0] * tenth if cuts[0] else 0
        return self.chunks(start, self.rows + cuts[1] * tenth)

    def described(self, name: str, ids: Ints) -> Iterator[dict[str, Ints]]:
        """The ranks `ids` of a column, with those of the columns that it determines, in chunks."""
        for first in range(0, ids.size, CHUNK_ROWS):
            ranks = {name: ids[first : first + CHUNK_ROWS]}
            for column in self.recipe.columns:
                if column.of == name:
                    ranks[column.name] = self._column(column, ranks[name])
            yield ranks

    def _key(self, *parts: object) -> int:
        return draws.key(self.recipe.world, self.seed, *parts)

    def _draw(self, counters: Ints) -> dict[str, Ints]:
        ranks: dict[str, Ints] = {}
        for column in self.recipe.columns:
            ranks[column.name] = self._column(column, ranks[column.of] if column.of else counters)
        return ranks

    def _column(self, column: Column, counters: Ints) -> Ints:
        found = draws.ranks(self._key("rank", column.name), counters, quantiles(self.recipe, column))
        if column.of:
            found[counters == 0] = 0  # nothing is known of a missing value
        return found

    def _effects(self, ranks: Mapping[str, Ints]) -> NDArray[np.float64]:
        """The true logit of each row [N], up to scale and shift."""
        octaves = {column.name for column in self.recipe.columns if column.octaves}

        def effect(order: int, name: str) -> NDArray[np.float64]:
            values = np.frexp(ranks[name])[1].astype(np.int64) if name in octaves else ranks[name]
            return draws.effect(self._key("effect", order, name), values)

        first, second = self.recipe.pair
        total = effect(2, first) * effect(2, second)
        for name in self.recipe.effects:
            total += effect(1, name)
        return total


def rares(recipe: Recipe, column: Column) -> int:
    """How many values are too rare for the vocabulary: so many that each stays well below its threshold."""
    return round(column.rare * recipe.rows / (recipe.threshold / 10) ** 2)


@cache
def quantiles(recipe: Recipe, column: Column) -> draws.Quantiles:
    """The distribution of a column's ranks."""
    exponent = column.exponent
    if exponent is None:
        # Three deviations above the threshold, so that hardly any of the frequent values misses it.
        least = recipe.threshold + 3 * recipe.threshold**0.5
        common = recipe.rows * (1 - column.missing - column.rare)
        exponent = draws.exponent(column.values, common, least)
    return draws.quantiles(
        column.values,
        exponent=exponent,
        missing=column.missing,
        rare=column.rare,
        rares=rares(recipe, column),
    )
