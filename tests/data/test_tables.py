import csv
import gzip
import hashlib
import io
import itertools
import json
import math
import os
import random
import subprocess
import sys
import textwrap
from collections import Counter
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ektf_jax.data import encoded, tables, vocabulary
from ektf_jax.data.rawfiles import Layout
from ektf_jax.data.schema import SPLITS
from ektf_jax.data.tables import Derivation, FieldSpec, TableSpec
from ektf_jax.errors import InputError
from tests.full_disk import no_file_longer_than

# --- the same encoding in plain Python


def reference_values(field: FieldSpec, text: str) -> list[str | None]:
    """What a field counts of one cell; None is a missing single value."""
    if field.kind == "multi":
        if text in field.missing:
            return []
        return [word for word in text.split(field.separator) if word and word not in field.missing]
    if field.kind != "numeric":
        return [field.fill if text in field.missing else text]
    numbers = [float(mark) for mark in field.missing if mark not in ("", "NA")]
    missing = text in field.missing or float(text) in numbers
    value = field.fill if missing else text
    if value is None:
        return [None]
    x = float(value)
    return [str(math.floor(math.log(x) ** 2) if x > 2 else 1 if field.paper_buckets else int(x))]


def reference(spec: TableSpec, rows: list[dict[str, str]], splits: list[str]) -> tuple[list, list]:
    """(words of each field, ids of each row), from rows of text in order and the split of each."""
    vocabularies, offset, columns = [], 0, []
    for field in spec.fields:
        values = [reference_values(field, row[field.name]) for row in rows]
        counts = Counter(
            word
            for cell, split in zip(values, splits, strict=True)
            for word in set(cell)
            if split == "train" and word is not None
        )
        words = sorted((w for w in counts if counts[w] >= field.min_count), key=lambda w: (-counts[w], w))
        local = {word: offset + 1 + rank for rank, word in enumerate(words)}
        oov = offset + len(words) + 1
        columns.append(
            [
                [local.get(word, oov) for word in cell[: field.max_len]] + [0] * (field.max_len - len(cell))
                for cell in values
            ]
        )
        vocabularies.append(words)
        offset += len(words) + 2
    ids = [list(itertools.chain(*cells)) for cells in zip(*columns, strict=True)]
    return vocabularies, ids


def reference_splits(rows: int, seed: int) -> list[str]:
    order = np.random.default_rng(seed).permutation(rows)
    splits = [""] * rows
    for place, row in enumerate(order):
        splits[row] = (
            "train" if place < rows * 8 // 10 else "valid" if place < rows * 8 // 10 + rows // 10 else "test"
        )
    return splits


def assert_encodes(out: Path, spec: TableSpec, rows: list[dict[str, str]], splits: list[str]) -> None:
    vocabularies, ids = reference(spec, rows, splits)
    schema = encoded.open_schema(out)
    assert [field.name for field in schema.fields] == [field.name for field in spec.fields]
    assert [field.vocab_size for field in schema.fields] == [len(words) + 2 for words in vocabularies]
    words = pl.read_parquet(out / "vocabulary.parquet")
    assert words["value"].to_list() == list(itertools.chain(*vocabularies))
    for name in SPLITS:
        split = encoded.open_split(out, name)
        mine = [at for at, one in enumerate(splits) if one == name]
        assert split.ids.tolist() == [ids[at] for at in mine]
        labels = [float(rows[at][spec.label]) for at in mine]
        expected = [float(x > spec.above) for x in labels] if spec.above is not None else labels
        assert split.labels.tolist() == expected


# --- random tables

# Letters in which separators, quotes and line feeds are as likely as anything else.
LETTERS = st.sampled_from(["a", "b", "é", "漢", "😀", " ", "'", ",", ";", "\t", "|", "0", '"', "\n"])
NUMBERS = st.sampled_from(["0", "1", "2", "3", "2.5", "-1", "-1.7", "0.3", "7", "20", "1e3", "1000000", "05"])


def text(layout: Layout, avoid: str = "") -> st.SearchStrategy[str]:
    letters = set("\n\r") | set(layout.separator) | {'"'} if not layout.quoting else set("\r")
    return st.text(LETTERS.filter(lambda letter: letter not in letters | set(avoid)), max_size=3)


