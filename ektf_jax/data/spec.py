"""What a table is: its fields, its label, how its text is written, columns that are derived."""

import dataclasses
import json
import math
import re
import reprlib
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from ektf_jax.data.chunk import Chunk
from ektf_jax.data.rawfiles import Layout
from ektf_jax.data.schema import ATTENTION, POOLINGS, match_targets
from ektf_jax.errors import InputError

KINDS = ("categorical", "numeric", "multi", "dense")
TRANSFORMS = ("log1p",)
MOST_SLOTS = 2**16
_LATER = ("split", "weight")  # keys of a spec that those of older datasets lack
# Of a field likewise, as they are if not set.
_FIELD_LATER = {
    "bins": None,
    "pooling": POOLINGS[0],
    "transform": None,
    "target": None,
    "pretrained": None,
    "frozen": True,
}
_MOST_BINS = 2**16
LEAST = -(2.0**63)  # below it a number has no integer part to take


@dataclass(frozen=True)
class FieldSpec:
    """One field, from the column of the same name.

    kind: "categorical", a value as its text; "numeric", a number as its bucket, floor(ln(x)^2) for x > 2 and
    the integer part of x otherwise (1 otherwise with `paper_buckets`, Section 4.1.2); "multi", up to
    `max_len` values between `separator`s, all of which are counted, as in FuxiCTR; "dense", a number itself,
    less the mean of the training rows and over their deviation, both after `transform` ("log1p", log(1 + x)).
    missing: the texts that mean no value; in a numeric field also all other texts of the same numbers, so
    that "0" stands for 0.0 too. A missing value becomes `fill` (in a numeric field a number, of which the
    bucket is taken) and is counted like any other, or with no `fill` the field's OOV entry, as FuxiCTR has
    it; in a multi-valued field it is left out.
    min_count: values that fewer training rows hold are OOV; of no meaning for a dense field.
    bins: "quantile:N" takes, for a number, the bin between quantiles of the training rows (`data.bins`)
    instead; bins of which equal numbers leave nothing are none.
    pooling: what the embeddings of several values become, "mean", "sum", "max" or "attention": their sum,
    each weighed by how it goes with the row's value of the field `target` (`layers.target_attention`).
    pretrained: a file of vectors for the values (`data.pretrained`), not trained by a model if `frozen`.
    """

    name: str
    kind: str = "categorical"
    min_count: int = 1
    missing: tuple[str, ...] = ("",)
    fill: str | None = None
    separator: str = "^"
    max_len: int = 1
    paper_buckets: bool = False
    bins: str | None = None
    pooling: str = POOLINGS[0]
    transform: str | None = None
    target: str | None = None
    pretrained: str | None = None
    frozen: bool = True

    def __post_init__(self) -> None:
        multi, numeric, dense = (self.kind == kind for kind in ("multi", "numeric", "dense"))
        poolings, attends = (*POOLINGS, ATTENTION), self.pooling == ATTENTION
        fill = None if multi else "a number" if self.is_number else "text"
        rules = {
            "name": (bool(self.name), "at least one character"),
            "kind": (self.kind in KINDS, f"one of {', '.join(KINDS)}"),
            "min_count": (self.min_count >= 1, "at least 1"),
            "max_len": (self.max_len >= 1 and (multi or self.max_len == 1), "at least 1, and 1 unless multi"),
            "separator": (bool(self.separator), "at least one character"),
            "fill": (
                self.fill is None
                or (not multi and (not self.is_number or bool(are_numbers([self.fill], self.transform)[0]))),
                f"{fill}, as the file would hold it" if fill else "left out of a multi-valued field",
            ),
            "paper_buckets": (
                not self.paper_buckets or (numeric and self.bins is None),
                "left to numeric fields without bins",
            ),
            "transform": (
                self.transform is None or (dense and self.transform in TRANSFORMS),
                "log1p" if dense else "left to dense fields",
            ),
            "pooling": (
                self.pooling in (poolings if multi else POOLINGS[:1]),
                f"one of {', '.join(poolings)}" if multi else "left to multi-valued fields",
            ),
            "target": (
                (self.target is not None) == attends,
                "the field that this one is attended by" if attends else "left to pooling: attention",
            ),
            "pretrained": (
                self.pretrained is None or (bool(self.pretrained) and not self.is_number),
                "left to fields whose values are no numbers" if self.is_number else "a Parquet file",
            ),
            "frozen": (self.frozen or self.pretrained is not None, "left to fields with pretrained vectors"),
            "bins": (
                self.bins is None or (numeric and 2 <= (self.quantiles or 0) <= _MOST_BINS),
                f"quantile:N with a whole number N from 2 to {_MOST_BINS}"
                if numeric
                else "left to numeric fields",
            ),
        }
        for key, (holds, wanted) in rules.items():
            if not holds:
                raise InputError(f"field {self.name}: {key} is {getattr(self, key)!r}; it must be {wanted}")

    @property
    def is_number(self) -> bool:
        """Whether its texts are numbers."""
        return self.kind in ("numeric", "dense")

    @property
    def counts_numbers(self) -> bool:
        """Whether what is made of a number depends on those of all training rows."""
        return self.kind == "dense" or self.bins is not None

    @property
    def quantiles(self) -> int | None:
        """N of `bins`."""
        found = re.fullmatch(r"quantile:([0-9]{1,9})", self.bins or "")
        return int(found[1]) if found else None


