import gzip
import hashlib
import io
import json
import os
import tempfile
import urllib.error
import urllib.request
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ektf_jax.data import encoded, movielens, tables
from ektf_jax.errors import InputError

USERS = ["1::F::1::10::48067", "2::M::56::16::70072", "3::M::25::15::55117-1234"]
MOVIES = [
    "1::Toy Story (1995)::Animation|Children's|Comedy",
    "2::Misérables, Les (1919)::Drama|Musical",
    "5::Heat: (Part) (2) (2000)::A|B|C|D|E|F",
    "9::Old (1929)::Drama",
    "12::Newer (1930) ::",
]
RATINGS = [
    f"{user}::{movie}::{1 + (user + 2 * movie) % 5}::97830{user}"
    for user in (1, 2, 3)
    for movie in (1, 2, 5, 9, 12)
]
FIELDS = ["UserID", "Gender", "Age", "Occupation", "MovieID", "Release", "Genres"]


def write_raw(raw, ratings=RATINGS, users=USERS, movies=MOVIES, end="\n", last="\n", encoding="latin-1"):
    raw.mkdir(parents=True, exist_ok=True)
    for name, lines in (("ratings", ratings), ("users", users), ("movies", movies)):
        (raw / f"{name}.dat").write_bytes((end.join(lines) + last).encode(encoding))
    return raw


def reference(ratings, users, movies, split_seed):
    """The encoded dataset in plain Python: vocabulary entries, total features, (ids, labels) by split."""
    people = {line.split("::")[0]: line.split("::")[1:4] for line in users}
    films = {}
    for line in movies:
        movie, title, genres = line.split("::")
        year = int(title.rstrip()[-5:-1])
        decade = 1920 if year < 1930 else 1990 if year >= 1990 else year // 10 * 10
        films[movie] = ([str(decade)], [genre for genre in genres.split("|") if genre])
    rows, labels = [], []
    for line in ratings:
        user, movie, rating, _ = line.split("::")
        if rating != "3":
            release, genres = films[movie]
            rows.append([[user], *([value] for value in people[user]), [movie], release, genres])
            labels.append(float(int(rating) > 3))
    order = np.random.default_rng(split_seed).permutation(len(rows))
    train, valid = int(0.8 * len(rows) + 1e-9), int(0.1 * len(rows) + 1e-9)
    parts = {"train": order[:train], "valid": order[train : train + valid], "test": order[train + valid :]}
    ids, entries, offset = [[] for _ in rows], [], 0
    for index, name in enumerate(FIELDS):
        counts = Counter(value for row in parts["train"] for value in set(rows[row][index]))
        words = sorted(counts, key=lambda word: (-counts[word], word))
        local = {word: offset + 1 + rank for rank, word in enumerate(words)}
        entries += [(name, word, local[word]) for word in words]
        for row, out in zip(rows, ids, strict=True):
            slots = 5 if name == "Genres" else 1
            found = [local.get(word, offset + len(words) + 1) for word in row[index]][:slots]
            out += found + [0] * (slots - len(found))
        offset += len(words) + 2
    arrays = {
        name: ([ids[row] for row in part], [labels[row] for row in part]) for name, part in parts.items()
    }
    return entries, offset, arrays


def assert_matches(out, schema, expected):
    entries, total, arrays = expected
    assert encoded.open_schema(out) == schema
    assert [field.name for field in schema.fields] == FIELDS
    assert schema.num_features == total
    assert pl.read_parquet(out / "vocabulary.parquet").rows() == entries
    for name, (ids, labels) in arrays.items():
        split = encoded.open_split(out, name)
        assert split.ids.tolist() == ids
        assert split.labels.tolist() == labels


