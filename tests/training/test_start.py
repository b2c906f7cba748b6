"""Starts from finished runs: step 0 loses nothing, rows follow their values, students come in order."""

import shutil

import jax
import numpy as np
import polars as pl
import pytest

from ektf_jax import sharding
from ektf_jax.config import Config
from ektf_jax.data import encoded, tables
from ektf_jax.data.spec import TableSpec, spec_to_json
from ektf_jax.errors import InputError
from ektf_jax.result import Result
from ektf_jax.runs import ensembles, load_run, sweep
from ektf_jax.training import build, checkpoint, loop, rundata
from ektf_jax.training.training import Training
from tests.bundle import shop


def settings(data, num_students=1, **embedding):
    """MLPs with a linear part over a table of rows."""
    config = shop.config(data)
    config["embedding"] |= embedding
    students = {"deep": {"name": "deepfm", "hidden_units": (8,), "wide": "ids"}}
    config["ensemble"] |= {"num_students": num_students, "students": students}
    config["train"]["max_epochs"] = 1
    return config


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two students over one table, and two that were trained alone."""
    directory = tmp_path_factory.mktemp("runs")
    shop.prepare(directory / "data")
    loop.train(settings(directory / "data", 2), directory / "pair")
    for seed, name in enumerate(("one", "two")):
        loop.train(settings(directory / "data") | {"seed": seed}, directory / name)
    return directory


def begun(config, workdir, init_from):
    """A run before its first step, and what it told."""
    config = Config.from_dict(config | {"train": config["train"] | {"init_from": init_from}})
    schema, splits = rundata.opened(config, rundata.where(config, workdir))
    training = Training(config, workdir, build.make_mesh(config), schema, splits)
    with (
        checkpoint.open_checkpoints(workdir / "checkpoints" / "latest") as latest,
        checkpoint.open_checkpoints(workdir / "checkpoints" / "best") as best,
    ):
        training.restore(latest, best)
    return training


def test_a_run_of_equal_data_starts_where_the_other_was_best(runs):
    config = settings(runs / "data", 2)
    config["train"]["ema"] = 0.9
    training = begun(config, runs / "again", ("../pair",))
    assert training.evaluate("valid") == Result.read(runs / "pair").valid
    for name, leaf in zip(("step", "moments"), (training.state.step, training.state.optimizer), strict=True):
        assert not any(np.any(part) for part in jax.tree.leaves(leaf)), name
    # It is its average from the first step on, and the state is nobody else's.
    for ours, average in zip(
        jax.tree.leaves(training.state.parameters), jax.tree.leaves(training.average[0]), strict=True
    ):
        np.testing.assert_array_equal(ours, average)


def table_by_value(directory, table):
    """{(field, value): row} of a dataset and its table; the OOV of a field is the value None."""
    words = pl.read_parquet(directory / "vocabulary.parquet")
    found = {(field, value): table[row] for field, value, row in words.iter_rows()}
    return found | {(field.name, None): table[field.oov] for field in encoded.open_schema(directory).fields}


def table_of(training):
    leaves = jax.tree_util.tree_leaves_with_path(training.state.parameters)
    (table,) = (leaf for path, leaf in leaves if sharding.is_table(sharding.path_name(path)))
    return np.asarray(table)


def test_rows_of_a_grown_vocabulary_follow_their_values(runs, capsys):
    more = pl.concat([shop.rows(900, 0), shop.rows(300, 9)])
    shop.prepare(runs / "grown", more)
    config = settings(runs / "grown", 2)
    training = begun(config, runs / "tomorrow", ("../pair",))
    said = capsys.readouterr().out
    there = table_by_value(runs / "data", np.asarray(load_run(runs / "pair").model().embedding.table[...]))
    here = table_by_value(runs / "grown", table_of(training))
    fresh = table_by_value(runs / "grown", table_of(begun(config, runs / "fresh", ())))
    new = here.keys() - there.keys()
    assert {field for field, _ in new} >= {"user", "tags"}
    for key, row in here.items():
        np.testing.assert_array_equal(row, fresh[key] if key in new else there[key])
    known = {key for key in here.keys() & there.keys() if key[1] is not None}
    told = f"{len(known):,} of {len(known) + len(new):,} values keep their rows, {len(new)} are new"
    assert told in said


def test_students_of_several_runs_fill_the_students_in_order(runs):
    ensembles.make([runs / "two", runs / "one"], runs / "both", how="all")
    for number, init_from in enumerate((("../two", "../one"), ("../both",))):
        config = settings(runs / "data", 2, sharing="own")
        valid = begun(config, runs / f"several{number}", init_from).evaluate("valid")
        apart = [Result.read(runs / name).valid["students"][0] for name in ("two", "one")]
        for found, wanted in zip(valid["students"], apart, strict=True):
            assert found["auc"] == pytest.approx(wanted["auc"], abs=1e-4)
            assert found["logloss"] == pytest.approx(wanted["logloss"], abs=1e-6)


@pytest.mark.parametrize(
    ("change", "names", "match"),
    [
        ({"num_students": 3}, ("../one", "../two"), "these runs have 2 students, but .*num_students = 3"),
        ({"num_students": 2}, ("../one", "../two"), "sharing = 'shared' gives them one; use 'own'"),
        (
            {"dim": 6},
            ("../one",),
            r"one: student 0: groups/0/.* is of shape \[16, 8\] there, and of shape \[24, 8\]",
        ),
        (
            {"num_students": 2, "dim": 6, "sharing": "own"},
            ("../one", "../two"),
            r"one: student 0: .* shape \[",
        ),
        ({}, ("../nobody",), r"nobody/result\.json: missing"),
    ],
)
def test_runs_that_do_not_suit_are_refused(runs, tmp_path_factory, change, names, match):
    with pytest.raises(InputError, match=match):
        begun(settings(runs / "data", **change), runs / tmp_path_factory.mktemp("new").name, names)


def test_other_fields_are_refused(runs):
    spec = TableSpec("shop", "click", shop.SPEC.fields[:3])
    frames = {name: shop.rows(300, 0) for name in ("train", "valid", "test")}
    tables.encode(spec, frames, runs / "short", {"spec": spec_to_json(spec)})
    with pytest.raises(
        InputError, match=r"pair: has the fields user, price, tags, city, .* user, price, tags;"
    ):
        begun(settings(runs / "short", 2), runs / "fields", ("../pair",))


def test_a_run_that_has_begun_needs_the_other_no_more_and_a_new_one_does(runs, tmp_path, monkeypatch):
    shutil.copytree(runs / "one", tmp_path / "yesterday")
    config = settings(runs / "data")
    config["train"]["init_from"] = ("../yesterday",)
    result = loop.train(config, tmp_path / "today")
    shutil.rmtree(tmp_path / "yesterday")
    assert loop.train(config, tmp_path / "today")["test"] == result["test"]
    with pytest.raises(InputError, match=r"yesterday/result\.json: missing"):
        loop.train(config, tmp_path / "tomorrow")
    config["train"]["init_from"] = ("one",)
    monkeypatch.chdir(runs)
    with pytest.raises(InputError, match=r"init_from = 'one' is relative to the run's .*write '\.\./.*/one'"):
        loop.train(config, tmp_path / "tomorrow")
    assert not (tmp_path / "tomorrow").exists()


def test_in_a_sweep_it_waits_for_those_that_it_starts_from(runs):
    config = settings(runs / "data")
    after = config | {"train": config["train"] | {"init_from": ("group/one",)}}
    made = sweep.read({"after": after, "group/one": config})
    assert sweep.located(made, "after").train.init_from == ("../group/one",)
    with pytest.raises(InputError, match=r"run after: config\.train\.init_from 'group/one'"):
        sweep.read({"after": after})