@dataclass(frozen=True)
class TableSpec:
    """A table: its fields in order, its label and how its text is written.

    The label is 0 or 1, or with `above` whether a number, `least` or more, is greater than that. `split` is
    the column that says which split a row is in, see `tables.prepare`; it may be a field's too.
    `weight` is the column of what each row counts, 0 or more; None: all rows count alike.
    """

    dataset: str
    label: str
    fields: tuple[FieldSpec, ...]
    layout: Layout = dataclasses.field(default_factory=Layout)
    above: float | None = None
    least: float | None = None
    split: str | None = None
    weight: str | None = None

    def __post_init__(self) -> None:
        names = self.columns
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise InputError(f"{self.dataset}: {', '.join(twice)} is named twice among label and fields")
        for key in ("split", "weight"):
            if (column := getattr(self, key)) in ("", self.label):
                raise InputError(f"{self.dataset}: {key} is {column!r}; it must be a column beside the label")
        if not self.fields:
            raise InputError(f"{self.dataset}: has no fields; name at least one")
        for key in ("dataset", "label"):
            if not getattr(self, key):
                raise InputError(f"{key} is ''; it must be a name of at least one character")
        if (slots := sum(field.max_len for field in self.fields)) > MOST_SLOTS:
            raise InputError(
                f"{self.dataset}: max_len of its fields is {slots} in all, more than {MOST_SLOTS}"
            )
        kinds = {"multi": "multi-valued", "dense": "dense"}
        unfit = {field.name: kinds[field.kind] for field in self.fields if field.kind in kinds}
        targets = {field.name: field.target for field in self.fields}
        match_targets(targets, unfit, f"{self.dataset}: ")
        for key in ("above", "least"):
            value = getattr(self, key)
            if value is not None and not abs(value) <= sys.float_info.max:
                raise InputError(
                    f"{self.dataset}: {key} is {reprlib.repr(value)}; it must be a finite number"
                )

    @property
    def columns(self) -> tuple[str, ...]:
        """The label's and the fields' columns."""
        return (self.label, *(field.name for field in self.fields))

    @property
    def prepared(self) -> tuple[str, ...]:
        """The columns that preparing reads: those, and what only says how rows count."""
        return tuple(dict.fromkeys((*self.columns, *filter(None, (self.split, self.weight)))))

    def as_values(self, value: Callable[[str, str], str]) -> "TableSpec":
        """The spec with `missing` and `fill` as the columns have their values: -1 for -1.0, 1 for true.

        `value` says, of a column's name and a text, what text the column has for it (`Settled.value`).
        """
        fields = []
        for field in self.fields:
            if not field.is_number:
                here = partial(value, field.name)
                missing = tuple(dict.fromkeys((*field.missing, *map(here, field.missing))))
                fill = None if field.fill is None else here(field.fill)
                field = dataclasses.replace(field, missing=missing, fill=fill)
            fields.append(field)
        return dataclasses.replace(self, fields=tuple(fields))

    @property
    def lists(self) -> frozenset[str]:
        """The columns that may hold lists."""
        return frozenset(field.name for field in self.fields if field.kind == "multi")


def spec_to_json(spec: TableSpec) -> dict[str, Any]:
    """A spec as a schema's source has it, with lists for tuples, without what came later and is not set."""
    document: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(spec), allow_nan=False))
    later = _FIELD_LATER.items()
    document["fields"] = [
        {key: value for key, value in field.items() if (key, value) not in later}
        for field in document["fields"]
    ]
    return {key: value for key, value in document.items() if key not in _LATER or value is not None}


def spec_from_json(document: Mapping[str, Any]) -> TableSpec:
    """The spec that `spec_to_json` made this of."""
    names = document["layout"]["columns"]
    layout = Layout(**document["layout"] | {"columns": None if names is None else tuple(names)})
    fields = (FieldSpec(**field | {"missing": tuple(field["missing"])}) for field in document["fields"])
    return TableSpec(**dict(document) | {"fields": tuple(fields), "layout": layout})


@dataclass(frozen=True)
class Derivation:
    """Columns that the raw files lack.

    make: a chunk -> a frame of the same rows with the label's and the fields' columns. needs: the columns
    it reads. files: other files it reads, such as a table to join; their checksums are recorded.
    """

    make: Callable[[Chunk], pl.DataFrame]
    needs: tuple[str, ...]
    files: tuple[Path, ...] = ()


class Table(NamedTuple):
    """What a dataset's raw files are: the table, its files as `tables.prepare` takes them, what they lack."""

    spec: TableSpec
    files: Sequence[Path] | Mapping[str, Sequence[Path]]
    derivation: Derivation | None = None


def numbers(texts: pl.Series) -> pl.Series:
    """The numbers that texts are; null for those that are none."""
    return texts.cast(pl.Float64, strict=False)


def are_numbers(texts: list[str], transform: str | None = None) -> pl.Series:
    """Whether texts are numbers that have a bucket and, if there is one, a transform."""
    found = numbers(pl.Series(texts, dtype=pl.String))
    least = LEAST if transform is None else math.nextafter(-1, 0)
    return (found.is_finite() & (found >= least)).fill_null(False)
