"""A whole run on a tiny synthetic dataset: what it leaves behind, and how it fails."""

import errno
import fcntl
import importlib.metadata
import json
import shutil
from functools import partial

import numpy as np
import pytest

import ektf_jax
from ektf_jax import files, measures
from ektf_jax.data import encoded, synthetic
from ektf_jax.data.schema import Schema, make_fields
from ektf_jax.errors import InputError
from ektf_jax.training import evaluate, loop, record, teachers, training, versions
from tests.training.listening import Wrap, at_evaluation, raising

TIMINGS = ("train_samples_per_second", "input_wait", "compile_seconds", "wall_seconds")


def without_timings(result):
    return {key: value for key, value in result.items() if key not in TIMINGS}


def checkpoint_steps(workdir):
    return sorted(
        int(path.name) for path in (workdir / "checkpoints" / "latest").iterdir() if path.name.isdigit()
    )


def without_short_batch(config):
    """As many steps an epoch, all of one size: one program less to trace and compile."""
    config["data"]["batch_size"] = 64
    return config


@pytest.fixture(scope="module")
def finished(tmp_path_factory, tiny_config):
    workdir = tmp_path_factory.mktemp("run") / "finished"
    return workdir, loop.train(tiny_config(), workdir)


def test_result_json_keeps_the_contract(finished):
    workdir, result = finished
    assert json.loads((workdir / "result.json").read_text()) == json.loads(json.dumps(result))
    keys = "config params best_epoch epochs valid test train_samples_per_second seed versions"
    assert set(result) >= set(keys.split())
    for split in ("valid", "test"):
        assert len(result[split]["students"]) == 3
        for metrics in [result[split]["ensemble"], *result[split]["students"]]:
            assert set(metrics) == {"auc", "logloss"}
            assert 0 < metrics["auc"] < 1
    # 67 rows of embedding (40 + 20 + 5 values, padding and OOV per field) plus three MLPs of 12-8-1.
    assert result["params"] == 4 * (65 + 6) + 3 * (12 * 8 + 8 + 2 * 8 + 8 + 1)
    assert result["epochs"] == 4


def test_result_json_says_how_students_differ_and_how_embeddings_are_used(finished, tiny_config):
    workdir, result = finished
    schema, splits = encoded.open_dataset(workdir / "data", ["valid"])
    model, _ = teachers.predictor(workdir, schema)
    students = np.asarray(model(np.asarray(splits["valid"].ids)).students)
    found = result["valid"]["diversity"]
    assert found["ambiguity"] == pytest.approx(measures.ambiguity(splits["valid"].labels, students), rel=1e-4)
    correlation = measures.error_correlation(splits["valid"].labels, students)
    assert found["error_correlation"] == pytest.approx(correlation, rel=1e-6)
    assert list(result["embedding_use"]) == [field.name for field in schema.fields]
    for field in schema.fields:
        rows = model.embedding.table[field.offset + 1 : field.offset + field.vocab_size]
        values = np.linalg.svd(np.asarray(rows, np.float64), compute_uv=False)
        use = result["embedding_use"][field.name]
        np.testing.assert_allclose(use["spectrum"], values / values[0], rtol=1e-9)
        assert use["information_abundance"] == pytest.approx(values.sum() / values[0])
        assert 1 <= use["effective_rank"] <= len(values)


def test_a_directory_may_be_named_by_text(finished, tiny_config):
    workdir, result = finished
    assert loop.train(tiny_config(), str(workdir)) == json.loads(json.dumps(result))


def test_training_learns_something(finished):
    """Between chance and what 1,600 rows can teach; from seed to metric nothing moves unnoticed."""
    assert finished[1]["test"]["ensemble"]["auc"] == pytest.approx(0.737, abs=0.005)
    assert finished[1]["test"]["ensemble"]["logloss"] == pytest.approx(0.559, abs=0.005)


def test_metrics_jsonl_has_a_line_per_epoch_and_its_best_is_the_result(finished):
    workdir, result = finished
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2, 3, 4]
    assert [line["step"] for line in lines] == [25, 50, 75, 100]
    aucs = [line["valid"]["ensemble"]["auc"] for line in lines]
    assert result["best_epoch"] == 1 + int(np.argmax(aucs))
    assert result["valid"] == lines[result["best_epoch"] - 1]["valid"], (
        "the best epoch's weights were restored"
    )
    assert {"ctr", "kd", "dml", "l2", "loss", "gradient_norm", "scores"} <= set(lines[0]["train"])


