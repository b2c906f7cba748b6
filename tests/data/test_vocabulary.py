"""The one encoder on frames in memory, beside plain Python."""

from collections import Counter

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ektf_jax.data import encoded, tables
from ektf_jax.data.spec import FieldSpec, TableSpec
from ektf_jax.errors import InputError

VALUES = st.sampled_from(["a", "b", "B", "10", "9", "é", "zz", " a", "", None])
ROW = st.fixed_dictionaries(
    {"one": VALUES, "number": st.one_of(st.none(), st.integers(-3, 3)), "many": st.lists(VALUES, max_size=6)}
)
SCHEMA = {"one": pl.String, "number": pl.Int64, "many": pl.List(pl.String), "y": pl.Boolean}


def cells(row, name):
    """A row's values of one field as text, in plain Python."""
    value = row[name]
    if isinstance(value, list):
        return [word for word in value if word]
    return [None if value is None else str(value)]  # null is missing, whatever texts are


def reference(train, rows, max_lens, min_count):
    """Vocabulary entries (field, value, id) and ids of `rows`, in plain Python."""
    entries, ids, offset = [], [[] for _ in rows], 0
    for name, max_len in max_lens.items():
        counts = Counter(word for row in train for word in set(cells(row, name)))
        del counts[None]
        words = sorted((word for word in counts if counts[word] >= min_count), key=lambda w: (-counts[w], w))
        local = {word: offset + 1 + rank for rank, word in enumerate(words)}
        entries += [(name, word, local[word]) for word in words]
        oov = offset + len(words) + 1
        for row, slots in zip(rows, ids, strict=True):
            found = [local.get(word, oov) for word in cells(row, name)][:max_len]
            slots += found + [0] * (max_len - len(found))
        offset += len(words) + 2
    return entries, ids, offset


def frame(rows):
    return pl.DataFrame([{**row, "y": True} for row in rows], schema=SCHEMA)


@settings(deadline=None, max_examples=50)
@given(
    train=st.lists(ROW, min_size=1, max_size=20),
    rows=st.lists(ROW, min_size=1, max_size=8),
    max_len=st.integers(1, 4),
    min_count=st.integers(1, 4),
)
def test_against_plain_python(tmp_path_factory, train, rows, max_len, min_count):
    out = tmp_path_factory.mktemp("case") / "out"
    max_lens = {"number": 1, "many": max_len, "one": 1}
    entries, ids, total = reference(train, rows, max_lens, min_count)
    fields = (
        FieldSpec("number", min_count=min_count, missing=()),
        FieldSpec("many", "multi", min_count, max_len=max_len),
        FieldSpec("one", min_count=min_count, missing=()),
    )
    frames = {"train": frame(train), "valid": frame(rows), "test": frame(rows[:1])}
    schema = tables.encode(TableSpec("t", "y", fields), frames, out, {"made": "here"})
    words = pl.read_parquet(out / "vocabulary.parquet")
    assert words.rows() == entries
    assert words.schema == {"field": pl.String, "value": pl.String, "id": pl.Int32}
    assert [(field.name, field.max_len) for field in schema.fields] == list(max_lens.items())
    assert schema.num_features == total
    assert schema.source == {"made": "here"}
    assert encoded.open_split(out, "valid").ids.tolist() == ids
    assert encoded.open_split(out, "test").ids.tolist() == ids[:1]


def vocabulary(tmp_path, field, column, **others):
    train = pl.DataFrame({field.name: column, "y": 1})
    frames = {"train": train, "valid": train, "test": train} | others
    tables.encode(TableSpec("t", "y", (field,)), frames, tmp_path / "out", {})
    words = pl.read_parquet(tmp_path / "out/vocabulary.parquet")
    return words["value"].to_list(), encoded.open_split(tmp_path / "out", "test").ids.tolist()


def test_by_hand(tmp_path):
    # y is in two rows; w and x tie. r is past the second slot, but counted.
    column = [["y", "w"], ["y", "y", "x"], [], ["r", "x", "w"]]
    test = pl.DataFrame({"g": [["x", "new", "y"], ["r"], None], "y": 0})
    words, ids = vocabulary(tmp_path, FieldSpec("g", "multi", max_len=2), column, test=test)
    assert words == ["w", "x", "y", "r"]
    assert ids == [[2, 5], [4, 0], [0, 0]]


def test_min_count_counts_rows(tmp_path):
    """A row that holds a value twice is one row."""
    column = [["a", "a"], ["b"], ["b", "a", "c", "c", "c"], ["b"]]
    words, _ = vocabulary(tmp_path, FieldSpec("g", "multi", 3, max_len=2), column)
    assert words == ["b"]
    words, _ = vocabulary(tmp_path, FieldSpec("g", "multi", 2, max_len=2), column)
    assert words == ["b", "a"]


def test_an_empty_single_value_is_one_if_the_field_has_it_so(tmp_path):
    words, ids = vocabulary(tmp_path, FieldSpec("g", missing=()), ["x", "", ""])
    assert (words, ids) == (["", "x"], [[2], [1], [1]])
    words, ids = vocabulary(tmp_path, FieldSpec("g"), ["x", None, None])
    assert (words, ids) == (["x"], [[1], [2], [2]])


def test_rows_keep_their_order_past_a_chunk(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "_FRAME_ROWS", 7)
    words, ids = vocabulary(tmp_path, FieldSpec("g"), list(range(50)))
    assert [words[one - 1] for (one,) in ids] == [str(value) for value in range(50)]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"test": pl.DataFrame({"y": [1]})}, "test: lacks the columns g"),
        ({"test": pl.DataFrame({"g": [], "y": []})}, "test: has no rows"),
        ({"test": pl.DataFrame({"g": ["a", "b"], "y": [1, 2]})}, "test: row 2: y is '2'; the label must be"),
        ({"test": pl.DataFrame({"g": [1.5], "y": [1]})}, "test: column g has type Float64, but in train"),
        ({"dev": pl.DataFrame({"g": ["a"], "y": [1]})}, "give train, valid and test"),
    ],
)
def test_refuses(tmp_path, change, said):
    with pytest.raises(InputError) as error:
        vocabulary(tmp_path, FieldSpec("g"), ["a"], **change)
    assert said in str(error.value)
    assert list(tmp_path.iterdir()) == []
