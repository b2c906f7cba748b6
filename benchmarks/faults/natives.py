"""A second reader of datasets' own raw files, in plain Python: rows as text, joined, and their fields."""

import csv
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.faults import plain
from benchmarks.faults.plain import SPLITS, Rows


class Table(NamedTuple):
    """Rows with the split of each, and the fields and the label as the YAML of a table has them."""

    document: dict[str, Any]
    rows: Rows
    splits: list[str]


def disagrees(read: Callable[[Path], Table], raw: Path, out: Path) -> str | None:
    """What an encoded dataset has otherwise than a reader makes of the raw files."""
    try:
        words, splits = plain.encode(*read(raw))
    except Exception as error:
        return f"a plain reader refuses it ({error!r})"
    return plain.differs(out, words, splits)


def ml1m(raw: Path) -> Table:
    """ratings.dat without its 3s, in the order that is drawn, with the user and the movie of each."""
    users = {_whole(one[0]): one[1:4] for one in _fields(raw / "users.dat", 5)}
    movies = {_whole(one[0]): one[1:] for one in _fields(raw / "movies.dat", 3)}
    rows = []
    for user, movie, rating, _ in _fields(raw / "ratings.dat", 4):
        if rating == "3":
            continue
        gender, age, occupation = users[_whole(user)]
        title, genres = movies[_whole(movie)]
        year = re.search(r"\((\d{4})\)\s*$", title)
        if year is None or rating not in list("1245"):
            raise ValueError(f"a rating {rating} of {title}")
        rows.append(
            {
                "label": str(int(rating in "45")),
                "UserID": _whole(user),
                "Gender": gender,
                "Age": _whole(age),
                "Occupation": _whole(occupation),
                "MovieID": _whole(movie),
                "Release": str(min(max(int(year[1]), 1920), 1999) // 10 * 10),
                "Genres": genres,
            }
        )
    names = ["UserID", "Gender", "Age", "Occupation", "MovieID", "Release"]
    order = np.random.default_rng(2024).permutation(len(rows))
    train, valid = len(rows) * 8 // 10, len(rows) // 10
    splits = ["train"] * train + ["valid"] * valid + ["test"] * (len(rows) - train - valid)
    several = {"name": "Genres", "kind": "multi", "separator": "|", "max_len": 5}
    return Table({"label": "label", "fields": [*names, several]}, [rows[at] for at in order], splits)


def criteo(raw: Path) -> Table:
    """train.txt, or train.csv, valid.csv and test.csv."""
    numeric, categorical = ([f"{kind}{n}" for n in range(1, last)] for kind, last in (("I", 14), ("C", 27)))
    fields = [
        {"name": numeric, "kind": "numeric", "missing": ["", "0"], "min_count": 10},
        {"name": categorical, "min_count": 10},
    ]
    if (raw / "train.csv").exists():
        return Table({"label": "Label", "fields": fields}, *_by_files(raw, *SPLITS))
    rows = _lines(raw / "train.txt", "\t", ["Label", *numeric, *categorical])
    return Table({"label": "Label", "fields": fields}, rows, plain.drawn(len(rows)))


def kdd12(raw: Path) -> Table:
    """training.txt with the gender and the age of the users that userid_profile.txt has."""
    numeric = ["Depth", "Position", "Impression"]
    ids = ["QueryID", "KeywordID", "TitleID", "DescriptionID", "UserID"]
    ads = ["DisplayURL", "AdID", "AdvertiserID"]
    rows = _lines(raw / "training.txt", "\t", ["Click", "Impression", *ads, "Depth", "Position", *ids])
    profiles = {}
    for one in _lines(raw / "userid_profile.txt", "\t", ["UserID", "Gender", "Age"]):
        user = _whole(one["UserID"])
        if user in profiles:
            raise ValueError(f"two profiles of {user}")
        profiles[user] = {name: _whole(one[name]) for name in ("Gender", "Age")}
    for row in rows:
        row |= profiles.get(_whole(row["UserID"]), {"Gender": "", "Age": ""})
        if float(row["Click"]) < 0:
            raise ValueError("clicks below 0")
    fields = [
        {"name": numeric, "kind": "numeric", "min_count": 10, "fill": "0"},
        {"name": [*ads, *ids, "Gender", "Age"], "min_count": 10, "fill": "0"},
    ]
    document = {"label": {"name": "Click", "above": 0}, "fields": fields}
    return Table(document, rows, plain.drawn(len(rows)))


def ipinyou(raw: Path) -> Table:
    """train.csv and test.csv, whose rows are those of valid, too."""
    names = ["weekday", "hour", "IP", "region", "city", "adexchange", "domain"]
    names += ["slotid", "slotwidth", "slotheight", "slotvisibility", "slotformat"]
    names += ["creative", "advertiser", "useragent", "slotprice"]
    document = {"label": "click", "fields": [{"name": names, "min_count": 2}]}
    rows, splits = _by_files(raw, "train", "test", "test")
    last = splits.count("test") // 2
    return Table(document, rows, splits[:-last] + ["valid"] * last)


def kkbox(raw: Path) -> Table:
    """train.csv, valid.csv and test.csv of RecZoo, or train.csv with what three other files tell."""
    sources = ["source_system_tab", "source_screen_name", "source_type"]
    ready = (raw / "valid.csv").exists()
    several = {"kind": "multi", "separator": " " if ready else "\t", "max_len": 3, "min_count": 10}
    told = ["city", "gender", "registered_via", "language"]
    fields: list[dict[str, Any]] = [
        {"name": ["msno", "song_id"], "min_count": 10},
        {"name": sources, "min_count": 10, "missing": ["", "null"]},
        {"name": told, "min_count": 10},
        {"name": ["genre_ids", "artist_name"]} | several,
        {"name": ["isrc", "bd"], "min_count": 10},
    ]
    document = {"label": "label" if ready else "target", "fields": fields}
    if ready:
        rows, splits = _by_files(raw, *SPLITS)
        for row in rows:
            row |= {name: row[name].replace("^", " ") for name in ("genre_ids", "artist_name")}
    else:
        rows = _lines(raw / "train.csv", ",")
        splits = plain.drawn(len(rows))
        songs = _by_key(raw / "songs.csv", "song_id", "genre_ids", "artist_name", "language")
        for song in songs.values():
            artists = re.sub('["\t]', "", song["artist_name"])
            song["artist_name"] = re.sub(r" *[|\\/&;] *", "\t", artists).strip()
            song["genre_ids"] = song["genre_ids"].replace("|", "\t")
            song["language"] = song["language"].removesuffix(".0")
        members = _by_key(raw / "members.csv", "msno", "city", "bd", "gender", "registered_via")
        extra = _by_key(raw / "song_extra_info.csv", "song_id", "isrc")
        for row in rows:
            row |= dict.fromkeys((*told, "genre_ids", "artist_name", "isrc", "bd"), "")
            row |= songs.get(row["song_id"], {}) | members.get(row["msno"], {})
            row |= extra.get(row["song_id"], {})
    decades = {age: _decade(age) for age in {row["bd"] for row in rows}}
    for row in rows:
        row |= {"isrc": row["isrc"][:2], "bd": decades[row["bd"]]}
    return Table(document, rows, splits)


def _decade(age: str) -> str:
    years = float(age or "0")
    return str(min(math.ceil(years / 10), 7)) if 1 <= years <= 95 else ""


def _by_files(raw: Path, *splits: str) -> tuple[Rows, list[str]]:
    tables = [plain.read(raw / f"{split}.csv", ",") for split in splits]
    named = [split for split, rows in zip(splits, tables, strict=True) for _ in rows]
    return [row for rows in tables for row in rows], named


def _by_key(path: Path, key: str, *columns: str) -> dict[str, dict[str, str]]:
    rows = _lines(path, ",")
    found = {row[key]: {name: row[name] for name in columns} for row in rows}
    if len(found) < len(rows):
        raise ValueError(f"a {key} twice in {path.name}")
    return found


def _lines(path: Path, separator: str, columns: list[str] | None = None) -> Rows:
    """A row a line, with names or, where the first line has them, lines that may have quotes after all."""
    text = path.read_bytes().decode("utf-8").removeprefix("\ufeff").rstrip("\r\n").replace("\r\n", "\n")
    rows = [line.split(separator) for line in text.split("\n")]
    names = columns or rows.pop(0)
    if columns is None:
        rows = [_requoted(row, separator)[: len(names)] if len(row) > len(names) else row for row in rows]
    if "\0" in text or len(set(names)) < len(names) or any(len(row) != len(names) for row in rows):
        raise ValueError("not a table")
    return [dict(zip(names, row, strict=True)) for row in rows]


def _requoted(row: list[str], separator: str) -> list[str]:
    try:
        return next(csv.reader([separator.join(row)], delimiter=separator, strict=True))
    except csv.Error:
        return row


def _fields(path: Path, count: int) -> list[list[str]]:
    text = path.read_bytes().decode("latin-1").rstrip("\r\n")
    rows = [line.removesuffix("\r").split("::") for line in text.split("\n")]
    if any(len(row) != count for row in rows) or len({row[0] for row in rows}) < len(rows) * (count != 4):
        raise ValueError(f"not {path.name}")
    return rows


def _whole(text: str) -> str:
    if not re.fullmatch(r"[+-]?[0-9]+", text):
        raise ValueError(f"{text!r} is no whole number")
    return str(int(text))
