"""Fields with pretrained vectors, from raw rows to runs, their bundles, and runs that start from others."""

from dataclasses import replace
from typing import Any

import jax
import numpy as np
import polars as pl
import pytest
from flax import nnx

from ektf_jax import sharding
from ektf_jax.config import Config
from ektf_jax.data import encoded, encoder, tables
from ektf_jax.data.spec import spec_to_json
from ektf_jax.errors import InputError
from ektf_jax.layers.pretrained import Frozen
from ektf_jax.result import Result
from ektf_jax.runs import load_run
from ektf_jax.training import loop, teachers
from ektf_jax.transfer.dagfm import Fixed
from tests.bundle import shop
from tests.training.test_start import begun

pytestmark = pytest.mark.slow

USER, PRICE, TAGS, CITY = shop.SPEC.fields
SPEC = replace(
    shop.SPEC,
    fields=(
        replace(USER, pretrained="users.parquet"),
        PRICE,
        replace(TAGS, max_len=4, pooling="attention", target="user", pretrained="tags.parquet", frozen=False),
        CITY,
    ),
)


def vectors(values, numbers, seed=0):
    rng = np.random.default_rng(seed)
    return pl.DataFrame({"value": values, "vector": rng.normal(size=(len(values), numbers)).tolist()})


def prepare(data, spec=SPEC, rows_of=shop.rows, numbers=(6, 3), seed=0):
    raw = data.parent / f"{data.name}_raw"
    raw.mkdir()
    vectors(range(25), numbers[0], seed).write_parquet(raw / "users.parquet")  # not all have one
    vectors(["a", "c", "new0"], numbers[1], seed).write_parquet(raw / "tags.parquet")
    frames = {
        name: rows_of(count, of)
        for name, count, of in (("train", 900, 0), ("valid", 300, 0), ("test", 300, 1))
    }
    return tables.encode(spec, frames, data, {"spec": spec_to_json(spec)}, raw=raw)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two students with tables of their own in part, as averages, and two alone with frozen vectors."""
    directory = tmp_path_factory.mktemp("given")
    prepare(directory / "data")
    frozen = tuple(replace(field, frozen=True) for field in SPEC.fields)
    prepare(directory / "frozen", replace(SPEC, fields=frozen))
    config = shop.one_epoch(directory / "data", 2, 0.5)
    config["train"]["ema"] = 0.9
    loop.train(config, directory / "pair")
    for seed, name in enumerate(("one", "two")):
        loop.train(shop.one_epoch(directory / "frozen", 1) | {"seed": seed}, directory / name)
    loop.train(shop.one_epoch(directory / "data", 1), directory / "trained")
    return directory


def test_a_run_its_bundle_and_a_scored_file_predict_the_same(runs, tmp_path):
    raw = shop.rows(70, 2)
    shop.bundle_of(runs / "pair", raw, tmp_path)


def test_frozen_vectors_stay_and_others_learn(runs):
    given = encoded.open_vectors(runs / "data", encoded.open_schema(runs / "data"))
    model = load_run(runs / "pair").model()
    users, tags = (one.vectors for one in model.embedding.pretrained)
    assert isinstance(users, Frozen)
    np.testing.assert_array_equal(users[...], given[0])
    assert isinstance(tags, nnx.Param)
    moved = np.any(np.asarray(tags[...]) != given[1], axis=1)
    assert moved[1:-1].all()  # those without a vector too
    assert not moved[0]
    # Adam's steps, not some other start.
    assert np.abs(tags[...] - given[1]).max() < 0.1 < np.abs(given[1]).max()
    assert Result.read(runs / "pair").document["params"] == sum(
        leaf.size for leaf in jax.tree.leaves(nnx.state(model, nnx.Param))
    )


def test_what_a_run_says_of_its_embeddings_counts_vectors(runs):
    run = load_run(runs / "one")
    found = run.embeddings("user")
    model = run.model()
    words = run.encoder.known[0]
    assert found["value"].to_list() == words["value"].to_list()
    table, (users, _) = np.asarray(model.embedding.table[...]), model.embedding.pretrained
    local = words["id"].to_numpy() - run.schema.fields[0].offset
    expected = table[words["id"]][:, :4] + np.asarray(users.vectors)[local] @ users.projection.kernel[...]
    np.testing.assert_allclose(np.stack(found["vector"].to_list()), expected, atol=1e-6)
    ids = encoder.of_dataset(runs / "frozen").frame(shop.rows(70, 2)).ids
    read = np.asarray(jax.jit(model.embedding)(ids))[:, 0, :4]
    by_value = dict(zip(words["id"], expected, strict=True))
    for cell, vector in zip(ids[:, 0], read, strict=True):
        if cell in by_value:
            np.testing.assert_allclose(vector, by_value[cell], atol=1e-6)


def test_a_run_with_more_values_keeps_what_was_trained_and_takes_what_is_frozen_anew(runs):
    schema = prepare(runs / "grown", rows_of=lambda count, seed: shop.rows(count, seed + 9), seed=5)
    training = begun(shop.one_epoch(runs / "grown", 2, 0.5), runs / "tomorrow", ("../pair",))
    users, tags = leaves_by_field(training, "vectors")
    given = encoded.open_vectors(runs / "grown", schema)
    np.testing.assert_array_equal(users, given[0])
    before = load_run(runs / "pair")
    model = before.model()
    here, there = (pl.read_parquet(runs / name / "vocabulary.parquet") for name in ("grown", "data"))
    theirs = dict(there.filter(pl.col("field") == "tags").select("value", "id").iter_rows())
    trained = np.asarray(model.embedding.pretrained[1].vectors[...])
    ours, offsets = schema.fields[2], (schema.fields[2].offset, before.schema.fields[2].offset)
    known = here.filter(pl.col("field") == "tags")
    assert {"a", "b"} <= set(known["value"]) & set(theirs)
    assert set(known["value"]) - set(theirs)
    for value, place in known.select("value", "id").iter_rows():
        expected = trained[theirs[value] - offsets[1]] if value in theirs else given[1][place - offsets[0]]
        np.testing.assert_array_equal(tags[place - offsets[0]], expected)
    np.testing.assert_array_equal(tags[ours.vocab_size - 1], trained[-1])  # OOV
    kernels = leaves_by_field(training, "kernel")
    for kernel, one in zip(kernels, model.embedding.pretrained, strict=True):
        np.testing.assert_array_equal(kernel, one.projection.kernel[...])


def leaves_by_field(training, part):
    """Of field 0, of field 1."""
    paths = jax.tree_util.tree_leaves_with_path((training.state.parameters, training.state.statistics))
    named = {sharding.path_name(path).partition("/")[2]: np.asarray(leaf) for path, leaf in paths}
    return [leaf for name, leaf in sorted(named.items()) if "/pretrained/" in name and part in name]


def test_logistic_regression_leaves_them_out_and_starts_from_a_run(runs, tmp_path):
    config = shop.one_epoch(runs / "data", 1)
    config["embedding"]["dim"] = 0
    config["ensemble"]["students"] = {"lr": {"name": "lr", "wide": "ids"}}
    loop.train(config, tmp_path / "lr")
    training = begun(config, tmp_path / "again", ("../lr",))
    assert training.evaluate("valid") == Result.read(tmp_path / "lr").valid
    shop.bundle_of(tmp_path / "lr", shop.rows(70, 2), tmp_path)


def test_students_of_several_runs_bring_their_columns(runs):
    config = shop.one_epoch(runs / "frozen", 2, "own")
    valid = begun(config, runs / "several", ("../two", "../one")).evaluate("valid")
    apart = [Result.read(runs / name).valid["students"][0] for name in ("two", "one")]
    for found, wanted in zip(valid["students"], apart, strict=True):
        assert found["auc"] == pytest.approx(wanted["auc"], abs=1e-4)
        assert found["logloss"] == pytest.approx(wanted["logloss"], abs=1e-6)


def test_runs_of_other_vectors_are_refused(runs):
    with pytest.raises(
        InputError, match=r"pair: its field tags has trained vectors of 3 numbers, .* frozen vectors of"
    ):
        begun(shop.one_epoch(runs / "frozen", 2, 0.5), runs / "other", ("../pair",))
    prepare(runs / "longer", numbers=(7, 3))
    with pytest.raises(
        InputError, match=r"pair: its field user has frozen vectors of 6 .* frozen vectors of 7"
    ):
        begun(shop.one_epoch(runs / "longer", 2, 0.5), runs / "other", ("../pair",))
    with pytest.raises(
        InputError, match=r"its vectors of field tags were trained with others; .* are frozen"
    ):
        begun(shop.one_epoch(runs / "data", 2, "own"), runs / "other", ("../trained", "../trained"))


def test_a_distilled_student_keeps_its_teachers_vectors(runs):
    dagfm = {"dagfm": {"name": "dagfm", "interaction": "outer", "depth": 2}}
    config = shop.one_epoch(runs / "data", 1, kinds=dagfm)
    config["transfer"] |= {"name": "dagfm", "teachers": ("../trained",)}
    loop.train(config, runs / "distilled")
    schema = encoded.open_schema(runs / "data")
    models: list[Any] = [teachers.load(runs / name, schema) for name in ("trained", "distilled")]
    teacher, student = (model.embedding.pretrained for model in models)
    for theirs, ours in zip(teacher, student, strict=True):
        np.testing.assert_array_equal(ours.vectors[...], theirs.vectors[...])
        np.testing.assert_array_equal(ours.projection.kernel[...], theirs.projection.kernel[:, :4])
        assert isinstance(ours.projection.kernel, Fixed)
    assert [type(one.vectors) for one in student] == [Frozen, Fixed]
    config["transfer"] |= {"teachers": ("../distilled",)}
    config["transfer"]["dagfm"]["stage"] = "finetuning"
    start: Any
    start, _ = teachers.make_model(
        Config.from_dict(config),
        runs / "new",
        schema,
        jax.random.key(0),
        sharding.make_mesh(),
    )
    assert [type(one.vectors) for one in start.embedding.pretrained] == [Frozen, nnx.Param]
    for theirs, ours in zip(student, start.embedding.pretrained, strict=True):
        np.testing.assert_array_equal(ours.vectors[...], theirs.vectors[...])