@st.composite
def cases(draw):
    separator, quoting = draw(
        st.sampled_from([(",", True), ("\t", False), (";", True), ("::", False), ("|", False)])
    )
    layout = Layout(separator, None if draw(st.booleans()) else ("y", "c", "n", "m"), quoting)
    inner = "^" if separator != "^" else "&"
    count = st.integers(1, 3)
    missing = st.sampled_from([("",), ("", "a"), ("", "0"), ()])
    fill = st.sampled_from([None, "", "0", "a"])
    number = st.sampled_from([None, "0", "7", "2.5", "-1.7"])
    fields = (
        FieldSpec("c", "categorical", draw(count), draw(missing), draw(fill)),
        FieldSpec("n", "numeric", draw(count), ("", draw(st.sampled_from(["0", "NA", "5.0"]))), draw(number)),
        FieldSpec("m", "multi", draw(count), draw(missing), None, inner, draw(count)),
    )
    if draw(st.booleans()):
        fields = (fields[2], FieldSpec("n", "numeric", 2, ("",), "1", paper_buckets=True), fields[0])
    above = draw(st.sampled_from([None, 0, 2.5]))
    label = st.sampled_from(["0", "1"] if above is None else ["0", "1", "2", "3", "2.5", "10"])
    words = text(layout, inner)
    row = st.fixed_dictionaries(
        {
            "y": label,
            "c": words,
            "n": st.one_of(NUMBERS, st.just("")),
            "m": st.lists(words, max_size=4).map(inner.join),
        }
    )
    rows = draw(st.lists(row, min_size=10, max_size=40))
    # Every column holds something: an empty one is an error, as one of nothing but the missing number 5.0.
    rows[0] |= {"c": "b", "n": "6", "m": "b"}
    return TableSpec("random", "y", fields, layout, above), rows


def render(layout: Layout, rows: list[dict[str, str]], end: str = "\n", blank: str = "") -> bytes:
    names = layout.columns or tuple(rows[0])
    records = [[row[name] for name in names] for row in rows]
    if layout.columns is None:
        records.insert(0, list(names))
    if not layout.quoting:
        return "".join(layout.separator.join(record) + end for record in records).encode() + blank.encode()
    file = io.StringIO(newline="")
    writer = csv.writer(file, delimiter=layout.separator, lineterminator=end)
    writer.writerows(records)
    return file.getvalue().encode() + blank.encode()


