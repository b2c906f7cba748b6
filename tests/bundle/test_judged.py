"""Metrics of scored rows: over groups and by weights, they are those of `evaluate` and of plain numpy."""

import contextlib
import dataclasses
import gzip
import re

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ektf_jax import metrics
from ektf_jax.bundle import judged, load
from ektf_jax.bundle.export import export
from ektf_jax.bundle.score import score
from ektf_jax.data.rawfiles import Layout
from ektf_jax.errors import InputError
from ektf_jax.runs import judge, load_run
from ektf_jax.training import loop
from tests import commands
from tests.bundle import shop

SPEC = dataclasses.replace(shop.SPEC, weight="times")
ALL = list(metrics.METRICS)


def weighted_rows(count, seed):
    """Rows of the shop that count 0 to 4 times, and whose first tag varies."""
    rng = np.random.default_rng([seed, 7])
    times = rng.integers(0, 5, count) / 2
    tags = ["|".join(rng.permutation(["a", "b", "c", "", "d"])[: 1 + n]) for n in rng.integers(0, 4, count)]
    return shop.rows(count, seed).with_columns(times=times, tags=pl.Series(tags))


@pytest.fixture(scope="module")
def weighted(tmp_path_factory):
    """A finished run on rows with weights, and its bundle."""
    directory = tmp_path_factory.mktemp("weighted")
    shop.prepare(directory / "data", spec=SPEC, rows_of=weighted_rows)
    loop.train(shop.one_epoch(directory / "data", 2), directory / "run")
    export(directory / "run", directory / "bundle")
    return directory


@pytest.fixture(scope="module")
def scorers(weighted):
    return {"bundle": load(weighted / "bundle"), "run": load_run(weighted / "run")}


def metrics_of(*arguments, **options):
    found = score(*arguments, **options)
    assert found.metrics is not None
    return found.metrics


def gauc_of(labels, p, groups, weights):
    """By every pair of rows of every group: the mean of the groups' AUCs by their weights."""
    total, heavy = 0.0, 0.0
    for group in set(groups):
        rows = [at for at, one in enumerate(groups) if one == group]
        pairs = [(i, j, weights[i] * weights[j]) for i in rows for j in rows if labels[i] > labels[j]]
        if (whole := sum(w for *_, w in pairs)) > 0:
            won = sum(w * ((p[i] > p[j]) + 0.5 * (p[i] == p[j])) for i, j, w in pairs)
            here = sum(weights[at] for at in rows)
            total, heavy = total + here * won / whole, heavy + here
    return total / heavy


@pytest.mark.parametrize("by", ["user", "city", "tags"])
@pytest.mark.parametrize("name", ["bundle", "run"])
def test_the_test_split_has_the_metrics_of_evaluate(scorers, tmp_path, name, by):
    weighted_rows(300, 1).write_csv(tmp_path / "in.csv")
    found = metrics_of(scorers[name], [tmp_path / "in.csv"], tmp_path / "out.csv", by=by, names=ALL)
    run = scorers["run"]
    expected = list(judge.judge(run, judge.predictions(run, "test"), ALL, by=by))[:3]
    theirs = {line.pop("predictor"): line for line in expected}
    for ours, predictor in zip(found, ("ensemble", 0, 1), strict=True):
        assert list(ours) == ALL
        for metric, value in ours.items():
            # Two rows whose predictions are a rounding apart may change places.
            assert value == pytest.approx(theirs[predictor][metric], abs=2e-3 if "auc" in metric else 1e-6)
    (tmp_path / "in.csv").write_text((tmp_path / "in.csv").read_text().replace("times", "others", 1))
    plain = metrics_of(scorers[name], [tmp_path / "in.csv"], tmp_path / "out.csv", by=by)
    assert abs(plain[0]["gauc"] - found[0]["gauc"]) > 2e-3


def table_to(frame, path):
    if path.suffix == ".parquet":
        frame.write_parquet(path)
    elif path.suffix == ".gz":
        path.write_bytes(gzip.compress(frame.write_csv().encode()))
    else:
        frame.write_csv(path, separator="\t" if path.suffix == ".tsv" else ",")


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".csv.gz", ".parquet"])
def test_groups_are_the_values_of_any_column_of_all_files(scorers, tmp_path, suffix):
    """Missing values are a group; numbers are not in buckets. What is kept stays as it was."""
    frame = weighted_rows(200, 3).with_columns(
        session=pl.when(pl.col("session") % 5 > 0).then(pl.col("session") % 9),
        price=(pl.col("price").fill_null(0) / 10).floor(),
    )
    parts, paths = (frame[:130], frame[130:]), [tmp_path / f"{n}{suffix}" for n in range(2)]
    for part, path in zip(parts, paths, strict=True):
        table_to(part, path)
    for by in ("session", "price"):
        found = metrics_of(scorers["bundle"], paths, tmp_path / "out.parquet", by=by, keep=[by, "user"])
        scored = pl.read_parquet(tmp_path / "out.parquet")
        if suffix == ".parquet":
            assert scored[by].dtype == frame[by].dtype
        expected = gauc_of(frame["click"], scored["p_0"], frame[by].to_list(), frame["times"])
        assert found[1]["gauc"] == pytest.approx(expected, abs=1e-12)
        assert list(found[1]) == ["auc", "logloss", "gauc", "calibration", "calibration_error"]


