"""A bundle gives raw rows the probabilities that the run gives their ids, and is whole or not there."""

import hashlib
import json
import shutil
import subprocess
import sys

import jax
import numpy as np
import pandas
import polars as pl
import pytest
from sklearn.metrics import roc_auc_score

from ektf_jax.bundle import load, reader
from ektf_jax.bundle import score as scoring
from ektf_jax.bundle.export import export
from ektf_jax.data import encoded, encoder
from ektf_jax.data.rawfiles import Layout
from ektf_jax.data.spec import FieldSpec, TableSpec
from ektf_jax.errors import InputError
from ektf_jax.runs import load_run
from ektf_jax.runs.compare import split_of
from ektf_jax.training import loop, teachers
from tests import commands
from tests.bundle import shop
from tests.bundle.shop import rows


@pytest.fixture(scope="module")
def loaded(bundle):
    return load(bundle, runtime="jax")


@jax.jit
def predict(model, ids):
    return model(ids)


def own_probabilities(run, raw):
    """[K + 1, N]: by the run's model, of ids by the dataset's encoder."""
    ids = encoder.of_dataset(run.parent / "data").frame(raw).ids
    model = teachers.load(run, encoded.open_schema(run.parent / "data"))
    prediction = predict(model, ids)
    logits = np.concatenate([prediction.students, np.asarray(prediction.ensemble)[None]])
    return 1 / (1 + np.exp(-logits))


@pytest.mark.parametrize("count", [0, 1, 7, 33, 5000])
def test_a_bundle_predicts_what_its_run_does(run, loaded, count):
    raw = rows(5000, 2)[:count].drop("click")
    found = loaded.predict(raw)
    assert found["students"].shape == (3, count)
    if count:
        expected = own_probabilities(run, raw)
        np.testing.assert_allclose(found["students"], expected[:3], atol=1e-6)
        np.testing.assert_allclose(found["ensemble"], expected[3], atol=1e-6)


def test_a_run_predicts_raw_rows_itself(run, loaded):
    raw = rows(70, 2)
    found, expected = load_run(run).predict(raw), loaded.predict(raw)
    for name in ("ensemble", "students"):
        np.testing.assert_allclose(found[name], expected[name], atol=1e-6)


def test_a_run_predicts_when_its_dataset_is_gone(run, loaded, tmp_path):
    shutil.copytree(run.parent, tmp_path / "copy")
    copy = tmp_path / "copy" / "run"
    config = json.loads((copy / "result.json").read_text())
    config["config"]["data"]["path"] = str(tmp_path / "gone")
    (copy / "result.json").write_text(json.dumps(config))
    raw = rows(30, 2)
    expected = load_run(run).predict(raw)["ensemble"]
    np.testing.assert_array_equal(load_run(copy).predict(raw)["ensemble"], expected)
    shutil.rmtree(copy / "encoder")
    # Runs of version 0.1.0 keep nothing of their datasets.
    with pytest.raises(
        InputError, match=r"/gone: no such directory, and .*/run has its dataset there; say by --data"
    ):
        load_run(copy).predict(raw)


def test_embeddings_are_the_rows_of_their_values(run):
    opened = load_run(run)
    found = opened.embeddings("city")
    table = np.asarray(opened.model().embedding.table[...])
    ids = {value: at for field, value, at in opened.encoder.words.rows() if field == "city"}
    assert set(found["value"]) == {"x", "y", "z", "w"} == set(ids)
    for value, vector in found.rows():
        np.testing.assert_array_equal(np.float32(vector), table[ids[value], :4])
    with pytest.raises(InputError, match="field"):
        opened.embeddings("town")
    with pytest.raises(InputError, match="there is no student 3: the ensemble has 3"):
        opened.embeddings("city", student=3)


