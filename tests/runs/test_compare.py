"""Runs on the same rows, and what each field is worth to one."""

import json

import numpy as np
import pytest

from ektf_jax import load_run, metrics, significance
from ektf_jax.data import encoded
from ektf_jax.errors import InputError
from ektf_jax.runs.compare import compare
from ektf_jax.runs.importance import permutation_importance
from ektf_jax.training import loop
from tests import commands


@pytest.fixture(scope="module")
def runs(tmp_path_factory, tiny_config):
    """Two runs on one dataset, and one on other rows."""
    where = tmp_path_factory.mktemp("compared")
    for name, seed, rows in (("a", 1, 2000), ("b", 2, 2000), ("other", 1, 1920)):
        config = tiny_config(max_epochs=1)
        config["seed"] = seed
        config["data"]["synthetic"]["seed"] = 5
        config["data"]["synthetic"]["rows"] = rows
        config["data"]["batch_size"] = 64  # no short batch: a step compiles once
        loop.train(config, where / name)
    return where


def test_the_difference_is_that_of_their_predictions(runs):
    a, b = load_run(runs / "a"), load_run(runs / "b")
    found = compare(a, b, "test", ("best", "ensemble"))
    split = encoded.open_split(runs / "a" / "data", "test")
    one, other = a.logits(split.ids)[a.best], b.logits(split.ids)[-1]
    assert found.rows == len(split.labels)
    assert found.one["auc"].value == a.result.test["students"][a.best]["auc"]
    assert found.other["logloss"].value == b.result.test["ensemble"]["logloss"]
    assert found.difference["auc"] == significance.auc_difference(split.labels, one, other)
    assert found.difference["logloss"] == significance.logloss_difference(split.labels, one, other)


def test_other_rows_and_other_predictors_are_refused(runs):
    a = load_run(runs / "a")
    with pytest.raises(InputError, match=r"other.*"):
        compare(a, load_run(runs / "other"))
    with pytest.raises(InputError, match=r"--predictors 'bests' is unknown; did you mean 'best'"):
        compare(a, a, "test", ("bests", "ensemble"))
    with pytest.raises(InputError, match=r"split is 'tset'; it must be one of train, valid, test"):
        compare(a, a, "tset", ("0", "ensemble"))


def test_the_command_prints_both_and_their_difference(runs):
    done = commands.run("experiments.compare", runs / "a", runs / "b", "--split=valid")
    one, other, difference = map(json.loads, done.stdout.splitlines())
    assert one["auc"] == load_run(runs / "a").result.valid["ensemble"]["auc"]
    assert other["run"] == str(runs / "b")
    assert difference["auc"] == one["auc"] - other["auc"]
    assert difference["auc_low"] < difference["auc"] < difference["auc_high"]
    assert 0 < difference["logloss_p"] <= 1


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["a"], "one run is given with one of --predictors; name two of them, or two runs"),
        ([], "0 runs are given; name two working directories, or one"),
        (["a", "--predictors=0,1,2"], "--predictors names 3; name one for both runs, or two"),
        (["a", "b", "other"], "unexpected argument"),
        (["a", "b", "--predictors=7"], "--predictors '7' is unknown"),
    ],
)
def test_what_is_not_two_predictors_is_refused(runs, given, said):
    done = commands.run("experiments.compare", *(one if "-" in one else runs / one for one in given))
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr


def test_importance_is_what_a_shuffled_field_costs(runs):
    run = load_run(runs / "a")
    split = encoded.open_split(runs / "a" / "data", "valid")
    found = {one.field: one for one in permutation_importance(run, repeats=2, seed=3)}
    rng = np.random.default_rng(3)
    orders = [rng.permutation(len(split.labels)) for _ in range(2)]
    last = run.schema.fields[-1]  # of three slots
    before = run.result.valid["ensemble"]
    worse = {one.field: one for one in permutation_importance(run, metric="logloss", repeats=2, seed=3)}
    for repeat, order in enumerate(orders):
        ids = split.ids.copy()
        ids[:, -last.max_len :] = ids[order][:, -last.max_len :]
        logits = run.logits(ids)[-1]
        lost = before["auc"] - metrics.auc(split.labels, logits)
        # A row elsewhere in a batch may round otherwise, and a pair of rows change places.
        pair = 1 / (split.labels.sum() * (1 - split.labels).sum())
        assert found[last.name].losses[repeat, -1] == pytest.approx(lost, abs=float(2 * pair))
        lost = metrics.logloss(split.labels, logits) - before["logloss"]
        assert worse[last.name].losses[repeat, -1] == pytest.approx(lost, abs=1e-6)
    means = [one.mean[-1] for one in found.values()]
    assert means == sorted(means, reverse=True)


def test_the_command_writes_a_table_and_a_figure(runs, tmp_path):
    out = tmp_path / "out"
    done = commands.run("experiments.importance", f"--workdir={runs / 'a'}", "--repeats=2", f"--out={out}")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert {line["field"] for line in lines} == {field.name for field in load_run(runs / "a").schema.fields}
    assert list(lines[0])[:5] == ["field", "ensemble", "ensemble_std", "student_0", "student_0_std"]
    assert [line["ensemble"] for line in lines] == sorted((line["ensemble"] for line in lines), reverse=True)
    written = ["importance.csv", "importance.png", "importance.svg"]
    assert sorted(path.name for path in out.iterdir()) == written
    assert (out / "importance.csv").read_text().splitlines()[0] == ",".join(lines[0])


@pytest.mark.parametrize(
    ("given", "error", "said"),
    [
        ({"metric": "acu"}, InputError, "metric 'acu' is unknown; did you mean 'auc'"),
        ({"metric": "calibration"}, InputError, "valid: auc, calibration_error, logloss"),
        ({"split": "tset"}, InputError, "split is 'tset'"),
        ({"repeats": 0}, ValueError, "repeats = 0: expected 1 at least"),
    ],
)
def test_importance_of_what_there_is_not_is_refused(runs, given, error, said):
    with pytest.raises(error, match=said):
        permutation_importance(load_run(runs / "a"), **given)