def test_tensorboard_events_are_written(finished):
    assert list((finished[0] / "tensorboard").glob("events.out.tfevents.*"))


def test_the_same_seed_gives_the_same_bits(finished, tmp_path, tiny_config):
    again = loop.train(tiny_config(), tmp_path / "again")
    assert without_timings(again) == without_timings(finished[1])


def test_a_finished_run_is_left_alone(finished, tiny_config):
    workdir, result = finished
    before = (workdir / "result.json").stat().st_mtime_ns
    assert loop.train(tiny_config(), workdir)["test"] == result["test"]
    assert (workdir / "result.json").stat().st_mtime_ns == before


def test_evaluation_of_a_finished_run_repeats_its_result(finished):
    workdir, result = finished
    assert loop.evaluate(workdir, "test") == result["test"]
    assert loop.evaluate(workdir, "valid") == result["valid"]


def test_another_config_is_refused(finished, tiny_config):
    with pytest.raises(InputError, match=r"train\.learning_rate: 0\.001 there, 0\.002 now"):
        loop.train(tiny_config(learning_rate=2e-3), finished[0])


def test_a_workdir_in_use_is_refused(finished, tiny_config):
    with (finished[0] / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(InputError, match="another process"):
            loop.train(tiny_config(), finished[0])


@pytest.mark.parametrize("split", ["train", "valid", "test"])
def test_evaluation_of_a_split_of_one_class_says_so(finished, tiny_config, tmp_path, split):
    """The training split of a run may have one; its metrics need none."""
    workdir = tmp_path / "run"
    shutil.copytree(finished[0], workdir)
    schema, splits = encoded.open_dataset(workdir / "data")
    ones = {name: (np.array(ids), np.array(labels)) for name, (ids, labels, *_) in splits.items()}
    ones[split][1][:] = 1
    encoded.write(workdir / "data", schema, ones, None)
    (workdir / "dataset.json").unlink()
    with pytest.raises(InputError, match=rf"data/{split}: all labels are 1, so AUC is undefined"):
        loop.evaluate(workdir, split)


@pytest.mark.parametrize("name", ["", "tensorboard", "checkpoints", "checkpoints/latest", "checkpoints/best"])
def test_a_working_directory_that_cannot_be_written_is_refused_before_the_work(
    tmp_path, tiny_config, monkeypatch, name
):
    monkeypatch.setattr(loop, "Training", None)  # whoever gets there fails
    monkeypatch.setattr(loop.synthetic, "prepare", None)
    path = tmp_path / "run" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("a file")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(
        InputError, match=rf"{path.name}: cannot be written \((Not a directory|File exists)\)"
    ):
        loop.train(tiny_config(), tmp_path / "run")
    assert sorted(tmp_path.rglob("*")) == before


def test_a_disk_without_room_is_seen_before_the_work(tmp_path, tiny_config, monkeypatch):
    def full(dir):
        raise OSError(errno.ENOSPC, "No space left on device", str(dir))

    monkeypatch.setattr(record.tempfile, "TemporaryFile", full)
    with pytest.raises(InputError, match=r"run: cannot be written \(No space left on device\)"):
        loop.train(tiny_config(), tmp_path / "run")


def test_versions_of_what_is_not_installed_are_those_of_its_module(monkeypatch):
    """A checkout on the path is no installed package."""

    def missing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    installed = loop.versions()
    monkeypatch.setattr(importlib.metadata, "version", missing)
    found = loop.versions()
    assert found["ektf-jax"] == ektf_jax.__version__
    assert found.keys() == installed.keys()
    assert {name: found[name] for name in ("jax", "numpy", "optax")} == {
        name: installed[name] for name in ("jax", "numpy", "optax")
    }
    assert versions.versions("no-such-package")["no-such-package"] == "unknown"


def test_the_best_weights_are_missed_before_the_work_goes_on(interrupted, tiny_config, monkeypatch):
    shutil.rmtree(interrupted / "checkpoints" / "best")
    monkeypatch.setattr(training, "predict_batches", None)
    with pytest.raises(InputError, match=r"checkpoints/best: no checkpoint 50, the best so far"):
        loop.train(tiny_config(), interrupted)


def test_evaluation_without_a_run_says_what_to_do(tmp_path):
    with pytest.raises(InputError, match=r"result\.json: missing"):
        loop.evaluate(tmp_path, "test")


@pytest.fixture(scope="module")
def diverged(tmp_path_factory, tiny_config):
    """A run that ended before its first evaluation, and how."""
    workdir = tmp_path_factory.mktemp("diverged") / "run"
    config = without_short_batch(tiny_config(learning_rate=1e37, checkpoint_every=1, log_every=1))
    with pytest.raises(InputError) as error:
        loop.train(config, workdir)
    return workdir, error


def test_a_non_finite_loss_stops_at_its_step_and_keeps_the_last_good_checkpoint(diverged):
    workdir, error = diverged
    assert error.match(r"step \d+: (ctr|kd|dml|l2|loss|gradient_norm) is (nan|inf)")
    assert checkpoint_steps(workdir)
    assert not (workdir / "result.json").exists()


def test_a_non_finite_loss_before_the_first_checkpoint_speaks_of_none(tmp_path, tiny_config):
    config = without_short_batch(tiny_config(learning_rate=1e37, checkpoint_every=1000, log_every=1))
    with pytest.raises(InputError, match=r"step \d+: \S+ is (nan|inf); try a lower config"):
        loop.train(config, tmp_path / "run")
    assert not checkpoint_steps(tmp_path / "run")


STUDENT = r"evaluation of valid at step 50: logit of student 1\[3\] is"


@pytest.mark.parametrize(
    ("value", "match"),
    [
        (np.nan, STUDENT + " nan"),
        (-np.inf, STUDENT + " -inf"),
        pytest.param(np.inf, STUDENT + " inf", marks=pytest.mark.long),
    ],
)
def test_logits_that_are_not_finite_are_no_result(tmp_path, tiny_config, monkeypatch, value, match):
    """At the evaluation of the second epoch; infinite ones have an AUC, and a logloss of inf."""
    real, calls = evaluate.predict_batches, []

    def diverged(*args):
        calls.append(args)
        logits = real(*args)
        if len(calls) == 2:
            logits[1, 3] = value
        return logits

    monkeypatch.setattr(training, "predict_batches", diverged)
    with pytest.raises(
        InputError, match=match + r"; the last good checkpoint stays in .*run/checkpoints; try"
    ):
        loop.train(without_short_batch(tiny_config()), tmp_path / "run")
    assert checkpoint_steps(tmp_path / "run") == [30, 40], "the last one before that epoch's end"
    assert len(strict_lines(tmp_path / "run" / "metrics.jsonl")) == 1


def test_metrics_that_are_not_finite_are_no_result(finished, monkeypatch):
    monkeypatch.setattr(
        evaluate.metrics,
        "evaluate",
        lambda labels, logits, weights: [{"auc": 0.5, "logloss": np.inf}] * len(logits),
    )
    with pytest.raises(InputError, match=r"evaluation of test: logloss of student 0 is inf"):
        loop.evaluate(finished[0], "test")


def test_weights_that_are_not_finite_are_never_a_checkpoint(tmp_path, tiny_config):
    """A step's losses are of the weights before it: what it made of them shows in the next one's."""

    def poisoned(step):
        def one(state, *rest):
            state, metrics = step(state, *rest)
            if int(state.step) == 20:
                table = state.parameters["embedding"]["table"]
                table[...] = table[...].at[5, 1].set(np.nan)
            return state, metrics

        return one

    with pytest.raises(
        InputError, match=r"after step 20: parameters/embedding/table/value is not finite; the last"
    ):
        loop.train(without_short_batch(tiny_config()), tmp_path / "run", [Wrap(train_step=poisoned)])
    assert checkpoint_steps(tmp_path / "run") == [10]


def strict_lines(path):
    """The lines of a file of JSON, refusing what only Python's reader takes."""

    def refuse(constant):
        raise AssertionError(f"{path}: {constant}")

    return [json.loads(line, parse_constant=refuse) for line in path.read_text().splitlines()]


def test_every_json_file_of_a_run_is_strict(diverged):
    """Before the first evaluation, too, when the best metric so far is minus infinity."""
    workdir, _ = diverged
    found = list(workdir.rglob("progress/metadata"))
    found += [path for path in workdir.rglob("*.json") if path.is_file()]
    assert len(found) > 3
    for path in found:
        assert "Infinity" not in path.read_text()
        assert "NaN" not in path.read_text()


def test_files_hold_strict_json_only(tmp_path):
    for value in (np.nan, [np.inf], {"a": -np.inf}):
        with pytest.raises(ValueError, match="Out of range"):
            files.write_json(tmp_path / "a.json", {"value": value})
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "a.json").write_text('{"value": NaN}')
    with pytest.raises(InputError, match=r"a\.json: is not JSON \(it has NaN\)"):
        files.read_json(tmp_path / "a.json")


