import errno
import gc
import hashlib
import json
import os
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

from ektf_jax import directories
from ektf_jax.data import encoded
from ektf_jax.data.schema import ARRAYS, SPLITS, Field, Schema, make_fields
from ektf_jax.errors import InputError
from tests.full_disk import no_file_longer_than

ROWS = {"train": 50, "valid": 6, "test": 7}
FIELDS = (Field("user", 5, 0), Field("item", 7, 5), Field("tags", 4, 12, max_len=3))
VOCABULARY = pl.DataFrame(
    {"field": ["user", "item"], "value": ["x", "y"], "id": pl.Series([1, 6], dtype=pl.Int32)}
)


def make_schema(fields=FIELDS, rows=ROWS, **source):
    return Schema("tiny", fields, rows, source)


def make_splits(schema, seed=0):
    rng = np.random.default_rng(seed)
    splits = {}
    for name, rows in schema.splits.items():
        columns = [
            rng.integers(0, field.vocab_size, rows) for field in schema.fields for _ in range(field.max_len)
        ]
        offsets = [field.offset for field in schema.fields for _ in range(field.max_len)]
        fused = [np.where(local, local + offset, 0) for local, offset in zip(columns, offsets, strict=True)]
        splits[name] = (
            np.stack(fused, axis=1).astype(np.int32),
            rng.integers(0, 2, rows).astype(np.float32),
        )
    return splits


@pytest.fixture
def dataset(tmp_path):
    schema = make_schema()
    encoded.write(tmp_path / "set", schema, make_splits(schema), VOCABULARY)
    return tmp_path / "set"


def assert_holds(directory, schema, splits):
    assert encoded.open_schema(directory) == schema
    for name in SPLITS:
        split = encoded.open_split(directory, name)
        np.testing.assert_array_equal(split.ids, splits[name][0])
        np.testing.assert_array_equal(split.labels, splits[name][1])


