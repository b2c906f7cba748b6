"""Lists pooled by attention, from raw rows to runs, their bundles, and runs that start from others."""

from dataclasses import replace
from typing import Any

import jax
import numpy as np
import polars as pl
import pytest
from flax import nnx
from safetensors import safe_open

from ektf_jax import sharding
from ektf_jax.config import Config
from ektf_jax.data import encoded, encoder
from ektf_jax.data.schema import ATTENTION
from ektf_jax.errors import InputError
from ektf_jax.layers.matmul import use_bfloat16
from ektf_jax.result import Result
from ektf_jax.runs import load_run
from ektf_jax.training import loop, teachers
from ektf_jax.transfer.dagfm import Fixed
from tests.bundle import shop
from tests.test_target_attention import embedded, parameters_of
from tests.training.test_start import begun

USER, PRICE, TAGS, CITY = shop.SPEC.fields
SPEC = replace(shop.SPEC, fields=(USER, replace(TAGS, pooling=ATTENTION, target="city"), CITY, PRICE))


def rows(count, seed):
    """Some have no tags."""
    tags = pl.when(pl.col("user") % 4 == 0).then(None).otherwise(pl.col("tags")).alias("tags")
    return shop.rows(count, seed).with_columns(tags)


def prepare(data, spec=SPEC, rows_of=rows):
    return shop.prepare(data, spec=spec, rows_of=rows_of)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two students with tables of their own in part, and two alone."""
    directory = tmp_path_factory.mktemp("attended")
    prepare(directory / "data")
    loop.train(shop.one_epoch(directory / "data", 2, 0.5), directory / "pair")
    for seed, name in enumerate(("one", "two")):
        loop.train(shop.one_epoch(directory / "data", 1) | {"seed": seed}, directory / name)
    return directory


def test_a_run_its_bundle_and_a_scored_file_predict_the_same(runs, tmp_path):
    raw = rows(70, 2)
    assert raw["tags"].null_count() > 0
    shop.bundle_of(runs / "pair", raw, tmp_path)
    with safe_open(tmp_path / "bundle" / "weights.safetensors", "np") as weights:
        units = [name for name in weights.keys() if "attention" in name]  # noqa: SIM118  # it is no dict
        # A kernel and a bias of two layers, for what is shared and for what a student has to itself.
        assert len(units) == 8
        assert {weights.get_slice(name).get_shape()[0] for name in units} == {1, 2}


def test_the_model_attends_as_the_loops_do(runs):
    model = load_run(runs / "pair").model()
    found = encoder.of_dataset(runs / "data").frame(rows(70, 2))
    fields = encoded.open_schema(runs / "data").fields
    regions, wide = [(1, (2,)), (2, (2,))], 2
    table, units = parameters_of(model.embedding)
    expected = embedded(fields, regions, wide, table, units, found.ids)
    np.testing.assert_allclose(jax.jit(model.embedding)(found.ids), expected, atol=1e-6)
    assert not expected[rows(70, 2)["tags"].is_null().to_numpy(), 1].any()


def test_units_multiply_in_bfloat16_too(runs):
    model = load_run(runs / "pair").model()
    ids = encoder.of_dataset(runs / "data").frame(rows(70, 2)).ids
    exact = np.asarray(model.embedding(ids))
    use_bfloat16(model)
    found = np.asarray(model.embedding(ids))
    assert 0 < np.abs(found - exact)[:, 1].max() < 0.02 * np.abs(exact[:, 1]).max()
    np.testing.assert_array_equal(np.delete(found, 1, axis=1), np.delete(exact, 1, axis=1))


def test_units_learn(runs):
    config = Config.from_dict(shop.one_epoch(runs / "data", 2, 0.5))
    schema = encoded.open_schema(runs / "data")
    before: Any = teachers.untrained(config, runs / "pair", schema, jax.random.key(0))
    after = load_run(runs / "pair").model()
    for one, other in zip(
        *(jax.tree.leaves(nnx.state(model.embedding.attention)) for model in (before, after)), strict=True
    ):
        assert one.shape == other.shape
        assert np.any(one != other)
    assert Result.read(runs / "pair").document["params"] == sum(
        leaf.size for leaf in jax.tree.leaves(nnx.state(after, nnx.Param))
    )


def test_a_run_with_more_values_starts_with_its_units(runs, capsys):
    prepare(runs / "grown", rows_of=lambda count, seed: rows(count, seed + 9))
    training = begun(shop.one_epoch(runs / "grown", 2, 0.5), runs / "tomorrow", ("../pair",))
    assert "are new" in capsys.readouterr().out
    theirs = nnx.to_pure_dict(nnx.state(load_run(runs / "pair").model().embedding.attention))
    jax.tree.map(np.testing.assert_array_equal, attention_of(training), theirs)


def test_students_of_several_runs_bring_their_units(runs):
    valid = begun(shop.one_epoch(runs / "data", 2, "own"), runs / "several", ("../two", "../one")).evaluate(
        "valid"
    )
    apart = [Result.read(runs / name).valid["students"][0] for name in ("two", "one")]
    for found, wanted in zip(valid["students"], apart, strict=True):
        assert found["auc"] == pytest.approx(wanted["auc"], abs=1e-4)
        assert found["logloss"] == pytest.approx(wanted["logloss"], abs=1e-6)
    shapes = r"\[1, 8, 64\] there, and of shape \[1, 16, 64\]"
    with pytest.raises(InputError, match=f"pair: student 0: embedding/attention/0/units/0/.*{shapes}"):
        begun(shop.one_epoch(runs / "data", 2, "own"), runs / "halves", ("../pair",))


def test_a_run_that_attends_to_something_else_is_refused(runs):
    user, tags, *rest = SPEC.fields
    prepare(runs / "other_target", replace(SPEC, fields=(user, replace(tags, target="user"), *rest)))
    with pytest.raises(
        InputError, match=r"pair: the target of its field tags is 'city', .* dataset 'user'; a run starts"
    ):
        begun(shop.one_epoch(runs / "other_target", 2, 0.5), runs / "elsewhere", ("../pair",))


def test_a_distilled_student_keeps_its_teachers_units_and_learns_with_them_later(runs):
    """Of the first stage's student, the units are as fixed as the table."""
    dagfm = {"dagfm": {"name": "dagfm", "interaction": "outer", "depth": 2}}
    config = shop.one_epoch(runs / "data", 1, kinds=dagfm)
    config["transfer"] |= {"name": "dagfm", "teachers": ("../one",)}
    loop.train(config, runs / "distilled")
    schema = encoded.open_schema(runs / "data")
    models: list[Any] = [teachers.load(runs / name, schema) for name in ("one", "distilled")]
    for one, other in zip(
        *(jax.tree.leaves(nnx.state(model.embedding.attention)) for model in models), strict=True
    ):
        np.testing.assert_array_equal(one, other)
    student = models[1]
    assert not jax.tree.leaves(nnx.state(student.embedding, nnx.Param))
    assert len(jax.tree.leaves(nnx.state(student.embedding, Fixed))) == 5
    config["transfer"] |= {"teachers": ("../distilled",)}
    config["transfer"]["dagfm"]["stage"] = "finetuning"
    start: Any
    start, _ = teachers.make_model(
        Config.from_dict(config), runs / "new", schema, jax.random.key(0), sharding.make_mesh()
    )
    assert len(jax.tree.leaves(nnx.state(start.embedding, nnx.Param))) == 5


def test_runs_that_are_trained_together_attend_as_they_do_alone(runs):
    configs = {
        runs / "together" / name: Config.from_dict(shop.one_epoch(runs / "data", 1) | {"seed": seed})
        for seed, name in enumerate(("one", "two"))
    }
    assert loop.train_together(configs, 2) == {}
    for name in ("one", "two"):
        apart, found = (Result.read(where / name).valid["ensemble"] for where in (runs, runs / "together"))
        assert found["logloss"] == pytest.approx(apart["logloss"], rel=1e-4)


def attention_of(training):
    paths = jax.tree_util.tree_leaves_with_path(training.state.parameters)
    assert any("attention" in sharding.path_name(path) for path, _ in paths)
    return nnx.to_pure_dict(training.state.parameters)["embedding"]["attention"]