@st.composite
def raw_files(draw):
    users = draw(st.lists(st.integers(1, 10**9), min_size=1, max_size=6, unique=True))
    movies = draw(st.lists(st.integers(0, 10**9), min_size=1, max_size=6, unique=True))
    # \x85 and \x1c are line separators to str.splitlines, but not in these files. No mix of these letters is
    # UTF-8 by chance, which would be refused.
    title = st.text(st.sampled_from("aÿ(1)|\x85\x1c\t\"',"), max_size=6)
    genres = st.lists(st.sampled_from(["Drama", "Film-Noir", "Children's", "é", "a", "b", "c"]), max_size=7)
    year = st.integers(1890, 2000)
    chosen = st.tuples(st.sampled_from(users), st.sampled_from(movies), st.sampled_from("12345"))
    kept = st.tuples(st.sampled_from(users), st.sampled_from(movies), st.sampled_from("1245"))
    ratings = draw(st.lists(chosen, max_size=25)) + draw(st.lists(kept, min_size=10, max_size=15))
    return (
        [f"{user}::{movie}::{rating}::0" for user, movie, rating in ratings],
        [f"{user}::{draw(st.sampled_from('MF'))}::{draw(st.integers(0, 60))}::7::x" for user in users],
        [f"{movie}::{draw(title)} ({draw(year)})::{'|'.join(draw(genres))}" for movie in movies],
    )


@settings(deadline=None, max_examples=30)
@given(
    files=raw_files(),
    end=st.sampled_from(["\n", "\r\n"]),
    last=st.sampled_from(["", "\n", "\r\n", "\n\n"]),
    split_seed=st.integers(0, 3),
)
def test_against_plain_python(files, end, last, split_seed):
    with tempfile.TemporaryDirectory() as folder:
        raw, out = write_raw(Path(folder, "raw"), *files, end=end, last=last), Path(folder, "out")
        schema = movielens.prepare(raw, out, split_seed=split_seed)
        assert_matches(out, schema, reference(*files, split_seed=split_seed))


def test_by_hand(tmp_path):
    raw, out = write_raw(tmp_path / "raw"), tmp_path / "out"
    schema = movielens.prepare(raw, out)
    assert_matches(out, schema, reference(RATINGS, USERS, MOVIES, 2024))
    data = (raw / "users.dat").read_bytes()
    assert schema.dataset == "ml1m"
    assert schema.source["split_seed"] == 2024
    assert schema.source["files"]["users.dat"] == {
        "bytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
    }


def test_release_buckets(tmp_path):
    years = [1894, 1929, 1930, 1939, 1940, 1955, 1969, 1970, 1989, 1990, 1999, 2000]
    movies = [f"{year}::T ({year})::Drama" for year in years]
    ratings = [f"1::{year}::5::0" for year in years for _ in range(20)]
    movielens.prepare(write_raw(tmp_path / "raw", ratings, movies=movies), tmp_path / "out")
    words = pl.read_parquet(tmp_path / "out/vocabulary.parquet")
    found = sorted(words.filter(pl.col("field") == "Release")["value"])
    assert found == ["1920", "1930", "1940", "1950", "1960", "1970", "1980", "1990"]


# --- preparing again


def stamps(out):
    return {path: path.stat().st_mtime_ns for path in out.rglob("*")} | {out: out.stat().st_ino}


def test_again_does_nothing_until_something_changed(tmp_path):
    raw, out = write_raw(tmp_path / "raw"), tmp_path / "out"
    schema = movielens.prepare(raw, out)
    before = stamps(out)
    assert movielens.prepare(raw, out) == schema
    assert stamps(out) == before
    assert movielens.prepare(raw, out, split_seed=1).source["split_seed"] == 1
    assert stamps(out) != before
    write_raw(raw, users=[USERS[0].replace("F", "M"), *USERS[1:]])
    changed = movielens.prepare(raw, out, split_seed=1)
    assert changed.source != schema.source
    assert encoded.open_schema(out) == changed


