"""Ensembles of finished runs: who is selected, what they predict together, and that they are a run as any."""

import itertools
import json

import jax
import numpy as np
import polars as pl
import pytest

import ektf_jax
from ektf_jax import metrics, sharding
from ektf_jax.config import Config
from ektf_jax.data import encoded
from ektf_jax.data.loader import Batch
from ektf_jax.errors import InputError
from ektf_jax.report import results
from ektf_jax.result import Result
from ektf_jax.runs import ensembles
from ektf_jax.training import loop, teachers
from tests import commands
from tests.bundle import shop


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def measured(labels, bag, metric, of):
    """A metric of the mean of a bag of logits, from its definition; more is better."""
    mean = np.mean(bag, axis=0) if of == "logits" else np.mean([sigmoid(z) for z in bag], axis=0)
    if metric == "auc":
        wins = [np.sign(p - n) / 2 + 0.5 for p in mean[labels == 1] for n in mean[labels == 0]]
        return np.mean(wins)
    p = sigmoid(mean) if of == "logits" else mean
    return np.mean(labels * np.log(p) + (1 - labels) * np.log(1 - p))


def transcribed(logits, labels, metric, how, of):
    """The weights as the docstring of `select` says them, by bags of candidates."""
    number = len(logits)

    def value(bag):
        return measured(labels, [logits[i] for i in bag], metric, of)

    if how == "all":
        bag = list(range(number))
    elif how == "greedy":
        bag, reached = [], -np.inf
        while len(bag) < 100:
            values = [value([*bag, i]) for i in range(number)]
            if max(values) <= reached:
                break
            reached = max(values)
            bag.append(values.index(reached))
    else:
        bag = list(range(number))
        reached = value(bag)
        while len(bag) > 1:
            values = [value([j for j in bag if j != i]) for i in bag]
            if max(values) < reached:
                break
            reached = max(values)
            del bag[values.index(reached)]
    return np.bincount(bag, minlength=number) / len(bag)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("of", ["logits", "probabilities"])
@pytest.mark.parametrize("how", ["greedy", "all", "prune"])
@pytest.mark.parametrize("metric", ["auc", "logloss"])
def test_the_selection_is_its_description(metric, how, of, seed):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, 40)
    skill = rng.uniform(-0.5, 1.5, (6, 1))
    logits = rng.normal(size=(6, 40)) * rng.uniform(0.3, 3, (6, 1)) + skill * (2 * labels - 1)
    weights = ensembles.select(logits, labels, metric, how, of=of)
    np.testing.assert_allclose(weights, transcribed(logits, labels, metric, how, of), atol=1e-12)


@pytest.mark.parametrize(("how", "kept"), [("greedy", [1, 0, 0]), ("prune", [0, 0, 1])])
def test_of_equals_the_first_is_taken_or_left_out(how, kept):
    labels = np.array([0, 1, 0, 1])
    logits = np.tile([0.0, 2.0, 1.0, 3.0], (3, 1))
    np.testing.assert_array_equal(ensembles.select(logits, labels, how=how), kept)


@pytest.mark.parametrize("of", ["logits", "probabilities"])
def test_logits_of_any_size_can_be_selected(of):
    labels = np.array([0, 1, 0, 1, 1])
    logits = np.array([[-900.0, 800, -1000, 30, -5], [-20, 40, -1, 700, 1]], np.float32)
    for metric, how in itertools.product(("auc", "logloss"), ("greedy", "prune")):
        assert np.isfinite(ensembles.select(logits, labels, metric, how, of=of)).all()


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two runs over one table: three students that share half their columns, and one of another width."""
    directory = tmp_path_factory.mktemp("runs")
    shop.prepare(directory / "data")
    several = shop.config(directory / "data")
    several["embedding"]["sharing"], several["train"]["ema"] = 0.5, 0.5
    several["ensemble"]["students"]["deep"] = {"name": "deepfm", "hidden_units": (8,), "wide": "ids"}
    one = shop.config(directory / "data")
    one["embedding"]["dim"], one["ensemble"]["num_students"], one["seed"] = 6, 1, 7
    one["ensemble"]["students"] = {"deep": {"name": "deepfm", "hidden_units": (8,), "wide": "ids"}}
    for name, config in (("several", several), ("one", one)):
        config["train"]["max_epochs"] = 1
        loop.train(config, directory / name)
    return directory


@jax.jit
def predict(model, ids):
    return model(ids)


def predicted(workdir, split="valid"):
    """Logits of a run's students [K, N], and of its ensemble [N]."""
    run = ektf_jax.load_run(workdir)
    found = predict(run.model(), np.asarray(encoded.open_split(run.data, split).ids))
    return np.asarray(found.students, float), np.asarray(found.ensemble, float)


