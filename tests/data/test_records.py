"""Delimited text beside Python's csv module in strict mode, and line ends."""

import csv
import gzip
import io
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ektf_jax.data import rawfiles
from ektf_jax.data.rawfiles import Layout
from ektf_jax.errors import InputError


def by_csv(text, separator):
    """Header and rows; None if the csv module or the shape of the table refuses."""
    try:
        rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True))
    except csv.Error:
        return None
    while rows and not rows[-1]:  # blank lines at the end
        rows.pop()
    whole = len(rows) > 1 and rows[0] and len(set(rows[0])) == len(rows[0])
    return rows if whole and all(len(row) == len(rows[0]) for row in rows) else None


def ours(path, separator, chunk_bytes):
    found = rawfiles.chunks(path, Layout(separator), (), chunk_bytes=chunk_bytes)
    try:
        frames = [chunk.frame for chunk in found]
    except InputError:
        return None
    rows = [[value or "" for value in row] for frame in frames for row in frame.rows()]
    return [frames[0].columns, *rows]


PLAIN = ["a", "é", "漢", "😀", " ", "'"]


def random_text(rng, separator, end):
    """A few lines, most of them as they should be, with quotes, separators and line ends at any place."""
    width = rng.randint(1, 3)
    special = ['"', '"', '""', separator, "\n", "\r\n", *PLAIN]
    lines = [separator.join("xyz"[:width])]
    if rng.random() < 0.2:
        return lines[0] + end + "".join(rng.choice(special) for _ in range(rng.randint(1, 20)))
    for _ in range(rng.randint(1, 6)):
        cells = []
        for _ in range(width):
            letters = special if rng.random() < 0.3 else ['"', *PLAIN]
            body = "".join(rng.choice(letters) for _ in range(rng.randint(0, 4)))
            kind = rng.random()
            doubled = body if kind < 0.05 else body.replace('"', '""')
            cells.append(f'"{doubled}"' if kind < 0.5 else body)
        lines.append(separator.join(cells))
    return end.join(lines) + rng.choice(["", end, end * 2])


def assert_equal_csv(folder, seed, files):
    rng = random.Random(seed)
    read = refused = 0
    for _ in range(files):
        separator = rng.choice(",;\t|")
        text = random_text(rng, separator, rng.choice(["\n", "\r\n"]))
        (folder / "a.csv").write_bytes(text.encode())
        expected = by_csv(text, separator)
        for chunk_bytes in (rng.choice([1, 7, 30]), 1 << 20):
            assert ours(folder / "a.csv", separator, chunk_bytes) == expected, (text, separator, chunk_bytes)
        read, refused = read + (expected is not None), refused + (expected is None)
    assert min(read, refused) > files / 10


def test_small_files_equal_the_csv_module(tmp_path):
    assert_equal_csv(tmp_path, 0, 300)


@pytest.mark.long
def test_20000_small_files_equal_the_csv_module(tmp_path):
    assert_equal_csv(tmp_path, 1, 20_000)


CELL = st.text(st.sampled_from([*PLAIN, '"', ",", "\n", "\r", ";"]), max_size=4)


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(st.lists(CELL, min_size=2, max_size=2), min_size=1, max_size=12),
    end=st.sampled_from(["\n", "\r\n"]),
    chunk_bytes=st.sampled_from([1, 9, 40, 1 << 20]),
)
def test_what_the_csv_module_writes_is_read_as_it_was(tmp_path_factory, rows, end, chunk_bytes):
    """A \\r alone is a character inside quotes, and \\r\\n stays there."""
    path = tmp_path_factory.mktemp("case") / "a.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, quoting=csv.QUOTE_ALL, lineterminator=end).writerows([["x", "y"], *rows])
    assert ours(path, ",", chunk_bytes) == [["x", "y"], *rows]


@pytest.mark.parametrize("inches", [False, True])
@pytest.mark.parametrize("chunk_bytes", [1 << 25, 1 << 16])
def test_large_files_equal_the_csv_module(tmp_path, inches, chunk_bytes):
    """Files of several parts, at which polars works by several threads."""
    rng = random.Random(2)
    records = []
    for _ in range(300):
        body = "".join(rng.choice([*PLAIN, '""', ",", "\n", "\r\n"]) for _ in range(rng.randint(0, 6)))
        records.append(f'"{body}",{5 * rng.randint(0, 9)}{chr(34) if inches else ""} x')
    text = "x,y\n" + "\n".join(rng.choices(records, k=30_000)) + "\n"
    (tmp_path / "a.csv").write_bytes(text.encode())
    assert ours(tmp_path / "a.csv", ",", chunk_bytes) == by_csv(text, ",")


def test_one_quote_in_a_value_does_not_hold_up_a_file(tmp_path):
    """A single quote, and quoted line ends after it: no record is taken for another's rest."""
    lines = ['1,5" x', *['2,"a\nb"'] * 200] * 3
    (tmp_path / "a.csv").write_text("x,y\n" + "\n".join(lines), encoding="utf-8")
    chunks = list(rawfiles.chunks(tmp_path / "a.csv", Layout(), (), chunk_bytes=50))
    assert len(chunks) > 50
    assert [value for chunk in chunks for value in chunk.frame["y"]] == ['5" x', *["a\nb"] * 200] * 3


