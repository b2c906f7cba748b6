import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from configs import base, section4
from ektf_jax import files
from ektf_jax.config import Config, DataConfig
from ektf_jax.data import encoded, synthetic
from ektf_jax.errors import InputError
from ektf_jax.runs import sweep
from ektf_jax.training import record
from tests import commands

ROOT = Path(__file__).resolve().parents[2]
RUNS = {name: Config() for name in ("a/one", "a/two", "b")}


def finish(directory, name, seconds=1.0):
    (directory / name).mkdir(parents=True, exist_ok=True)
    (directory / name / "result.json").write_text(json.dumps({"wall_seconds": seconds}))


def read(runs):
    return {name: Config.from_dict(run) for name, run in runs.items()}


@pytest.fixture
def reports():
    return []


def test_finished_runs_are_skipped_and_a_failure_does_not_stop_the_rest(tmp_path, reports):
    finish(tmp_path, "a/one")
    trained = []

    def train(name):
        trained.append(name)
        if name == "a/two":
            return "exit status 9"
        finish(tmp_path, name)
        return None

    assert sweep.work(RUNS, tmp_path, train, report=reports.append) == ["a/two"]
    assert trained == ["a/two", "b"]
    assert json.loads((tmp_path / "a/two/failure.json").read_text())["reason"] == "exit status 9"
    assert "a/two: failed: exit status 9" in reports

    # The next call tries again what failed, and nothing else. Nothing is left of a kill while that was told.
    trained.clear()
    (tmp_path / "a/two/.failure.json.tmp").write_text("{")
    assert sweep.work(RUNS, tmp_path, lambda name: finish(tmp_path, name), report=reports.append) == []
    assert list((tmp_path / "a/two").glob("*failure*")) == []
    assert {run.state for run in sweep.plan(RUNS, tmp_path)} == {"done"}


def test_runs_of_one_recipe_are_trained_together(tmp_path, reports):
    """So many at most, that nobody else has; each is recorded for itself."""
    data = dataclasses.replace(DataConfig(), path="somewhere")
    one = Config(data=data)
    wider = dataclasses.replace(one, ensemble=dataclasses.replace(one.ensemble, num_students=7))
    taught = dataclasses.replace(one, train=dataclasses.replace(one.train, init_from=("wide",)))
    runs = {"a": one, "wide": wider, "b": one, "after": taught, "c": one, "d": one, "e": one, "f": one}
    finish(tmp_path, "c")
    together = []

    def train(*names):
        together.append(names)
        for name in names:
            if name == "b":
                files.write_json(tmp_path / name / "failure.json", {"reason": "its own", "seconds": 1.0})
            elif name != "e":
                finish(tmp_path, name)
        return "exit status 2: of all"

    with sweep.claimed(tmp_path / "d"):
        failed = sweep.work(runs, tmp_path, train, together=3, report=reports.append)
    assert together == [("a", "b", "e"), ("wide",), ("after", "f")]
    assert failed == ["b", "e"]
    assert "b: failed: its own" in reports
    assert "e: failed: exit status 2: of all" in reports


def test_a_run_that_ends_without_a_result_has_failed(tmp_path, reports):
    assert sweep.work(RUNS, tmp_path, lambda name: None, report=reports.append) == list(RUNS)
    assert [run.state for run in sweep.plan(RUNS, tmp_path)] == ["failed"] * 3


def test_a_run_with_its_result_has_not_failed_however_its_process_ended(tmp_path, reports):
    def train(name):
        finish(tmp_path, name)
        return "exit status 134: after the result was written"

    assert sweep.work(RUNS, tmp_path, train, report=reports.append) == []
    assert list(tmp_path.rglob("failure.json")) == []