def test_rows_may_be_a_frame_of_pandas(loaded):
    """Missing values are NaN in columns of text and of numbers, which become floats, and NA in others."""
    raw = rows(20, 1).with_columns(pl.lit("beside").alias("more"))
    for name in raw.columns[:-1]:
        gone = pl.when(pl.int_range(pl.len()) % 7 != 3).then(pl.col(name))
        raw = raw.with_columns(gone.alias(name))
    expected = loaded.predict(raw)["ensemble"]
    frame = pandas.DataFrame(raw.to_dict(as_series=False))
    assert frame.isna().any().sum() == raw.width - 1
    np.testing.assert_array_equal(loaded.predict(frame)["ensemble"], expected)
    np.testing.assert_array_equal(loaded.predict(frame.convert_dtypes())["ensemble"], expected)
    np.testing.assert_array_equal(loaded.predict(frame.astype(object))["ensemble"], expected)


def test_whole_numbers_may_stand_among_others(loaded):
    """As JSON writes them."""
    raw = rows(4, 1).to_dict(as_series=False)
    expected = loaded.predict(raw | {"price": [1.0, 2.5, None, 3.0]})["ensemble"]
    np.testing.assert_array_equal(loaded.predict(raw | {"price": [1, 2.5, None, 3]})["ensemble"], expected)
    with pytest.raises(InputError, match=r"the rows: column price: has values of types int, str; give it"):
        loaded.predict(raw | {"price": [1, "2", None, 3]})


def test_a_run_whose_dataset_was_replaced_predicts_raw_rows_and_evaluates_none(run, tmp_path):
    """It keeps what the dataset said of itself; tomorrow's rows in its place are not its own."""
    moved = shutil.copytree(run, tmp_path / "run")
    shop.prepare(tmp_path / "data", rows(600, 5))
    result = json.loads((moved / "result.json").read_text())
    result["config"]["data"]["path"] = str(tmp_path / "data")
    (moved / "result.json").write_text(json.dumps(result))
    raw = rows(20, 1)
    expected = load_run(run).predict(raw)["ensemble"]
    np.testing.assert_array_equal(load_run(moved).predict(raw)["ensemble"], expected)
    with pytest.raises(InputError, match=r"schema_sha256 = .* is not that of .*data"):
        split_of(load_run(moved), "test")


def test_rows_may_be_a_dict(loaded):
    raw = rows(20, 1)
    expected = loaded.predict(raw)["ensemble"]
    np.testing.assert_array_equal(loaded.predict(raw.to_dict(as_series=False))["ensemble"], expected)


@pytest.mark.parametrize("predictor", ["best", "0", "2"])
def test_a_single_student_predicts_what_it_does_in_its_run(run, tmp_path, predictor):
    about = export(run, tmp_path / "one", predictor=predictor)
    result = json.loads((run / "result.json").read_text())
    students = result["valid"]["students"]
    k = int(np.argmax([one["auc"] for one in students])) if predictor == "best" else int(predictor)
    assert about["predictor"] == str(k)
    assert about["metrics"]["test"] == {"ensemble": result["test"]["students"][k]}
    assert about["params"] < result["params"]
    raw = rows(50, 3)
    found = load(tmp_path / "one").predict(raw)
    np.testing.assert_allclose(found["ensemble"], own_probabilities(run, raw)[k], atol=1e-6)
    np.testing.assert_array_equal(found["students"], found["ensemble"][None])


def test_a_bundle_is_the_same_bytes_and_says_nothing_of_the_machine(run, bundle, tmp_path):
    export(run, tmp_path / "again")
    for path in bundle.iterdir():
        assert (tmp_path / "again" / path.name).read_bytes() == path.read_bytes(), path.name
    assert b".py" not in (bundle / "program.jax").read_bytes()
    for path in bundle.iterdir():
        assert str(run.parent).encode() not in path.read_bytes(), path.name
    about = json.loads((bundle / "bundle.json").read_text())
    assert about["files"]["program.jax"] == hashlib.sha256((bundle / "program.jax").read_bytes()).hexdigest()
    assert set(about["files"]) | {"bundle.json"} == {path.name for path in bundle.iterdir()}


