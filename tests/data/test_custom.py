import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from ektf_jax.data import custom, encoded
from ektf_jax.data.rawfiles import Layout
from ektf_jax.data.tables import FieldSpec
from ektf_jax.errors import InputError

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "datasets.md").read_text()
EXAMPLE = dict(re.findall(r"```(?:yaml|csv)\n# (\S+)\n(.*?)```", PAGE, re.S))


def words(out, field):
    return pl.read_parquet(out / "vocabulary.parquet").filter(pl.col("field") == field)["value"].to_list()


def test_the_example_of_the_docs(tmp_path):
    for name, text in EXAMPLE.items():
        (tmp_path / name).write_text(text)
    assert "--dataset=custom --schema=clicks.yaml --raw=. --out=encoded" in PAGE
    out = tmp_path / "encoded"
    schema = custom.prepare(tmp_path / "clicks.yaml", tmp_path, out)
    assert schema.dataset == "shop"
    names = [field.name for field in schema.fields]
    assert names == ["user", "item", "country", "device", "price", "tags"]
    assert [field.max_len for field in schema.fields] == [1, 1, 1, 1, 1, 3]
    assert schema.splits == {"train": 8, "valid": 1, "test": 1}
    assert "NULL" not in words(out, "device")
    labels = sum(encoded.open_split(out, split).labels.sum() for split in schema.splits)
    assert labels == 6  # ratings above 3


def test_the_split_by_time_of_the_docs(tmp_path):
    for name, text in EXAMPLE.items():
        (tmp_path / name).write_text(text)
    out = tmp_path / "encoded"
    schema = custom.prepare(tmp_path / "visits.yaml", tmp_path, out)
    assert schema.splits == {"train": 8, "valid": 1, "test": 1}
    assert schema.source["spec"]["split"] == "when"
    assert "split_seed" not in schema.source
    assert words(out, "user") == ["u2", "u3", "u1"]  # 3, 3 and 2 of the training rows
    ids = {name: encoded.open_split(out, name).ids.tolist() for name in ("valid", "test")}
    user, page = schema.fields
    assert words(out, "page") == ["home", "shop"]
    assert ids["valid"] == [[user.offset + 3, page.offset + 1]]  # u1 at home on 8 July
    assert ids["test"] == [[user.offset + 1, page.offset + 2]]  # u2 in the shop on 9 July


def test_the_weights_of_the_docs(tmp_path):
    for name, text in EXAMPLE.items():
        (tmp_path / name).write_text(text)
    schema = custom.prepare(tmp_path / "counted.yaml", tmp_path, tmp_path / "out")
    assert schema.weighted
    stored = [np.load(tmp_path / f"out/{split}/weights.npy") for split in schema.splits]
    assert sum(weights.sum() for weights in stored) == 21
    np.testing.assert_array_equal(encoded.open_split(tmp_path / "out", "train").weights, stored[0])
    assert encoded.open_split(tmp_path / "out", "valid").weights is None  # of a single row


def test_the_bins_of_the_docs(tmp_path):
    for name, text in EXAMPLE.items():
        (tmp_path / name).write_text(text)
    schema = custom.prepare(tmp_path / "priced.yaml", tmp_path, tmp_path / "out")
    assert schema.source["spec"]["fields"][1]["bins"] == "quantile:4"
    found = words(tmp_path / "out", "price")
    assert found == ["(-inf, 3]", "(3, 12.5]", "(12.5, inf]"]
    assert f"`price` is `{found[0]}`, `{found[1]}` and `{found[2]}`, from the lowest" in PAGE


def test_the_pooling_of_the_docs(tmp_path):
    for name, text in EXAMPLE.items():
        (tmp_path / name).write_text(text)
    schema = custom.prepare(tmp_path / "tagged.yaml", tmp_path, tmp_path / "out")
    assert [field.pooling for field in schema.fields] == ["mean", "max"]
    assert encoded.open_schema(tmp_path / "out").fields == schema.fields