class Interrupted(Exception):
    pass


@pytest.fixture(scope="module")
def dead(tmp_path_factory, tiny_config):
    """A run that died while it evaluated its third epoch."""
    workdir = tmp_path_factory.mktemp("interrupted") / "run"
    with pytest.raises(Interrupted):
        loop.train(tiny_config(), workdir, [at_evaluation(3, raising(Interrupted))])
    assert checkpoint_steps(workdir) == [60, 70]
    return workdir


@pytest.fixture
def interrupted(dead, tmp_path):
    """A copy of it, to be changed."""
    return shutil.copytree(dead, tmp_path / "run")


def test_an_interrupted_run_goes_on_to_the_same_bits(interrupted, finished, tiny_config):
    # A kill can tear the last line of metrics.jsonl, or come between a line and its checkpoint.
    with (interrupted / "metrics.jsonl").open("a") as file:
        file.write('{"epoch": 3, "step": 75}\n{"epo')
    result = loop.train(tiny_config(), interrupted)
    assert without_timings(result) == without_timings(finished[1])
    assert (interrupted / "metrics.jsonl").read_text() == (finished[0] / "metrics.jsonl").read_text()


@pytest.mark.parametrize("damage", ["truncate", pytest.param("empty", marks=pytest.mark.long), "remove"])
def test_a_damaged_newest_checkpoint_costs_steps_not_the_run(interrupted, finished, tiny_config, damage):
    for path in (interrupted / "checkpoints" / "latest" / "70" / "tree").rglob("*"):
        if path.is_file() and path.stat().st_size > 500:
            if damage == "remove":
                path.unlink()
            else:
                path.write_bytes(path.read_bytes()[: path.stat().st_size // 2 if damage == "truncate" else 0])
    result = loop.train(tiny_config(), interrupted)
    assert without_timings(result) == without_timings(finished[1])


def test_no_readable_checkpoint_is_an_error(interrupted, tiny_config):
    for step in (60, 70):
        shutil.rmtree(interrupted / "checkpoints" / "latest" / str(step) / "tree")
    with pytest.raises(InputError, match="no checkpoint can be read"):
        loop.train(tiny_config(), interrupted)


@pytest.fixture
def dataset(tmp_path):
    """Writes an encoded dataset of one field; `labels` are those of validation and test."""

    def write(labels=(0.0, 1.0)):
        fields = make_fields([("a", 5, 1)])
        ids = np.array([[1], [2], [3], [4]], np.int32)
        train = (ids, np.array([0, 1, 0, 1], np.float32))
        other = (ids[: len(labels)], np.array(labels, np.float32))
        schema = Schema("tiny", fields, {"train": 4, "valid": len(labels), "test": len(labels)}, {})
        encoded.write(tmp_path / "data", schema, {"train": train, "valid": other, "test": other}, None)
        return str(tmp_path / "data")

    return write


def refused(config, workdir, match):
    with pytest.raises(InputError, match=match):
        loop.train(config, workdir)
    assert not workdir.exists(), "nothing half-written"


def test_bad_data_is_refused_before_anything_is_written(tmp_path, tiny_config, dataset):
    config, workdir = tiny_config(), tmp_path / "run"
    config["data"]["path"] = str(tmp_path / "missing")
    refused(config, workdir, "missing: no such directory")
    config["data"]["path"] = dataset()
    refused(config, workdir, r"config\.data\.batch_size = 66 is larger than the training split .*4 rows")
    config["data"]["batch_size"] = 3
    refused(config, workdir, "leaves one row of the training split")
    config["data"]["batch_size"] = 4
    config["data"]["path"] = dataset(labels=(1.0, 1.0))
    refused(config, workdir, "all labels are 1, so AUC is undefined")
    config["data"]["path"] = dataset()
    np.save(tmp_path / "data" / "test" / "labels.npy", np.array([1, 0], np.float32))
    refused(config, workdir, r"test/labels\.npy: its rows have the SHA-256 .*changed or damaged")
    (tmp_path / "data" / "train" / "ids.npy").write_bytes(b"")
    refused(config, workdir, r"train/ids\.npy")
    config["data"] |= {"path": "", "synthetic": {}}
    refused(config, workdir, r"config\.data\.path is empty")
    config["data"]["synthetic"] = {"row": 100}
    refused(config, workdir, r"did you mean 'config\.data\.synthetic\.rows'")


def test_bad_values_are_refused_before_anything_is_written(tmp_path, tiny_config):
    config = tiny_config()
    config["ensemble"]["num_students"] = 0
    refused(config, tmp_path / "run", r"config\.ensemble\.num_students = 0 must be at least 1")
    config = tiny_config()
    config["ensemble"]["students"]["mlp"]["dropout"] = 1.0
    refused(config, tmp_path / "run", r"config\.ensemble\.students\.mlp: dropout = 1\.0")


@pytest.mark.parametrize("fusion", ["sum", "concat"])
def test_plain_ensembles_by_sum_and_concat(tmp_path, tiny_config, fusion):
    config = without_short_batch(tiny_config(max_epochs=1))
    config["transfer"]["name"] = "none"
    config["ensemble"]["fusion"] = fusion
    result = loop.train(config, tmp_path / "run")
    assert len(result["test"]["students"]) == (0 if fusion == "concat" else 3)
    assert np.isfinite(result["test"]["ensemble"]["logloss"])


@pytest.mark.parametrize(("method", "other", "auc"), [("kd", "dml", 0.677), ("dml", "kd", 0.680)])
def test_transfer_methods_train(tmp_path, tiny_config, method, other, auc):
    config = without_short_batch(tiny_config(max_epochs=1))
    config["transfer"]["name"] = method
    result = loop.train(config, tmp_path / "run")
    assert result["test"]["ensemble"]["auc"] == pytest.approx(auc, abs=0.005)  # 0.641 without transfer
    train = json.loads((tmp_path / "run" / "metrics.jsonl").read_text())["train"]
    assert (train[method] > 0, train[other]) == (True, 0)
    assert train["loss"] == pytest.approx(train["ctr"] + train[method] + train["l2"], rel=1e-6)


def test_one_student_trains(tmp_path, tiny_config):
    config = without_short_batch(tiny_config(max_epochs=1))
    config["ensemble"]["num_students"] = 1
    result = loop.train(config, tmp_path / "run")
    assert result["test"]["students"] == [result["test"]["ensemble"]]


@pytest.mark.parametrize("damage", ["truncate", "remove", "remove all"])
def test_evaluation_wants_the_epoch_of_the_result(finished, tmp_path, damage):
    """Another epoch's weights are no substitute, and a reader deletes nothing."""
    workdir = shutil.copytree(finished[0], tmp_path / "run")
    best = workdir / "checkpoints" / "best"
    newest = max((path for path in best.iterdir() if path.name.isdigit()), key=lambda path: int(path.name))
    if damage == "truncate":
        for path in newest.rglob("*"):
            if path.is_file():
                path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    else:
        shutil.rmtree(newest if damage == "remove" else best)
    before = sorted(workdir.rglob("*"))
    with pytest.raises(InputError, match=r"checkpoint.*train again in another --workdir"):
        loop.evaluate(workdir, "test")
    assert sorted(workdir.rglob("*")) == before


def test_a_run_is_held_to_the_data_that_it_was_trained_on(tmp_path, tiny_config):
    def config(path, **train):
        made = without_short_batch(tiny_config(max_epochs=1, **train))
        made["data"] |= {"path": str(path), "synthetic": {}}
        return made

    spec = {"rows": 2000, "values": (40, 20, 5), "max_lens": (1, 1, 3)}
    data, workdir = tmp_path / "data", tmp_path / "run"
    synthetic.prepare(synthetic.SyntheticSpec(**spec), data)
    result = loop.train(config(data), workdir)
    # The same data elsewhere is the same run.
    moved = data.rename(tmp_path / "moved")
    again = loop.train(config(moved, checkpoint_every=5, log_every=3), workdir)
    assert again["test"] == result["test"]
    assert loop.evaluate(workdir, "test", moved) == result["test"]
    # Other data is not, though its ids fit.
    synthetic.prepare(synthetic.SyntheticSpec(**spec, seed=1), data)
    for refused in (lambda: loop.train(config(data), workdir), lambda: loop.evaluate(workdir, "test")):
        with pytest.raises(InputError, match="schema_sha256"):
            refused()
    (workdir / "result.json").unlink()
    with pytest.raises(InputError, match="schema_sha256"):
        loop.train(config(data), workdir)


@pytest.mark.parametrize("name", ["result.json", "config.json", "dataset.json"])
@pytest.mark.parametrize("text", ["", '{"config": ', "5"])
def test_a_broken_file_is_named(finished, tiny_config, tmp_path, name, text):
    workdir = tmp_path / "run"
    shutil.copytree(finished[0], workdir)
    (workdir / name).write_text(text)
    read = partial(loop.evaluate, workdir, "test")
    if name == "config.json":
        read = partial(loop.train, tiny_config(), workdir)
    with pytest.raises(InputError, match=rf"{name}: is "):
        read()