def test_a_bundle_is_read_without_what_trains():
    code = (
        "import sys, ektf_jax.bundle.score; bad = {'flax', 'optax', 'orbax', 'grain', 'jax', 'tqdm', 'yaml'};"
        "print(sorted(bad & {name.split('.')[0] for name in sys.modules}))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


@pytest.mark.parametrize("name", ["weights.safetensors", "program.jax", "vocabulary.parquet", "encoder.json"])
def test_a_changed_or_missing_file_is_named(bundle, tmp_path, name):
    shutil.copytree(bundle, tmp_path / "bundle")
    path = tmp_path / "bundle" / name
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(InputError, match=rf"{name}: has the SHA-256 .*get the bundle again"):
        load(tmp_path / "bundle")
    path.unlink()
    with pytest.raises(InputError, match=rf"{name}: cannot be read \(No such file"):
        load(tmp_path / "bundle")


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"version": 2}, "version is 2, this program reads 1; install a newer"),
        ({"format": "zip"}, "format is 'zip', not 'ektf-bundle'"),
        ({"students": "3"}, "students is '3'"),
    ],
)
def test_other_formats_are_refused(bundle, tmp_path, change, match):
    shutil.copytree(bundle, tmp_path / "bundle")
    path = tmp_path / "bundle" / "bundle.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(InputError, match=match):
        load(tmp_path / "bundle")


def test_what_is_no_bundle_is_not_read_or_replaced(run, tmp_path):
    with pytest.raises(InputError, match="is no bundle"):
        load(tmp_path)
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="is not empty and holds no bundle"):
        export(run, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
    with pytest.raises(InputError, match="--predictor"):
        export(run, tmp_path / "new", predictor="3")
    assert not (tmp_path / "new").exists()


def test_a_bundle_that_differs_from_its_run_is_not_written(run, tmp_path, monkeypatch):
    real = reader.Bundle.logits
    monkeypatch.setattr(reader.Bundle, "logits", lambda self, ids: real(self, ids) + 1e-3)
    with pytest.raises(InputError, match=r"differ by .* no bundle was written"):
        export(run, tmp_path / "bundle")
    assert list(tmp_path.iterdir()) == []


def write_table(frame, path):
    if path.suffix == ".parquet":
        frame.write_parquet(path)
    else:
        frame.write_csv(path, separator="\t" if path.suffix == ".tsv" else ",")


def test_how_a_file_is_written_is_told_by_its_first_line(tmp_path):
    """Of CSV and TSV with quoted names or without, of the dataset's own files with the label or without."""
    fields = (FieldSpec("a"), FieldSpec("b, c"))
    headed = TableSpec("t", "y", fields)
    bare = TableSpec("t", "y", fields, layout=Layout("|", ("y", "a", "b, c"), quoting=False, loose=True))
    for spec, line, layout, names in (
        (headed, '"b, c","a",y', Layout(","), ["b, c", "a", "y"]),
        (headed, 'b, c\ta\t"y"', Layout("\t"), ["b, c", "a", "y"]),
        (bare, '"b, c",a', Layout(","), ["b, c", "a"]),
        (bare, 'b, c\ta\t"y', Layout("\t", quoting=False), ["b, c", "a", '"y']),
        (bare, "a|b, c", Layout("|", quoting=False), ["a", "b, c"]),
        (bare, "1|p|q", bare.layout, ["y", "a", "b, c"]),
        (bare, "p|q", Layout("|", ("a", "b, c"), quoting=False, loose=True), ["a", "b, c"]),
        (headed, "a,x", headed.layout, ["a", "x"]),
    ):
        (tmp_path / "in.txt").write_text(line + "\n")
        (found,) = scoring.tables(spec, [tmp_path / "in.txt"])
        assert (found.layout, list(found.columns)) == (layout, names), line


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".parquet"])
def test_scored_files_have_a_row_for_each_of_the_input(loaded, tmp_path, suffix):
    parts = [rows(40, 1), rows(25, 4).select("price", "session", "city", "user", "tags", "click")]
    paths = [tmp_path / f"{number}{suffix}" for number in range(2)]
    for frame, path in zip(parts, paths, strict=True):
        write_table(frame, path)
    out = tmp_path / f"out{suffix}"
    found = scoring.score(loaded, paths, out, keep=("session", "city"))
    text = {"separator": "\t" if suffix == ".tsv" else ","}
    scored = pl.read_parquet(out) if suffix == ".parquet" else pl.read_csv(out, **text)
    whole = pl.concat([part.select(parts[0].columns) for part in parts])
    assert scored.columns == ["session", "city", "p_ensemble", "p_0", "p_1", "p_2"]
    assert scored["session"].to_list() == whole["session"].to_list()
    expected = loaded.predict(whole)
    np.testing.assert_allclose(scored["p_ensemble"], expected["ensemble"], rtol=1e-6)
    for k in range(3):
        np.testing.assert_allclose(scored[f"p_{k}"], expected["students"][k], rtol=1e-6)
    assert found.rows == 65
    assert found.unseen == loaded.encoder.frame(whole).unseen
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([out.name, *(p.name for p in paths)])