@settings(max_examples=30, deadline=None)
@given(
    case=cases(),
    end=st.sampled_from(["\n", "\r\n"]),
    blank=st.sampled_from(["", "\n", "\r\n\n"]),
    zipped=st.booleans(),
    chunk_bytes=st.sampled_from([7, 60, 300, 1 << 20]),
    seed=st.integers(0, 3),
    files=st.integers(1, 3),
)
@pytest.mark.slow
def test_against_plain_python(tmp_path_factory, case, end, blank, zipped, chunk_bytes, seed, files):
    spec, rows = case
    folder = tmp_path_factory.mktemp("case")
    paths = []
    cuts = [len(rows) * index // files for index in range(files + 1)]
    for index in range(files):
        data = render(spec.layout, rows[cuts[index] : cuts[index + 1]], end, blank)
        paths.append(folder / f"{index}.txt")
        paths[-1].write_bytes(gzip.compress(data, mtime=0) if zipped else data)
    tables.prepare(spec, paths, folder / "out", split_seed=seed, chunk_bytes=chunk_bytes)
    assert_encodes(folder / "out", spec, rows, reference_splits(len(rows), seed))


@settings(max_examples=25, deadline=None)
@given(case=cases(), chunk_bytes=st.sampled_from([7, 1 << 20]), has_valid=st.booleans())
def test_ready_splits(tmp_path_factory, case, chunk_bytes, has_valid):
    spec, rows = case
    folder = tmp_path_factory.mktemp("case")
    names = ("train", "valid", "test") if has_valid else ("train", "test")
    parts = {name: rows[index :: len(names)] for index, name in enumerate(names)}
    for name, part in parts.items():
        (folder / name).write_bytes(render(spec.layout, part))
    tables.prepare(spec, {name: [folder / name] for name in names}, folder / "out", chunk_bytes=chunk_bytes)
    parts.setdefault("valid", parts["test"])
    flat = [row for name in SPLITS for row in parts[name]]
    splits = [name for name in SPLITS for _ in parts[name]]
    assert_encodes(folder / "out", spec, flat, splits)


@settings(max_examples=25, deadline=None)
@given(case=cases(), chunk_bytes=st.sampled_from([50, 1 << 20]), as_lists=st.booleans())
def test_parquet(tmp_path_factory, case, chunk_bytes, as_lists):
    spec, rows = case
    folder = tmp_path_factory.mktemp("case")
    multi = next(field for field in spec.fields if field.kind == "multi")
    frame = pl.DataFrame(rows).with_columns(pl.col("y").cast(pl.Float32), pl.lit("unused").alias("more"))
    if as_lists:
        frame = frame.with_columns(pl.col("m").str.split(multi.separator))
    frame.write_parquet(folder / "a.parquet", row_group_size=7)
    tables.prepare(spec, [folder / "a.parquet"], folder / "out", chunk_bytes=chunk_bytes)
    assert_encodes(folder / "out", spec, rows, reference_splits(len(rows), 2024))


def test_parquet_types(tmp_path):
    """Numbers, truth values and nulls count as their text."""
    frame = pl.DataFrame(
        {
            "y": [True, False] * 6,
            "i": [1, 2, None] * 4,
            "x": [0.5, 30.0, None, 3.0] * 3,
            "b": [True, None] * 6,
            "t": [[1, 2], None, []] * 4,
        }
    )
    frame.write_parquet(tmp_path / "a.parquet")
    fields = (FieldSpec("i"), FieldSpec("x", "numeric"), FieldSpec("b"), FieldSpec("t", "multi", max_len=2))
    spec = TableSpec("types", "y", fields)
    tables.prepare(spec, [tmp_path / "a.parquet"], tmp_path / "out")
    rows = [
        {
            "y": str(int(row["y"])),
            "i": "" if row["i"] is None else str(row["i"]),
            "x": "" if row["x"] is None else str(row["x"]),
            "b": "" if row["b"] is None else "1",
            "t": "^".join(str(one) for one in row["t"] or []),
        }
        for row in frame.to_dicts()
    ]
    assert_encodes(tmp_path / "out", spec, rows, reference_splits(len(rows), 2024))


def test_shares_and_merges_count_the_same(tmp_path, monkeypatch):
    """Many more distinct values than are counted at a time."""
    random.seed(0)
    rows = [
        {
            "y": random.choice("01"),
            "c": str(int(random.expovariate(0.02))),
            "n": "1",
            "m": f"a^{random.random()}",
        }
        for _ in range(600)
    ]
    fields = (FieldSpec("c", min_count=2), FieldSpec("n", "numeric"), FieldSpec("m", "multi", max_len=2))
    spec = TableSpec("shares", "y", fields)
    (tmp_path / "a.csv").write_bytes(render(spec.layout, rows))
    monkeypatch.setattr(vocabulary, "_MERGED", 50)
    tables.prepare(spec, [tmp_path / "a.csv"], tmp_path / "out", chunk_bytes=1000)
    assert_encodes(tmp_path / "out", spec, rows, reference_splits(len(rows), 2024))


@pytest.mark.parametrize("rows", [10, 11, 19, 1000])
def test_drawn_splits_are_those_of_a_permutation(rows):
    drawn = tables.draw_splits(rows, 7)
    assert [SPLITS[place] for place in drawn] == reference_splits(rows, 7)


def test_buckets_by_hand(tmp_path):
    numbers = ["", "0", "1", "2", "2.01", "3", "100", "-3", "0.9", "1e9", "5", "5"]
    rows = [{"y": "1", "n": number} for number in numbers]
    spec = TableSpec("hand", "y", (FieldSpec("n", "numeric"),))
    for name in ("train", "test"):
        (tmp_path / name).write_bytes(render(spec.layout, rows))
    tables.prepare(spec, {n: [tmp_path / n] for n in ("train", "test")}, tmp_path / "out")
    # ln(5)^2 = 2.59, so 5 joins 2; ln(2.01)^2 = 0.49, so 2.01 joins 0 and 0.9; ln(3)^2 = 1.2, as 1.
    words = pl.read_parquet(tmp_path / "out/vocabulary.parquet")["value"].to_list()
    assert words == ["0", "2", "1", "-3", "21", "429"]


def test_unused_columns_and_their_order(tmp_path):
    (tmp_path / "a.csv").write_text("z,c,y\n" + "?,v,1\n" * 10)
    spec = TableSpec("order", "y", (FieldSpec("c"),))
    tables.prepare(spec, [tmp_path / "a.csv"], tmp_path / "out")
    assert encoded.open_split(tmp_path / "out", "train").ids.tolist() == [[1]] * 8


def test_byte_order_mark(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"\xef\xbb\xbfy,c\n" + b"1,v\n" * 10)
    tables.prepare(TableSpec("bom", "y", (FieldSpec("c"),)), [tmp_path / "a.csv"], tmp_path / "out")
    assert encoded.open_schema(tmp_path / "out").splits == {"train": 8, "valid": 1, "test": 1}


def test_derivation(tmp_path):
    (tmp_path / "a.csv").write_text("y,c\n" + "1,v\n0,w\n" * 10)
    (tmp_path / "other.txt").write_text("!")

    def make(chunk):
        return chunk.frame.select("y", d=pl.col("c") + (tmp_path / "other.txt").read_text())

    derivation = Derivation(make, ("y", "c"), (tmp_path / "other.txt",))
    spec = TableSpec("derived", "y", (FieldSpec("d"),))
    prepare = lambda: tables.prepare(spec, [tmp_path / "a.csv"], tmp_path / "out", derivation=derivation)  # noqa: E731
    prepare()
    words = tmp_path / "out/vocabulary.parquet"
    assert sorted(pl.read_parquet(words)["value"]) == ["v!", "w!"]
    before = words.stat().st_ino
    prepare()
    assert words.stat().st_ino == before
    (tmp_path / "other.txt").write_text("?")
    prepare()
    assert sorted(pl.read_parquet(words)["value"]) == ["v?", "w?"]


# --- doing nothing twice


FIELDS = (FieldSpec("c"), FieldSpec("n", "numeric"))


def simple(tmp_path, data, layout=None, **options):
    """Prepares one file with columns y, c, n."""
    (tmp_path / "a.csv").write_bytes(data if isinstance(data, bytes) else data.encode())
    spec = TableSpec("simple", "y", FIELDS, layout or Layout(), **options)
    return tables.prepare(spec, [tmp_path / "a.csv"], tmp_path / "out", chunk_bytes=64)


GOOD = "y,c,n\n" + "1,a,5\n0,b,6\n" * 8


def test_again_only_after_a_change(tmp_path, monkeypatch):
    def written(data=GOOD, **options):
        calls = []

        def counted(*args):
            calls.append(1)
            write(*args)

        monkeypatch.setattr(tables, "_write", counted)
        assert simple(tmp_path, data, **options) == encoded.open_schema(tmp_path / "out")
        return bool(calls)

    write = tables._write
    assert written()
    assert not written()
    assert written(data=GOOD.replace("5", "9"))  # as many bytes as before
    assert written(above=0.5)
    assert not written(data=GOOD, above=0.5)
    (tmp_path / "out/test/labels.npy").write_bytes(b"")
    assert written(data=GOOD, above=0.5)


def as_version_0_1_0_described_it(out):
    """Returns the text of schema.json, without digests and by the encoder of then."""
    document = json.loads((out / "schema.json").read_text())
    document["source"]["encoder"] = 1
    del document["arrays"]
    text = json.dumps(document, indent=2) + "\n"
    (out / "schema.json").write_text(text)
    return text


def test_again_what_version_0_1_0_made_is_still_what_its_runs_are_held_to(tmp_path):
    """The same ids keep its description; others do not."""
    out = tmp_path / "out"
    simple(tmp_path, GOOD)
    described = as_version_0_1_0_described_it(out)
    for _ in range(2):
        schema = simple(tmp_path, GOOD)
        assert (out / "schema.json").read_text() == described
        assert schema == encoded.open_schema(out)
    ids = np.load(out / "train/ids.npy")
    ids[0] = ids[1]
    np.save(out / "train/ids.npy", ids)
    assert simple(tmp_path, GOOD).source["encoder"] == tables.ENCODER


@pytest.mark.parametrize("what", ["file", "spec", "words"])
def test_again_another_dataset_than_version_0_1_0_made_is_described_anew(tmp_path, what):
    out = tmp_path / "out"
    simple(tmp_path, GOOD)
    as_version_0_1_0_described_it(out)
    if what == "words":
        words = pl.read_parquet(out / "vocabulary.parquet")
        words.with_columns(pl.col("value") + "?").write_parquet(out / "vocabulary.parquet")
    data = GOOD.replace("a", "z") if what == "file" else GOOD  # which has the same ids
    schema = simple(tmp_path, data, **({"above": 0.5} if what == "spec" else {}))
    assert schema.source["encoder"] == tables.ENCODER
    assert encoded.open_schema(out) == schema
    known = set(pl.read_parquet(out / "vocabulary.parquet")["value"])
    assert known == {"z" if what == "file" else "a", "b", "2", "3"}


def test_source(tmp_path):
    source = simple(tmp_path, GOOD).source
    assert source["files"] == [
        {
            "name": "a.csv",
            "splits": [],
            "bytes": len(GOOD),
            "sha256": hashlib.sha256(GOOD.encode()).hexdigest(),
        }
    ]
    assert source["split_seed"] == 2024
    assert source["spec"]["fields"][1]["kind"] == "numeric"
    assert len(source["spec_sha256"]) == 64


def test_source_says_when_raw_files_are_synthetic(tmp_path):
    assert "synthetic" not in simple(tmp_path, GOOD).source
    (tmp_path / "SYNTHETIC.txt").touch()
    assert simple(tmp_path, GOOD).source["synthetic"] is True
    assert simple(tmp_path, GOOD) == encoded.open_schema(tmp_path / "out")  # and stays up to date
    (tmp_path / "SYNTHETIC.txt").unlink()
    assert "synthetic" not in simple(tmp_path, GOOD).source


def test_the_checksum_of_a_gzipped_file_is_that_of_its_bytes(tmp_path):
    data = (
        gzip.compress(GOOD.encode(), mtime=0) + gzip.compress(b"1,a,2\n", mtime=0) + bytes(7)
    )  # members, and padding as of tapes
    file = simple(tmp_path, data).source["files"][0]
    assert (file["bytes"], file["sha256"]) == (len(data), hashlib.sha256(data).hexdigest())
    assert sum(encoded.open_schema(tmp_path / "out").splits.values()) == 17


# --- bad input


def refuses(tmp_path, data, *said, **options):
    with pytest.raises(InputError) as error:
        simple(tmp_path, data, **options)
    for text in said:
        assert text in str(error.value)
    assert not (tmp_path / "out").exists()
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize("line", [2, 9, 30, 41])
@pytest.mark.parametrize(("bad", "count"), [("1,x", 2), ("1,x,2,3", 4), ("", 0), ("1,x,2,", 4)])
@pytest.mark.parametrize("quoting", [True, False])
def test_wrong_number_of_columns(tmp_path, line, bad, count, quoting):
    lines = GOOD.splitlines()[:1] + ["1,a,2"] * 40
    lines[line - 1] = bad
    # A blank last line is no line at all.
    if bad == "" and line == 41:
        lines.append("1,a,2")
    layout = Layout(quoting=quoting)
    refuses(tmp_path, "\n".join(lines), f"a.csv:{line}: has {count} columns, not the 3", layout=layout)


def test_two_wrong_lines_do_not_make_a_right_one(tmp_path):
    refuses(tmp_path, GOOD + "1,x\n1,x,2,3\n", "a.csv:18: has 2 columns")
    refuses(tmp_path, GOOD + "1,x,2,3\n1,x\n", "a.csv:18: has 4 columns")
    refuses(tmp_path, GOOD + '1,"x,"\n', "a.csv:18: has 2 columns")


def test_lines_are_counted_through_quoted_line_feeds(tmp_path):
    quoted = GOOD + '1,"x\ny\n",3\n' * 5
    refuses(tmp_path, quoted + "1,x\n", "a.csv:33: has 2 columns")
    refuses(tmp_path, quoted + '1,"x\n",3\n2,x,3\n', "a.csv:35: y is '2'; the label must be 0 or 1")


def test_quotes(tmp_path):
    refuses(tmp_path, GOOD + '1,"x,3\n', "a.csv:18: ", "set quoting to false")
    refuses(tmp_path, GOOD + '1,"x"z,3\n', "a.csv:18: ", "set quoting to false")
    simple(tmp_path, GOOD + '1,"x,3\n1,a"b,4\n', Layout(quoting=False))
    words = pl.read_parquet(tmp_path / "out/vocabulary.parquet")["value"]
    assert {'"x', 'a"b'} & set(words)


def test_a_quote_inside_an_unquoted_value_is_kept(tmp_path):
    simple(tmp_path, GOOD + '1,5" x,3\n' * 4)
    assert '5" x' in pl.read_parquet(tmp_path / "out/vocabulary.parquet")["value"].to_list()


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "a.csv: is empty"),
        (b"y,c,n\n", "a.csv: has no rows"),
        (b"\n\n\n", "a.csv: has no rows"),
        (b"y,c,n\n\n", "a.csv: has no rows"),
        (b"y,c,n\n1,a,2\n", "a.csv: 1 rows, fewer than the 10"),
        (GOOD.encode() + b"1,\0,2\n", "a.csv:18: has a NUL byte"),
        (GOOD.encode("utf-16"), "a.csv:1: is UTF-16"),
        (bytes(range(256)) * 50, "a.csv:1: has a NUL byte"),
        (
            GOOD.encode() + "1,é,2\n".encode("latin-1") + b"1,a,2\n" * 20,
            r"a.csv:18: byte b'\xe9' is not UTF-8",
        ),
        ("y,é,n\n1,a,2".encode("latin-1"), r"a.csv:1: byte b'\xe9' is not UTF-8"),
        (gzip.compress(GOOD.encode(), mtime=0)[:-12], "a.csv: the gzip data end before their end mark"),
        (
            gzip.compress(random.Random(0).randbytes(500).hex().encode(), mtime=0)[:100],
            "a.csv: the gzip data end",
        ),
        (b"\x1f\x8b nonsense", "a.csv: damaged gzip data"),
        (b"PAR1 nonsense", "a.csv: damaged or unsupported Parquet"),
        (b"x,c,n\n1,a,2\n", "a.csv:1: the header lacks y; it has x, c, n"),
        (b"1,a,2\n0,b,2\n", "a.csv:1: the header lacks y, c, n; it has 1, a, 2"),
        (b"1,2,2\n0,3,3\n", "a.csv:1: the header lacks y, c, n; it has 1, 2, 2"),
        (
            b"y;c;n\n1;a;2\n",
            "a.csv:1: the header lacks y, c, n; it has y;c;n; what separates its columns is ';'",
        ),
        (b"y,c,n,c\n1,a,2,3\n", "a.csv:1: the header has c more than once"),
        (
            GOOD.encode() + b"2,a,2\n",
            "a.csv:18: y is '2'; the label must be 0 or 1; correct or remove the line, or say in the dataset"
            " file which numbers are clicks: `label: {name: ..., above: NUMBER}`",
        ),
        (GOOD.encode() + b",a,2\n", "a.csv:18: y is ''; the label must be 0 or 1"),
        (GOOD.encode() + b"nan,a,2\n", "a.csv:18: y is 'nan'; the label must be 0 or 1"),
        (GOOD.encode() + b"1,a,x2\n1,a,y2\n", "a.csv:18: n is 'x2'; it must be a number"),
        (GOOD.encode() + b"1,a,inf\n", "a.csv:18: n is 'inf'; it must be a number"),
        (GOOD.encode() + b"1,a,-1e300\n", "a.csv:18: n is '-1e300'; it must be a number"),
        (b"y,c,n\n" + b"1,,2\n" * 20, "a.csv: c is '' in every row; leave the field out"),
        (b"y,c,n\n" + b"1,a,\n" * 20, "a.csv: n is '' in every row; leave the field out"),
    ],
)
def test_refuses(tmp_path, data, said):
    refuses(tmp_path, data, said)