@pytest.mark.parametrize("of", ["logits", "probabilities"])
def test_all_students_of_two_runs_predict_their_mean(runs, tmp_path, of):
    ensembles.make([runs / "several", runs / "one"], tmp_path / "out", how="all", of=of)
    apart = np.concatenate([predicted(runs / name)[0] for name in ("several", "one")])
    students, ensemble = predicted(tmp_path / "out")
    np.testing.assert_allclose(students, apart, atol=1e-6)
    mean = (
        apart.mean(axis=0) if of == "logits" else (p := sigmoid(apart).mean(axis=0)) * 0 + np.log(p / (1 - p))
    )
    np.testing.assert_allclose(ensemble, mean, atol=1e-5)
    assert ektf_jax.load_run(tmp_path / "out").config.train.ema == 0  # of one of them alone


@pytest.fixture(scope="module")
def blended(runs):
    """Greedily selected by logloss, which leaves no room for a single winner here."""
    ensembles.make([runs / "several", runs / "one"], runs / "blend", metric="logloss")
    return runs / "blend"


def test_selected_students_keep_their_predictions_and_weigh_as_they_were_selected(runs, blended):
    result = json.loads((blended / "result.json").read_text())
    weights = np.array([one["weight"] for one in result["selection"]["candidates"]])
    apart = np.concatenate([predicted(runs / name)[0] for name in ("several", "one")])
    labels = encoded.open_split(runs / "data", "valid").labels
    np.testing.assert_allclose(weights, transcribed(apart, labels, "logloss", "greedy", "logits"), atol=1e-12)
    assert 1 < np.count_nonzero(weights) < 4 or len(set(weights)) > 1  # it is no plain mean of all
    students, ensemble = predicted(blended)
    np.testing.assert_allclose(students, apart[weights > 0], atol=1e-6)
    np.testing.assert_allclose(ensemble, weights @ apart, atol=1e-6)
    for split in ("valid", "test"):
        rows = encoded.open_split(runs / "data", split)
        logits = np.concatenate([predicted(runs / name, split)[0] for name in ("several", "one")])
        told = Result.read(blended).document[split]
        assert told["ensemble"]["auc"] == pytest.approx(metrics.auc(rows.labels, weights @ logits), abs=1e-4)
        assert told["ensemble"]["logloss"] == pytest.approx(
            metrics.logloss(rows.labels, weights @ logits), abs=1e-6
        )
        assert len(told["students"]) == np.count_nonzero(weights)
    ends = [Result.read(runs / name).document for name in ("several", "one")]
    assert result["wall_seconds"] == sum(end["wall_seconds"] for end in ends)
    seconds_a_row = sum(1 / end["train_samples_per_second"] for end in ends)
    assert result["train_samples_per_second"] == pytest.approx(1 / seconds_a_row)
    assert [one["valid"] for one in result["selection"]["candidates"]] == [
        student for end in ends for student in end["valid"]["students"]
    ]


def test_evaluate_export_score_and_report_take_it_for_a_run(runs, blended, tmp_path):
    told = Result.read(blended)
    assert loop.evaluate(blended, "test") == told.test
    done = commands.run("experiments.export", f"--workdir={blended}", f"--out={tmp_path}/bundle")
    assert done.returncode == 0, done.stderr
    rows = shop.rows(50, 1)
    rows.write_csv(tmp_path / "rows.csv")
    done = commands.run(
        "experiments.score",
        f"--bundle={tmp_path}/bundle",
        f"--input={tmp_path}/rows.csv",
        f"--out={tmp_path}/scored.parquet",
    )
    assert done.returncode == 0, done.stderr
    run = ektf_jax.load_run(blended)
    found = run.predict(rows)
    scored = pl.read_parquet(tmp_path / "scored.parquet")
    np.testing.assert_allclose(scored["p_ensemble"], found["ensemble"], atol=1e-6)
    best = predict(run.student(run.best), np.asarray(encoded.open_split(runs / "data", "valid").ids))
    np.testing.assert_allclose(best.students[0], predicted(blended)[0][run.best], atol=1e-6)
    assert run.embeddings("user", run.best)["vector"].list.len().unique().to_list() in ([4], [6])
    (row,) = results.load(blended)
    assert row.method == "blend"
    assert row.label.startswith("blend of ")
    assert not row.alone