def test_scoring_the_test_split_gives_its_metrics(run, bundle, loaded, tmp_path):
    rows(300, 1).write_parquet(tmp_path / "test.parquet")
    found = scoring.score(loaded, [tmp_path / "test.parquet"], tmp_path / "p.csv", names=("auc", "logloss"))
    expected = loop.evaluate(run, "test")
    written, clicked = pl.read_csv(tmp_path / "p.csv"), rows(300, 1)["click"].to_numpy() > 0
    theirs = [expected["ensemble"], *expected["students"]]
    for name, ours, their in zip(written.columns, found.metrics, theirs, strict=True):
        # Of what is written, exactly; of the run's predictions, two a rounding apart may change places.
        assert ours["auc"] == pytest.approx(roc_auc_score(clicked, written[name]), abs=1e-12)
        assert ours["auc"] == pytest.approx(their["auc"], abs=1 / (clicked.sum() * (~clicked).sum()))
        assert ours["logloss"] == pytest.approx(their["logloss"], abs=1e-7)


def test_a_run_scores_as_its_bundle_does(run, loaded, tmp_path):
    rows(90, 1).write_csv(tmp_path / "in.csv")
    for predictor, name in ((loaded, "bundle"), (load_run(run), "run")):
        scoring.score(predictor, [tmp_path / "in.csv"], tmp_path / f"{name}.csv", keep=["user"])
    ours, theirs = (pl.read_csv(tmp_path / f"{name}.csv") for name in ("run", "bundle"))
    assert ours.columns == theirs.columns
    np.testing.assert_allclose(ours.to_numpy(), theirs.to_numpy(), atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (["--input={input}"], "give either --bundle or --workdir"),
        (["--bundle={bundle}", "--workdir={run}", "--input={input}"], "give either --bundle or --workdir"),
        (["--bundle={bundle}", "--input={input}", "--raw=x"], "--input and --raw are both given"),
        (["--workdir={run}", "--runtime=jax", "--input={input}"], "--runtime=jax is of a --bundle, not of"),
        (["--bundle={bundle}", "--data=x", "--input={input}"], "--data=x is of --workdir, not of a --bundle"),
        (["--bundle={bundle}", "--input={input}", "--split=test"], "--split=test is of the rows of --raw"),
        (["--bundle={bundle}", "--raw=x"], "'shop' has no raw files of its own"),
        (["--workdir={run}", "--input=gone.csv"], "gone.csv is no file"),
    ],
)
def test_a_command_that_cannot_score_says_why(run, bundle, tmp_path, arguments, match):
    rows(5, 1).write_csv(tmp_path / "in.csv")
    given = [one.format(run=run, bundle=bundle, input=tmp_path / "in.csv") for one in arguments]
    found = commands.run("experiments.score", *given, f"--out={tmp_path / 'out.csv'}")
    assert found.returncode == 2
    assert match in found.stderr
    assert len(found.stderr.splitlines()) == 1