class WithoutHeader:
    """A predictor whose dataset's raw files have no header."""

    def __init__(self, bundle, columns):
        spec = dataclasses.replace(bundle.encoder.spec, layout=Layout("\t", columns))
        self.encoder = dataclasses.replace(bundle.encoder, spec=spec)
        self.students, self.logits = bundle.students, bundle.logits


def test_text_without_a_header_has_groups_and_weights(scorers, tmp_path):
    frame, path, out = weighted_rows(90, 3), tmp_path / "in.txt", tmp_path / "out.csv"
    predictor = WithoutHeader(scorers["bundle"], tuple(frame.columns))
    frame.write_csv(path, separator="\t", include_header=False)
    found = metrics_of(predictor, [path], out, by="user")
    p = pl.read_csv(out)["p_ensemble"]
    expected = gauc_of(frame["click"], p, frame["user"].to_list(), frame["times"])
    assert found[0]["gauc"] == pytest.approx(expected, abs=1e-12)
    frame.drop("click").write_csv(path, separator="\t", include_header=False)
    assert score(predictor, [path], out).metrics is None
    with pytest.raises(InputError, match=r"in\.txt: has no column click, the label"):
        score(predictor, [path], out, by="user")


def test_lists_group_by_their_first_value(scorers, tmp_path):
    frame = weighted_rows(200, 3)
    split = frame["tags"].str.split("|")
    frame.with_columns(tags=split).write_parquet(tmp_path / "in.parquet")
    found = metrics_of(scorers["bundle"], [tmp_path / "in.parquet"], tmp_path / "out.parquet", by="tags")
    first = [next((tag for tag in tags if tag), None) for tags in split.to_list()]
    p = pl.read_parquet(tmp_path / "out.parquet")["p_ensemble"]
    expected = gauc_of(frame["click"], p, first, frame["times"])
    assert found[0]["gauc"] == pytest.approx(expected, abs=1e-12)


def test_without_their_column_rows_count_alike(scorers, tmp_path):
    frame = weighted_rows(80, 3)
    frame[:50].write_csv(tmp_path / "a.csv")
    frame[50:].drop("times").write_csv(tmp_path / "b.csv")
    found = score(
        scorers["bundle"], [tmp_path / "a.csv", tmp_path / "b.csv"], tmp_path / "out.csv", by="user"
    )
    assert found.metrics is not None
    assert found.unweighted == tmp_path / "b.csv"
    p = pl.read_csv(tmp_path / "out.csv")["p_ensemble"].to_numpy()
    expected = gauc_of(frame["click"], p, frame["user"].to_list(), np.ones(80))
    assert found.metrics[0]["gauc"] == pytest.approx(expected, abs=1e-12)
    y = frame["click"].to_numpy()
    logloss = -np.mean(y * np.log(p) + (1 - y) * np.log(1 - p))
    assert found.metrics[0]["logloss"] == pytest.approx(logloss, rel=1e-9)


def test_weights_that_nothing_reads_are_not_looked_at(scorers, tmp_path):
    frame = weighted_rows(20, 3).with_columns(times=pl.lit("often"))
    frame.write_csv(tmp_path / "in.csv")
    with pytest.raises(InputError, match=r"in\.csv:2: times is 'often'; a weight must be a number from 0"):
        score(scorers["bundle"], [tmp_path / "in.csv"], tmp_path / "out.csv")
    assert not (tmp_path / "out.csv").exists()
    assert score(scorers["bundle"], [tmp_path / "in.csv"], tmp_path / "out.csv", names=()).metrics is None
    frame.drop("click").write_csv(tmp_path / "in.csv")
    assert score(scorers["bundle"], [tmp_path / "in.csv"], tmp_path / "out.csv").metrics is None


