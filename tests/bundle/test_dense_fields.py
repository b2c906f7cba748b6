"""Fields that are numbers, from raw rows to what a run and its bundle predict."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from ektf_jax import metrics
from ektf_jax.data import encoded, encoder
from ektf_jax.data.spec import FieldSpec
from ektf_jax.runs import load_run
from ektf_jax.runs.importance import permutation_importance
from ektf_jax.training import loop
from tests.bundle import shop
from tests.compilation import optimizations

USER, _, TAGS, CITY = shop.SPEC.fields
SPEC = replace(
    shop.SPEC,
    fields=(FieldSpec("age", "dense"), USER, TAGS, FieldSpec("price", "dense", transform="log1p"), CITY),
)


def rows(count, seed):
    """Clicks of those who are old, whatever they look at; prices may be missing."""
    found, rng = shop.rows(count, seed), np.random.default_rng(seed)
    age = rng.normal(40, 12, count)
    click = rng.random(count) < 1 / (1 + np.exp(-(age - 40) / 4))
    return found.with_columns(age=pl.Series(age), click=pl.Series(click.astype(int)))


def prepare(data):
    return shop.prepare(data, spec=SPEC, rows_of=rows)


def config(data, **more):
    found = shop.config(data)
    found["ensemble"]["students"]["deepfm"] = {"name": "deepfm", "hidden_units": (8,)}
    found["data"] |= more
    return found


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    directory = tmp_path_factory.mktemp("dense")
    schema = prepare(directory / "data")
    assert schema.num_dense == 2
    loop.train(config(directory / "data"), directory / "run")
    return directory / "run"


def test_a_run_its_bundle_and_a_scored_file_predict_the_same(run, tmp_path):
    raw = rows(70, 2)
    assert raw["price"].null_count() > 0
    bundle = shop.bundle_of(run, raw, tmp_path)
    assert bundle.about["dense"] == 2
    older = bundle.predict(raw.with_columns(pl.col("age") + 30))
    assert np.abs(older["ensemble"] - bundle.predict(raw)["ensemble"]).max() > 1e-3  # numbers reach the model


def test_the_model_reads_the_numbers_of_the_encoder(run):
    raw = rows(70, 2)
    ours = load_run(run)
    found = encoder.of_dataset(run.parent / "data").frame(raw)
    model = ours.model()
    vectors = np.asarray(model.embedding(found.ids, found.dense))
    table = np.asarray(model.embedding.table[...])
    assert found.dense is not None
    for at, (place, slot) in enumerate([(0, 0), (3, 4)]):
        expected = table[found.ids[:, slot]] * found.dense[:, at, None]
        np.testing.assert_allclose(vectors[:, place], expected, rtol=1e-6)


def test_importance_shuffles_numbers(run):
    ours, split = load_run(run), encoded.open_split(run.parent / "data", "valid")
    found = {one.field: one for one in permutation_importance(ours, repeats=2)}
    assert found["age"].mean[-1] > 0.02 > abs(found["city"].mean[-1])
    rng, before = np.random.default_rng(0), metrics.auc(split.labels, ours.logits(split.ids, split.dense)[-1])
    pair = 1 / (split.labels.sum() * (1 - split.labels).sum())
    for repeat in range(2):
        order = rng.permutation(len(split.labels))
        for field, slot, number in (("age", 0, 0), ("price", 4, 1)):
            ids, dense = np.array(split.ids), np.array(split.dense)
            ids[:, slot], dense[:, number] = ids[order, slot], dense[order, number]
            lost = before - metrics.auc(split.labels, ours.logits(ids, dense)[-1])
            assert found[field].losses[repeat, -1] == pytest.approx(lost, abs=float(2 * pair))


def test_numbers_lie_on_the_devices_as_on_the_host(run, tmp_path):
    with optimizations(on=True):  # without them what is one program may round otherwise
        for residence in ("host", "device"):
            settings = config(run.parent / "data", residence=residence)
            settings["ensemble"] |= {
                "num_students": 2,
                "students": {"mlp": {"name": "mlp", "hidden_units": (8,)}},
            }
            settings["train"]["max_epochs"] = 1
            loop.train(settings, tmp_path / residence)
    first, second = (load_run(tmp_path / name).result for name in ("host", "device"))
    assert first.valid == second.valid


def test_a_student_alone_reads_its_numbers(run):
    ours = load_run(run)
    split = encoded.open_split(run.parent / "data", "test")
    found = ours.logits(split.ids, split.dense)
    alone = ours.student(1)(np.asarray(split.ids), dense=np.asarray(split.dense))
    np.testing.assert_allclose(np.asarray(alone.ensemble), found[1], atol=1e-5)