def test_a_multi_valued_field_without_any_value(tmp_path):
    (tmp_path / "a.csv").write_text("y,m\n" + "1,\n0,^-^\n" * 10)
    spec = TableSpec("empty", "y", (FieldSpec("m", "multi", missing=("", "-"), max_len=2),))
    with pytest.raises(InputError, match=r"a\.csv: m is '' or '-' in every row; leave the field out"):
        tables.prepare(spec, [tmp_path / "a.csv"], tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]


@pytest.mark.parametrize("empty", ["train", "test"])
def test_a_field_without_any_value_in_one_split(tmp_path, empty):
    rows = {
        split: [
            {"y": str(at % 2), "c": "", "m": ""} if split == empty else {"y": "1", "c": "a", "m": "x^y"}
            for at in range(3)
        ]
        for split in ("train", "test")
    }
    spec = TableSpec("empty", "y", (FieldSpec("c"), FieldSpec("m", "multi", max_len=2)))
    for split, part in rows.items():
        (tmp_path / split).write_bytes(render(spec.layout, part))
    tables.prepare(spec, {split: [tmp_path / split] for split in rows}, tmp_path / "out")
    flat = [*rows["train"], *rows["test"], *rows["test"]]
    assert_encodes(tmp_path / "out", spec, flat, ["train"] * 3 + ["valid"] * 3 + ["test"] * 3)


