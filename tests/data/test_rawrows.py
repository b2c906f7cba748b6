"""Rows of raw files get the ids that `prepare` gave them, split by split."""

import gzip
import shutil

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import roc_auc_score

from ektf_jax.bundle.score import score_raw
from ektf_jax.data import criteo, encoded, encoder, generators, ipinyou, kdd12, kkbox, movielens, rawrows
from ektf_jax.data.spec import TableSpec
from ektf_jax.errors import InputError

PREPARE = {
    "criteo": criteo.prepare,
    "ml1m": movielens.prepare,
    "kdd12": kdd12.prepare,
    "ipinyou": ipinyou.prepare,
    "kkbox": kkbox.prepare,
}


@pytest.fixture(scope="module", params=PREPARE)
def prepared(request, tmp_path_factory):
    """Raw files of a dataset, and what was prepared from them."""
    directory = tmp_path_factory.mktemp(request.param)
    generators.write(request.param, directory / "raw", rows=3000, seed=1)
    PREPARE[request.param](directory / "raw", directory / "data")
    return directory


@pytest.mark.parametrize("split", ["train", "valid", "test"])
def test_a_split_of_raw_files_is_the_split_that_was_prepared(prepared, split):
    encodes = encoder.of_dataset(prepared / "data")
    found = rawrows.read(encodes.spec, prepared / "raw", split=split)
    ids = [encodes.chunk(chunk, found.spec, wanted).ids for chunk, wanted in found.chunks]
    expected = encoded.open_split(prepared / "data", split)
    np.testing.assert_array_equal(np.concatenate(ids), expected.ids)


def test_without_a_split_all_rows_come(prepared):
    encodes = encoder.of_dataset(prepared / "data")
    found = rawrows.read(encodes.spec, prepared / "raw")
    rows = sum(len(chunk.frame) for chunk, wanted in found.chunks if wanted is None)
    splits = dict(encoded.open_schema(prepared / "data").splits)
    if encodes.spec.dataset == "ipinyou":  # validates on its test rows
        del splits["valid"]
    assert rows == sum(splits.values())


class Summing:
    """One predictor, whose logit tells the rows of a dataset apart."""

    students = 0

    def __init__(self, encodes):
        self.encoder = encodes

    def logits(self, ids):
        return np.sin(ids).sum(axis=1, keepdims=True).T.astype(np.float32)


def test_scores_and_labels_are_those_of_the_split(prepared, tmp_path):
    predictor = Summing(encoder.of_dataset(prepared / "data"))
    split = encoded.open_split(prepared / "data", "test")
    label = predictor.encoder.spec.label
    found = score_raw(predictor, prepared / "raw", tmp_path / "p.parquet", split="test", keep=[label])
    assert found.rows == len(split.labels)
    scored = pl.read_parquet(tmp_path / "p.parquet")
    assert scored.columns == [label, "p"]
    np.testing.assert_allclose(scored["p"], 1 / (1 + np.exp(-predictor.logits(split.ids)[0])), rtol=1e-5)
    p, y = scored["p"].to_numpy(), split.labels
    logloss = -np.mean(y * np.log(p) + (1 - y) * np.log(1 - p))
    assert found.metrics is not None
    assert found.metrics[0]["logloss"] == pytest.approx(logloss, rel=1e-6)


def test_groups_are_the_values_of_a_field(prepared, tmp_path):
    predictor = Summing(encoder.of_dataset(prepared / "data"))
    spec = predictor.encoder.spec
    by = next(field.name for field in spec.fields if field.kind == "categorical")
    out = tmp_path / "p.parquet"
    found = score_raw(predictor, prepared / "raw", out, split="test", keep=[spec.label, by], by=by)
    assert found.metrics is not None
    assert found.unweighted is None
    scored = pl.read_parquet(out)
    labels = encoded.open_split(prepared / "data", "test").labels
    total, heavy = 0.0, 0
    for value in scored[by].unique():
        rows = (scored[by] == value).to_numpy()
        if len(set(labels[rows])) == 2:
            total += rows.sum() * roc_auc_score(labels[rows], scored["p"].to_numpy()[rows])
            heavy += rows.sum()
    assert found.metrics[0]["gauc"] == pytest.approx(total / heavy, abs=1e-12)
    with pytest.raises(InputError, match=rf"--by 'x' is unknown; .*valid: .*\b{by}\b"):
        score_raw(predictor, prepared / "raw", out, by="x")


def test_what_cannot_be_read_is_refused(tmp_path):
    generators.write("kkbox", tmp_path / "raw", rows=500, seed=1)
    kkbox.prepare(tmp_path / "raw", tmp_path / "data")
    encodes = encoder.of_dataset(tmp_path / "data")
    with pytest.raises(InputError, match=r"--keep=x: of raw files only target, msno, .* can be kept"):
        score_raw(Summing(encodes), tmp_path / "raw", tmp_path / "p.csv", keep=["x"])
    raw = next(path for path in (tmp_path / "raw").iterdir() if path.suffix == ".csv")
    before = raw.read_bytes()
    with pytest.raises(InputError, match=r"--out=.*: is there already, among the raw files of --raw"):
        score_raw(Summing(encodes), tmp_path / "raw", raw)
    assert raw.read_bytes() == before
    with pytest.raises(InputError, match=r"--split is 'all'; it must be one of train, valid, test"):
        rawrows.read(encodes.spec, tmp_path / "raw", split="all")
    with pytest.raises(InputError, match=r"the raw files are .* check --raw"):
        rawrows.read(encodes.spec, tmp_path / "nothing")
    (tmp_path / "ready").mkdir()
    for name in ("train", "valid", "test"):
        header = ",".join(("label", *kkbox.FIELDS))
        (tmp_path / "ready" / f"{name}.csv").write_text(header + "\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"holds kkbox in another form than the model was trained on"):
        rawrows.read(encodes.spec, tmp_path / "ready")
    other = TableSpec("shop", "click", encodes.spec.fields)
    with pytest.raises(InputError, match=r"'shop' has no raw files of its own; give its tables by --input"):
        rawrows.read(other, tmp_path / "raw")
    assert not (tmp_path / "p.csv").exists()


def test_files_may_be_gzipped(tmp_path):
    generators.write("ml1m", tmp_path / "raw", rows=500, seed=1)
    movielens.prepare(tmp_path / "raw", tmp_path / "data")
    path = tmp_path / "raw" / "ratings.dat"
    with path.open("rb") as plain, gzip.open(f"{path}.gz", "wb") as packed:
        shutil.copyfileobj(plain, packed)
    path.unlink()
    encodes = encoder.of_dataset(tmp_path / "data")
    found = rawrows.read(encodes.spec, tmp_path / "raw", split="test")
    ids = np.concatenate([encodes.chunk(chunk, found.spec, wanted).ids for chunk, wanted in found.chunks])
    np.testing.assert_array_equal(ids, encoded.open_split(tmp_path / "data", "test").ids)