@pytest.mark.parametrize("before", [0, 3, 30])
@pytest.mark.parametrize("chunk_bytes", [8, 1 << 20])
@pytest.mark.parametrize("bad", ['1,"a"b"', '"a""b"c,2', '1,"a" ', '1,"a', '"a"\r"b",2'])
def test_a_wrong_quote_is_named_by_its_line(tmp_path, before, chunk_bytes, bad):
    text = "x,y\n" + '1,"p\nq"\n' * before + bad + "\n3,4\n" * 5
    (tmp_path / "a.csv").write_bytes(text.encode())
    with pytest.raises(InputError) as error:
        list(rawfiles.chunks(tmp_path / "a.csv", Layout(), (), chunk_bytes=chunk_bytes))
    assert f"a.csv:{2 * before + 2}: " in str(error.value)


@pytest.mark.parametrize(
    ("data", "line", "layout"),
    [
        (b"x,y\r1,2\r3,4\r", 1, Layout()),
        (b"x,y\r1,2\r3,4\r", 1, Layout(quoting=False)),
        (b"1,2\r3,4\r", 1, Layout(columns=("x", "y"), quoting=False)),
        (b"x,y\n1,2\r3,4\n", 2, Layout()),
        (b"x,y\n1,2\r3,4\n", 2, Layout(quoting=False)),
        (b"x,y\n1,2\r3,4\n", 2, Layout(quoting=False, loose=True)),
        (b"x,y\r\n1,2\r\n3\r,4\r\n", 3, Layout()),
        (b'x,y\n1,"a\n\r"\n3\r,4\n', 4, Layout()),
        (b'x,y\n1,"a"\r2,"b"\n', 2, Layout()),
        (b'x,y\n1,5" a\r2,"b"\n', 2, Layout()),
        (b"x,y\n1,2\r\r\n", 2, Layout(quoting=False)),
        (gzip.compress(b"x,y\r1,2\r3,4\r", mtime=0), 1, Layout()),
    ],
)
@pytest.mark.parametrize("chunk_bytes", [5, 1 << 20])
def test_a_carriage_return_alone(tmp_path, data, line, layout, chunk_bytes):
    (tmp_path / "a.csv").write_bytes(data)
    with pytest.raises(InputError, match=rf"a\.csv:{line}: a carriage return alone ends a line"):
        list(rawfiles.chunks(tmp_path / "a.csv", layout, (), chunk_bytes=chunk_bytes))


@pytest.mark.parametrize(
    ("line", "values"),
    [
        ("1,2,3", ["1", "2"]),
        ('"1,0",2', ["1,0", "2"]),
        ('"1,0","2,0",3,4', ["1,0", "2,0"]),
        ('"1,0"x,2', ['"1', '0"x']),  # no right quotes, so that they are none
        ('"1,2,3', ['"1', "2"]),
    ],
)
def test_a_loose_line_of_too_many_columns_is_read_as_if_quoted(tmp_path, line, values):
    layout = Layout(quoting=False, loose=True)
    (tmp_path / "a.csv").write_text(f"x,y\n{line}\n'p',\"q\n", encoding="utf-8")
    (chunk,) = rawfiles.chunks(tmp_path / "a.csv", layout, ())
    assert chunk.frame.rows() == [tuple(values), ("'p'", '"q')]
    (tmp_path / "a.csv").write_text(f"x,y\n{line}\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"a\.csv:2: has \d columns, not the 2 of x, y"):
        list(rawfiles.chunks(tmp_path / "a.csv", Layout(quoting=False), ()))


PAGE = b"<!DOCTYPE html>\n<html><head><title>Sign in</title></head>,<body></body></html>\n"


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (PAGE, "an HTML page"),
        (b"\xef\xbb\xbf\r\n  <HTML>\n", "an HTML page"),
        (b"<!-- saved -->\n<html>", "an HTML page"),
        (gzip.compress(PAGE, mtime=0), "an HTML page"),
        (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "an XML document"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "a pointer of Git LFS"),
        (b"PK\x03\x04\x14\0", "a zip archive"),
        (b"\x28\xb5\x2f\xfd\0", "compressed, but not by gzip"),
        (b"BZh91AY&SY\0", "compressed, but not by gzip"),
    ],
)
@pytest.mark.parametrize("quoting", [True, False])
def test_what_is_no_table_is_named(tmp_path, data, what, quoting):
    (tmp_path / "a.csv").write_bytes(data)
    with pytest.raises(InputError, match=rf"a\.csv: is {what}, not a table; "):
        list(rawfiles.chunks(tmp_path / "a.csv", Layout(quoting=quoting), (), chunk_bytes=9))


def test_text_that_begins_like_compressed_data(tmp_path):
    for start in ("x^", "x\x01"):
        (tmp_path / "a.csv").write_text(f"{start},y\n{start},2\n", encoding="utf-8")
        assert ours(tmp_path / "a.csv", ",", 1 << 20) == [[start, "y"], [start, "2"]]