def test_again_after_another_encoder(tmp_path, monkeypatch):
    """Version 0.1.0 recorded none: what it made is current where the ids are the same, and only there."""
    raw, out = tmp_path / "raw", tmp_path / "out"
    few = [movie.replace("A|B|C|D|E|F", "A|B|C|D|E") for movie in MOVIES]
    twice = [movie.replace("Drama|Musical", "Drama|Musical|Musical|Musical") for movie in few]
    for movies, encoder in ((few, None), (MOVIES, 2), (twice, 2)):
        schema = movielens.prepare(write_raw(raw, movies=movies), out)
        assert schema.source.get("encoder") == encoder
        description = json.loads((out / "schema.json").read_text(encoding="utf-8"))
        description["source"].pop("encoder", None)
        (out / "schema.json").write_text(json.dumps(description), encoding="utf-8")
        before = stamps(out)
        assert movielens.prepare(raw, out) == schema
        assert (stamps(out) == before) == (encoder is None)
    monkeypatch.setattr(tables, "ENCODER", 3)
    for movies in (few, MOVIES):
        assert movielens.prepare(write_raw(raw, movies=movies), out).source["encoder"] == 3


def test_again_repairs_a_damaged_dataset(tmp_path):
    raw, out = write_raw(tmp_path / "raw"), tmp_path / "out"
    schema = movielens.prepare(raw, out)
    (out / "train/ids.npy").unlink()
    movielens.prepare(raw, out)
    assert_matches(out, schema, reference(RATINGS, USERS, MOVIES, 2024))


# --- bad input

LINES = {"ratings": RATINGS, "users": USERS, "movies": MOVIES}
BAD_LINES = [
    ("ratings", "1::1::5", ["ratings.dat:2", "3 '::'", "UserID::MovieID::Rating::Timestamp", "'1::1::5'"]),
    ("ratings", "1::1::5::0::", ["ratings.dat:2", "5 '::'"]),
    ("ratings", "1:1:5:0", ["ratings.dat:2", "1 '::'", "'1:1:5:0'"]),
    ("ratings", "", ["ratings.dat:2", "1 '::'"]),
    ("ratings", "1::1::five::0", ["ratings.dat:2", "Rating", "'five'"]),
    ("ratings", "1::1::4.5::0", ["ratings.dat:2", "Rating", "'4.5'"]),
    ("ratings", "1::1::0::0", ["ratings.dat:2", "Rating", "'0'", "1 to 5"]),
    ("ratings", "1::1::6::0", ["ratings.dat:2", "Rating", "'6'"]),
    ("ratings", "1::1::::0", ["ratings.dat:2", "Rating", "''"]),
    ("ratings", "one::1::5::0", ["ratings.dat:2", "UserID", "'one'", "whole number"]),
    ("ratings", "1::-1::5::0", ["ratings.dat:2", "MovieID", "'-1'", "whole number"]),
    ("ratings", "1::99999999999999999999::5::0", ["ratings.dat:2", "MovieID", "whole number"]),
    ("ratings", "1::1::5::noon", ["ratings.dat:2", "Timestamp", "'noon'"]),
    ("ratings", "4::1::5::0", ["ratings.dat:2", "UserID", "'4'", "users.dat"]),
    ("ratings", "1::3::5::0", ["ratings.dat:2", "MovieID", "'3'", "movies.dat"]),
    ("ratings", "1::3::3::0", ["ratings.dat:2", "MovieID", "'3'", "movies.dat"]),  # 3s are checked as well
    ("users", "2::M::56::16", ["users.dat:2", "4 '::'"]),
    ("users", "2::m::56::16::0", ["users.dat:2", "Gender", "'m'", "M or F"]),
    ("users", "2::::56::16::0", ["users.dat:2", "Gender", "''"]),
    ("users", "2::M::old::16::0", ["users.dat:2", "Age", "'old'"]),
    ("users", "2::M::56::lawyer::0", ["users.dat:2", "Occupation", "'lawyer'"]),
    ("users", "x::M::56::16::0", ["users.dat:2", "UserID", "'x'"]),
    ("users", "1::M::56::16::0", ["users.dat:2", "UserID", "'1'", "same user"]),
    ("users", "01::M::56::16::0", ["users.dat:2", "UserID", "'1'", "same user"]),
    ("movies", "2::Title (1999)", ["movies.dat:2", "2 '::'"]),
    ("movies", "2::Alien:: the movie (1999)::Drama", ["movies.dat:2", "4 '::'"]),
    ("movies", "2::Title::Drama", ["movies.dat:2", "Title", "'Title'", "year"]),
    ("movies", "2::Title (95)::Drama", ["movies.dat:2", "Title", "'Title (95)'", "year"]),
    ("movies", "2::(1995) Title::Drama", ["movies.dat:2", "Title", "year"]),
    ("movies", "b::Title (1999)::Drama", ["movies.dat:2", "MovieID", "'b'"]),
    ("movies", "1::Title (1999)::Drama", ["movies.dat:2", "MovieID", "'1'", "same movie"]),
]


