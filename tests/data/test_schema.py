import copy
import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ektf_jax.data.schema import ATTENTION, POOLINGS, Field, Schema, make_fields
from ektf_jax.errors import InputError

SCHEMA = Schema(
    dataset="tiny",
    fields=(Field("user", 5, 0), Field("item", 7, 5), Field("tags", 4, 12, max_len=3)),
    splits={"train": 8, "valid": 1, "test": 2},
    source={"files": {"a.dat": {"bytes": 3, "sha256": "00"}}, "split_seed": 2024},
)


def test_counts_slots_and_oov():
    assert (SCHEMA.num_fields, SCHEMA.num_slots, SCHEMA.num_features) == (3, 5, 16)
    assert SCHEMA.slots == ((0, 1), (1, 2), (2, 5))
    assert [field.oov for field in SCHEMA.fields] == [4, 11, 15]


def test_json_is_the_documented_one():
    assert json.loads(SCHEMA.to_json()) == {
        "format": "ektf-jax encoded dataset",
        "version": 1,
        "dataset": "tiny",
        "fields": [
            {"name": "user", "vocab_size": 5, "offset": 0, "max_len": 1},
            {"name": "item", "vocab_size": 7, "offset": 5, "max_len": 1},
            {"name": "tags", "vocab_size": 4, "offset": 12, "max_len": 3},
        ],
        "splits": {"train": 8, "valid": 1, "test": 2},
        "source": {"files": {"a.dat": {"bytes": 3, "sha256": "00"}}, "split_seed": 2024},
    }


def entries_up_to(vocab_size):
    entry = st.tuples(st.text(min_size=1), st.integers(2, vocab_size), st.integers(1, 9))
    return st.lists(entry, min_size=1, max_size=12, unique_by=lambda entry: entry[0])


@given(
    entries_up_to(10**8), st.lists(st.integers(1, 2**40), min_size=3, max_size=3), st.sampled_from(POOLINGS)
)
def test_json_round_trip(entries, rows, pooling):
    schema = Schema("any", make_fields(entries), dict(zip(("train", "valid", "test"), rows, strict=True)), {})
    assert Schema.from_json(schema.to_json()) == schema
    assert '"pooling"' not in schema.to_json()
    pooled = replace(schema, fields=tuple(replace(field, pooling=pooling) for field in schema.fields))
    assert Schema.from_json(pooled.to_json()) == pooled
    assert (pooled.fingerprint == schema.fingerprint) == (pooling == "mean")


def test_json_round_trip_of_attention():
    user, item, tags = SCHEMA.fields
    attended = replace(SCHEMA, fields=(user, item, replace(tags, pooling=ATTENTION, target="item")))
    assert Schema.from_json(attended.to_json()) == attended
    assert attended.to_json().count("target") == 1
    assert '"target"' not in SCHEMA.to_json()


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (("b", 1, 1), "field b: 1 entries"),
        (("b", 2, 0), "in 0 slots"),
        (("b", -1, 1), "-1 entries"),
        (("a", 5, 1), "field a appears twice"),
    ],
)
def test_a_field_without_room_or_a_name_of_its_own_is_refused(entry, message):
    assert make_fields([("a", 2, 1), ("c", 2, 1)])[1].oov == 3
    with pytest.raises(ValueError, match=message):
        make_fields([("a", 2, 1), entry])


@given(entries_up_to(20))
def test_fields_tile_the_table_and_the_slots(entries):
    schema = Schema("any", make_fields(entries), {}, {})
    table = [(field.name, local) for field in schema.fields for local in range(field.vocab_size)]
    slots = [field.name for field in schema.fields for _ in range(field.max_len)]
    assert len(table) == schema.num_features
    assert len(slots) == schema.num_slots
    for field, (start, stop) in zip(schema.fields, schema.slots, strict=True):
        assert table[field.offset] == (field.name, 0)
        assert table[field.oov] == (field.name, field.vocab_size - 1)
        assert slots[start:stop] == [field.name] * field.max_len