def test_workers_that_share_a_directory_do_each_run_once(tmp_path, reports):
    runs = {f"run{i}": Config() for i in range(12)}
    trained, lock = [], threading.Lock()

    def train(name):
        with lock:
            trained.append(name)
        time.sleep(0.02)
        finish(tmp_path, name)

    workers = [
        threading.Thread(target=sweep.work, args=(runs, tmp_path, train), kwargs={"report": reports.append})
        for _ in range(4)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert sorted(trained) == sorted(runs)


def test_a_run_that_another_worker_holds_is_left_to_it(tmp_path, reports):
    with sweep.claimed(tmp_path / "b") as mine:
        assert mine
        assert sweep.plan({"b": Config()}, tmp_path)[0].state == "running"
        trained = []
        sweep.work({"b": Config()}, tmp_path, trained.append, report=reports.append)
        assert trained == []
    (tmp_path / "b" / "checkpoints").mkdir()
    assert sweep.plan({"b": Config()}, tmp_path)[0].state == "interrupted"


ORPHAN = """
import pathlib, subprocess, sys, time
from ektf_jax.runs import sweep
with sweep.claimed(pathlib.Path(sys.argv[1])):
    sleep = [sys.executable, "-c", "import time; time.sleep(60)"]
    child = subprocess.Popen(sleep, close_fds=False, stdout=subprocess.DEVNULL)
    print(child.pid, flush=True)
    time.sleep(60)
"""


def test_a_claim_stays_with_the_child_of_a_killed_worker(tmp_path):
    worker = subprocess.Popen(
        [sys.executable, "-c", ORPHAN, str(tmp_path / "b")], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    child = int(worker.stdout.readline())
    worker.kill()
    worker.communicate()
    assert sweep.plan({"b": Config()}, tmp_path)[0].state == "running"
    os.kill(child, signal.SIGKILL)
    deadline = time.monotonic() + 10
    while sweep.plan({"b": Config()}, tmp_path)[0].state == "running":
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_finished_runs_of_other_data_are_refused(tmp_path, tiny_config):
    config = tiny_config()
    config["data"] |= {"path": str(tmp_path / "data"), "synthetic": {}}
    synthetic.prepare(synthetic.SyntheticSpec(rows=40, values=(5, 5), seed=0, order=2), tmp_path / "data")
    finish(tmp_path, "a")
    (tmp_path / "a" / "dataset.json").write_text(
        json.dumps({"schema_sha256": encoded.open_schema(tmp_path / "data").fingerprint})
    )
    sweep.check_data(read({"a": config, "b": config}), tmp_path)
    shutil.rmtree(tmp_path / "data")
    sweep.check_data(read({"a": config}), tmp_path)  # gone data is no other data
    synthetic.prepare(synthetic.SyntheticSpec(rows=40, values=(5, 5), seed=1, order=2), tmp_path / "data")
    with pytest.raises(InputError, match=r"a/dataset\.json: schema_sha256"):
        sweep.check_data(read({"a": config}), tmp_path)


def test_estimates_scale_with_work_from_what_finished_runs_took(tmp_path, tiny_config):
    small, large = tiny_config(), tiny_config()
    large["ensemble"]["num_students"] = 6
    finish(tmp_path, "small", seconds=10.0)
    planned = sweep.plan(read({"small": small, "large": large}), tmp_path)
    assert planned[0] == ("small", "done", 10.0)
    assert planned[1].state == "to do"
    assert planned[1].seconds == pytest.approx(20.0)
    assert sweep.plan(read({"large": large}), tmp_path)[0].seconds is None
    assert not (tmp_path / "large").exists()


def test_every_config_is_checked_before_anything_is_trained(tiny_config):
    broken = tiny_config()
    broken["train"]["patience"] = 0
    with pytest.raises(InputError, match=r"run two: config.train.patience = 0 must be at least 1"):
        sweep.read({"one": tiny_config(), "two": broken})
    with pytest.raises(InputError, match=r"runs is empty.*--grid and --seeds"):
        sweep.read({})


def test_section_4_has_its_tables_and_figures():
    runs = section4.get_config("ml1m").to_dict()["runs"]
    assert len(runs) == 106
    assert {run["data"]["path"] for run in runs.values()} == {"data/ml1m"}
    assert runs["ektf_without_em/latest_k3_s2024"]["transfer"]["ektf"]["examination"] is False
    assert runs["ektf/latest_k3_s2026"]["seed"] == 2026
    configs = [json.dumps(run, sort_keys=True) for run in runs.values()]
    assert len(set(configs)) == len(configs)


@pytest.mark.parametrize("dataset", ["ml1m", "criteo", "kdd12", "ipinyou", "kkbox"])
def test_section_4s_teachers_are_runs_of_it_and_of_the_students_seed(dataset):
    runs = section4.get_config(dataset).to_dict()["runs"]
    taught = {name: run for name, run in runs.items() if run["transfer"]["teachers"]}
    assert len(taught) == 7
    for run in taught.values():
        for teacher in run["transfer"]["teachers"]:
            assert runs[teacher]["seed"] == run["seed"]
            assert runs[teacher]["data"]["path"] == run["data"]["path"]
            assert runs[teacher]["embedding"]["dim"] == run["embedding"]["dim"]
    teacher = runs["dagfm_finetuning/outer_k1_s2024"]["transfer"]["teachers"]
    assert teacher == ("dagfm_distillation/outer_k1_s2024",)
    students = [runs[f"dagfm_{stage}/outer_k1_s2024"]["ensemble"] for stage in ("distillation", "finetuning")]
    assert students[0] == students[1]


NO_DATA = Config.from_dict({"data": {"path": "nowhere"}})  # without which there is no estimate of time


def taught_by(*teachers):
    return Config.from_dict({"data": {"path": "nowhere"}, "transfer": {"teachers": teachers}})


# In the order of a config: by name.
CHAIN = {"a/student": taught_by("b"), "b": taught_by("c", "d"), "c": NO_DATA, "d": NO_DATA}


def test_teachers_are_trained_first(tmp_path, reports):
    trained = []

    def train(name):
        trained.append(name)
        finish(tmp_path, name)

    assert sweep.work(CHAIN, tmp_path, train, report=reports.append) == []
    assert trained == ["c", "d", "b", "a/student"]


def test_a_failing_teacher_blocks_its_students_and_nothing_else(tmp_path, reports):
    trained = []

    def train(name):
        trained.append(name)
        if name == "c":
            return "exit status 1"
        return finish(tmp_path, name)

    assert sweep.work(CHAIN, tmp_path, train, report=reports.append) == ["c"]
    assert trained == ["c", "d"]
    assert "b: blocked: c has no result" in reports
    assert "a/student: blocked: b has no result" in reports
    assert not (tmp_path / "b" / "failure.json").exists()
    states = {run.name: run.state for run in sweep.plan(CHAIN, tmp_path)}
    assert states == {"a/student": "blocked", "b": "blocked", "c": "failed", "d": "done"}

    # It is tried again by the next call, and then its students are trained.
    assert sweep.work(CHAIN, tmp_path, lambda name: finish(tmp_path, name), report=reports.append) == []
    assert {run.state for run in sweep.plan(CHAIN, tmp_path)} == {"done"}


def test_a_student_waits_for_a_teacher_that_another_worker_trains(tmp_path, reports):
    with sweep.claimed(tmp_path / "c"):
        trained = []

        def train(name):
            trained.append(name)
            finish(tmp_path, name)

        sweep.work(CHAIN, tmp_path, train, report=print)
    assert trained == ["d"]
    assert sweep.plan(CHAIN, tmp_path)[0].state == "to do"


def test_workers_that_share_teachers_and_students_do_each_run_once(tmp_path, reports):
    runs = {f"a{i}": taught_by(f"b{i % 2}") for i in range(6)} | {f"b{i}": NO_DATA for i in range(2)}
    trained, lock = [], threading.Lock()

    def train(name):
        with lock:
            trained.append(name)
        assert all((tmp_path / teacher / "result.json").exists() for teacher in runs[name].transfer.teachers)
        time.sleep(0.02)
        finish(tmp_path, name)

    options = {"args": (runs, tmp_path, train), "kwargs": {"report": reports.append}}
    workers = [threading.Thread(target=sweep.work, **options) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert sorted(trained) == sorted(runs)
    assert not any("blocked" in line for line in reports)


def test_teachers_become_paths_from_the_students_directory():
    found = sweep.located(
        {"a/b/student": taught_by("a/teacher", "c"), "a/teacher": NO_DATA, "c": NO_DATA}, "a/b/student"
    )
    assert found.transfer.teachers == ("../../teacher", "../../../c")


def test_teachers_that_are_no_runs_and_circles_are_refused(tiny_config):
    def taught(teacher):
        config = tiny_config()
        config["ensemble"]["num_students"] = 1
        config["transfer"] |= {"name": "eckd", "teachers": (teacher,)}
        return config

    with pytest.raises(InputError, match=r"run two: config.transfer.teachers 'on' .*did you mean 'one'"):
        sweep.read({"one": tiny_config(), "two": taught("on")})
    with pytest.raises(InputError, match=r"these runs learn from each other: \w+ <- \w+ <- \w+"):
        sweep.read({"one": taught("two"), "two": taught("one")})


CONFIG = """
import copy

import ml_collections

from configs import quickstart


def get_config():
    run = quickstart.get_config()
    run.data.synthetic = ml_collections.ConfigDict({"rows": 2000, "values": (40, 20, 5)})
    run.data.batch_size = 64
    run.embedding.dim = 4
    run.ensemble.students.mlp.hidden_units = (8,)
    run.train.max_epochs = 1
    run.ensemble.num_students = 1
    missing = copy.deepcopy(run)
    missing.data.path = "nowhere"
    student = copy.deepcopy(run)
    student.transfer.name = "eckd"
    student.transfer.teachers = ("group/good",)
    blocked = copy.deepcopy(student)
    blocked.transfer.teachers = ("group/missing",)
    runs = {"group/good": run, "group/missing": missing, "a": student, "blocked": blocked}
    return ml_collections.ConfigDict({"runs": runs})
"""


def test_the_command_line_trains_reports_failures_and_lists(tmp_path):
    (tmp_path / "runs.py").write_text(CONFIG)

    def run(*more):
        return commands.run(
            "experiments.sweep", f"--config={tmp_path / 'runs.py'}", f"--workdir={tmp_path / 'out'}", *more
        )

    first = run()
    assert first.returncode == 1, first.stderr
    assert (tmp_path / "out/group/good/result.json").exists()
    taught = json.loads((tmp_path / "out/a/result.json").read_text())
    assert taught["config"]["transfer"]["teachers"] == ["../group/good"]
    assert not (tmp_path / "out/blocked").exists()
    failure = json.loads((tmp_path / "out/group/missing/failure.json").read_text())
    assert "exit status 2: error: nowhere: no such directory" in failure["reason"]
    assert "failed here: group/missing" in first.stdout
    assert "nowhere: no such directory" in (tmp_path / "out/group/missing/stderr.log").read_text()
    unknown = run("--only=group/god")
    assert (unknown.returncode, unknown.stdout) == (2, "")
    assert unknown.stderr.startswith("error: --only is 'group/god'; the sweep has a, blocked, group/good")
    listed = run("--list")
    assert (listed.returncode, listed.stderr) == (0, "")
    assert "group/good" in listed.stdout
    assert "2 of 4 done" in listed.stdout
    assert "blocked        blocked" in listed.stdout


# --- a finished run is the run that was asked for


def finish_as(directory, name, config, **more):
    (directory / name).mkdir(parents=True, exist_ok=True)
    result = {"config": config, "wall_seconds": 1.0, "dataset": {"source": {"spec": SPEC}}} | more
    (directory / name / "result.json").write_text(json.dumps(result))


SPEC = synthetic.settings(synthetic.SyntheticSpec(rows=2000, values=(40, 20, 5), max_lens=(1, 1, 3)))


@pytest.mark.parametrize(
    ("group", "key", "value", "said"),
    [
        ("train", "learning_rate", 0.002, "train.learning_rate: 0.002 there, 0.001 now"),
        ("embedding", "l2", 0.5, "embedding.l2: 0.5 there, 1e-05 now"),
        (None, "seed", 7, "seed: 7 there, 2024 now"),
        ("ensemble", "num_students", 4, "ensemble.num_students: 4 there, 3 now"),
        ("ensemble", "matmul_dtype", "bfloat16", "ensemble.matmul_dtype: 'bfloat16' there, 'float32' now"),
        ("ensemble", "students", {"a": {"name": "mlp", "dropout": 0.5}}, "a.dropout: 0.5 there, absent now"),
        ("transfer", "name", "dml", "transfer.name: 'dml' there, 'ektf' now"),
    ],
)
def test_a_finished_run_of_another_config_is_refused(tmp_path, tiny_config, reports, group, key, value, said):
    config, other = tiny_config(), tiny_config()
    (other if group is None else other[group])[key] = value
    finish_as(tmp_path, "a/one", config)
    finish_as(tmp_path, "b", other)
    runs = read({"a/one": config, "b": config, "c": config})
    trained = []
    for ask in (
        lambda: sweep.plan(runs, tmp_path),
        lambda: sweep.work(runs, tmp_path, trained.append, report=reports.append),
    ):
        with pytest.raises(
            InputError, match=rf"^run b: {tmp_path / 'b'} holds a run of another config"
        ) as error:
            ask()
        assert said in str(error.value)
    assert trained == []
    sweep.check_finished(read({"a/one": config, "c": other}), tmp_path)


def test_where_a_run_was_computed_and_what_its_method_does_not_read_is_no_difference(tmp_path, tiny_config):
    config, other = tiny_config(), tiny_config()
    other["train"] |= {"log_every": 1, "checkpoint_every": 2}
    other["mesh"]["data"] = 8
    other["ensemble"]["stack"] = "vmap"
    other["transfer"]["dml"]["stop_gradient"] = False
    other["ensemble"]["students"]["mlp"]["dropout"] = 0.1  # the default, written out
    finish_as(tmp_path, "a", other)
    assert sweep.plan(read({"a": config}), tmp_path)[0].state == "done"


def test_a_taught_runs_teachers_are_compared_where_they_are(tmp_path, tiny_config):
    config = tiny_config()
    taught = tiny_config()
    taught["ensemble"]["num_students"] = 1
    taught["transfer"] |= {"name": "eckd", "teachers": ("x/one",)}
    evaluated = {"ensemble": {"auc": 0.5, "logloss": 0.7}, "students": []}
    finish_as(tmp_path, "x/one", config, best_epoch=1, valid=evaluated, test=evaluated)
    there = {**taught, "transfer": {**taught["transfer"], "teachers": ["../../x/one"]}}
    finish_as(tmp_path, "y/taught", there | {"transfer": there["transfer"] | {"teachers": ["../x/one"]}})
    with pytest.raises(
        InputError, match=r"run y/taught: .*teachers: .*\['../x/one'\] there, \['../../x/one'\] now"
    ):
        sweep.check_finished(read({"x/one": config, "y/taught": taught}), tmp_path)
    finish_as(tmp_path, "y/taught", there)
    sweep.check_finished(read({"x/one": config, "y/taught": taught}), tmp_path)


def test_the_committed_results_are_the_runs_of_section_4():
    runs = section4.get_config("ml1m").to_dict()["runs"]
    committed = ROOT / "results" / "ml1m"
    assert sum((committed / name / "result.json").exists() for name in runs) > 90
    # In one point some are not, as results/README.md says: FINAL(1B)'s gates started at 1.
    as_in_configs = ("alone/final1b", "ektf/latest_k3", "ektf_only_kd/latest_k3", "mean/latest_k3")
    for name, run in runs.items():
        for student in run["ensemble"]["students"].values():
            if student["name"] == "final" and not name.startswith(as_in_configs):
                student["gate_init"] = "ones"
    sweep.check_finished(read(runs), committed)


def test_each_result_is_read_once_to_compare_it(tmp_path, monkeypatch):
    """A sweep can have thousands of finished runs."""
    names = []

    def counted(path, *shape):
        names.append(path.name)
        return files.read_json(path, *shape)

    for module in (sweep, record):
        monkeypatch.setattr(module, "read_json", counted)
    asked = base.get_config().to_dict()
    asked["data"]["path"] = "data"
    runs = read({"a": asked, "b": asked})
    for name, config in runs.items():
        students = record.students_in_full(config)
        (tmp_path / name).mkdir()
        files.write_json(
            tmp_path / name / "result.json", {"config": config.to_dict(), "students": students, "dataset": {}}
        )
    sweep.check_finished(runs, tmp_path)
    assert names == ["result.json", "result.json"]
