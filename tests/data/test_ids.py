"""Rows that another engine encoded, here polars by the example of docs/datasets.md, beside `prepare`'s."""

import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ektf_jax.data import encoded, encoder, ids, tables
from ektf_jax.data.schema import SPLITS, Schema, make_fields
from ektf_jax.data.spec import FieldSpec, TableSpec, spec_to_json
from ektf_jax.errors import InputError
from tests import commands
from tests.data.test_custom import EXAMPLE, PAGE
from tests.data.test_tables import reference_splits
from tests.full_disk import no_file_longer_than

RESULTS = Path(__file__).resolve().parents[2] / "results" / "benchmarks"
PYTHON = dict(re.findall(r"```python\n# (\S+\.py)\n(.*?)```", PAGE, re.S))
ENCODE: dict = {}
exec(PYTHON["encode.py"], ENCODE)


def write_parts(sample, raw, frames, cuts=(0,)):
    """The rows of each split as the example encodes them, in parts that end after so many rows."""
    for name in ("schema.json", "vocabulary.parquet"):
        raw.mkdir(exist_ok=True)
        shutil.copy(sample / name, raw)
    for split, frame in frames.items():
        (raw / split).mkdir()
        rows = frame.select(ENCODE["columns"](sample))
        bounds = sorted({0, len(rows), *(min(cut, len(rows)) for cut in cuts)})
        for number, (start, stop) in enumerate(itertools.pairwise(bounds)):
            rows[start:stop].write_parquet(raw / split / f"part-{number:05}.parquet")


# --- as prepare would have it


WORDS = ["", "a", "b", "c", "é|a", "a|b|c", "?", "a||?", "NA"]
NUMBERS = ["", "?", "0", "0.0", "1", "2", "2.5", "-1", "-1.7", "7", "20", "1e3", "1000000", "05"]
CELLS = {"categorical": WORDS, "multi": WORDS, "numeric": NUMBERS, "dense": NUMBERS}


@st.composite
def field_specs(draw, name):
    kind = draw(st.sampled_from([*CELLS, "bins"]))
    options: dict = {"min_count": draw(st.integers(1, 3))}
    is_number = kind not in ("categorical", "multi")
    options["missing"] = draw(
        st.sampled_from(
            [("", "?"), ("", "?", "0"), ("?", "")] if is_number else [("",), ("", "?"), (), ("a",)]
        )
    )
    if kind != "multi":
        options["fill"] = draw(st.sampled_from([None, "3" if is_number else "a"]))
    if kind == "numeric":
        options["paper_buckets"] = draw(st.booleans())
    if kind == "bins":
        options["bins"], kind = f"quantile:{draw(st.integers(2, 6))}", "numeric"
    if kind == "dense":
        options["transform"] = draw(st.sampled_from([None, "log1p"]))
    if kind == "multi":
        options |= {
            "separator": "|",
            "max_len": draw(st.integers(1, 3)),
            "pooling": draw(st.sampled_from(["mean", "max"])),
        }
    return FieldSpec(name, kind, **options)


@st.composite
def datasets(draw):
    """A table, the rows of its splits as text, and where their parts end."""
    fields = tuple(draw(field_specs(f"f{at}")) for at in range(draw(st.integers(1, 4))))
    weight = draw(st.sampled_from([None, "w"]))
    spec = TableSpec("t", "y", fields, above=draw(st.sampled_from([None, 0.5])), weight=weight, split=None)
    frames = {}
    for split in SPLITS:
        count = draw(st.integers(1, 12))
        columns = {"y": draw(st.lists(st.sampled_from("01"), min_size=count, max_size=count))}
        columns["w"] = draw(st.lists(st.sampled_from(["1", "0.5", "3"]), min_size=count, max_size=count))
        for field in fields:
            cells = [
                cell for cell in CELLS[field.kind] if field.transform is None or not cell.startswith("-1")
            ]
            one = st.sampled_from([None, *cells])
            columns[field.name] = draw(st.lists(one, min_size=count, max_size=count))
        frames[split] = pl.DataFrame(columns, schema=dict.fromkeys(columns, pl.String))
    return spec, frames, draw(st.lists(st.integers(0, 12), max_size=3))