@pytest.mark.parametrize(("label", "shown"), [(2, "2"), (None, ""), (0.5, "0.5")])
def test_a_bad_label_in_parquet(tmp_path, label, shown):
    pl.DataFrame({"y": [0, 1] * 6 + [label], "c": "a"}, strict=False).write_parquet(tmp_path / "a.parquet")
    spec = TableSpec("parquet", "y", (FieldSpec("c"),))
    with pytest.raises(InputError) as error:
        tables.prepare(spec, [tmp_path / "a.parquet"], tmp_path / "out")
    assert f"a.parquet: row 13: y is '{shown}'; the label must be 0 or 1" in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == ["a.parquet"]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (gzip.compress(random.Random(0).randbytes(500).hex().encode(), mtime=0)[:200], "the gzip data end"),
        (b"y,c,k\n1,a,2\n", "b.csv:1: the header lacks n; it has y, c, k"),
        (bytes(random.Random(0).choices(range(1, 256), k=5000)), "is not UTF-8"),
        (GOOD.encode() + b"1,a\n", "b.csv:18: has 2 columns"),
    ],
)
def test_a_bad_second_file_leaves_the_dataset_that_was_there(tmp_path, data, said):
    before = simple(tmp_path, GOOD)
    (tmp_path / "b.csv").write_bytes(data)
    files = {"train": [tmp_path / "a.csv"], "test": [tmp_path / "b.csv"]}
    with pytest.raises(InputError) as error:
        tables.prepare(TableSpec("simple", "y", FIELDS), files, tmp_path / "out", chunk_bytes=64)
    assert "b.csv" in str(error.value)
    assert said in str(error.value)
    assert encoded.current(tmp_path / "out", before.source) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.csv", "b.csv", "out"]