def test_the_attention_of_the_docs(tmp_path):
    for name, text in EXAMPLE.items():
        (tmp_path / name).write_text(text)
    schema = custom.prepare(tmp_path / "viewed.yaml", tmp_path, tmp_path / "out")
    assert [(field.pooling, field.target) for field in schema.fields] == [
        ("mean", None),
        ("mean", None),
        ("attention", "item"),
    ]
    assert encoded.open_schema(tmp_path / "out").fields == schema.fields
    assert "i1" in words(tmp_path / "out", "item")
    assert "i1" in words(tmp_path / "out", "viewed")


def test_the_numbers_of_the_docs(tmp_path):
    for name, text in EXAMPLE.items():
        (tmp_path / name).write_text(text)
    schema = custom.prepare(tmp_path / "spent.yaml", tmp_path, tmp_path / "out")
    assert words(tmp_path / "out", "price") == ["(number)"]
    assert f"`{words(tmp_path / 'out', 'price')[0]}` in the vocabulary" in PAGE
    split = encoded.open_split(tmp_path / "out", "train")
    assert split.dense is not None
    known = split.ids[:, 1] != schema.fields[1].oov
    np.testing.assert_allclose([split.dense[known].mean(), split.dense[known].std()], [0, 1], atol=1e-6)
    assert (split.dense[~known] == 1).all()


def test_every_key_is_documented():
    for key in {**custom._TOP, **custom._FIELD}:
        assert re.search(rf"^\|.*`{key}`", PAGE, re.M) or key == "name"


def write(tmp_path, text):
    (tmp_path / "t.yaml").write_text(text)
    return tmp_path / "t.yaml"


def test_defaults_and_own_settings(tmp_path):
    text = """
        dataset: t
        files: [b.csv, a*.csv]
        label: y
        min_count: 3
        missing: ["", "-"]
        columns: [y, a, b, c, d]
        separator: "::"
        quoting: false
        fields:
          - a
          - {name: [b, c], missing: [], fill: none, min_count: 5}
          - {name: d, kind: multi, max_len: 2, separator: ";"}
    """
    spec, files = custom.read(write(tmp_path, text))
    assert files == ["b.csv", "a*.csv"]
    assert spec.layout == Layout("::", ("y", "a", "b", "c", "d"), quoting=False)
    assert spec.fields == (
        FieldSpec("a", min_count=3, missing=("", "-")),
        FieldSpec("b", min_count=5, missing=(), fill="none"),
        FieldSpec("c", min_count=5, missing=(), fill="none"),
        FieldSpec("d", "multi", 3, ("", "-"), separator=";", max_len=2),
    )


def test_files_of_ready_splits(tmp_path):
    for name in ("train/2", "train/1", "test"):
        path = tmp_path / f"raw/{name}.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"y,a\n1,{name}\n0,b\n")
    text = "{dataset: t, files: {train: 'train/*.csv', test: test.csv}, label: y, fields: [a]}"
    schema = custom.prepare(write(tmp_path, text), tmp_path / "raw", tmp_path / "out")
    assert schema.splits == {"train": 4, "valid": 2, "test": 2}
    assert [file["name"] for file in schema.source["files"]] == ["1.csv", "2.csv", "test.csv"]
    assert words(tmp_path / "out", "a") == ["b", "train/1", "train/2"]