@pytest.mark.parametrize("scorer", ["bundle", "workdir"])
def test_the_command_says_how_rows_count(weighted, tmp_path, scorer):
    where = weighted / ("run" if scorer == "workdir" else "bundle")
    given = [f"--{scorer}={where}", f"--input={tmp_path / 'in.csv'}", f"--out={tmp_path / 'out.csv'}"]
    weighted_rows(60, 1).write_csv(tmp_path / "in.csv")
    done = commands.run("experiments.score", *given, "--by=user")
    assert done.returncode == 0, done.stderr
    number = r"\d\.\d{6}"
    told = (
        f"^metrics weigh rows by times\np_ensemble: auc {number}  logloss {number}  gauc {number}"
        f"  calibration {number}  calibration_error {number}$"
    )
    assert re.search(told, done.stdout, re.M)
    weighted_rows(60, 1).drop("times").write_csv(tmp_path / "in.csv")
    done = commands.run("experiments.score", *given, "--metrics=auc")
    said = f"metrics count each row once: {tmp_path / 'in.csv'} has no column times, the dataset's weights\n"
    assert said in done.stdout
    assert re.search(f"^p_ensemble: auc {number}$", done.stdout, re.M)
    done = commands.run("experiments.score", *given, "--metrics=")
    assert "metrics" not in done.stdout


@pytest.mark.parametrize(
    ("change", "options", "said"),
    [
        (
            lambda frame: frame.drop("session"),
            {"by": "session"},
            r"b\.csv: has no column session for the groups of --by; .*it has click, user, .* leave --by out",
        ),
        (lambda frame: frame, {"by": "usr"}, r"a\.csv: has no column usr .* did you mean 'user'\? it has"),
        (
            lambda frame: frame.drop("click"),
            {"by": "user"},
            r"b\.csv: has no column click, the label, which metrics over groups .--by=user. need; add it",
        ),
        (lambda frame: frame.drop("city"), {"by": "city"}, r"b\.csv:1: the header lacks city"),
        (
            lambda frame: frame,
            {"names": ["gauc"]},
            r"--metrics=gauc is over groups; name their column by --by",
        ),
        (lambda frame: frame, {"names": ["acu"]}, r"--metrics 'acu' is unknown; did you mean 'auc'\?"),
        (
            lambda frame: frame,
            {"names": ["auc"], "by": "user"},
            r"--by=user names groups, and none of --metrics=auc is over groups; leave --by out, or add gauc",
        ),
    ],
)
def test_what_cannot_be_judged_is_named(scorers, tmp_path, change, options, said):
    weighted_rows(30, 3).with_columns(times=0).write_csv(tmp_path / "a.csv")
    change(weighted_rows(30, 4)).write_csv(tmp_path / "b.csv")
    with pytest.raises(InputError, match=said):
        score(scorers["bundle"], [tmp_path / "a.csv", tmp_path / "b.csv"], tmp_path / "out.csv", **options)
    assert not (tmp_path / "out.csv").exists()


@pytest.mark.parametrize(
    ("times", "options", "said"),
    [(0, {}, "weights: all 30 are 0"), (1, {"by": "click"}, "groups: none of 2 has")],
)
def test_rows_that_cannot_be_judged_are_scored(scorers, tmp_path, times, options, said):
    weighted_rows(30, 3).with_columns(times=times).write_csv(tmp_path / "in.csv")
    found = score(scorers["bundle"], [tmp_path / "in.csv"], tmp_path / "out.csv", **options)
    assert found.metrics is None
    assert said in (found.unjudged or "")
    assert pl.read_csv(tmp_path / "out.csv").height == 30


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_metrics_do_not_depend_on_where_chunks_end(tmp_path_factory, data):
    count = data.draw(st.integers(4, 60))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    labels, groups = rng.integers(0, 2, count).astype(np.uint8), rng.integers(0, 2, count)
    labels[:4], groups[:4] = [0, 1, 0, 1], 0  # that there are metrics
    logits = (rng.integers(-4, 4, (2, count)) / 2).astype(np.float32)
    weights = rng.integers(1, 4, count).astype(np.float32) if data.draw(st.booleans()) else None
    ends = sorted(data.draw(st.lists(st.integers(0, count), max_size=4)))
    with contextlib.ExitStack() as files:
        found = judged.Judge(tmp_path_factory.mktemp("chunks"), files)
        for start, end in zip([0, *ends], [*ends, count], strict=True):
            values, code = np.unique(groups[start:end], return_inverse=True)
            w = None if weights is None else weights[start:end]
            truth = judged.Truth(labels[start:end], w, ([str(value) for value in values], code))
            found.add(logits[:, start:end], truth)
        assert found.metrics(2, ALL) == metrics.evaluate(labels, logits, ALL, weights=weights, groups=groups)
