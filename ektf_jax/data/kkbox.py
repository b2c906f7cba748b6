"""KKBox's music recommendation challenge: RecZoo's KKBox_x1 with its ready splits, or the WSDM Cup's files.

The transforms are those of FuxiCTR and of RecZoo's split script (github.com/reczoo/BARS, datasets/KKBox):
the country of an ISRC is its first two letters, an age from 1 to 95 becomes its decade and any other is
missing, genres are separated by |, artists by any of |, \\, /, & and ;.
"""

from pathlib import Path

import polars as pl

from ektf_jax.data import rawfiles, tables
from ektf_jax.data.chunk import SHOWN, Chunk
from ektf_jax.data.rawfiles import Layout
from ektf_jax.data.schema import Schema
from ektf_jax.data.spec import Derivation, FieldSpec, Table, TableSpec
from ektf_jax.errors import InputError

_SOURCES = ("source_system_tab", "source_screen_name", "source_type")
_MULTI = ("genre_ids", "artist_name")
FIELDS = (
    "msno",
    "song_id",
    *_SOURCES,
    "city",
    "gender",
    "registered_via",
    "language",
    *_MULTI,
    "isrc",
    "bd",
)
_TRAIN = ("target", "msno", "song_id", *_SOURCES)
# These files have quotes that are never closed: RecZoo's script, too, reads them line by line.
_RAW = Layout(quoting=False, loose=True)


def prepare(raw: Path, out: Path, *, split_seed: int = 2024) -> Schema:
    """Encodes train.csv, valid.csv and test.csv in `raw` into `out`, or the challenge's files joined.

    Those are train.csv, songs.csv, members.csv and song_extra_info.csv; see tables.prepare.
    """
    spec, files, derivation = table(raw)
    return tables.prepare(spec, files, out, split_seed=split_seed, derivation=derivation)


def table(raw: Path) -> Table:
    """What the files in `raw` are; InputError where they are not there."""
    ready, cup = rawfiles.find(
        raw,
        ("train.csv", "valid.csv", "test.csv"),
        ("train.csv", "songs.csv", "members.csv", "song_extra_info.csv"),
    )
    # Artists' names hold spaces and all that one would separate them by; here they are separated by a tab.
    separator = " " if ready else "\t"
    fields = tuple(
        FieldSpec(name, "multi", 10, separator=separator, max_len=3)
        if name in _MULTI
        else FieldSpec(name, min_count=10, missing=("", "null") if name in _SOURCES else ("",))
        for name in FIELDS
    )
    if ready:
        files = dict(zip(("train", "valid", "test"), ([path] for path in ready), strict=True))
        return Table(TableSpec("kkbox", "label", fields), files, Derivation(_released, ("label", *FIELDS)))
    train, *others = cup
    derivation = Derivation(_Join(*others), _TRAIN, tuple(others))
    return Table(TableSpec("kkbox", "target", fields, _RAW), [train], derivation)


def _released(chunk: Chunk) -> pl.DataFrame:
    # RecZoo's script joins by spaces, FuxiCTR's present default splits by ^: the ids hold neither.
    spaced = pl.col(*_MULTI).str.replace_all("^", " ", literal=True)
    return chunk.frame.with_columns(spaced, _country(), _decade(chunk, chunk.frame["bd"]))


def _country() -> pl.Expr:
    return pl.col("isrc").str.slice(0, 2)


def _decade(chunk: Chunk, ages: pl.Series) -> pl.Series:
    """1 for ages 1 to 10, ... 6 for 51 to 60, 7 for 61 to 95, else null."""
    numbers = ages.replace("", None).cast(pl.Float64, strict=False)
    bad = (numbers.is_null() & ages.replace("", None).is_not_null()).arg_true()
    if len(bad):
        raise InputError(f"{chunk.where(bad[0])}: bd is {ages[bad[0]][:SHOWN]!r}; it must be a number")
    kept = numbers.set(~numbers.is_between(1, 95).fill_null(False), None)
    return (kept / 10).ceil().clip(1, 7).cast(pl.Int8).cast(pl.String).alias("bd")


class _Join:
    """Adds what songs, members and song_extra_info tell; reads them when the first chunk comes."""

    def __init__(self, songs: Path, members: Path, extra: Path):
        self._paths = (songs, members, extra)
        self._tables: tuple[pl.DataFrame, ...] | None = None

    def __call__(self, chunk: Chunk) -> pl.DataFrame:
        if self._tables is None:
            self._tables = _songs(self._paths[0]), *map(_table, self._paths[1:], *_OTHERS)
        frame = chunk.frame
        for key, table in zip(("song_id", "msno", "song_id"), self._tables, strict=True):
            # Few of a table's rows are in a chunk: without them the join would index all of it each time.
            here = table.join(frame.select(pl.col(key).unique()), on=key, how="semi")
            frame = frame.join(here, on=key, how="left", maintain_order="left")
        return frame.with_columns(_country())


_OTHERS = (
    ("msno", "song_id"),
    (("city", "bd", "gender", "registered_via"), ("isrc",)),
)


def _songs(path: Path) -> pl.DataFrame:
    songs = _table(path, "song_id", ("genre_ids", "artist_name", "language"))
    return songs.with_columns(
        pl.col("genre_ids").str.replace_all("|", "\t", literal=True),
        pl.col("artist_name")
        .str.replace_all('["\t]', "")
        .str.replace_all(r" *[|\\/&;] *", "\t")
        .str.strip_chars(),
        pl.col("language").str.replace(r"\.0$", ""),
    )


def _table(path: Path, key: str, columns: tuple[str, ...]) -> pl.DataFrame:
    """A table by its key, as text."""
    parts = []
    for chunk in rawfiles.chunks(path, _RAW, (key, *columns)):
        frame = chunk.frame
        if "bd" in columns:
            frame = frame.with_columns(_decade(chunk, frame["bd"]))
        parts.append(frame)
    table = pl.concat(parts)
    twice = table.filter(pl.col(key).is_duplicated())[key]
    if len(twice):
        raise InputError(f"{path}: {key} {twice[0]!r} is on more than one line; remove all but one")
    return table