def fails(raw, out, *texts):
    with pytest.raises(InputError) as error:
        movielens.prepare(raw, out)
    for text in texts:
        assert text in str(error.value)
    assert not out.exists()
    assert sorted(path.name for path in out.parent.iterdir()) == ["raw"]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize(("file", "line", "texts"), BAD_LINES)
def test_bad_line(tmp_path, end, file, line, texts):
    lines = LINES[file]
    raw = write_raw(tmp_path / "raw", **{file: [lines[0], line, *lines[2:]]}, end=end)
    fails(raw, tmp_path / "out", *texts)


def test_the_last_line_counts_too(tmp_path):
    fails(
        write_raw(tmp_path / "raw", [*RATINGS, "1::1::9::0"], last=""),
        tmp_path / "out",
        "ratings.dat:16: Rating",
    )


def test_the_first_bad_line_is_named(tmp_path):
    fails(write_raw(tmp_path / "raw", [*RATINGS, "a", "b"]), tmp_path / "out", "ratings.dat:16:", "'a'")


def test_a_long_bad_line_is_cut(tmp_path):
    raw = write_raw(tmp_path / "raw", ["x" * 10_000, *RATINGS])
    with pytest.raises(InputError) as error:
        movielens.prepare(raw, tmp_path / "out")
    assert len(str(error.value)) < 500 + len(str(raw))


@pytest.mark.parametrize("name", ["ratings.dat", "users.dat", "movies.dat"])
def test_missing_file(tmp_path, name):
    raw = write_raw(tmp_path / "raw")
    (raw / name).unlink()
    fails(raw, tmp_path / "out", name, "ratings.dat, users.dat, movies.dat", "--download")


@pytest.mark.parametrize("content", [b"", b"\n", b"\r\n \r\n"])
@pytest.mark.parametrize("name", ["ratings.dat", "users.dat", "movies.dat"])
def test_empty_file(tmp_path, name, content):
    raw = write_raw(tmp_path / "raw")
    (raw / name).write_bytes(content)
    fails(raw, tmp_path / "out", name, "is empty")


