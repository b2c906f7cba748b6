"""KDD Cup 2012, track 2: training.txt joined with userid_profile.txt, both tab-separated, without header.

A row is an advertisement's impressions to a user; it is a click if any was clicked. As in FuxiCTR a missing
number is 0, which is a value of its own: so are the gender and age of a user without a profile.
"""

from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ektf_jax.data import rawfiles, tables
from ektf_jax.data.chunk import SHOWN, Chunk
from ektf_jax.data.rawfiles import Layout
from ektf_jax.data.schema import Schema
from ektf_jax.data.spec import Derivation, FieldSpec, Table, TableSpec
from ektf_jax.errors import InputError

NUMERIC = ("Depth", "Position", "Impression")
PROFILE = ("UserID", "Gender", "Age")
COLUMNS = (
    "Click",
    "Impression",
    "DisplayURL",
    "AdID",
    "AdvertiserID",
    "Depth",
    "Position",
    "QueryID",
    "KeywordID",
    "TitleID",
    "DescriptionID",
    "UserID",
)
IDS = ("DisplayURL", "AdID", "AdvertiserID", "QueryID", "KeywordID", "TitleID", "DescriptionID", "UserID")
_MAX_USER = 200_000_000  # a byte each in two arrays; the official ids end at 23,907,635
_ABSENT = 255


def prepare(raw: Path, out: Path, *, split_seed: int = 2024, paper_buckets: bool = False) -> Schema:
    """Encodes training.txt and userid_profile.txt in `raw` into `out`; see tables.prepare.

    Every line is an instance: 149,639,105 in the official file, of which the paper has 141,371,038 and does
    not say which.
    """
    spec, files, derivation = table(raw, paper_buckets=paper_buckets)
    return tables.prepare(spec, files, out, split_seed=split_seed, derivation=derivation)


def table(raw: Path, *, paper_buckets: bool = False) -> Table:
    """What the files in `raw` are; InputError where they are not there."""
    ((training, profile),) = rawfiles.find(raw, ("training.txt", "userid_profile.txt"))
    fields = (
        *(
            FieldSpec(name, "numeric", 10, fill="1" if paper_buckets else "0", paper_buckets=paper_buckets)
            for name in NUMERIC
        ),
        *(FieldSpec(name, min_count=10, fill="0") for name in (*IDS, "Gender", "Age")),
    )
    spec = TableSpec("kdd12", "Click", fields, Layout("\t", COLUMNS, quoting=False), above=0, least=0)
    return Table(spec, [training], Derivation(_Join(profile), COLUMNS, (profile,)))


class _Join:
    """Adds Gender and Age to a chunk; reads the profiles when the first chunk comes.

    Users are small whole numbers, so that two arrays of bytes replace a join with 24 million rows.
    """

    def __init__(self, path: Path):
        self._path = path
        self._columns: tuple[NDArray[np.uint8], NDArray[np.uint8]] | None = None

    def __call__(self, chunk: Chunk) -> pl.DataFrame:
        if self._columns is None:
            self._columns = _profiles(self._path)
        users = _numbers(chunk, "UserID", _MAX_USER)
        added = []
        for name, column in zip(PROFILE[1:], self._columns, strict=True):
            known = users < len(column)
            values = np.full(len(users), _ABSENT, np.uint8)
            values[known] = column[users[known]]
            added.append(pl.Series(name, values).set(pl.Series(values == _ABSENT), None).cast(pl.String))
        return chunk.frame.with_columns(added)


def _profiles(path: Path) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Gender and age by user; 255 where there is no profile."""
    gender, age = np.full(0, _ABSENT, np.uint8), np.full(0, _ABSENT, np.uint8)
    for chunk in rawfiles.chunks(path, Layout("\t", PROFILE, quoting=False), PROFILE):
        users = _numbers(chunk, "UserID", _MAX_USER)
        grown = max(len(gender), int(users.max()) + 1)
        gender, age = (np.pad(one, (0, grown - len(one)), constant_values=_ABSENT) for one in (gender, age))
        again = gender[users] != _ABSENT
        again |= ~pl.Series(users).is_first_distinct().to_numpy()
        if again.any():
            row = int(np.argmax(again))
            raise InputError(
                f"{chunk.where(row)}: UserID {users[row]} has a profile on an earlier line; remove one"
            )
        gender[users] = _numbers(chunk, "Gender", _ABSENT - 1)
        age[users] = _numbers(chunk, "Age", _ABSENT - 1)
    return gender, age


def _numbers(chunk: Chunk, name: str, most: int) -> NDArray[np.int64]:
    texts = chunk.frame[name]
    numbers = texts.cast(pl.Int64, strict=False)
    bad = ~numbers.is_between(0, most).fill_null(False)
    if bad.any():
        row = int(bad.arg_true()[0])
        value = str(texts[row] or "")[:SHOWN]
        raise InputError(
            f"{chunk.where(row)}: {name} is {value!r}; it must be a whole number from 0 to {most:,};"
            " correct the line"
        )
    return numbers.to_numpy()
