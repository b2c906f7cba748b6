"""Metrics of a run by the values of a field, what it predicts of each row, and figures of both."""

import json

import numpy as np
import polars as pl
import pytest

from ektf_jax import load_run, metrics, significance
from ektf_jax.data import encoded
from ektf_jax.report import judged
from ektf_jax.runs import judge
from ektf_jax.training import loop
from tests import commands


@pytest.fixture(scope="module")
def finished(tmp_path_factory, tiny_config):
    """The third field has up to three values in a row."""
    workdir = tmp_path_factory.mktemp("judged") / "run"
    config = tiny_config(max_epochs=1)
    config["data"]["batch_size"] = 64  # no short batch: a step compiles once
    loop.train(config, workdir)
    return workdir


def evaluate(workdir, *flags):
    done = commands.run("experiments.evaluate", f"--workdir={workdir}", *flags)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def split(finished):
    return encoded.open_split(finished / "data", "test")


def test_rows_are_in_the_group_of_each_of_their_values(finished, split):
    run = load_run(finished)
    name = run.schema.fields[2].name
    groups = dict(judge.rows_by_value(run, split, name, 3))
    field, slots = judge.find_field(run, name, "--by")
    ids = split.ids[:, slots]
    counts = {value: sum(value in row for row in ids.tolist()) for value in np.unique(ids[ids > 0]).tolist()}
    heaviest = sorted(counts, key=lambda value: -counts[value])[:3]
    shown = ["(unseen)" if value == field.oov else f"{value - field.offset}" for value in heaviest]
    assert list(groups)[:3] == shown
    for value, label in zip(heaviest, shown, strict=True):
        expected = [row for row, values in enumerate(ids.tolist()) if value in values]
        assert groups[label].tolist() == expected
    others = [row for row, values in enumerate(ids.tolist()) if set(values) - {0, *heaviest}]
    assert groups["(others)"].tolist() == others
    none = np.flatnonzero((ids == 0).all(axis=1)).tolist()
    assert groups.get("(none)", np.zeros(0)).tolist() == none


def test_a_line_for_every_value(finished, split):
    run = load_run(finished)
    name = run.schema.fields[0].name
    lines = evaluate(
        finished, f"--by={name}", "--most=4", "--predictor=ensemble", "--metrics=auc,gauc,calibration"
    )
    whole, *groups = lines
    logits = run.logits(split.ids)[-1]
    assert whole["auc"] == metrics.auc(split.labels, logits)
    assert whole["gauc"] == metrics.gauc(split.labels, logits, split.ids[:, 0])
    assert [line["value"] for line in groups][-1] == "(others)"
    assert len(groups) == 5
    assert sum(line["rows"] for line in groups) == len(split.labels)
    places = dict(judge.rows_by_value(run, split, name, 4))[groups[0]["value"]]
    sure = significance.auc(split.labels[places], logits[places])
    assert (groups[0]["auc"], groups[0]["auc_low"], groups[0]["auc_high"]) == sure[:3]
    assert groups[0]["clicks"] == split.labels[places].sum()
    assert "gauc" not in groups[0]


def test_a_group_of_one_class_has_no_auc():
    logits = np.array([0.5, 1.0, 2.0])
    found: dict = judge._with_intervals(np.zeros(3), logits, ["auc", "logloss", "calibration"])
    assert found["auc"] is None
    assert found["calibration"] is None
    assert found["logloss_low"] <= found["logloss"] <= found["logloss_high"]


def test_where_no_group_has_both_classes_there_is_no_gauc(finished, split):
    run = load_run(finished)
    name = run.schema.fields[0].name
    alone = split._replace(ids=split.ids.copy())
    alone.ids[:, 0] = np.arange(len(split.labels))
    of = {0: np.linspace(-1, 1, len(split.labels), dtype=np.float32)}
    found = next(judge.judge(run, judge.Predictions(alone, of), ["auc", "gauc"], by=name, most=1))
    assert found == {"predictor": 0, "auc": metrics.auc(split.labels, of[0]), "gauc": None}


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_predictions_are_written_row_by_row(finished, split, tmp_path, form):
    out = tmp_path / f"rows.{form}"
    evaluate(finished, f"--out={out}", "--metrics=auc")
    frame = pl.read_csv(out) if form == "csv" else pl.read_parquet(out)
    assert frame.columns == ["label", "p_ensemble", "p_0", "p_1", "p_2"]
    np.testing.assert_array_equal(frame["label"], split.labels)
    logits = load_run(finished).logits(split.ids)
    np.testing.assert_allclose(frame["p_ensemble"], metrics.probabilities(logits[-1]), rtol=1e-12)
    np.testing.assert_allclose(frame["p_2"], metrics.probabilities(logits[2]), rtol=1e-12)


def test_a_figure_is_drawn(finished, tmp_path):
    evaluate(finished, f"--plot={tmp_path / 'out'}")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["evaluation.png", "evaluation.svg"]
    assert "student" in (tmp_path / "out" / "evaluation.svg").read_text()


def test_the_area_under_the_curve_is_the_auc_and_bins_have_equal_rows():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 300)
    logits = np.round(labels + rng.normal(size=300), 1)  # with ties
    wrong, right = judged.roc_curve(labels, logits)
    np.testing.assert_allclose(np.trapezoid(right, wrong), metrics.auc(labels, logits), rtol=1e-12)
    predicted, clicked = judged.reliability_bins(labels, logits)
    assert len(predicted) == 15
    np.testing.assert_allclose(predicted.mean(), metrics.probabilities(logits).mean())
    np.testing.assert_allclose(clicked.mean(), labels.mean())
    assert (np.diff(predicted) >= 0).all()


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--by=nothing"], "--by 'nothing' is unknown"),
        (["--metrics=acu"], "--metrics 'acu' is unknown; did you mean 'auc'?"),
        (["--metrics=gauc"], "--metrics=gauc is over groups; name their field by --by"),
        (["--out=rows.txt"], "--out=rows.txt: must end in .csv or .parquet"),
    ],
)
def test_what_cannot_be_evaluated_is_named(finished, flags, said):
    done = commands.run("experiments.evaluate", f"--workdir={finished}", *flags)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr


def test_the_commands_of_the_page(tmp_path, tiny_config, monkeypatch):
    """On data of the page's fields, in its directories."""
    page = (commands.ROOT / "docs" / "judging.md").read_text(encoding="utf-8")
    lines = [line.strip() for line in page.splitlines() if line.startswith("    python -m ")]
    assert len(lines) == 8
    loop.train(tiny_config(max_epochs=1), tmp_path / "ektf")
    names = [field.name for field in load_run(tmp_path / "ektf").schema.fields]
    renamed = {
        "Gender": names[0],
        "UserID": names[1],
        "runs/ektf": f"{tmp_path / 'ektf'}",
        "runs/plain": f"{tmp_path / 'ektf'}",
    }
    for line in lines:
        for told, here in renamed.items():
            line = line.replace(told, here)
        _, _, module, *arguments = line.split()
        done = commands.run(module, *arguments)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("\n") > 1
    assert {path.name for path in (tmp_path / "ektf").iterdir()} > {
        "test.parquet",
        "judged",
        "importance",
        "page",
    }