GOOD = {"dataset": "t", "files": "a.csv", "label": "y", "fields": "[a]"}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"files": None}, "t.yaml: lacks files"),
        ({"lable": "y"}, "t.yaml: key 'lable' is unknown; did you mean 'label'?"),
        ({"fields": "a"}, "t.yaml: fields is 'a'; it must be a list"),
        ({"fields": "[]"}, "t.yaml: t: has no fields"),
        ({"fields": "[y]"}, "t.yaml: t: y is named twice"),
        ({"fields": "[1]"}, "t.yaml: fields[0]: has 1, which YAML does not read as text; put it in quotes"),
        ({"fields": "[no]"}, "t.yaml: fields[0]: has False, which YAML does not read as text"),
        ({"fields": "[[c]]"}, "t.yaml: fields[0]: is ['c']; it must have the keys name, kind"),
        ({"fields": "[{kind: numeric}]"}, "t.yaml: fields[0]: lacks name"),
        (
            {"fields": "[a, {name: b, kind: numbers}]"},
            "t.yaml: field b: kind is 'numbers'; it must be one of",
        ),
        ({"fields": "[{name: a, kind: multi}]"}, "t.yaml: fields[0]: max_len is missing"),
        (
            {"fields": "[{name: a, min_count: many}]"},
            "fields[0]: min_count is 'many'; it must be a whole number",
        ),
        (
            {"fields": "[{name: a, min_count: true}]"},
            "fields[0]: min_count is True; it must be a whole number",
        ),
        ({"fields": "[{name: a, fill: 0}]"}, "fields[0]: fill is 0; it must be text"),
        (
            {"fields": "[{name: a, kind: numeric, fill: none}]"},
            "t.yaml: field a: fill is 'none'; it must be a number",
        ),
        (
            {"fields": "[{name: a, kind: numeric, bins: quantile:0}]"},
            "t.yaml: field a: bins is 'quantile:0'; it must be quantile:N with a whole number N from 2",
        ),
        ({"fields": "[{name: a, kind: numeric, bins: 4}]"}, "fields[0]: bins is 4; it must be text"),
        ({"fields": "[{name: a, bins: quantile:4}]"}, "bins is 'quantile:4'; it must be left to numeric"),
        (
            {"fields": "[{name: a, kind: numeric, bins: quantile:4}]"},
            "a.csv:2: a is 'v'; it must be a number",
        ),
        (
            {"fields": "[{name: a, kind: multi, max_len: 2, pooling: median}]"},
            "t.yaml: field a: pooling is 'median'; it must be one of mean, sum, max",
        ),
        (
            {"fields": "[{name: a, pooling: attention, target: a}]"},
            "pooling is 'attention'; it must be left to multi-valued fields",
        ),
        (
            {"fields": "[{name: a, kind: multi, max_len: 2, pooling: attention}]"},
            "t.yaml: field a: target is None; it must be the field that this one is attended by",
        ),
        (
            {"fields": "[{name: a, kind: multi, max_len: 2, pooling: sum, target: b}]"},
            "t.yaml: field a: target is 'b'; it must be left to pooling: attention",
        ),
        (
            {"fields": "[item, {name: a, kind: multi, max_len: 2, pooling: attention, target: itm}]"},
            "t.yaml: t: field a: target 'itm' is unknown; did you mean 'item'? valid: item",
        ),
        (
            {"fields": "[{name: [a, b], kind: multi, max_len: 1, pooling: attention, target: b}]"},
            "t.yaml: t: field a: target is 'b', which is multi-valued; it must be a field of one value",
        ),
        (
            {
                "fields": "[{name: b, kind: dense}, {name: a, kind: multi, max_len: 2, pooling: attention,"
                " target: b}]"
            },
            "t.yaml: t: field a: target is 'b', which is dense; it must be a field of one value",
        ),
        ({"fields": "[{name: a, pretrained: v.parquet}]"}, "v.parquet: cannot be read"),
        ({"fields": "[{name: a, pretrained: ''}]"}, "field a: pretrained is ''; it must be a Parquet file"),
        (
            {"fields": "[{name: a, kind: numeric, pretrained: v.parquet}]"},
            "field a: pretrained is 'v.parquet'; it must be left to fields whose values are no numbers",
        ),
        (
            {"fields": "[{name: a, frozen: false}]"},
            "frozen is False; it must be left to fields with pretrained",
        ),
        ({"fields": "[{name: a, frozen: 1}]"}, "fields[0]: frozen is 1; it must be true or false"),
        ({"fields": "[{name: a, target: [b]}]"}, "fields[0]: target is ['b']; it must be text"),
        ({"fields": "[{name: a, pooling: sum}]"}, "pooling is 'sum'; it must be left to multi-valued fields"),
        ({"fields": "[{name: a, kind: dense}]"}, "a.csv:2: a is 'v'; it must be a number from"),
        ({"fields": "[{name: a, kind: dense, transform: 1}]"}, "fields[0]: transform is 1; it must be text"),
        ({"fields": "[{name: a, transform: log1p}]"}, "transform is 'log1p'; it must be left to dense"),
        ({"label": "{name: y, above: .nan}"}, "t.yaml: t: above is nan; it must be a finite number"),
        ({"fields": "[{name: [a, NO]}]"}, "fields[0]: name: has False, which YAML does not read as text"),
        ({"missing": "[0]"}, "t.yaml: fields[0]: missing: has 0, which YAML does not read as text"),
        ({"label": "{name: y, over: 3}"}, "t.yaml: label: key 'over' is unknown"),
        ({"columns": "[y, b]"}, "t.yaml: columns lacks a"),
        ({"separator": "'::'"}, "t.yaml: separator is '::'"),
        ({"files": "{train: a.csv}"}, "t.yaml: files: lacks test"),
        ({"files": "{train: a.csv, dev: a.csv, test: a.csv}"}, "t.yaml: files: key 'dev' is unknown"),
        ({"files": "b*.csv"}, "t.yaml: files: 'b*.csv' matches nothing in"),
        ({"files": "/a.csv"}, "t.yaml: files: '/a.csv' is no pattern"),
        ({"dataset": "[a"}, "t.yaml: is not YAML"),
        ({"dataset": "''"}, "t.yaml: dataset is ''; it must be a name"),
        ({"label": "''"}, "t.yaml: label is ''; it must be a name"),
        ({"fields": "[a, '']"}, "t.yaml: field : name is ''; it must be"),
        ({"label": "{name: y, above: 1" + "0" * 400 + "}"}, "t.yaml: t: above is 100000"),
        (
            {"fields": "[{name: a, kind: multi, max_len: 2147483648}]"},
            "t.yaml: t: max_len of its fields is 2147",
        ),
        (
            {"fields": "[{name: a, kind: multi, max_len: 1" + "0" * 30 + "}]"},
            "t.yaml: t: max_len of its fields",
        ),
        ({"files": "[]"}, "t.yaml: files is empty; name"),
        ({"files": "a" * 300}, "cannot be looked for in"),
        ({"files": "'" + "a" * 300 + "*'"}, "cannot be looked for in"),
        ({"fields": '[a, "b\\ud800"]'}, "t.yaml:4: 'b\\ud800' is no text in UTF-8"),
        ({"missing": '["\\ud800"]'}, "t.yaml:5: '\\ud800' is no text in UTF-8"),
        ({"weight": "3"}, "t.yaml: weight is 3; it must be text"),
        ({"weight": "y"}, "t.yaml: t: weight is 'y'; it must be a column beside the label"),
        ({"weight": "w", "columns": "[y, a]"}, "t.yaml: columns lacks w"),
        ({"weight": "w"}, "a.csv:1: the header lacks w"),
        ({"weight": "a"}, "a.csv:2: a is 'v'; a weight must be a number from 0 to 1e+30"),
        ({"split": "y"}, "t.yaml: split is 'y'; it must be keys"),
        ({"split": "{}"}, "t.yaml: split: lacks by"),
        ({"split": "{by: z, at: 3}"}, "t.yaml: split: key 'at' is unknown"),
        ({"split": "{by: y}"}, "t.yaml: t: split is 'y'; it must be a column beside the label"),
        ({"split": "{by: z}"}, "a.csv:1: the header lacks z"),
        ({"split": "{by: z}", "columns": "[y, a]"}, "t.yaml: columns lacks z"),
        ({"split": "{by: a}", "files": "{train: a.csv, test: b.csv}"}, "'b.csv' matches nothing"),
        ({"split": "{by: a}"}, "a.csv:2: a is 'v'; it must be train, valid or test, or a number, or a time"),
        ({"files": "[a.csv, '*.csv']"}, "a.csv is matched twice"),
        ({"files": "{train: '*.csv', test: ./a.csv}"}, "a.csv is matched twice"),
    ],
)
def test_refuses(tmp_path, change, said):
    entries = {key: value for key, value in (GOOD | change).items() if value is not None}
    schema = write(tmp_path, "\n".join(f"{key}: {value}" for key, value in entries.items()))
    (tmp_path / "a.csv").write_text("y,a\n" + "1,v\n" * 10)
    with pytest.raises(InputError) as error:
        custom.prepare(schema, tmp_path, tmp_path / "out")
    assert said in str(error.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("text", "line", "key", "first"),
    [
        ("fields: [b]\n", 5, "'fields'", 4),
        ("'label': z\n", 5, "'label'", 3),
        ("min_count: 2\nmissing: []\nmin_count: 3\n", 7, "'min_count'", 5),
        ("x: {a: [{b: 1, c: {d: 1, d: 1}}]}\n", 5, "'d'", 5),
        ("x:\n- name: b\n  min_count: 2\n  min_count: 3\n", 8, "'min_count'", 7),
        ("x: {1: a, true: b}\n", 5, "True", 5),
        ("? {a: 1, a: 2}\n: b\n", 5, "'a'", 5),
    ],
)
def test_repeated_keys(tmp_path, text, line, key, first):
    """At any depth: of two the last would win, and fields would vanish."""
    schema = write(tmp_path, "dataset: t\nfiles: a.csv\nlabel: y\nfields: [a]\n" + text)
    with pytest.raises(InputError) as error:
        custom.read(schema)
    assert str(error.value).startswith(f"{schema}:{line}: the key {key} is on line {first} already")