BAD = [
    ("format is missing", ["format"], None, ["format"]),
    ("another format", ["format"], "parquet", ["format"]),
    ("unknown version", ["version"], 2, ["version", "2"]),
    ("boolean version", ["version"], True, ["version", "True"]),
    ("version is missing", ["version"], None, ["version"]),
    ("dataset is missing", ["dataset"], None, ["dataset", "missing"]),
    ("dataset is a number", ["dataset"], 7, ["dataset", "7"]),
    ("dataset is empty", ["dataset"], "", ["dataset", "empty"]),
    ("fields is missing", ["fields"], None, ["fields", "missing"]),
    ("fields is an object", ["fields"], {}, ["fields", "{}"]),
    ("fields is empty", ["fields"], [], ["fields", "empty"]),
    ("field is text", ["fields", 1], "item", ["fields[1]", "'item'"]),
    ("name is missing", ["fields", 1, "name"], None, ["fields[1]", "name", "missing"]),
    ("name is a number", ["fields", 1, "name"], 3, ["fields[1]", "name", "3"]),
    ("name is empty", ["fields", 1, "name"], "", ["fields[1]", "name", "empty"]),
    ("name twice", ["fields", 1, "name"], "user", ["fields[1]", "'user'", "twice"]),
    ("vocab_size is missing", ["fields", 1, "vocab_size"], None, ["item", "vocab_size", "missing"]),
    ("vocab_size is a fraction", ["fields", 1, "vocab_size"], 7.0, ["item", "vocab_size", "7.0"]),
    ("vocab_size is a boolean", ["fields", 1, "vocab_size"], True, ["item", "vocab_size", "True"]),
    ("vocab_size below 2", ["fields", 1, "vocab_size"], 1, ["item", "vocab_size", "1"]),
    ("vocab_size past int32", ["fields", 2, "vocab_size"], 2**31, ["tags", "vocab_size", str(2**31)]),
    ("offset is missing", ["fields", 1, "offset"], None, ["item", "offset", "missing"]),
    ("offset is text", ["fields", 1, "offset"], "5", ["item", "offset", "'5'"]),
    ("offset is negative", ["fields", 1, "offset"], -5, ["item", "offset", "-5"]),
    ("offset overlaps", ["fields", 1, "offset"], 4, ["item", "offset", "4", "5"]),
    ("offset leaves a gap", ["fields", 2, "offset"], 13, ["tags", "offset", "13", "12"]),
    ("max_len is missing", ["fields", 2, "max_len"], None, ["tags", "max_len", "missing"]),
    ("max_len below 1", ["fields", 2, "max_len"], 0, ["tags", "max_len", "0"]),
    ("unknown pooling", ["fields", 2, "pooling"], "first", ["tags", "pooling", "'first'", "mean, sum, max"]),
    ("attention to nothing", ["fields", 2, "pooling"], "attention", ["tags", "'attention'", "target None"]),
    ("a target of a mean", ["fields", 2, "target"], "item", ["tags", "'mean'", "target 'item'"]),
    ("a target that is a number", ["fields", 2, "target"], 3, ["tags", "target", "3"]),
    ("unknown key of a field", ["fields", 2, "max_lne"], 3, ["fields[2]", "'max_lne'", "max_len"]),
    ("unknown key", ["weigthed"], True, ["'weigthed'", "weighted"]),
    ("pooling is a number", ["fields", 2, "pooling"], 3, ["tags", "pooling", "3"]),
    ("splits is missing", ["splits"], None, ["splits", "missing"]),
    ("splits is a list", ["splits"], [1], ["splits", "[1]"]),
    ("a split is missing", ["splits", "valid"], None, ["splits", "valid"]),
    ("a split too many", ["splits", "dev"], 4, ["splits", "dev"]),
    ("rows is text", ["splits", "test"], "2", ["splits", "test", "'2'"]),
    ("no rows", ["splits", "test"], 0, ["splits", "test", "0"]),
    ("source is missing", ["source"], None, ["source", "missing"]),
    ("source is text", ["source"], "web", ["source", "'web'"]),
]


@pytest.mark.parametrize(
    ("path", "value", "named"), [case[1:] for case in BAD], ids=[case[0] for case in BAD]
)
def test_bad_schema_is_named(path, value, named):
    document = copy.deepcopy(json.loads(SCHEMA.to_json()))
    place = document
    for key in path[:-1]:
        place = place[key]
    if value is None:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    with pytest.raises(InputError) as error:
        Schema.from_json(json.dumps(document), "some/schema.json")
    for text in ["some/schema.json", *named]:
        assert text in str(error.value)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "\x00", '"ektf-jax encoded dataset"'])
def test_text_that_is_no_schema(text):
    with pytest.raises(InputError, match=r"some/schema\.json"):
        Schema.from_json(text, "some/schema.json")
