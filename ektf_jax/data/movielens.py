"""MovieLens-1M in GroupLens's own format: ratings.dat, users.dat and movies.dat.

The paper's Section 4.1.1 (Table 1): ratings above 3 are clicks, those of 3 are dropped.
"""

import hashlib
import re
import shutil
import tempfile
import urllib.request
import zipfile
from collections.abc import Mapping
from http.client import HTTPException
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from ektf_jax.data import encoded, rawfiles, tables
from ektf_jax.data.chunk import SHOWN
from ektf_jax.data.records import LONE_CR
from ektf_jax.data.schema import Schema
from ektf_jax.data.spec import FieldSpec, TableSpec
from ektf_jax.errors import InputError

URL = "https://files.grouplens.org/datasets/movielens/ml-1m.zip"
MD5 = "c4d9eecfca2ab87c1945afe126590906"
_COLUMNS = {
    "ratings.dat": ("UserID", "MovieID", "Rating", "Timestamp"),
    "users.dat": ("UserID", "Gender", "Age", "Occupation", "Zip"),
    "movies.dat": ("MovieID", "Title", "Genres"),
}
_MAX_GENRES = 5
SPEC = TableSpec(
    "ml1m",
    "label",
    (
        *(FieldSpec(name) for name in ("UserID", "Gender", "Age", "Occupation", "MovieID", "Release")),
        FieldSpec("Genres", "multi", max_len=_MAX_GENRES),
    ),
)
_YEAR = r"\(([0-9]{4})\)\s*$"


def prepare(raw: Path, out: Path, *, split_seed: int = 2024) -> Schema:
    """Encodes the three files in `raw` into `out`; does nothing if `out` already holds the result.

    The rows are those ratings.dat has left without its 3s, permuted by `split_seed` and cut into 80% train,
    10% valid and the rest test. Each file may be gzipped. Raises InputError naming file, line, field and
    value.
    """
    files = _files(raw)
    contents = {name: _read(path) for name, path in files.items()}
    parts = _parts(files, contents, split_seed)
    source: dict[str, Any] = {
        "files": {
            files[name].name: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
            for name, (data, _) in contents.items()
        },
        "split_seed": split_seed,
        **_encoder(parts["train"]["Genres"]),
        **rawfiles.synthetic(files.values()),
    }
    existing = encoded.current(out, source)
    if existing is not None:
        return existing
    return tables.encode(SPEC, parts, out, source)


def frames(raw: Path, *, split_seed: int = 2024) -> dict[str, pl.DataFrame]:
    """The rows that `prepare` encodes, by split: frames with the label's and the fields' columns.

    Raises InputError as that does.
    """
    files = _files(raw)
    return _parts(files, {name: _read(path) for name, path in files.items()}, split_seed)


def download(raw: Path) -> None:
    """Fetches GroupLens's archive and puts those of its three files into `raw` that are not there.

    Raises InputError if the archive cannot be had or its checksum is not the published one.
    """
    missing = [name for name in _COLUMNS if not rawfiles.forms(raw, name)]
    if not missing:
        return
    by_hand = f"get {URL} by other means and put {', '.join(_COLUMNS)} from it into {raw}"
    try:
        raw.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=raw, prefix=".download-") as scratch:
            archive = Path(scratch, "ml-1m.zip")
            with urllib.request.urlopen(URL, timeout=60) as response, archive.open("wb") as file:
                shutil.copyfileobj(response, file)
            digest = hashlib.md5(archive.read_bytes(), usedforsecurity=False).hexdigest()
            if digest != MD5:
                raise InputError(
                    f"{URL}: md5 of the download is {digest}, not {MD5}; try again, or {by_hand}"
                )
            with zipfile.ZipFile(archive) as members:
                for name in missing:
                    with members.open(f"ml-1m/{name}") as member, Path(scratch, name).open("wb") as file:
                        shutil.copyfileobj(member, file)
            for name in missing:
                Path(scratch, name).replace(raw / name)
    except (OSError, HTTPException) as error:
        raise InputError(f"{URL}: cannot be downloaded into {raw} ({error}); {by_hand}") from error


def _files(raw: Path) -> dict[str, Path]:
    found = {name: rawfiles.forms(raw, name) for name in _COLUMNS}
    for forms in found.values():
        rawfiles.once(forms)
    return {name: forms[0] if forms else raw / name for name, forms in found.items()}


def _parts(
    files: Mapping[str, Path], contents: Mapping[str, tuple[bytes, bytes]], split_seed: int
) -> dict[str, pl.DataFrame]:
    if split_seed < 0:
        raise InputError(f"split_seed is {split_seed}; it must not be negative")
    lines = {name: _table(files[name], _COLUMNS[name], text) for name, (_, text) in contents.items()}
    users = _users(files["users.dat"], lines["users.dat"])
    movies = _movies(files["movies.dat"], lines["movies.dat"])
    ratings = _ratings(files["ratings.dat"], lines["ratings.dat"], users, movies)
    return {name: _rows(part, users, movies) for name, part in _split(ratings, split_seed).items()}


def _read(path: Path) -> tuple[bytes, bytes]:
    """The bytes of a raw file, and its text; raises InputError unless it can be latin-1, as it should."""
    if not path.is_file():
        what = "it is no file" if path.exists() else "it is not there"
        raise InputError(
            f"{path}: cannot be read ({what}); put MovieLens-1M's {', '.join(_COLUMNS)} into {path.parent},"
            " or give --download"
        )
    data, text = rawfiles.read(path)
    if not text.strip():
        raise InputError(f"{path}: is empty; replace it by MovieLens-1M's {path.name}")
    rawfiles.check_head(path, text[:512])
    encoding, at = _other_encoding(text)
    if encoding:
        line = text.count(b"\n", 0, at) + 1
        raise InputError(f"{path}:{line}: is {encoding}, not latin-1; use the file as GroupLens published it")
    alone = re.search(rb"\r(?!\n|\r*$)", text)
    if alone:
        line = text.count(b"\n", 0, alone.start()) + 1
        raise InputError(f"{path}:{line}: {LONE_CR}")
    return data, text


