"""Finished runs by their directories: models and students of them, and typed results."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

import ektf_jax
from ektf_jax import result as result_file
from ektf_jax.bundle.export import export
from ektf_jax.data import encoded
from ektf_jax.errors import InputError
from ektf_jax.result import Result
from ektf_jax.runs import ensembles, judge
from ektf_jax.training import loop

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def finished(tmp_path_factory, tiny_config):
    """Two kinds of students, one with a linear part, half the columns their own, in stacks of two and one."""
    config = tiny_config(max_epochs=1)
    config["data"]["batch_size"] = 64
    config["embedding"]["sharing"] = 0.5
    config["ensemble"]["students"] = {
        "deep": {"name": "deepfm", "hidden_units": (8,), "wide": "ids"},
        "mlp": {"name": "mlp", "hidden_units": (8,)},
    }
    workdir = tmp_path_factory.mktemp("runs") / "run"
    return workdir, loop.train(config, workdir)


def test_a_run_has_its_result_and_its_model_predicts_what_it_says(finished):
    workdir, result = finished
    run = ektf_jax.load_run(workdir)
    assert json.dumps(run.config.to_dict()) == json.dumps(result["config"])
    assert run.result.labels == ["deep", "deep", "mlp"]
    aucs = [student["auc"] for student in result["valid"]["students"]]
    assert run.best == int(np.argmax(aucs))
    assert run.result.document["format"] == result_file.FORMAT
    assert loop.evaluate(workdir, "test") == run.result.test


@jax.jit
def predict(model, ids):
    return model(ids)


@pytest.mark.parametrize("k", range(3))
def test_a_student_alone_predicts_what_it_predicts_in_the_ensemble(finished, k):
    run = ektf_jax.load_run(finished[0])
    ids = encoded.open_split(finished[0] / "data", "test").ids[:50]
    alone, together = predict(run.student(k), ids), predict(run.model(), ids)
    assert alone.students.shape == (1, 50)
    np.testing.assert_allclose(alone.students[0], together.students[k], atol=1e-6)
    np.testing.assert_allclose(alone.ensemble, together.students[k], atol=1e-6)


@pytest.mark.parametrize("k", [-1, 3])
def test_a_student_that_is_not_there_is_refused(finished, k):
    with pytest.raises(InputError, match=rf"run: there is no student {k}: the ensemble has 3"):
        ektf_jax.load_run(finished[0]).student(k)


def test_data_that_were_moved_are_named_and_others_are_refused(finished, tmp_path):
    run = shutil.copytree(finished[0], tmp_path / "run")
    shutil.move(run / "data", tmp_path / "data")
    assert ektf_jax.load_run(run, tmp_path / "data").schema.num_fields == 3
    with pytest.raises(InputError, match="data"):
        ektf_jax.load_run(run).model()


@pytest.mark.parametrize(
    "reads",
    [
        lambda run: loop.evaluate(run, "test"),
        lambda run: judge.predictions(ektf_jax.load_run(run), "test"),
        lambda run: export(run, run / "bundle"),
        lambda run: ensembles.make([run], run / "blend"),
    ],
)
def test_who_needs_the_rows_of_data_that_were_moved_is_told_of_the_flag(finished, tmp_path, reads):
    """A path may be relative to another directory; what a run keeps of its dataset has no rows."""
    run = shutil.copytree(finished[0], tmp_path / "run")
    shutil.copytree(run / "data", run / "encoder")
    shutil.rmtree(run / "data")
    with pytest.raises(InputError, match=r"run/data: no such directory, .* say by --data where it is now"):
        reads(run)
    # The run has nothing at a place that is given.
    with pytest.raises(InputError, match=r"elsewhere: no such directory; run `ektf prepare"):
        loop.evaluate(run, "test", tmp_path / "elsewhere")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"format": 99}, "format = 99 is of a newer version, this one reads up to"),
        ({"format": "x"}, "format = 'x' is of a newer version"),
        ({"config": {"seed": -1}}, "config.seed = -1 must be in"),
        ({"valid": 3}, "valid is 3, which it cannot be"),
    ],
)
def test_a_result_that_cannot_be_read_is_named(finished, tmp_path, change, said):
    document = json.loads((finished[0] / result_file.NAME).read_text())
    result_file.write(tmp_path, document | change)
    with pytest.raises(InputError) as caught:
        Result.read(tmp_path)
    assert str(caught.value).startswith(f"{tmp_path / result_file.NAME}: ")
    assert said in str(caught.value)


def test_a_committed_result_is_read_without_jax():
    path = next((ROOT / "results").rglob(result_file.NAME)).parent
    code = (
        "import sys; from pathlib import Path; from ektf_jax.result import Result;"
        f" result = Result.read(Path({str(path)!r})); print(len(result.labels), 'jax' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(len(Result.read(path).test["students"])), "False"]


def test_a_results_name_is_spelled_once():
    spelled = [path for path in (ROOT / "ektf_jax").rglob("*.py") if '"result.json"' in path.read_text()]
    assert spelled == [ROOT / "ektf_jax" / "result.py"]
