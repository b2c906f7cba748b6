"""What a run records of itself, and that it is held to it: its students, its data, its teachers."""

import copy
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from ektf_jax.config import Config
from ektf_jax.data import encoded, synthetic
from ektf_jax.errors import InputError
from ektf_jax.runs import sweep
from ektf_jax.students import MLP
from ektf_jax.training import loop, record, teachers


@pytest.fixture(scope="module")
def make(tiny_config):
    """Makes the config of one MLP that leaves its dropout to the code; `train` are keys of config.train."""

    def config(path="", **train):
        made = tiny_config(max_epochs=1, **train)
        made["data"]["batch_size"] = 64  # no short batch: a step compiles once
        made["data"] |= {"path": str(path), "synthetic": {}} if path else {}
        made["ensemble"] |= {"num_students": 1, "students": {"mine": {"name": "mlp", "hidden_units": (8,)}}}
        return made

    return config


@pytest.fixture(scope="module")
def finished(tmp_path_factory, make):
    workdir = tmp_path_factory.mktemp("record") / "run"
    loop.train(make(), workdir)
    return workdir


@pytest.fixture
def run(finished, tmp_path):
    """A copy of a finished run, to be changed."""
    shutil.copytree(finished, tmp_path / "run")
    return tmp_path / "run"