def _other_encoding(data: bytes) -> tuple[str, int]:
    """The encoding that the bytes betray if it is not latin-1, and the position that betrays it."""
    if data.startswith(b"\xef\xbb\xbf"):
        return "UTF-8 with a byte order mark", 0
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "UTF-16", 0
    if b"\0" in data:
        return "UTF-16 or binary (it has NUL bytes)", data.index(b"\0")
    beyond_ascii = re.search(rb"[\x80-\xff]", data)
    if beyond_ascii is None:
        return "", 0
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return "", 0
    return "UTF-8", beyond_ascii.start()


def _table(path: Path, columns: tuple[str, ...], data: bytes) -> pl.DataFrame:
    """A raw file's columns as text; row i is line i + 1."""
    # split, not splitlines: only \n ends a line, and latin-1 text may hold other line separators.
    lines = pl.Series("line", data.rstrip(b"\r\n").decode("latin-1").split("\n")).str.strip_suffix("\r")
    parts = lines.str.split("::")
    counts = parts.list.len()
    bad = (counts != len(columns)).arg_true()
    if len(bad):
        row = bad[0]
        raise InputError(
            f"{path}:{row + 1}: has {counts[row]} '::'-separated fields, not the {len(columns)} of"
            f" {'::'.join(columns)}: {lines[row][:SHOWN]!r}; correct the line"
        )
    return pl.DataFrame({name: parts.list.get(index) for index, name in enumerate(columns)})


def _check(path: Path, values: pl.Series, good: pl.Series, wanted: str) -> None:
    bad = (~good).arg_true()
    if len(bad):
        row = bad[0]
        raise InputError(f"{path}:{row + 1}: {values.name} is {str(values[row])[:SHOWN]!r}; {wanted}")


def _number(path: Path, values: pl.Series) -> pl.Series:
    _check(path, values, values.str.contains(r"^[0-9]{1,18}$"), "it must be a whole number")
    return values.cast(pl.Int64)


def _users(path: Path, table: pl.DataFrame) -> pl.DataFrame:
    ids = _number(path, table["UserID"])
    _check(path, ids, ids.is_first_distinct(), "an earlier line has the same user; remove one of them")
    _check(path, table["Gender"], table["Gender"].is_in(["M", "F"]), "it must be M or F")
    return pl.DataFrame(
        [ids, table["Gender"], _number(path, table["Age"]), _number(path, table["Occupation"])]
    )


def _movies(path: Path, table: pl.DataFrame) -> pl.DataFrame:
    ids = _number(path, table["MovieID"])
    _check(path, ids, ids.is_first_distinct(), "an earlier line has the same movie; remove one of them")
    titles = table["Title"]
    years = titles.str.extract(_YEAR)
    _check(path, titles, years.is_not_null(), "it must end in a year, like (1995)")
    # The decade; all before 1930 count as the 1920s, and 2000, the last year there is, as the 1990s.
    release = (years.cast(pl.Int64).clip(1920, 1999) // 10 * 10).alias("Release")
    return pl.DataFrame([ids, release, table["Genres"].str.split("|")])


def _ratings(path: Path, table: pl.DataFrame, users: pl.DataFrame, movies: pl.DataFrame) -> pl.DataFrame:
    """UserID, MovieID and label of every rating but the 3s, in the file's order."""
    user, movie = _number(path, table["UserID"]), _number(path, table["MovieID"])
    rating = table["Rating"]
    _check(path, rating, rating.is_in(["1", "2", "3", "4", "5"]), "it must be a whole number from 1 to 5")
    _number(path, table["Timestamp"])
    _check(path, user, user.is_in(users["UserID"].implode()), "users.dat has no such user")
    _check(path, movie, movie.is_in(movies["MovieID"].implode()), "movies.dat has no such movie")
    label = (rating > "3").alias("label")
    ratings = pl.DataFrame([user, movie, label]).filter(rating != "3")
    if len(ratings) < 10:
        raise InputError(f"{path}: has {len(ratings)} ratings other than 3, fewer than the 10 a split needs")
    return ratings


def _split(ratings: pl.DataFrame, split_seed: int) -> dict[str, pl.DataFrame]:
    count = len(ratings)
    order = np.random.default_rng(split_seed).permutation(count)
    train, valid = count * 8 // 10, count // 10
    cuts = np.split(order, [train, train + valid])
    return {name: ratings[cut] for name, cut in zip(("train", "valid", "test"), cuts, strict=True)}


def _rows(ratings: pl.DataFrame, users: pl.DataFrame, movies: pl.DataFrame) -> pl.DataFrame:
    with_users = ratings.join(users, on="UserID", how="left", maintain_order="left")
    return with_users.join(movies, on="MovieID", how="left", maintain_order="left")


def _encoder(genres: pl.Series) -> dict[str, int]:
    """The encoder's number, for the schema's source; {} where version 0.1.0 made the same ids, without one.

    That counted the genres that become ids; encoder 2 counts all of a row, each once. The ids are the same
    where both rank the genres of the training rows alike, as for the real files and the default split.
    """
    ranks = [
        counted.explode().alias("genre").value_counts().sort(["count", "genre"], descending=[True, False])
        for counted in (genres.list.head(_MAX_GENRES), genres.list.unique())
    ]
    same = tables.ENCODER == 2 and ranks[0]["genre"].equals(ranks[1]["genre"])
    return {} if same else {"encoder": tables.ENCODER}
