import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from configs import base, section4
from ektf_jax.errors import InputError
from ektf_jax.training import sweep

ROOT = Path(__file__).resolve().parents[2]
RUNS = {name: {} for name in ("a/one", "a/two", "b")}


def finish(directory, name, seconds=1.0):
    (directory / name).mkdir(parents=True, exist_ok=True)
    (directory / name / "result.json").write_text(json.dumps({"wall_seconds": seconds}))


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

    # The next call tries again what failed, and nothing else.
    trained.clear()
    assert sweep.work(RUNS, tmp_path, lambda name: finish(tmp_path, name), report=reports.append) == []
    assert not (tmp_path / "a/two/failure.json").exists()
    assert {run.state for run in sweep.plan(RUNS, tmp_path)} == {"done"}


def test_a_run_that_ends_without_a_result_has_failed(tmp_path, reports):
    assert sweep.work(RUNS, tmp_path, lambda name: None, report=reports.append) == list(RUNS)
    assert [run.state for run in sweep.plan(RUNS, tmp_path)] == ["failed"] * 3


def test_workers_that_share_a_directory_do_each_run_once(tmp_path, reports):
    runs = {f"run{i}": {} for i in range(12)}
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
        assert sweep.plan({"b": {}}, tmp_path)[0].state == "running"
        trained = []
        sweep.work({"b": {}}, tmp_path, trained.append, report=reports.append)
        assert trained == []
    (tmp_path / "b" / "checkpoints").mkdir()
    assert sweep.plan({"b": {}}, tmp_path)[0].state == "interrupted"


def test_estimates_scale_with_work_from_what_finished_runs_took(tmp_path, tiny_config):
    small, large = tiny_config(), tiny_config()
    large["ensemble"]["num_students"] = 6
    finish(tmp_path, "small", seconds=10.0)
    planned = sweep.plan({"small": small, "large": large}, tmp_path)
    assert planned[0] == ("small", "done", 10.0)
    assert planned[1].state == "to do"
    assert planned[1].seconds == pytest.approx(20.0)
    assert sweep.plan({"large": large}, tmp_path)[0].seconds is None
    assert not (tmp_path / "large").exists()


def test_every_config_is_checked_before_anything_is_trained(tiny_config):
    broken = tiny_config()
    broken["train"]["patience"] = 0
    with pytest.raises(InputError, match=r"run two: config.train.patience = 0 must be at least 1"):
        sweep.check({"one": tiny_config(), "two": broken}, base.get_config().to_dict())
    with pytest.raises(InputError, match="runs is empty"):
        sweep.check({}, base.get_config().to_dict())


def test_section_4_has_its_tables_and_figures():
    runs = section4.get_config("ml1m").to_dict()["runs"]
    assert len(runs) == 97
    assert {run["data"]["path"] for run in runs.values()} == {"data/ml1m"}
    assert runs["ektf_without_em/latest_k3_s2024"]["transfer"]["ektf"]["examination"] is False
    assert runs["ektf/latest_k3_s2026"]["seed"] == 2026
    configs = [json.dumps(run, sort_keys=True) for run in runs.values()]
    assert len(set(configs)) == len(configs)


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
    missing = copy.deepcopy(run)
    missing.data.path = "nowhere"
    return ml_collections.ConfigDict({"runs": {"group/good": run, "group/missing": missing}})
"""


def test_the_command_line_trains_reports_failures_and_lists(tmp_path):
    (tmp_path / "runs.py").write_text(CONFIG)

    def run(*more):
        command = [sys.executable, "-m", "experiments.sweep", f"--config={tmp_path / 'runs.py'}"]
        return subprocess.run(
            [*command, f"--workdir={tmp_path / 'out'}", *more], cwd=ROOT, capture_output=True, text=True
        )

    first = run()
    assert first.returncode == 1, first.stderr
    assert (tmp_path / "out/group/good/result.json").exists()
    failure = json.loads((tmp_path / "out/group/missing/failure.json").read_text())
    assert "exit status 2: error: nowhere: no such directory" in failure["reason"]
    assert "failed here: group/missing" in first.stdout
    assert run("--only=group/god").returncode == 2
    listed = run("--list")
    assert listed.returncode == 0
    assert "group/good" in listed.stdout
    assert "1 of 2 done" in listed.stdout
