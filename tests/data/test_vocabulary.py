from collections import Counter

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ektf_jax.data import vocabulary

VALUES = st.sampled_from(["a", "b", "B", "10", "9", "é", "zz", " a", "", None])
ROW = st.fixed_dictionaries(
    {"one": VALUES, "number": st.one_of(st.none(), st.integers(-3, 3)), "many": st.lists(VALUES, max_size=6)}
)
SCHEMA = {"one": pl.String, "number": pl.Int64, "many": pl.List(pl.String)}


def cells(row, name, max_len):
    """A row's values of one field as text, in plain Python."""
    value = row[name]
    if isinstance(value, list):
        return [word for word in value if word][:max_len]
    return ["" if value is None else str(value)]


def reference(train, rows, max_lens, min_count):
    """Vocabulary entries (field, value, id) and ids of `rows`, in plain Python."""
    entries, encoded, offset = [], [[] for _ in rows], 0
    for name, max_len in max_lens.items():
        counts = Counter(word for row in train for word in cells(row, name, max_len))
        words = sorted((word for word in counts if counts[word] >= min_count), key=lambda w: (-counts[w], w))
        local = {word: offset + 1 + rank for rank, word in enumerate(words)}
        entries += [(name, word, local[word]) for word in words]
        oov = offset + len(words) + 1
        for row, ids in zip(rows, encoded, strict=True):
            found = [local.get(word, oov) for word in cells(row, name, max_len)]
            ids += found + [0] * (max_len - len(found))
        offset += len(words) + 2
    return entries, encoded, offset


@settings(deadline=None, max_examples=150)
@given(
    train=st.lists(ROW, max_size=20),
    rows=st.lists(ROW, max_size=8),
    max_len=st.integers(1, 4),
    min_count=st.integers(1, 4),
)
def test_against_plain_python(train, rows, max_len, min_count):
    max_lens = {"number": 1, "many": max_len, "one": 1}
    entries, ids, total = reference(train, rows, max_lens, min_count)
    fields, words = vocabulary.build(pl.DataFrame(train, schema=SCHEMA), max_lens, min_count)
    assert words.rows() == entries
    assert words.schema == {"field": pl.String, "value": pl.String, "id": pl.Int32}
    assert [(field.name, field.max_len) for field in fields] == list(max_lens.items())
    assert sum(field.vocab_size for field in fields) == total
    found = vocabulary.encode(pl.DataFrame(rows, schema=SCHEMA), fields, words)
    assert found.dtype == np.int32
    assert found.shape == (len(rows), 2 + max_len)
    assert found.tolist() == ids


def test_by_hand():
    train = pl.DataFrame({"g": ["x", "y", "y", "w"], "t": [["p"], ["q", "p", "r"], [], ["q", "q"]]})
    fields, words = vocabulary.build(train, {"g": 1, "t": 2})
    assert [(field.vocab_size, field.offset) for field in fields] == [(5, 0), (4, 5)]
    # y is the most frequent; w and x tie; r is past the second slot.
    assert words.rows() == [("g", "y", 1), ("g", "w", 2), ("g", "x", 3), ("t", "q", 6), ("t", "p", 7)]
    rows = pl.DataFrame({"g": ["x", "new", None], "t": [["p", "q", "q"], ["r"], None]})
    assert vocabulary.encode(rows, fields, words).tolist() == [[3, 7, 6], [4, 8, 0], [4, 0, 0]]


def test_missing_single_value_is_a_value_if_training_has_it():
    train = pl.DataFrame({"g": ["x", None, None]})
    fields, words = vocabulary.build(train, {"g": 1})
    assert words.rows() == [("g", "", 1), ("g", "x", 2)]
    assert vocabulary.encode(train, fields, words).tolist() == [[2], [1], [1]]


def test_row_order_does_not_change_the_vocabulary():
    rng = np.random.default_rng(0)
    train = pl.DataFrame({"g": rng.integers(0, 300, 2000), "t": rng.integers(0, 9, (2000, 3)).tolist()})
    shuffled = train[rng.permutation(2000)]
    _, words = vocabulary.build(train, {"g": 1, "t": 3})
    _, again = vocabulary.build(shuffled, {"g": 1, "t": 3})
    assert words.equals(again)


def test_slots_must_match_the_column():
    """A single-valued column cannot fill two slots: an error, not uninitialised ids."""
    frame = pl.DataFrame({"g": ["x"]})
    fields, words = vocabulary.build(frame, {"g": 2})
    with pytest.raises(ValueError, match="zip"):
        vocabulary.encode(frame, fields, words)