def visible_and_hidden(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


# --- round trip


@settings(max_examples=20, deadline=None)
@given(
    entries=st.lists(st.tuples(st.integers(2, 2**28), st.integers(1, 4)), min_size=1, max_size=6),
    rows=st.lists(st.integers(1, 40), min_size=3, max_size=3),
    seed=st.integers(0, 9),
)
def test_round_trip(tmp_path_factory, entries, rows, seed):
    fields = make_fields((f"f{index}", *entry) for index, entry in enumerate(entries))
    schema = make_schema(fields, dict(zip(SPLITS, rows, strict=True)), seed=seed)
    splits = make_splits(schema, seed)
    out = tmp_path_factory.mktemp("round") / "set"
    encoded.write(out, schema, splits, None)
    assert_holds(out, schema, splits)


def test_layout(dataset):
    files = sorted(str(path.relative_to(dataset)) for path in dataset.rglob("*") if path.is_file())
    arrays = [f"{split}/{kind}.npy" for split in SPLITS for kind in ("ids", "labels")]
    assert files == sorted([*arrays, "schema.json", "vocabulary.parquet"])
    assert np.load(dataset / "train/ids.npy").dtype == np.int32
    assert np.load(dataset / "train/labels.npy").dtype == np.float32
    assert pl.read_parquet(dataset / "vocabulary.parquet").equals(VOCABULARY)
    assert visible_and_hidden(dataset.parent) == ["set"]


def test_no_vocabulary_file_without_a_vocabulary(tmp_path):
    schema = make_schema()
    encoded.write(tmp_path / "set", schema, make_splits(schema), None)
    assert not (tmp_path / "set/vocabulary.parquet").exists()


def test_split_is_a_read_only_memory_map(dataset):
    split = encoded.open_split(dataset, "train")
    for array in (split.ids, split.labels):
        assert isinstance(array, np.memmap)
        assert not array.flags.writeable
    with pytest.raises(ValueError, match="read-only"):
        split.ids[0, 0] = 1


def test_column_major_ids_are_stored_by_rows(tmp_path):
    schema = make_schema()
    splits = make_splits(schema)
    by_columns = {name: (np.asfortranarray(ids), labels) for name, (ids, labels) in splits.items()}
    encoded.write(tmp_path / "set", schema, by_columns, None)
    assert_holds(tmp_path / "set", schema, splits)


# --- reading what is damaged


def named(error, *texts):
    for text in texts:
        assert text in str(error.value)


def test_missing_directory(tmp_path):
    with pytest.raises(InputError) as error:
        encoded.open_schema(tmp_path / "none")
    named(error, "none", "`ektf prepare --dataset=")


def test_missing_schema(tmp_path):
    with pytest.raises(InputError) as error:
        encoded.open_split(tmp_path, "train")
    named(error, "schema.json", "missing", "`ektf prepare --dataset=")


def test_schema_that_is_not_text(dataset):
    (dataset / "schema.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match=r"schema\.json"):
        encoded.open_schema(dataset)


def test_unknown_split(dataset):
    with pytest.raises(InputError) as error:
        encoded.open_split(dataset, "../train")
    named(error, "'../train'", "train, valid, test")
    with pytest.raises(InputError, match=r"split is 'validation'"):
        encoded.open_dataset(dataset, ["validation"])


def test_a_dataset_is_opened_by_the_text_of_its_path(dataset):
    schema, splits = encoded.open_dataset(str(dataset), ["valid"])
    assert schema == encoded.open_schema(dataset)
    np.testing.assert_array_equal(splits["valid"].ids, encoded.open_split(dataset, "valid").ids)


@pytest.mark.parametrize("kind", ["ids", "labels"])
def test_missing_array(dataset, kind):
    (dataset / f"valid/{kind}.npy").unlink()
    encoded.open_split(dataset, "train")
    with pytest.raises(InputError) as error:
        encoded.open_split(dataset, "valid")
    named(error, f"valid/{kind}.npy", "missing")


@pytest.mark.parametrize("kind", ["ids", "labels"])
@pytest.mark.parametrize("kept", [0, 5, 60, 128, 129, -1])
def test_truncated_array(dataset, kind, kept):
    path = dataset / f"train/{kind}.npy"
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(InputError, match=rf"train/{kind}\.npy: .*truncated"):
        encoded.open_split(dataset, "train")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"not an array at all", "not a .npy file"),
        (b"PK\x05\x06" + bytes(18), "not a .npy file"),  # an empty .npz
        (b"\x93NUMPY\x01\x00v\x00" + b"({'descr': '<i4'".ljust(117) + b"\n", "TokenError"),
    ],
)
def test_not_an_array(dataset, content, said):
    (dataset / "train/ids.npy").write_bytes(content)
    with pytest.raises(InputError) as error:
        encoded.open_split(dataset, "train")
    named(error, "train/ids.npy", said)


def test_pickled_objects_are_not_loaded(dataset):
    np.save(dataset / "train/ids.npy", np.array([{}], object), allow_pickle=True)
    with pytest.raises(InputError, match=r"train/ids\.npy"):
        encoded.open_split(dataset, "train")


def test_bytes_after_the_array(dataset):
    path = dataset / "train/labels.npy"
    path.write_bytes(path.read_bytes() + b"\0\0\0\0")
    with pytest.raises(InputError, match=r"train/labels\.npy: has 332 bytes, its header says 328"):
        encoded.open_split(dataset, "train")


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("ids", lambda array: array.astype(np.int64), "holds int64, not int32"),
        ("ids", lambda array: array.astype(">i4"), "holds >i4, not int32"),
        ("ids", lambda array: array[:-1], "has shape (49, 5), the schema says (50, 5)"),
        ("ids", lambda array: array[:, :-1], "has shape (50, 4), the schema says (50, 5)"),
        ("ids", lambda array: array.ravel(), "has shape (250,)"),
        ("ids", np.asfortranarray, "stored by columns"),
        ("labels", lambda array: array.astype(np.float64), "holds float64, not float32"),
        ("labels", lambda array: array[:-1], "has shape (49,), the schema says (50,)"),
        ("labels", lambda array: array[:, None], "has shape (50, 1)"),
    ],
)
def test_wrong_type_or_shape(dataset, name, change, said):
    path = dataset / f"train/{name}.npy"
    np.save(path, change(np.load(path)))
    with pytest.raises(InputError) as error:
        encoded.open_split(dataset, "train")
    named(error, f"train/{name}.npy", said)


def without_digests(dataset):
    """As version 0.1.0 wrote it."""
    document = json.loads((dataset / "schema.json").read_text())
    del document["arrays"]
    (dataset / "schema.json").write_text(json.dumps(document))