def test_a_blend_can_be_a_member_and_needs_none_of_its_own_runs(runs, blended, tmp_path):
    moved = blended.rename(tmp_path / "moved")
    try:
        ensembles.make([moved, runs / "one"], tmp_path / "of_blend", how="all")
        apart = np.concatenate([predicted(moved)[0], predicted(runs / "one")[0]])
        np.testing.assert_allclose(predicted(tmp_path / "of_blend")[1], apart.mean(axis=0), atol=1e-6)
    finally:
        moved.rename(blended)


def test_what_cannot_be_an_ensemble_is_refused_in_one_line_and_leaves_nothing(runs, blended, tmp_path):
    shop.prepare(tmp_path / "other", shop.rows(900, 5))
    config = shop.config(tmp_path / "other")
    config["train"]["max_epochs"] = 1
    loop.train(config, tmp_path / "elsewhere")
    (tmp_path / "unfinished").mkdir()
    for workdirs, out, said in (
        ("", "out", "--workdirs names no run"),
        (f"{runs}/one,{runs}/one", "out", "names a run twice"),
        (f"{runs}/one,{tmp_path}/unfinished", "out", f"{tmp_path}/unfinished/result.json: missing"),
        (
            f"{runs}/one,{tmp_path}/elsewhere",
            "out",
            f"{tmp_path}/elsewhere: was not trained on the dataset of {runs}/one",
        ),
        (f"{runs}/one,{runs}/several", "unfinished", "is there already"),
    ):
        before = sorted(tmp_path.iterdir())
        done = commands.run("experiments.ensemble", f"--workdirs={workdirs}", f"--out={tmp_path}/{out}")
        assert done.returncode == 2, done
        assert len(done.stderr.splitlines()) == 1
        assert said in done.stderr
        assert sorted(tmp_path.iterdir()) == before


def test_a_failure_at_the_end_leaves_nothing(runs, tmp_path, monkeypatch):
    monkeypatch.setattr(ensembles, "evaluate_split", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        ensembles.make([runs / "one"], tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_it_is_not_trained(runs, blended, tmp_path):
    with pytest.raises(InputError, match=r"config\.ensemble\.blend is of an ensemble of finished runs"):
        loop.train(Result.read(blended).config, tmp_path / "out")


def test_it_teaches_all_students_of_ektf_or_of_eckd(runs, blended):
    """The lesson is the ensemble's logit, and the KD term of EKTF pulls towards it."""
    batch = Batch(*encoded.open_split(runs / "data", "valid"))
    for method, options in (("ektf", {}), ("eckd", {"hint_weight": 0.0})):
        config = shop.config(runs / "data")
        config["train"]["max_epochs"] = 1
        config["transfer"] |= {"name": method, "teachers": ("../blend",)}
        config["transfer"][method] |= options
        _, teach = teachers.make_model(
            Config.from_dict(config),
            runs / f"taught_by_{method}",
            encoded.open_schema(runs / "data"),
            jax.random.key(0),
            sharding.make_mesh(),
        )
        np.testing.assert_allclose(teach(batch).logits[0], predicted(blended)[1], atol=1e-5)
    loop.train(config | {"transfer": config["transfer"] | {"name": "ektf"}}, runs / "taught")
    (row,) = results.load(runs / "taught")
    assert row.label.endswith(", taught by a finished run")
    assert not row.shares


def test_a_teacher_without_the_kd_term_is_refused(runs, blended):
    config = shop.config(runs / "data")
    config["transfer"] |= {"teachers": ("../blend",)}
    config["transfer"]["ektf"]["kd"] = False
    with pytest.raises(InputError, match=r"blend: teaches nothing, as config\.transfer\.ektf\.kd = False"):
        loop.train(config, runs / "untaught")