@settings(max_examples=30, deadline=None)
@given(datasets())
def test_rows_that_the_example_encodes_are_those_of_prepare(tmp_path_factory, dataset):
    spec, frames, cuts = dataset
    tmp_path = tmp_path_factory.mktemp("ids")
    tables.encode(spec, frames, tmp_path / "sample", {"spec": spec_to_json(spec)})
    write_parts(tmp_path / "sample", tmp_path / "parts", frames, cuts)
    ids.prepare(tmp_path / "parts", tmp_path / "out", chunk_bytes=100)
    here, there = (encoded.open_dataset(tmp_path / name)[0] for name in ("out", "sample"))
    assert here.arrays == there.arrays
    assert (here.fields, here.splits, here.weighted) == (there.fields, there.splits, there.weighted)
    words = [(tmp_path / name / "vocabulary.parquet").read_bytes() for name in ("out", "sample")]
    assert words[0] == words[1]
    raw = encoder.of_dataset(tmp_path / "out").frame(frames["test"])  # raw rows can be scored, too
    np.testing.assert_array_equal(raw.ids, encoded.open_split(tmp_path / "out", "test").ids)


def test_the_example_of_the_docs(tmp_path):
    """Its commands and files, of a sample that is the whole, so that the bits are known."""
    for name, text in (EXAMPLE | PYTHON).items():
        (tmp_path / name).write_text(text)
    prepared = re.search(r"python -m (experiments.prepare .*--out=sample)$", PAGE, re.M).group(1)
    opened = re.search(r"python -m (experiments.prepare --dataset=ids .*)$", PAGE, re.M).group(1)

    def run(line):
        module, *options = re.sub(
            r"=(\.|sample|parts|encoded|clicks\.yaml)$", rf"={tmp_path}/\1", line
        ).split()
        options = [
            re.sub(r"=(\.|sample|parts|encoded|clicks\.yaml)$", rf"={tmp_path}/\1", o) for o in options
        ]
        done = commands.run(module, *options)
        assert done.returncode == 0, done.stderr
        return done.stdout

    run(prepared)
    rows = pl.read_csv(tmp_path / "clicks-1.csv", infer_schema=False)
    of = np.array(reference_splits(len(rows), 2024))
    for split in SPLITS:
        rows.filter(pl.Series(of == split)).write_csv(tmp_path / f"{split}-0.csv")
    done = subprocess.run(
        [sys.executable, "apply.py"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "written" in run(opened)
    assert "up to date" in run(opened)
    here, there = (encoded.open_dataset(tmp_path / name)[0] for name in ("encoded", "sample"))
    assert here.arrays == there.arrays
    assert here.source["spec"] == there.source["spec"]
    assert [entry["name"] for entry in here.source["files"]] == [
        *["0.parquet"] * 3,
        "schema.json",
        "vocabulary.parquet",
    ]


# --- a dataset and its parts, to be spoilt

FRAMES = {
    split: pl.DataFrame(
        {
            "y": ["1", "0", "1", "0"] * 3,
            "c": ["a", "b", "a", None] * 3,
            "m": ["a|b", None, "b", "a|a|b"] * 3,
            "d": ["1", "2", None, "4"] * 3,
            "w": ["1", "2", "1", "3"] * 3,
        }
    )
    for split in SPLITS
}
SPEC = TableSpec(
    "t",
    "y",
    (FieldSpec("c"), FieldSpec("m", "multi", separator="|", max_len=2), FieldSpec("d", "dense")),
    weight="w",
)


@pytest.fixture
def raw(tmp_path):
    tables.encode(SPEC, FRAMES, tmp_path / "sample", {"spec": spec_to_json(SPEC)})
    write_parts(tmp_path / "sample", tmp_path / "raw", FRAMES, cuts=(5,))
    return tmp_path / "raw"


def arrays(out):
    return encoded.open_dataset(out)[0].arrays


def change(path, **columns):
    """Write a part again with other columns."""
    frame = pl.read_parquet(path)
    frame.with_columns(**columns).write_parquet(path)


def test_parts_count_in_the_order_of_their_names(raw, tmp_path):
    ids.prepare(raw, tmp_path / "out")
    assert arrays(tmp_path / "out") == arrays(tmp_path / "sample")
    train = raw / "train"
    (train / "part-00000.parquet").rename(train / "part-00002.parquet")
    ids.prepare(raw, tmp_path / "out")
    other = encoded.open_split(tmp_path / "out", "train").ids
    before = encoded.open_split(tmp_path / "sample", "train").ids
    np.testing.assert_array_equal(other, np.concatenate([before[5:], before[:5]]))


def test_what_engines_leave_beside_parts_and_parts_without_rows_count_as_none(raw, tmp_path):
    for name in ("_SUCCESS", ".part-00000.parquet.crc", "_metadata", "_part-00001.parquet"):
        (raw / "train" / name).write_bytes(b"")
    pl.DataFrame({"other": []}).write_parquet(raw / "train/part-00009.parquet")
    ids.prepare(raw, tmp_path / "out")
    assert arrays(tmp_path / "out") == arrays(tmp_path / "sample")


@pytest.mark.parametrize("dtype", [pl.Int64, pl.UInt16, pl.UInt64])
def test_ids_are_of_any_type_of_whole_numbers(raw, tmp_path, dtype):
    for split in SPLITS:
        for path in (raw / split).glob("*.parquet"):
            change(path, c=pl.col("c").cast(dtype), m=pl.col("m").cast(pl.List(dtype)), more=pl.lit("x"))
    ids.prepare(raw, tmp_path / "out")
    assert arrays(tmp_path / "out") == arrays(tmp_path / "sample")


def test_lists_may_be_padded_and_longer_than_their_slots(raw, tmp_path):
    for split in SPLITS:
        for path in (raw / split).glob("*.parquet"):
            change(path, m=pl.col("m").fill_null([]).list.concat(pl.lit([0, 0], dtype=pl.List(pl.Int32))))
    ids.prepare(raw, tmp_path / "out")
    assert arrays(tmp_path / "out") == arrays(tmp_path / "sample")
    (slots,) = [stop - start for start, stop in encoded.open_schema(tmp_path / "out").slots[1:2]]
    assert slots == 2
    path = raw / "valid/part-00000.parquet"
    oov = encoded.open_schema(raw).fields[1].oov
    change(path, m=pl.col("m").fill_null([]).list.concat(pl.lit([oov] * 3, dtype=pl.List(pl.Int32))))
    ids.prepare(raw, tmp_path / "out")
    found, before = (encoded.open_split(tmp_path / name, "valid").ids[0] for name in ("out", "sample"))
    np.testing.assert_array_equal(found, before)  # a|b has two values, and slots for no more


def test_a_dataset_that_does_not_say_how_it_was_made_has_its_own_names(raw, tmp_path):
    _otherwise(raw, lambda document: document["source"].pop("spec"))
    for path in raw.glob("*/*.parquet"):
        pl.read_parquet(path).rename({"y": "label", "w": "weight"}).write_parquet(path)
    schema = ids.prepare(raw, tmp_path / "out")
    assert schema.weighted
    assert arrays(tmp_path / "out") == arrays(tmp_path / "sample")
    change(raw / "train/part-00000.parquet", label=pl.lit("0"), weight=pl.lit("2"))
    ids.prepare(raw, tmp_path / "out")
    found = encoded.open_split(tmp_path / "out", "train")
    assert found.labels[:5].tolist() == [0] * 5
    assert found.weights is not None
    assert found.weights[:5].tolist() == [2] * 5


def test_pretrained_vectors_go_along(tmp_path):
    vectors = pl.DataFrame({"value": ["b", "a"], "vector": [[1.0, 2.0], [3.0, 4.0]]})
    vectors.write_parquet(tmp_path / "v.parquet")
    spec = TableSpec("t", "y", (FieldSpec("x"), FieldSpec("z", pretrained="v.parquet", frozen=False)))
    frames = {split: pl.DataFrame({"y": [0, 1], "x": ["p", "q"], "z": ["a", "b"]}) for split in SPLITS}
    sample, parts = tmp_path / "sample", tmp_path / "parts"
    tables.encode(spec, frames, sample, {"spec": spec_to_json(spec)}, raw=tmp_path)
    write_parts(sample, parts, frames)
    with pytest.raises(InputError, match=r"parts/vectors/1\.npy: "):
        ids.prepare(parts, tmp_path / "out")
    shutil.copytree(sample / "vectors", parts / "vectors")
    schema = ids.prepare(parts, tmp_path / "out")
    assert schema.fields == encoded.open_schema(sample).fields
    assert (tmp_path / "out/vectors/1.npy").read_bytes() == (sample / "vectors/1.npy").read_bytes()
    (found,) = encoded.open_vectors(tmp_path / "out", schema)
    assert found.tolist() == [[0, 0], [3, 4], [1, 2], [0, 0]]
    np.save(parts / "vectors/1.npy", np.array(found) + 1)
    with pytest.raises(InputError, match=r"parts/vectors/1\.npy: .* changed or damaged"):
        ids.prepare(parts, tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_fields_of_ones_own_need_no_vocabulary(tmp_path):
    fields = make_fields([("user", 5, 1), ("tags", 4, 2)])
    rows = dict.fromkeys(SPLITS, 1)
    raw = tmp_path / "raw"
    for split in SPLITS:
        (raw / split).mkdir(parents=True)
        pl.DataFrame({"label": [1, 0], "user": [4, 1], "tags": [[6, 8], []]}).write_parquet(
            raw / split / "a.parquet"
        )
    (raw / "schema.json").write_text(Schema("mine", fields, rows, {}).to_json())
    schema = ids.prepare(raw, tmp_path / "out")
    assert schema.splits == dict.fromkeys(SPLITS, 2)
    found = encoded.open_split(tmp_path / "out", "test")
    assert found.ids.tolist() == [[4, 6, 8], [1, 0, 0]]
    assert found.labels.tolist() == [1, 0]
    assert not (tmp_path / "out/vocabulary.parquet").exists()


def test_the_fields_of_ones_own_of_the_docs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "parts").mkdir()
    exec(PYTHON["schema.py"], {})
    user, tags = encoded.open_schema(tmp_path / "parts").fields
    said = f"`user` are then 1 to {user.oov - 1}, and {user.oov} is OOV; those of `tags` {tags.offset + 1} to"
    assert f"{said} {tags.oov - 1}, and {tags.oov} is OOV" in PAGE


def test_what_a_billion_rows_need_follows_from_what_was_measured():
    runs = json.loads((RESULTS / "encode.json").read_text())["runs"]
    criteo = [run["ours"] for run in runs if run["dataset"] == "criteo"]
    slots = 39
    billion = PAGE.partition("## A billion rows")[2]
    assert f"takes {4 * slots + 4} bytes encoded" in billion
    assert f"| written | {4 * slots + 4} GB | {4 * slots + 4} GB |" in billion
    assert f"| hours | {1e9 / criteo[-1]['rows_per_second']['median'] / 3600:.1f} |" in billion
    assert f"| memory | {criteo[-1]['peak_gb']['max']:.0f} GB," in billion
    assert f"memory holds the training rows, {0.8 * (4 * slots + 4):.0f} GB here" in billion
    assert f"{0.8 * 4 * 2:.1f} GB for 800 million" in billion
    assert f"the largest {0.8 * 4 * slots:.0f} GB here" in billion
    assert f"{0.1 * (8 * 3 + 46):.0f} GB for\n  two students and 100 million" in billion


def test_the_same_again_is_not_written_and_other_parts_are(raw, tmp_path):
    ids.prepare(raw, tmp_path / "out")
    before = (tmp_path / "out/schema.json").stat().st_ino
    ids.prepare(raw, tmp_path / "out")
    assert (tmp_path / "out/schema.json").stat().st_ino == before
    change(raw / "test/part-00000.parquet", y=pl.lit("0"))
    ids.prepare(raw, tmp_path / "out")
    assert encoded.open_split(tmp_path / "out", "test").labels[:5].sum() == 0


def test_synthetic_stays_synthetic(raw, tmp_path):
    assert "synthetic" not in ids.prepare(raw, tmp_path / "out").source
    document = json.loads((raw / "schema.json").read_text())
    document["source"]["synthetic"] = True
    (raw / "schema.json").write_text(json.dumps(document))
    assert ids.prepare(raw, tmp_path / "out").source["synthetic"] is True


# --- errors

PART = "train/part-00001.parquet"  # rows 6 to 12 of train


def first(column, value):
    """The column with another value in the third row."""
    return pl.when(pl.int_range(pl.len()) == 2).then(value).otherwise(pl.col(column))


LIST = pl.List(pl.Int32)


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"c": first("c", None)}, r"part-00001\.parquet: row 3: c is null; .* is 3: .* coalesce\(id, 3\)"),
        ({"c": first("c", 0)}, r"row 3: c is 0; its ids are 1 to 3, .*vocabulary\.parquet"),
        ({"c": first("c", 4)}, "row 3: c is 4; its ids are 1 to 3"),
        ({"c": first("c", pl.lit(2**32 + 1))}, "row 3: c is 4294967297; its ids"),
        ({"c": pl.col("c").cast(pl.Float64)}, r"part-00001\.parquet: column c has type Float64; .*an id"),
        ({"c": pl.concat_list("c")}, r"column c has type List\(Int32\); it must be an id, whole numbers"),
        ({"c": pl.lit("a")}, "column c has type String; it must be an id"),
        ({"m": pl.lit(5)}, "column m has type Int32; it must be a list of ids"),
        ({"m": first("m", pl.lit([5, 3], dtype=LIST))}, r"row 3: m is \[5, 3\]; its ids are 5 to 7"),
        ({"m": first("m", pl.lit([5, None], dtype=LIST))}, r"row 3: m is \[5, None\]; its ids are 5 to 7"),
        ({"m": pl.col("m").cast(pl.List(pl.Float32))}, r"column m has type List\(Float32\)"),
        ({"y": first("y", pl.lit("2"))}, "row 3: y is '2'; the label must be 0 or 1"),
        ({"y": first("y", None)}, "row 3: y is ''; the label must be 0 or 1"),
        ({"w": first("w", pl.lit("-1"))}, "row 3: w is '-1'; a weight must be a number from 0"),
        ({"d": first("d", pl.lit("x"))}, "row 3: d is 'x'; it must be a number"),
        ({"y": pl.lit(1)}, "column y has type Int32, but in .* it has type String"),
        ({"d": pl.concat_list("d")}, r"column d has type List\(String\), a list"),
    ],
)
def test_bad_values_are_named(raw, tmp_path, columns, said):
    change(raw / PART, **columns)
    with pytest.raises(InputError, match=said) as error:
        ids.prepare(raw, tmp_path / "out")
    assert str(raw / PART) in str(error.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["raw", "sample"]


def _without_column(raw):
    pl.read_parquet(raw / PART).drop("m", "w").write_parquet(raw / PART)


def _without_rows(raw):
    for path in (raw / "valid").iterdir():
        pl.read_parquet(path)[:0].write_parquet(path)


def _otherwise(raw, change):
    document = json.loads((raw / "schema.json").read_text())
    change(document)
    (raw / "schema.json").write_text(json.dumps(document))


def _words(raw, change):
    change(pl.read_parquet(raw / "vocabulary.parquet")).write_parquet(raw / "vocabulary.parquet")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda raw: (raw / "schema.json").unlink(), r"schema\.json: missing; copy schema\.json"),
        (
            lambda raw: (raw / "vocabulary.parquet").unlink(),
            r"vocabulary\.parquet: missing; copy schema\.json",
        ),
        (lambda raw: (raw / "schema.json").write_text("{"), r"schema\.json: not JSON"),
        (
            lambda raw: shutil.rmtree(raw / "valid"),
            "valid: no such directory; put the Parquet parts of valid",
        ),
        (lambda raw: [one.unlink() for one in (raw / "test").iterdir()], r"test: has no \*\.parquet"),
        (lambda raw: (raw / "train/_temporary").mkdir(), "_temporary: is no part; .*once all of them"),
        (lambda raw: (raw / "train/part-2.parq").write_text(""), r"part-2\.parq: is no part"),
        (lambda raw: (raw / PART).write_bytes(b""), r"part-00001\.parquet: damaged or unsupported Parquet"),
        (lambda raw: (raw / PART).write_bytes((raw / PART).read_bytes()[:-9]), "damaged or unsupported"),
        (_without_column, r"part-00001\.parquet: lacks the columns w, m; write one for each"),
        (_without_rows, "valid: no part of it has rows"),
        (
            lambda raw: _otherwise(raw, lambda document: document["source"]["spec"]["fields"].pop()),
            r"schema\.json: its fields or weights are not those of its source's spec",
        ),
        (
            lambda raw: _otherwise(raw, lambda document: document["source"]["spec"].update(weight="c")),
            r"schema\.json: c is a field and the weight",
        ),
        (lambda raw: _words(raw, lambda words: words[1:]), "vocabulary.parquet: field c: its 1 ids are not"),
        (
            lambda raw: _words(raw, lambda words: words.with_columns(field=pl.lit("z"))),
            "has the field 'z', schema.json has not",
        ),
        (
            lambda raw: _words(raw, lambda words: words.with_columns(value=pl.lit("a"))),
            "field c: its 2 ids are not those of 2 values",
        ),
        (lambda raw: (raw / "vocabulary.parquet").write_text("x"), r"vocabulary\.parquet: cannot be read"),
    ],
)
def test_what_is_no_dataset_of_parts_is_refused(raw, tmp_path, spoil, said):
    spoil(raw)
    with pytest.raises(InputError, match=said):
        ids.prepare(raw, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["raw", "sample"]


def test_parts_are_not_replaced_by_what_they_become(raw):
    before = sorted(path.relative_to(raw) for path in raw.rglob("*"))
    with pytest.raises(
        InputError, match=r"raw: is not empty and holds no encoded dataset; nothing was changed"
    ):
        ids.prepare(raw, raw)
    assert sorted(path.relative_to(raw) for path in raw.rglob("*")) == before


def test_weights_of_a_split_that_are_all_0(raw, tmp_path):
    for path in (raw / "valid").iterdir():
        change(path, w=pl.lit("0"))
    with pytest.raises(InputError, match="valid: the weight of each of its 12 rows is 0"):
        ids.prepare(raw, tmp_path / "out")


# --- a disk that is full, a kill


@pytest.mark.parametrize("limit", [200, 1000])
def test_disk_full(raw, tmp_path, limit):
    with no_file_longer_than(limit), pytest.raises(InputError, match="out: cannot write the encoded dataset"):
        ids.prepare(raw, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["raw", "sample"]


PREPARE = """
    import sys, time
    from pathlib import Path
    from ektf_jax.data import encoded, ids
    owner = {"_arrays": ids, "_look": ids}.get(sys.argv[3], encoded)
    step = getattr(owner, sys.argv[3])
    def slow(*args):
        print("there", flush=True)
        time.sleep(60)
        return step(*args)
    setattr(owner, sys.argv[3], slow)
    ids.prepare(Path(sys.argv[1]), Path(sys.argv[2]))
"""


def test_killed(raw, tmp_path):
    """Whenever the kill comes the old dataset is there whole, and the next prepare clears up and succeeds."""
    steps = ("_look", "_arrays", "write_description", "_digest")
    for at in range(len(steps)):
        shutil.copytree(tmp_path / "sample", tmp_path / f"out{at}")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(PREPARE), str(raw), str(tmp_path / f"out{at}"), step],
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        for at, step in enumerate(steps)
    ]
    for writer in writers:
        assert writer.stdout.readline() == "there\n"
        writer.kill()
        writer.wait()
        writer.stdout.close()
    hidden = [path.name for path in tmp_path.iterdir() if path.name.startswith(".")]
    assert len(hidden) == 3  # nothing was begun at the first step
    for at in range(len(steps)):
        assert encoded.open_schema(tmp_path / f"out{at}") == encoded.open_schema(tmp_path / "sample")
        schema = ids.prepare(raw, tmp_path / f"out{at}")
        assert encoded.current(tmp_path / f"out{at}", schema.source) == schema
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