@pytest.mark.parametrize("name", ["ids", "labels"])
def test_rows_that_could_be_but_were_not_written_are_refused(dataset, name):
    path = dataset / f"train/{name}.npy"
    np.save(path, np.load(path)[::-1].copy())
    with pytest.raises(InputError, match=rf"train/{name}\.npy: its rows have the SHA-256"):
        encoded.open_split(dataset, "train")


def test_what_a_kill_left_beside_a_dataset_goes_though_nothing_is_written(dataset):
    """A kill between the swap of two directories and the removal of the old one."""
    left = dataset.with_name(f".{dataset.name}.tmp-{'0' * 32}")
    shutil.copytree(dataset, left)
    assert encoded.current(dataset, {"other": 1}) is None
    assert left.exists()
    schema = encoded.open_schema(dataset)
    assert encoded.current(dataset, schema.source) == schema
    assert list(dataset.parent.iterdir()) == [dataset]


@pytest.mark.parametrize("number", ["NaN", "-Infinity", "1e999"])
def test_a_schema_with_a_number_that_json_lacks_is_refused(dataset, number):
    path = dataset / "schema.json"
    path.write_text(path.read_text().replace('"source": {', f'"source": {{"x": {number}, ', 1))
    assert number in path.read_text()
    with pytest.raises(InputError, match=rf"schema\.json: not JSON \(it has {number}\)"):
        encoded.open_schema(dataset)


@pytest.mark.parametrize(
    ("slot", "field", "good", "bad"),
    [
        (0, "user", [0, 1, 4], [5, -1, 2**31 - 1, -(2**31)]),
        (1, "item", [0, 6, 11], [1, 5, 12, -6]),
        (2, "tags", [0, 13, 15], [12, 16, 11]),
        (4, "tags", [0, 13, 15], [12, 16, 1]),
    ],
)
def test_ids_of_another_field(dataset, monkeypatch, slot, field, good, bad):
    monkeypatch.setattr(encoded, "_CHUNK_BYTES", 200)  # several chunks
    path = dataset / "train/ids.npy"
    original = np.load(path)
    without_digests(dataset)
    for row in (0, 9, 10, 49):
        for value in good:
            ids = original.copy()
            ids[row, slot] = value
            np.save(path, ids)
            assert encoded.open_split(dataset, "train").ids[row, slot] == value
        for value in bad:
            ids = original.copy()
            ids[row:, slot] = value  # the first bad row is the one named
            np.save(path, ids)
            with pytest.raises(InputError) as error:
                encoded.open_split(dataset, "train")
            named(error, f"train/ids.npy: row {row}, field {field}: id {value} ")


@pytest.mark.parametrize("value", [2, -1, 0.5, float("nan"), float("inf")])
@pytest.mark.parametrize("row", [0, 10, 49])
def test_labels_that_are_no_labels(dataset, monkeypatch, value, row):
    monkeypatch.setattr(encoded, "_CHUNK_BYTES", 40)
    path = dataset / "train/labels.npy"
    labels = np.load(path)
    labels[row:] = value
    np.save(path, labels)
    with pytest.raises(InputError) as error:
        encoded.open_split(dataset, "train")
    named(error, f"train/labels.npy: row {row}, field label: value {value:g} ")


def test_chunks_are_the_array(dataset):
    for array in encoded.open_split(dataset, "train")[:2]:
        for rows in (1, 7, 50, 51):
            starts, parts = zip(*encoded.chunks(array, rows), strict=True)
            assert list(starts) == list(range(0, 50, rows))
            np.testing.assert_array_equal(np.concatenate(parts), array)


def test_a_pass_over_a_map_keeps_little_in_memory(tmp_path):
    """Neither opening a split nor reading it in chunks leaves its files' pages with the process."""

    def mapped():
        status = Path("/proc/self/status").read_text(encoding="utf-8")
        return int(status.partition("RssFile:")[2].split()[0]) << 10

    rows = 1 << 24
    schema = make_schema((Field("f", 4, 0),), {"train": rows, "valid": 1, "test": 1})
    arrays = {name: (np.ones((n, 1), np.int32), np.ones(n, np.float32)) for name, n in schema.splits.items()}
    encoded.write(tmp_path / "set", schema, arrays, None)
    before = mapped()
    ids = encoded.open_split(tmp_path / "set", "train").ids
    assert mapped() - before < 20 << 20
    total = sum(int(chunk.sum()) for _, chunk in encoded.chunks(ids, 1 << 20))
    assert (total, len(ids)) == (rows, rows)
    assert mapped() - before < 20 << 20
    assert ids.sum() == rows  # what was let go can be read again


