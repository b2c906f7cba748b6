"""Sequences that are summed, or of which the maximum is taken, from raw rows to what a bundle predicts."""

from dataclasses import replace

import jax
import numpy as np
import polars as pl
import pytest

from ektf_jax.data import encoded, encoder
from ektf_jax.runs import load_run
from ektf_jax.training import loop
from tests.bundle import shop

USER, PRICE, TAGS, CITY = shop.SPEC.fields
SPEC = replace(
    shop.SPEC,
    fields=(USER, PRICE, replace(TAGS, pooling="max"), CITY, replace(TAGS, name="more", pooling="sum")),
)


def rows(count, seed):
    found = shop.rows(count, seed)
    return found.with_columns(
        pl.when(pl.col("user") % 4 == 0).then(None).otherwise(pl.col("tags")).alias("more")
    )


def prepare(data):
    return shop.prepare(data, spec=SPEC, rows_of=rows)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    directory = tmp_path_factory.mktemp("pooled")
    schema = prepare(directory / "data")
    assert encoded.open_schema(directory / "data").fields == schema.fields
    assert [field.pooling for field in schema.fields] == ["mean", "mean", "max", "mean", "sum"]
    loop.train(shop.config(directory / "data"), directory / "run")
    return directory / "run"


def test_the_model_pools_as_the_dataset_says_and_the_bundle_with_it(run, tmp_path):
    raw = rows(70, 2)
    assert raw["more"].null_count() > 0
    ours = load_run(run)
    model = ours.model()
    ids = encoder.of_dataset(run.parent / "data").frame(raw).ids
    found = np.asarray(jax.jit(lambda ids: model.embedding(ids))(ids))
    table = np.asarray(model.embedding.table[...])
    for row, (cells, vectors) in enumerate(zip(ids, found, strict=True)):
        tags, more = (table[[one for one in part if one]] for part in (cells[2:4], cells[5:7]))
        np.testing.assert_array_equal(vectors[2], tags.max(axis=0))
        np.testing.assert_allclose(vectors[4], more.sum(axis=0), atol=1e-6)
        assert bool(vectors[4].any()) == (raw["more"][row] is not None)
    shop.bundle_of(run, raw, tmp_path)