def test_label_above_a_threshold_is_a_number(tmp_path):
    refuses(tmp_path, GOOD + "a,a,2\n", "a.csv:18: y is 'a'; the label must be a number", above=3)


def test_gzip_is_damaged_in_the_middle(tmp_path):
    data = bytearray(gzip.compress(random.Random(0).randbytes(5000).hex().encode(), mtime=0))
    data[len(data) // 2] ^= 255
    refuses(tmp_path, bytes(data), "a.csv: ")


def test_files(tmp_path):
    spec = TableSpec("simple", "y", (FieldSpec("c"),))
    (tmp_path / "a.csv").write_text(GOOD)
    for files, said in (
        ([tmp_path / "none.csv"], "none.csv: cannot be read (No such file or directory)"),
        ([tmp_path], f"{tmp_path}: cannot be read (Is a directory)"),
        ([], "no raw files are given"),
        ({"train": [tmp_path / "a.csv"]}, "['train']; give train, test and perhaps valid"),
        ({"train": [tmp_path / "a.csv"], "tset": [tmp_path / "a.csv"]}, "tset"),
    ):
        with pytest.raises(InputError) as error:
            tables.prepare(spec, files, tmp_path / "out")
        assert said in str(error.value)
    with pytest.raises(InputError, match="split_seed is -1"):
        tables.prepare(spec, [tmp_path / "a.csv"], tmp_path / "out", split_seed=-1)
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]