# --- current


def test_current_only_for_the_same_source_and_a_whole_dataset(tmp_path):
    schema = make_schema(split_seed=1)
    out = tmp_path / "set"
    assert encoded.current(out, schema.source) is None
    encoded.write(out, schema, make_splits(schema), None)
    assert encoded.current(out, {"split_seed": 1}) == schema
    assert encoded.current(out, {"split_seed": 2}) is None
    (out / "test/labels.npy").write_bytes(b"")
    assert encoded.current(out, {"split_seed": 1}) is None


# --- writing whole or not at all


def test_write_creates_parents_and_fills_an_empty_directory(tmp_path):
    schema = make_schema()
    splits = make_splits(schema)
    (tmp_path / "empty").mkdir()
    for out in (tmp_path / "a/b/set", tmp_path / "empty"):
        encoded.write(out, schema, splits, None)
        assert_holds(out, schema, splits)


def test_write_replaces_an_encoded_dataset(dataset):
    schema = make_schema(rows={"train": 3, "valid": 2, "test": 1})
    splits = make_splits(schema, 1)
    encoded.write(dataset, schema, splits, None)
    assert_holds(dataset, schema, splits)
    assert not (dataset / "vocabulary.parquet").exists()  # nothing of the old one is left
    assert visible_and_hidden(dataset.parent) == ["set"]


def test_write_replaces_a_damaged_dataset_and_one_of_another_version(dataset):
    schema = make_schema()
    splits = make_splits(schema)
    document = json.loads((dataset / "schema.json").read_text()) | {"version": 99}
    (dataset / "schema.json").write_text(json.dumps(document))
    (dataset / "train/ids.npy").unlink()
    encoded.write(dataset, schema, splits, None)
    assert_holds(dataset, schema, splits)


def test_write_keeps_a_symbolic_link(dataset):
    link = dataset.parent / "link"
    link.symlink_to(dataset)
    schema = make_schema(again=True)
    splits = make_splits(schema, 1)
    encoded.write(link, schema, splits, None)
    assert link.is_symlink()
    assert_holds(dataset, schema, splits)


def test_open_maps_survive_a_replacement(dataset):
    before = encoded.open_split(dataset, "train")
    copy = before.ids.copy()
    schema = make_schema()
    encoded.write(dataset, schema, make_splits(schema, 1), None)
    np.testing.assert_array_equal(before.ids, copy)


@pytest.mark.parametrize("foreign", ["notes.txt", "schema.json"])
def test_write_leaves_a_foreign_directory_alone(tmp_path, foreign):
    out = tmp_path / "thesis"
    out.mkdir()
    (out / foreign).write_text('{"format": "another"}')
    schema = make_schema()
    with pytest.raises(InputError, match=r"thesis: is not empty and holds no encoded dataset"):
        encoded.write(out, schema, make_splits(schema), None)
    assert (out / foreign).read_text() == '{"format": "another"}'
    assert visible_and_hidden(tmp_path) == ["thesis"]


def test_write_leaves_a_run_among_its_files_alone(dataset):
    schema = make_schema()
    (dataset / "run").mkdir()
    (dataset / "run" / "config.json").write_text("{}")
    with pytest.raises(InputError, match=r"also holds the run .*run, which would be lost; move it"):
        encoded.write(dataset, schema, make_splits(schema, 1), None)
    assert (dataset / "run" / "config.json").exists()


def test_write_leaves_a_file_alone(tmp_path):
    (tmp_path / "file").write_text("mine")
    schema = make_schema()
    with pytest.raises(InputError, match="file: is a file"):
        encoded.write(tmp_path / "file", schema, make_splits(schema), None)
    assert (tmp_path / "file").read_text() == "mine"