def edit(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def without(path, *keys):
    document = json.loads(path.read_text())
    for key in keys:
        document.pop(key, None)
    path.write_text(json.dumps(document))


def as_version_0_1_0_left_it(workdir):
    (workdir / "resolved.json").unlink()
    without(workdir / "result.json", "students")
    without(workdir / "dataset.json", "arrays")
    return workdir


def test_a_run_records_the_arguments_that_its_config_left_out(run):
    students = {"mine": {"name": "mlp", "hidden_units": [8], "dropout": 0.1, "batch_norm": True}}
    for name in ("resolved.json", "result.json"):
        assert json.loads((run / name).read_text())["students"] == students
    assert json.loads((run / "config.json").read_text())["ensemble"]["students"]["mine"] == {
        "name": "mlp",
        "hidden_units": [8],
    }


@pytest.fixture
def other_default(monkeypatch):
    monkeypatch.setitem(MLP.__init__.__kwdefaults__, "dropout", 0.25)


CHANGED = r"students' defaults have changed .*ensemble\.students\.mine\.dropout: 0\.1 there, 0\.25 now"


def test_a_student_whose_defaults_changed_is_another_one(run, make, other_default):
    for read in (
        lambda: loop.train(make(), run),
        lambda: loop.evaluate(run, "test"),
        lambda: teachers.load(run, encoded.open_schema(run / "data")),
        lambda: sweep.check_finished({"run": Config.from_dict(make())}, run.parent),
    ):
        with pytest.raises(InputError, match=CHANGED):
            read()


def test_a_run_that_is_not_finished_does_not_go_on_with_another_default(run, make, other_default):
    (run / "result.json").unlink()
    with pytest.raises(InputError, match=CHANGED):
        loop.train(make(), run)


def test_an_argument_that_came_later_is_another_student_too(run, make):
    """What the student did without it, nobody knows."""
    document = json.loads((run / "result.json").read_text())
    del document["students"]["mine"]["batch_norm"]
    (run / "result.json").write_text(json.dumps(document))
    with pytest.raises(InputError, match=r"mine\.batch_norm: absent there, True now"):
        loop.evaluate(run, "test")


def test_a_default_that_is_written_out_is_the_same_run(run, make):
    config = make()
    config["ensemble"]["students"]["mine"] |= {"dropout": 0.1, "batch_norm": True}
    assert loop.train(config, run) == json.loads((run / "result.json").read_text())
    config["ensemble"]["students"]["mine"]["dropout"] = 0.2
    with pytest.raises(
        InputError, match=r"another config \(ensemble\.students\.mine\.dropout: 0\.1 there, 0\.2"
    ):
        loop.train(config, run)


NAMELESS = object()


def test_defaults_that_json_has_no_text_for_are_recorded_by_name():
    class Odd:
        def __init__(self, fields, dim, width=3, *, act=np.tanh, rate=float("nan"), key=NAMELESS, rngs):
            pass

    assert record.arguments_in_full(Odd, {"name": "a:Odd", "width": 4}) == {
        "name": "a:Odd",
        "width": 4,
        "act": "numpy.tanh",
        "rate": "builtins.float",
        "key": "builtins.object",
    }


def test_a_result_without_its_config_beside_it_is_held_to_its_own(run, make):
    """result.json alone, as in a collection of results."""
    (run / "config.json").unlink()
    (run / "resolved.json").unlink()
    with pytest.raises(InputError, match=r"train\.patience: 100 there, 3 now"):
        loop.train(make(patience=3), run)
    assert not (run / "config.json").exists(), "nothing is claimed that was refused"
    assert loop.train(make(), run)["epochs"] == 1


def test_where_and_how_often_are_no_part_of_a_run(run, make):
    config = make(log_every=1, checkpoint_every=3)
    config["ensemble"]["stack"] = "vmap"
    config["mesh"]["data"] = -1
    config["transfer"]["kd"]["weights"] = 0.5  # the run's method is ektf
    assert loop.train(config, run) == json.loads((run / "result.json").read_text())


# --- data


def test_other_rows_of_the_same_description_are_other_data(run, make):
    """In place, and as a dataset of its own that encoded.write made."""
    schema, splits = encoded.open_dataset(run / "data")
    flipped = {name: (np.array(ids), np.array(labels)) for name, (ids, labels, *_) in splits.items()}
    flipped["train"][1][5] = 1 - flipped["train"][1][5]
    other = run.parent / "other"
    encoded.write(other, schema, flipped, None)
    assert encoded.open_schema(other).description_fingerprint == schema.description_fingerprint

    result = json.loads((run / "result.json").read_text())
    assert (
        loop.train(make(run / "data") | {"data": make()["data"] | {"path": str(run / "data")}}, run) == result
    )
    moved = make()
    moved["data"]["path"] = str(other)
    named = r"dataset\.json: train/labels\.npy = '\w{64}' is not the SHA-256 of the rows in .*other, '\w{64}'"
    for read in (
        lambda: loop.train(moved, run),
        lambda: loop.evaluate(run, "train", other),
        lambda: sweep.check_data({"run": Config.from_dict(moved)}, run.parent),
        lambda: sweep.check_data({"run": Config.from_dict(moved)}, run.parent, whole=False),
    ):
        with pytest.raises(InputError, match=named):
            read()
    (run / "result.json").unlink()
    with pytest.raises(InputError, match=named):
        loop.train(moved, run)


def test_a_run_of_version_0_1_0_is_held_to_what_it_recorded(run, make, tmp_path):
    before = json.loads((run / "result.json").read_text())
    old = as_version_0_1_0_left_it(run)
    assert loop.train(make(), old)["test"] == before["test"]
    assert loop.evaluate(old, "test") == before["test"]
    assert json.loads((old / "resolved.json").read_text())["students"], "it is held to that from now on"
    synthetic.prepare(
        synthetic.SyntheticSpec(rows=2000, values=(40, 20, 5), max_lens=(1, 1, 3), seed=1), tmp_path / "new"
    )
    with pytest.raises(InputError, match="schema_sha256"):
        loop.evaluate(old, "test", tmp_path / "new")


def test_generated_data_of_other_settings_are_refused(run, make, tmp_path):
    """Whose result is there, and whose data: an encoded dataset that lies where the run's would be."""
    config = make()
    without(run / "result.json", "students")
    document = json.loads((run / "result.json").read_text())
    document["dataset"]["source"]["spec"]["rows"] = 3000
    (run / "result.json").write_text(json.dumps(document))
    with pytest.raises(
        InputError, match=r"result\.json: .*config\.data\.synthetic \(rows: 3000 there, 2000 now\)"
    ):
        loop.train(config, run)
    document["dataset"]["source"] = {"files": []}
    (run / "result.json").write_text(json.dumps(document))
    with pytest.raises(
        InputError, match=r"result\.json: is of a prepared dataset, but config\.data\.path is empty"
    ):
        loop.train(config, run)

    spec = synthetic.SyntheticSpec(rows=2000, values=(40, 20, 5), max_lens=(1, 1, 3), seed=9)
    synthetic.prepare(spec, tmp_path / "fresh" / "data")
    with pytest.raises(InputError, match=r"fresh/data: .*config\.data\.synthetic \(seed: 9 there, 0 now\)"):
        loop.train(config, tmp_path / "fresh")


@pytest.mark.parametrize("source", [[1], "a", {"spec": 2.5}, {"spec": True}, {"spec": []}])
def test_a_source_that_is_none_is_named(make, source):
    with pytest.raises(InputError, match=r"data: the spec in its source is .*, which it cannot be"):
        record.check_generated(Path("data"), source, Config.from_dict(make()))


def test_a_result_alone_says_what_data_it_is_of(run, make, tmp_path):
    """Without dataset.json, as in a collection of results."""
    (run / "dataset.json").unlink()
    config = make()
    config["data"]["path"] = str(run / "data")
    assert loop.train(config, run)["epochs"] == 1
    synthetic.prepare(
        synthetic.SyntheticSpec(rows=2000, values=(40, 20, 6), max_lens=(1, 1, 3)), tmp_path / "new"
    )
    config["data"]["path"] = str(tmp_path / "new")
    with pytest.raises(InputError, match=r"result\.json: dataset\.features = 71 is not that of .*new"):
        loop.train(config, run)


# --- teachers


def test_a_teacher_that_was_trained_again_to_another_model_is_another_teacher(run, make):
    taught = make()
    taught["transfer"] |= {"name": "eckd", "teachers": ("../run",)}
    workdir = run.parent / "taught"
    result = loop.train(taught, workdir)
    edit(run / "result.json", wall_seconds=1.0)
    assert loop.train(taught, workdir) == json.loads(json.dumps(result))
    assert json.loads((workdir / "resolved.json").read_text())["teachers"].keys() == {"../run"}
    again = copy.deepcopy(json.loads((run / "result.json").read_text()))
    again["test"]["ensemble"]["logloss"] += 1e-9
    edit(run / "result.json", test=again["test"])
    runs = {"run": make(), "taught": taught | {"transfer": taught["transfer"] | {"teachers": ("run",)}}}
    runs = {name: Config.from_dict(run) for name, run in runs.items()}
    for read in (lambda: loop.train(taught, workdir), lambda: sweep.check_finished(runs, run.parent)):
        with pytest.raises(
            InputError, match=r"taught: \.\./run, which it learned from, was trained again since"
        ):
            read()


# --- more epochs


def test_a_run_that_has_not_stopped_early_may_have_more_epochs(run, make, tmp_path):
    """Finished, and within an epoch: to the same bits as with that many from the start."""
    result = loop.train(make() | {"train": make()["train"] | {"max_epochs": 2}}, run)
    whole = loop.train(make() | {"train": make()["train"] | {"max_epochs": 2}}, tmp_path / "whole")
    for key in ("epochs", "best_epoch", "valid", "test"):
        assert result[key] == whole[key]
    assert result["epochs"] == 2
    assert json.loads((run / "config.json").read_text())["train"]["max_epochs"] == 2
    with pytest.raises(InputError, match=r"train\.max_epochs: 2 there, 1 now"):
        loop.train(make(), run)


def test_more_epochs_change_nothing_that_they_must_not(run, make):
    stopped = json.loads((run / "result.json").read_text())
    edit(
        run / "result.json",
        config=stopped["config"] | {"train": stopped["config"]["train"] | {"max_epochs": 2}},
    )
    more = make() | {"train": make()["train"] | {"max_epochs": 3}}
    assert loop.train(more, run)["epochs"] == 1, "it stopped early, in epoch 1 of 2"
    cosine = make() | {"train": make()["train"] | {"schedule": {"name": "cosine_decay_schedule"}}}
    for name in ("config.json", "result.json"):
        edit(run / name, **({"config": cosine} if name == "result.json" else cosine))
    cosine["train"]["max_epochs"] = 3
    with pytest.raises(InputError, match=r"train\.max_epochs: 1 there, 3 now"):
        loop.train(cosine, run)
    with pytest.raises(InputError, match=r"train\.max_epochs: 1 there, 3 now"):
        sweep.check_finished({"run": Config.from_dict(cosine)}, run.parent)