def test_a_second_file_has_its_own_header(tmp_path):
    (tmp_path / "a.csv").write_text(GOOD)
    (tmp_path / "b.csv").write_text("c,y\nq,1\n")
    spec = TableSpec("two", "y", (FieldSpec("c"),))
    tables.prepare(spec, [tmp_path / "a.csv", tmp_path / "b.csv"], tmp_path / "out")
    (tmp_path / "b.csv").write_text("c,x\nq,1\n")
    with pytest.raises(InputError, match=r"b\.csv:1: the header lacks y"):
        tables.prepare(spec, [tmp_path / "a.csv", tmp_path / "b.csv"], tmp_path / "out")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"kind": "number"}, "kind is 'number'; it must be one of categorical, numeric, multi"),
        ({"min_count": 0}, "min_count is 0"),
        ({"max_len": 2}, "max_len is 2"),
        ({"kind": "multi", "separator": ""}, "separator is ''"),
        ({"kind": "multi", "fill": "x"}, "fill is 'x'"),
        ({"paper_buckets": True}, "paper_buckets is True"),
    ],
)
def test_field_spec_refuses(change, said):
    with pytest.raises(InputError, match="field f: ") as error:
        FieldSpec("f", **change)
    assert said in str(error.value)


def test_table_spec_refuses():
    with pytest.raises(InputError, match="y is named twice"):
        TableSpec("t", "y", (FieldSpec("y"),))
    with pytest.raises(InputError, match="has no fields"):
        TableSpec("t", "y", ())
    for layout in ({"separator": ""}, {"separator": "::"}, {"separator": "\n"}):
        with pytest.raises(InputError, match="separator is"):
            Layout(**layout)