def test_write_below_a_file(tmp_path):
    (tmp_path / "file").write_text("mine")
    schema = make_schema()
    with pytest.raises(InputError, match="cannot write"):
        encoded.write(tmp_path / "file/set", schema, make_splits(schema), None)


@pytest.mark.parametrize(
    "change",
    [
        lambda ids, labels: (ids.astype(np.int64), labels),
        lambda ids, labels: (ids[1:], labels),
        lambda ids, labels: (ids, labels.astype(np.float64)),
        lambda ids, labels: (ids, labels[1:]),
    ],
)
def test_write_refuses_arrays_that_contradict_the_schema(tmp_path, change):
    schema = make_schema()
    splits = make_splits(schema)
    splits["valid"] = change(*splits["valid"])
    with pytest.raises(ValueError, match="valid"):
        encoded.write(tmp_path / "set", schema, splits, None)
    assert visible_and_hidden(tmp_path) == []


def failing(function, nth, error):
    """`function`, raising `error` at its nth call."""
    calls = 0

    def wrapped(*args, **kwargs):
        nonlocal calls
        calls += 1
        if calls == nth:
            raise error
        return function(*args, **kwargs)

    return wrapped


# The failures of a write: (what fails, at which call).
CRASHES = [("save", 1), ("save", 4), ("sync", 1), ("sync", 9), ("parquet", 1), ("rename", 1)]


def crash(monkeypatch, what, nth, error):
    owner, name = {
        "save": (np, "save"),
        "sync": (os, "fsync"),
        "parquet": (pl.DataFrame, "write_parquet"),
        "rename": (Path, "rename"),
    }[what]
    monkeypatch.setattr(owner, name, failing(getattr(owner, name), nth, error))


@pytest.mark.parametrize(("what", "nth"), CRASHES)
@pytest.mark.parametrize(
    ("raised", "seen"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), InputError),
        (KeyboardInterrupt(), KeyboardInterrupt),
    ],
)
def test_a_failed_write_leaves_nothing(tmp_path, monkeypatch, what, nth, raised, seen):
    schema = make_schema()
    with monkeypatch.context() as patch:
        crash(patch, what, nth, raised)
        with pytest.raises(seen):
            encoded.write(tmp_path / "set", schema, make_splits(schema), VOCABULARY)
    assert visible_and_hidden(tmp_path) == []


def test_disk_full_at_the_vocabulary(tmp_path):
    schema = make_schema()
    words = [str(number) for number in np.random.default_rng(0).random(2000)]
    vocabulary = pl.DataFrame({"field": "user", "value": words, "id": range(2000)})
    with no_file_longer_than(5000), pytest.raises(InputError, match="cannot write the encoded dataset"):
        encoded.write(tmp_path / "set", schema, make_splits(schema), vocabulary)
    assert visible_and_hidden(tmp_path) == []
    gc.collect()  # which a view of what was being written has crashed


def test_appending_takes_exactly_the_rows_it_was_told(tmp_path):
    ids, labels = np.zeros((2, 3), np.int32), np.zeros(2, np.float32)
    with encoded.appending(tmp_path, "train", 4, 3) as append:
        append(ids, labels)
        append(ids[::-1], labels)
    assert np.load(tmp_path / "train/ids.npy").shape == (4, 3)
    with pytest.raises(ValueError, match="test: 2 rows came, not 3"):  # noqa: SIM117
        with encoded.appending(tmp_path, "test", 3, 3) as append:
            append(ids, labels)
    with encoded.appending(tmp_path, "valid", 0, 3) as append:
        for wrong in (
            (ids.astype(np.int64), labels),
            (ids[:, :2], labels),
            (ids, labels[:1]),
            (ids, ids[:, 0]),
        ):
            with pytest.raises(ValueError, match="valid: ids are"):
                append(*wrong)


@pytest.mark.parametrize(("what", "nth"), [*CRASHES, ("rename", 2), ("rename", 3)])
@pytest.mark.parametrize("raised", [OSError(errno.EIO, "I/O error"), KeyboardInterrupt()])
def test_a_failed_replacement_keeps_the_old_dataset(dataset, monkeypatch, what, nth, raised):
    schema = make_schema(new=True)
    with monkeypatch.context() as patch:
        crash(patch, what, nth, raised)
        if nth > 1 and what == "rename":  # a system that cannot exchange two names
            patch.setattr(directories, "_exchange", lambda new, out: False)
        with pytest.raises((InputError, KeyboardInterrupt)):
            encoded.write(dataset, schema, make_splits(schema, 1), VOCABULARY)
    assert_holds(dataset, make_schema(), make_splits(make_schema()))
    assert visible_and_hidden(dataset.parent) == ["set"]


