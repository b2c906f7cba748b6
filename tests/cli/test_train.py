"""The command lines of a run: overrides, exit codes, messages, and what they leave."""

import json

import pytest

from tests import commands


def run(module, *arguments):
    return commands.run(f"experiments.{module}", *arguments)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("cli") / "run"
    process = run(
        "train",
        "--config=configs/quickstart.py",
        f"--workdir={workdir}",
        "--config.data.synthetic.rows=2000",
        "--config.data.batch_size=256",
        "--config.ensemble.num_students=2",
        "--config.ensemble.students.mlp.hidden_units=(8,)",
        "--config.train.max_epochs=1",
    )
    assert process.returncode == 0, process.stderr
    return workdir, process


def test_train_leaves_its_result_and_prints_it(finished):
    workdir, process = finished
    result = json.loads((workdir / "result.json").read_text())
    assert result["config"]["ensemble"]["num_students"] == 2
    assert f"test ensemble  AUC {result['test']['ensemble']['auc']:.6f}" in process.stdout
    assert (workdir / "metrics.jsonl").exists()
    assert (workdir / "checkpoints").is_dir()


@pytest.mark.parametrize("predictor", [None, "ensemble", "best", "1"])
def test_evaluate_prints_json_lines(finished, predictor):
    workdir, _ = finished
    test = json.loads((workdir / "result.json").read_text())["test"]
    valid = json.loads((workdir / "result.json").read_text())["valid"]["students"]
    process = run(
        "evaluate",
        f"--workdir={workdir}",
        "--split=test",
        *([f"--predictor={predictor}"] if predictor else []),
    )
    assert process.returncode == 0, process.stderr
    lines = [json.loads(line) for line in process.stdout.splitlines()]
    everything = [
        {"predictor": name, "split": "test"} | metrics
        for name, metrics in [*enumerate(test["students"]), ("ensemble", test["ensemble"])]
    ]
    best = max(range(2), key=lambda k: valid[k]["auc"])
    wanted = {None: everything, "ensemble": everything[2:], "best": [everything[best]], "1": [everything[1]]}
    assert lines == wanted[predictor]


BAD = {
    "unknown key": (["--config.ensemble.num_student=3"], "did you mean 'config.ensemble.num_students'"),
    "unknown hyper-parameter": (["--config.ensemble.students.mlp.drop=3"], "students.mlp.dropout"),
    "key below a value": (["--config.seed.more=3"], "seed.more"),
    "not a number": (["--config.ensemble.num_students=two"], "num_students"),
    "no students": (["--config.ensemble.num_students=0"], "config.ensemble.num_students = 0"),
    "unknown method": (["--config.transfer.name=ektff"], "did you mean 'ektf'"),
    "no data": (["--config.data.path=nowhere"], "nowhere"),
    "large batch": (["--config.data.synthetic.rows=100"], "config.data.batch_size"),
    "unknown group": (["--config.trian.seed=3"], "--config.trian.seed: the config has no group"),
    "unknown student": (
        ["--config.ensemble.students.mpl.dropout=0.3"],
        "students.mpl.dropout: the config has",
    ),
    "stray argument": (["extra"], "extra"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_line_and_exit_status_2(tmp_path, name):
    arguments, message = BAD[name]
    process = run("train", "--config=configs/quickstart.py", f"--workdir={tmp_path / 'run'}", *arguments)
    errors = [line for line in process.stderr.splitlines() if line.startswith("error: ")]
    assert process.returncode == 2, process.stderr
    assert len(errors) == 1
    assert message in errors[0]
    assert "Traceback" not in process.stderr
    assert not (tmp_path / "run").exists()


def test_a_file_in_the_place_of_a_directory_is_named(tmp_path):
    (tmp_path / "file").write_text("mine")
    for place in ("file", "file/run"):
        process = run("train", "--config=configs/quickstart.py", f"--workdir={tmp_path / place}")
        assert (process.returncode, process.stdout) == (2, "")
        assert process.stderr.splitlines()[-1].startswith(f"error: {tmp_path / 'file'}")
    assert (tmp_path / "file").read_text() == "mine"


def test_get_config_may_return_plain_data(tmp_path):
    text = "from configs import quickstart\ndef get_config():\n    return quickstart.get_config().to_dict()\n"
    (tmp_path / "plain.py").write_text(text)
    process = run("summary", f"--config={tmp_path / 'plain.py'}")
    assert process.returncode == 0, process.stderr


def test_a_missing_config_file_is_named(tmp_path):
    process = run("train", "--config=configs/nowhere.py", f"--workdir={tmp_path / 'run'}")
    assert process.returncode == 2
    assert "configs/nowhere.py" in process.stderr
    assert not (tmp_path / "run").exists()


def test_an_unknown_predictor_is_named(finished):
    process = run("evaluate", f"--workdir={finished[0]}", "--predictor=7")
    assert process.returncode == 2
    assert "--predictor '7' is unknown" in process.stderr


def test_a_wrong_argument_of_a_config_file_is_one_line(tmp_path):
    process = run("train", "--config=configs/table2.py:ml1m,deepfn", f"--workdir={tmp_path / 'run'}")
    assert process.returncode == 2
    assert process.stderr.splitlines()[-1].startswith(
        "error: the config's argument 'deepfn' is unknown; did you mean 'deepfm'?"
    )
    assert not (tmp_path / "run").exists()