# --- a disk that is full, a kill, two at once


@pytest.mark.parametrize("limit", [300, 1500, 5000])
def test_disk_full(tmp_path, limit):
    data = "y,c,n\n" + "1,a,5\n0,b,6\n" * 2000
    (tmp_path / "a.csv").write_text(data)
    spec = TableSpec("simple", "y", FIELDS)
    said = r"out: cannot write the encoded dataset \(.*; choose another --out"
    with no_file_longer_than(limit), pytest.raises(InputError, match=said):
        tables.prepare(spec, [tmp_path / "a.csv"], tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]


PREPARE = """
    import sys, time
    from pathlib import Path
    from ektf_jax.data import tables
    from ektf_jax.data.tables import FieldSpec, TableSpec
    raw, out, wait = Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3])
    step = getattr(tables, sys.argv[4])
    def slow(*args):
        print("there", flush=True)
        time.sleep(wait)
        return step(*args)
    setattr(tables, sys.argv[4], slow)
    tables.prepare(TableSpec("simple", "y", (FieldSpec("c"), FieldSpec("n", "numeric"))), [raw], out)
"""


def start(*arguments):
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = [sys.executable, "-c", textwrap.dedent(PREPARE), *map(str, arguments)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


def test_killed(tmp_path):
    """Whenever the kill comes nothing is there that loads, and the next prepare clears up and succeeds."""
    (tmp_path / "a.csv").write_text(GOOD)
    steps = ("_part", "_finish", "_write", "_drawn")
    writers = [
        start(tmp_path / "a.csv", tmp_path / f"out{index}", 60, step) for index, step in enumerate(steps)
    ]
    for writer in writers:
        assert writer.stdout.readline() == "there\n"
        writer.kill()
        writer.wait()
        writer.stdout.close()
    left = sorted(path.name for path in tmp_path.iterdir())
    assert all(name == "a.csv" or name.startswith(".out") for name in left)
    assert len(left) == 1 + len(steps)
    spec = TableSpec("simple", "y", FIELDS)
    for index in range(len(steps)):
        tables.prepare(spec, [tmp_path / "a.csv"], tmp_path / f"out{index}")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.csv", "out0", "out1", "out2", "out3"]


def test_two_at_once(tmp_path):
    for name, data in (("a.csv", GOOD), ("b.csv", GOOD.replace("a", "z"))):
        (tmp_path / name).write_text(data)
    writers = [start(tmp_path / name, tmp_path / "out", 0.3, "_write") for name in ("a.csv", "b.csv")]
    for writer in writers:
        writer.communicate()
    assert [writer.returncode for writer in writers] == [0, 0]
    schema = encoded.open_schema(tmp_path / "out")
    assert encoded.current(tmp_path / "out", schema.source) == schema
    words = pl.read_parquet(tmp_path / "out/vocabulary.parquet")["value"].to_list()
    assert ("a" in words) == (schema.source["files"][0]["name"] == "a.csv")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.csv", "b.csv", "out"]