def run_python(code, *arguments):
    """Starts a Python that can import the tests' own modules."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


def test_leftovers_of_a_killed_writer_go_and_those_of_a_living_one_stay(dataset):
    code = """
        import sys, time
        from pathlib import Path
        from ektf_jax.data import encoded
        with encoded.replacing(Path(sys.argv[1])) as new:
            (new / "half").write_text("written")
            print(new.name, flush=True)
            time.sleep(60)
    """
    writers = [run_python(code, dataset) for _ in range(2)]
    killed, living = (writer.stdout.readline().strip() for writer in writers)
    writers[0].kill()
    writers[0].wait()
    assert visible_and_hidden(dataset.parent) == sorted([killed, living, "set"])
    schema = make_schema(new=True)
    encoded.write(dataset, schema, make_splits(schema, 1), None)
    assert visible_and_hidden(dataset.parent) == sorted([living, "set"])
    assert (dataset.parent / living / "half").read_text() == "written"
    writers[1].kill()
    writers[1].wait()
    for writer in writers:
        writer.stdout.close()


def test_a_dataset_left_aside_by_a_killed_writer_comes_back(dataset):
    aside = dataset.with_name(f".set.tmp-{'0' * 32}-old")
    dataset.rename(aside)
    with pytest.raises(RuntimeError, match="stop"), encoded.replacing(dataset):
        raise RuntimeError("stop")
    assert_holds(dataset, make_schema(), make_splits(make_schema()))
    assert visible_and_hidden(dataset.parent) == ["set"]


def test_writers_at_once_leave_one_whole_dataset(tmp_path):
    code = """
        import sys
        import numpy as np
        from pathlib import Path
        from ektf_jax.data import encoded
        from ektf_jax.data.schema import Field, Schema
        label = int(sys.argv[2])
        arrays = np.full((40, 1), label + 1, np.int32), np.full(40, label, np.float32)
        splits = dict.fromkeys(("train", "valid", "test"), arrays)
        schema = Schema("tiny", (Field("f", 4, 0),), dict.fromkeys(splits, 40), {"label": label})
        for _ in range(12):
            encoded.write(Path(sys.argv[1]), schema, splits, None)
    """
    writers = [run_python(code, tmp_path / "set", label) for label in (0, 1)]
    for writer in writers:
        writer.communicate()
    assert [writer.returncode for writer in writers] == [0, 0]
    label = encoded.open_schema(tmp_path / "set").source["label"]
    for name in SPLITS:
        split = encoded.open_split(tmp_path / "set", name)
        assert (split.labels == label).all()
        assert (split.ids == label + 1).all()
    assert visible_and_hidden(tmp_path) == ["set"]


def test_no_lock_no_cleaning(tmp_path, monkeypatch):
    """Where the file system has no locks nobody can tell a living writer, so leftovers stay."""
    leftover = tmp_path / f".set.tmp-{'0' * 32}"
    leftover.mkdir()

    def unsupported(descriptor, operation):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(directories.fcntl, "flock", unsupported)
    schema = make_schema()
    splits = make_splits(schema)
    encoded.write(tmp_path / "set", schema, splits, None)
    assert_holds(tmp_path / "set", schema, splits)
    assert visible_and_hidden(tmp_path) == [leftover.name, "set"]


def test_files_like_a_leftover_are_not_touched(tmp_path):
    for name in (".set.tmp-mine", ".other.tmp-" + "0" * 32):
        (tmp_path / name).mkdir()
    schema = make_schema()
    encoded.write(tmp_path / "set", schema, make_splits(schema), None)
    assert len(visible_and_hidden(tmp_path)) == 3


# --- a dataset is its rows


def by_hand(directory):
    """The digests of the arrays by numpy and hashlib alone."""
    return {
        f"{split}/{kind}.npy": hashlib.sha256(
            np.load(directory / split / f"{kind}.npy").tobytes()
        ).hexdigest()
        for split in SPLITS
        for kind in ("ids", "labels")
    }


def test_the_fingerprint_covers_every_id_and_label(tmp_path):
    schema = make_schema()
    prints = {}
    for change in (None, *((split, kind) for split in SPLITS for kind in (0, 1))):
        splits = make_splits(schema)
        if change is not None:
            split, kind = change
            splits[split][kind][-1] = 1 - splits[split][kind][-1] if kind else 0
            if not kind and not make_splits(schema)[split][0][-1].any():
                splits[split][0][-1] = [1, 6, 13, 0, 0]
        encoded.write(tmp_path / "set", schema, splits, None)
        found = encoded.open_schema(tmp_path / "set")
        assert found.arrays == by_hand(tmp_path / "set")
        assert found.description_fingerprint == schema.fingerprint, "version 0.1.0's"
        prints[change] = found.fingerprint
    assert len(set(prints.values())) == 7


def test_writers_in_pieces_write_the_digests_too(tmp_path):
    schema, splits = make_schema(), make_splits(make_schema())
    with encoded.replacing(tmp_path / "set") as new:
        for name, (ids, labels) in splits.items():
            with encoded.appending(new, name, len(labels), schema.num_slots) as append:
                append(ids[:3], labels[:3])
                append(ids[3:], labels[3:])
        encoded.write_description(new, schema, None)
    encoded.write(tmp_path / "at_once", schema, splits, None)
    pieces, at_once = (encoded.open_schema(tmp_path / name) for name in ("set", "at_once"))
    assert pieces.fingerprint == at_once.fingerprint
    assert pieces.arrays == by_hand(tmp_path / "set")


def test_digests_of_other_rows_are_not_passed_on(dataset, tmp_path):
    """A schema that was read from one dataset and describes another."""
    schema = encoded.open_schema(dataset)
    encoded.write(tmp_path / "other", schema, make_splits(schema, seed=1), None)
    assert encoded.open_schema(tmp_path / "other").arrays == by_hand(tmp_path / "other") != schema.arrays
    encoded.open_dataset(tmp_path / "other")


@pytest.mark.parametrize("name", ["train/labels.npy", "valid/ids.npy", "test/labels.npy"])
def test_rows_that_changed_after_they_were_written_are_refused(dataset, monkeypatch, name):
    monkeypatch.setattr(encoded, "_CHUNK_BYTES", 40)  # several chunks
    schema, splits = encoded.open_dataset(str(dataset))
    assert schema.arrays == by_hand(dataset)
    np.testing.assert_array_equal(splits["test"].ids, np.load(dataset / "test/ids.npy"))
    array = np.load(dataset / name)
    array[-1] = 0 if array[-1].any() else 1
    np.save(dataset / name, array)
    with pytest.raises(InputError) as error:
        encoded.open_dataset(dataset)
    named(
        error, f"{name}: its rows have the SHA-256 {by_hand(dataset)[name]}", schema.arrays[name], "changed"
    )
    assert encoded.current(dataset, schema.source) is None, "it is prepared anew"


def test_a_dataset_of_version_0_1_0_has_no_digests_and_gets_them_when_it_is_opened(dataset):
    whole = encoded.open_schema(dataset)
    document = json.loads((dataset / "schema.json").read_text())
    del document["arrays"]
    (dataset / "schema.json").write_text(json.dumps(document))
    assert encoded.open_schema(dataset).arrays == {}
    assert encoded.open_schema(dataset).fingerprint == whole.description_fingerprint
    assert encoded.open_dataset(dataset)[0].fingerprint == whole.fingerprint
    assert set(encoded.open_dataset(dataset, ["valid"])[0].arrays) == {"valid/ids.npy", "valid/labels.npy"}


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({}, "arrays are []"),
        ({"train/ids.npy": "00"}, "arrays are ['train/ids.npy']"),
        ([], "arrays is [], not an object"),
        (dict.fromkeys(ARRAYS, 5), "train/ids.npy is 5, not text"),
    ],
)
def test_digests_that_are_none_are_named(dataset, arrays, said):
    document = json.loads((dataset / "schema.json").read_text())
    (dataset / "schema.json").write_text(json.dumps(document | {"arrays": arrays}))
    with pytest.raises(InputError) as error:
        encoded.open_schema(dataset)
    named(error, "schema.json", said)