@pytest.mark.parametrize("names", [("ratings",), ("users", "movies"), ("ratings", "users", "movies")])
def test_gzipped_files(tmp_path, names):
    raw, out = write_raw(tmp_path / "raw"), tmp_path / "out"
    expected = movielens.prepare(raw, tmp_path / "plain").fields
    for name in names:
        data = gzip.compress((raw / f"{name}.dat").read_bytes(), mtime=0)
        (raw / f"{name}.dat.gz").write_bytes(data)
        with pytest.raises(InputError) as error:
            movielens.prepare(raw, out)
        assert f"{raw}/{name}.dat.gz and {raw}/{name}.dat: are one table" in str(error.value)
        (raw / f"{name}.dat").unlink()
    schema = movielens.prepare(raw, out)
    assert schema.fields == expected
    assert_matches(out, schema, reference(RATINGS, USERS, MOVIES, 2024))
    entry = schema.source["files"][f"{names[0]}.dat.gz"]
    data = (raw / f"{names[0]}.dat.gz").read_bytes()
    assert entry == {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    before = stamps(out)
    movielens.prepare(raw, out)
    assert stamps(out) == before
    (raw / f"{names[0]}.dat.gz").write_bytes(data[:-9])
    with pytest.raises(InputError, match=rf"{names[0]}\.dat\.gz: the gzip data end before"):
        movielens.prepare(raw, tmp_path / "other")


def test_download_leaves_gzipped_files_alone(tmp_path, monkeypatch):
    raw = write_raw(tmp_path / "raw")
    for name in ("ratings", "users", "movies"):
        (raw / f"{name}.dat").rename(raw / f"{name}.dat.gz")
    monkeypatch.setattr(urllib.request, "urlopen", None)
    movielens.download(raw)
    assert len(list(raw.iterdir())) == 3


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"<!DOCTYPE html>\n<html></html>\n", r"users\.dat: is an HTML page, not a table"),
        (b"1::F::1::10::48067\r2::M::56::16::70072\r", r"users\.dat:1: a carriage return alone"),
        (b"1::F::1::10::48067\n2::M::56::16::70072\r3::M::25::15::5\n", r"users\.dat:2: a carriage return"),
    ],
)
def test_what_is_no_table_is_named(tmp_path, data, said):
    raw = write_raw(tmp_path / "raw")
    (raw / "users.dat").write_bytes(data)
    with pytest.raises(InputError, match=said):
        movielens.prepare(raw, tmp_path / "out")


def test_raw_is_no_directory(tmp_path):
    with pytest.raises(InputError, match=r"ratings\.dat: cannot be read"):
        movielens.prepare(tmp_path / "none", tmp_path / "out")


@pytest.mark.parametrize(
    ("encoding", "texts"),
    [
        ("utf-8", ["movies.dat:2", "UTF-8", "latin-1"]),
        ("utf-8-sig", ["movies.dat:1", "UTF-8 with a byte order mark", "latin-1"]),
        ("utf-16", ["movies.dat:1", "UTF-16", "latin-1"]),
        ("utf-16-be", ["movies.dat:1", "UTF-16", "latin-1"]),
        ("utf-16-le", ["movies.dat:1", "UTF-16", "latin-1"]),
    ],
)
def test_wrong_encoding(tmp_path, encoding, texts):
    raw = write_raw(tmp_path / "raw")
    (raw / "movies.dat").write_bytes(("\n".join(MOVIES) + "\n").encode(encoding))
    fails(raw, tmp_path / "out", *texts)


@pytest.mark.parametrize("kept", [0, 9])
def test_too_few_ratings(tmp_path, kept):
    ratings = ["1::1::3::0"] * 30 + ["1::1::5::0"] * kept
    fails(write_raw(tmp_path / "raw", ratings), tmp_path / "out", "ratings.dat", f"{kept} ratings")


def test_ten_ratings_are_enough(tmp_path):
    ratings = ["1::1::5::0"] * 9 + ["1::1::2::0"]
    schema = movielens.prepare(write_raw(tmp_path / "raw", ratings), tmp_path / "out")
    assert schema.splits == {"train": 8, "valid": 1, "test": 1}


def test_negative_seed(tmp_path):
    with pytest.raises(InputError, match="split_seed is -1"):
        movielens.prepare(write_raw(tmp_path / "raw"), tmp_path / "out", split_seed=-1)


def test_failed_preparation_keeps_the_old_dataset(tmp_path):
    raw, out = write_raw(tmp_path / "raw"), tmp_path / "out"
    schema = movielens.prepare(raw, out)
    write_raw(raw, ratings=[*RATINGS, "1::1::9::0"])
    with pytest.raises(InputError, match="Rating"):
        movielens.prepare(raw, out)
    assert_matches(out, schema, reference(RATINGS, USERS, MOVIES, 2024))