def test_repeated_keys_in_a_split_and_a_field(tmp_path):
    for text in (
        "{dataset: t, files: {train: a, test: b, train: c}, label: y, fields: [a]}",
        "{dataset: t, files: a, label: {name: y, above: 1, above: 2}, fields: [a]}",
        "{dataset: t, files: a, label: y, fields: [a, {name: b, kind: multi, max_len: 2, max_len: 3}]}",
    ):
        with pytest.raises(InputError, match=r"t\.yaml:1: the key .* is on line 1 already"):
            custom.read(write(tmp_path, text))


def test_merged_keys_may_be_overridden(tmp_path):
    text = """
        dataset: t
        files: a.csv
        label: y
        fields:
          - &first {name: a, min_count: 2}
          - &second {<<: *first, name: b}
          - {<<: *second, name: c, min_count: 7}
    """
    spec, _ = custom.read(write(tmp_path, text))
    assert [(field.name, field.min_count) for field in spec.fields] == [("a", 2), ("b", 2), ("c", 7)]


@pytest.mark.parametrize(
    "text",
    [
        "a: [" * 3000,
        "? [a]\n: b",
        "a: 2024-13-45",
        "a: *b",
        "a: &b [*b]",
        "a: !!bool x",
        "a: !!timestamp x",
        "a: !!int ''",
        "a: !!float ''",
        "!!bool x: a",
        "a: !!python/object/apply:os.system ['true']",
    ],
)
def test_odd_yaml(tmp_path, text):
    with pytest.raises(InputError, match=r"t\.yaml: "):
        custom.read(write(tmp_path, text))


def test_no_schema(tmp_path):
    with pytest.raises(InputError, match=r"none\.yaml: cannot be read"):
        custom.read(tmp_path / "none.yaml")
    with pytest.raises(InputError, match=r"t\.yaml: is None; it must have the keys"):
        custom.read(write(tmp_path, ""))


def test_an_error_shows_nested_aliases_in_short(tmp_path):
    """Whose text in full can be of any length."""
    pairs = zip("abcdef", "bcdefg", strict=True)
    lists = "".join(f"  - &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in pairs)
    with pytest.raises(InputError, match=r"t\.yaml: dataset is \[.*\.\.\..*; it must be text") as error:
        custom.read(write(tmp_path, f"dataset:\n  - &a x\n{lists}files: f\nlabel: y\nfields: [a]\n"))
    assert len(str(error.value)) < 1000
