from collections import Counter

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ektf_jax.data import describe, encoded, tables
from ektf_jax.data.schema import SPLITS, Schema, make_fields
from ektf_jax.data.tables import FieldSpec, TableSpec
from ektf_jax.errors import InputError


def plain(schema, split):
    """The same counts, cell by cell."""
    ids, clicked, known, empty = Counter(), Counter(), Counter(), Counter()
    for row, label in zip(split.ids.tolist(), split.labels.tolist(), strict=True):
        for place, (field, (start, stop)) in enumerate(zip(schema.fields, schema.slots, strict=True)):
            cells = row[start:stop]
            ids.update(cells)
            clicked.update(cells if label else [])
            known[place] += any(cell not in (0, field.oov) for cell in cells)
            empty[place] += not any(cells)
    return ids, clicked, known, empty


@settings(max_examples=30, deadline=None)
@given(
    entries=st.lists(st.tuples(st.integers(2, 6), st.integers(1, 3)), min_size=1, max_size=4),
    rows=st.integers(1, 40),
    chunk=st.sampled_from([1, 20, 1 << 20]),
    seed=st.integers(0, 9),
)
def test_counts_against_plain_python(entries, rows, chunk, seed):
    rng = np.random.default_rng(seed)
    fields = make_fields((f"f{at}", *entry) for at, entry in enumerate(entries))
    schema = Schema("random", fields, dict.fromkeys(SPLITS, rows), {})
    columns = []
    for field in fields:
        for _ in range(field.max_len):
            local = rng.integers(0, field.vocab_size, rows)
            columns.append(np.where(local, local + field.offset, 0))
    split = encoded.Split(
        np.stack(columns, axis=1).astype(np.int32), rng.integers(0, 2, rows).astype(np.float32)
    )
    seen = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(describe, "_CHUNK_IDS", chunk)
        counts = describe.count(split, schema, seen.append)
    ids, clicked, known, empty = plain(schema, split)
    assert counts.ids.tolist() == [ids[at] for at in range(schema.num_features)]
    assert counts.clicked.tolist() == [clicked[at] for at in range(schema.num_features)]
    assert counts.known.tolist() == [known[at] for at in range(len(fields))]
    assert counts.empty.tolist() == [empty[at] for at in range(len(fields))]
    assert (counts.rows, counts.clicks, sum(seen)) == (rows, int(split.labels.sum()), rows)


@pytest.fixture
def dataset(tmp_path):
    train = ["1,a,x", "0,a,x^y", "1,a,", "0,b,x^x", "1,b,z", "0,c,y", "0,d,", "0,,q"]
    test = ["1,a,x^new", "0,new,new", "0,,", "1,c,x"]
    for name, lines in (("train", train), ("test", test)):
        (tmp_path / name).write_text("\n".join(["y,c,m", *lines]))
    spec = TableSpec("hand", "y", (FieldSpec("c", min_count=2), FieldSpec("m", "multi", 2, max_len=2)))
    tables.prepare(spec, {name: [tmp_path / name] for name in ("train", "test")}, tmp_path / "out")
    return tmp_path / "out"


def test_by_hand(dataset):
    found = describe.describe(dataset)
    assert found.schema == encoded.open_schema(dataset)
    assert found.click_rate == {"train": 3 / 8, "valid": 0.5, "test": 0.5}
    c, m = found.fields
    # c: a three times, b twice; c, d and the missing value are OOV.
    assert (c.name, c.values, c.coverage, c.empty) == ("c", 2, 5 / 8, 0)
    assert c.oov == {"train": 3 / 8, "valid": 3 / 4, "test": 3 / 4}
    assert c.heaviest == (("a", 3, 2), (None, 3, 0), ("b", 2, 1))
    # m: x four times, y twice; z and q are OOV; two rows have nothing.
    assert (m.name, m.values, m.coverage, m.empty) == ("m", 2, 4 / 8, 2 / 8)
    assert m.oov == {"train": 2 / 8, "valid": 2 / 4, "test": 2 / 4}
    assert m.heaviest == (("x", 4, 1), ("y", 2, 0), (None, 2, 1))


def test_as_many_values_as_wanted(dataset):
    everything = describe.describe(dataset)
    for most in (1, 2):
        found = describe.describe(dataset, most)
        assert [field.heaviest for field in found.fields] == [
            field.heaviest[:most] for field in everything.fields
        ]


def test_ids_stand_in_for_texts_without_a_vocabulary(dataset):
    (dataset / "vocabulary.parquet").unlink()
    assert [value.text for value in describe.describe(dataset).fields[0].heaviest] == ["id 1", None, "id 2"]


def test_values_that_do_not_occur_are_not_heavy(tmp_path):
    schema = Schema("rare", make_fields([("f", 9, 1)]), dict.fromkeys(SPLITS, 1), {})
    arrays = dict.fromkeys(SPLITS, (np.array([[3]], np.int32), np.zeros(1, np.float32)))
    words = pl.DataFrame({"field": "f", "value": [*"abcdefg"], "id": pl.Series(range(1, 8), dtype=pl.Int32)})
    encoded.write(tmp_path / "set", schema, arrays, words)
    (field,) = describe.describe(tmp_path / "set").fields
    assert (field.values, field.heaviest) == (7, (("c", 1, 0),))


def test_a_field_without_any_value(tmp_path):
    schema = Schema("empty", make_fields([("f", 3, 2)]), dict.fromkeys(SPLITS, 2), {})
    arrays = dict.fromkeys(SPLITS, (np.zeros((2, 2), np.int32), np.zeros(2, np.float32)))
    encoded.write(tmp_path / "set", schema, arrays, None)
    (field,) = describe.describe(tmp_path / "set").fields
    assert (field.coverage, field.empty, field.heaviest) == (0, 1, ())
    assert field.oov == dict.fromkeys(SPLITS, 0)


def test_a_damaged_dataset(dataset):
    np.save(dataset / "test/labels.npy", np.full(4, 2, np.float32))
    with pytest.raises(InputError, match=r"test/labels\.npy: row 0, field label: value 2"):
        describe.describe(dataset)