def test_rows_without_labels_are_scored_and_not_judged(loaded, tmp_path):
    rows(30, 1).drop("click").write_csv(tmp_path / "in.csv")
    assert scoring.score(loaded, [tmp_path / "in.csv"], tmp_path / "out.csv").metrics is None


@pytest.mark.parametrize("label", ["", "3"])
def test_without_metrics_labels_are_not_read(loaded, tmp_path, label):
    """Of rows to predict they are often unknown: an empty column."""
    raw = rows(30, 1).with_columns(click=pl.lit(label))
    raw.write_csv(tmp_path / "in.csv")
    found = scoring.score(loaded, [tmp_path / "in.csv"], tmp_path / "out.csv", keep=["click"], names=())
    assert found.metrics is None
    scored = pl.read_csv(tmp_path / "out.csv", infer_schema=False)
    assert scored["click"].fill_null("").to_list() == [label] * 30
    expected = loaded.predict(raw)["ensemble"]
    np.testing.assert_allclose(scored["p_ensemble"].cast(float), expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda frame: frame.drop("tags"), r"in\.csv:1: the header lacks tags"),
        (
            lambda frame: frame.with_columns(price=pl.lit("dear")),
            r"in\.csv:2: price is 'dear'; it must be",
        ),
        (
            lambda frame: frame.with_columns(click=pl.lit(3)),
            r"in\.csv:2: click is '3'; the label .*--metrics= to score without labels",
        ),
        (lambda frame: frame[:0], r"in\.csv: has no rows"),
    ],
)
def test_bad_input_is_one_line_and_leaves_the_old_result(loaded, tmp_path, change, match):
    (tmp_path / "out.csv").write_text("old")
    change(rows(30, 1)).write_csv(tmp_path / "in.csv")
    with pytest.raises(InputError, match=match):
        scoring.score(loaded, [tmp_path / "in.csv"], tmp_path / "out.csv")
    assert (tmp_path / "out.csv").read_text() == "old"
    assert {path.name for path in tmp_path.iterdir()} == {"in.csv", "out.csv"}


@pytest.mark.parametrize("count", [1, 30])
def test_rows_of_one_class_are_scored_and_not_judged(loaded, tmp_path, count):
    rows(count, 1).with_columns(click=pl.lit(0)).write_csv(tmp_path / "in.csv")
    found = scoring.score(loaded, [tmp_path / "in.csv"], tmp_path / "out.csv")
    assert (found.rows, found.metrics) == (count, None)
    assert "each class" in (found.unjudged or "")
    assert pl.read_csv(tmp_path / "out.csv").height == count


@pytest.mark.parametrize(
    ("paths", "out", "keep", "match"),
    [
        (["in.csv"], "out.txt", (), r"must end in one of \.csv, \.tsv, \.parquet"),
        (["in.csv", "in.csv"], "out.csv", (), "is matched twice"),
        (["in.csv"], "out.csv", ("p_1",), "--keep=p_1: is a column of the predictions"),
        (["in.csv"], "out.csv", ("nothing",), "lacks nothing"),
        (["in.csv"], "out.csv", ("user", "city", "user"), "--keep names user twice"),
        (["in.csv"], "in.csv", (), r"--out=.*in\.csv: is the input"),
        ([], "out.csv", (), "names no file"),
    ],
)
def test_what_cannot_be_scored_is_refused(loaded, tmp_path, paths, out, keep, match):
    rows(30, 1).write_csv(tmp_path / "in.csv")
    with pytest.raises(InputError, match=match):
        scoring.score(loaded, [tmp_path / path for path in paths], tmp_path / out, keep=keep)
    assert pl.read_csv(tmp_path / "in.csv", schema_overrides={"price": pl.Float64}).equals(rows(30, 1))