# --- download


@pytest.fixture
def archive(monkeypatch):
    """The opener returns a small archive whose checksum passes; yields its bytes by file name."""
    contents = {name: f"{name}\n".encode() for name in ("ratings.dat", "users.dat", "movies.dat")}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as members:
        for name, data in {**contents, "README": b"licence"}.items():
            members.writestr(f"ml-1m/{name}", data)
    monkeypatch.setattr(movielens, "MD5", hashlib.md5(buffer.getvalue()).hexdigest())

    def opener(url, timeout):
        assert url == movielens.URL
        return io.BytesIO(buffer.getvalue())

    monkeypatch.setattr(urllib.request, "urlopen", opener)
    return contents


def read_all(raw):
    return {path.name: path.read_bytes() for path in raw.iterdir()}


def test_download(tmp_path, archive):
    movielens.download(tmp_path / "new/raw")
    assert read_all(tmp_path / "new/raw") == archive


def test_download_keeps_files_that_are_there(tmp_path, archive, monkeypatch):
    (tmp_path / "users.dat").write_text("mine")
    movielens.download(tmp_path)
    assert read_all(tmp_path) == archive | {"users.dat": b"mine"}
    monkeypatch.setattr(urllib.request, "urlopen", None)  # with all three there nothing is fetched
    movielens.download(tmp_path)


def test_download_with_a_bad_checksum(tmp_path, archive, monkeypatch):
    monkeypatch.setattr(movielens, "MD5", "0" * 32)
    with pytest.raises(InputError, match=f"md5 of the download is [0-9a-f]{{32}}, not {'0' * 32}"):
        movielens.download(tmp_path)
    assert read_all(tmp_path) == {}


@pytest.mark.parametrize(
    "raised",
    [urllib.error.URLError("no route to host"), TimeoutError("timed out"), ConnectionResetError("reset")],
)
def test_download_without_network(tmp_path, monkeypatch, raised):
    def opener(url, timeout):
        raise raised

    monkeypatch.setattr(urllib.request, "urlopen", opener)
    with pytest.raises(InputError) as error:
        movielens.download(tmp_path / "raw")
    for text in (movielens.URL, "ratings.dat, users.dat, movies.dat", str(tmp_path / "raw")):
        assert text in str(error.value)
    assert read_all(tmp_path / "raw") == {}


def test_download_that_breaks_off(tmp_path, archive, monkeypatch):
    class Broken(io.BytesIO):
        def read(self, *_):
            raise ConnectionResetError("reset by peer")

    monkeypatch.setattr(urllib.request, "urlopen", lambda url, timeout: Broken())
    with pytest.raises(InputError, match="reset by peer"):
        movielens.download(tmp_path)
    assert read_all(tmp_path) == {}


# --- the real files


REAL = Path(os.environ.get("ML1M_DIR", "ml-1m"))


@pytest.mark.skipif(
    not (REAL / "ratings.dat").is_file(),
    reason="no MovieLens-1M: set ML1M_DIR to the directory of its .dat files",
)
def test_movielens_1m(tmp_path):
    schema = movielens.prepare(REAL, tmp_path / "out")
    assert schema.splits == {"train": 591_209, "valid": 73_901, "test": 73_902}
    assert schema.num_fields == 7
    assert schema.num_slots == 11
    # The published sizes; their split, like ours, leaves a few of the 3,668 rated movies out of training.
    published = {
        "UserID": 6042, "Gender": 4, "Age": 9, "Occupation": 23, "MovieID": 3643, "Release": 10, "Genres": 20
    }  # fmt: skip
    sizes = {field.name: field.vocab_size for field in schema.fields}
    assert abs(sizes.pop("MovieID") - published.pop("MovieID")) <= 5
    assert sizes == published
    assert abs(schema.num_features - 9_751) <= 5
