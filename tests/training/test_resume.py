"""A run that is killed again and again ends with the metrics of one that never was."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """Starts the same command for any working directory."""
    # Compiled once: the killed runs spend their time training, and find their kill points quickly.
    cache = tmp_path_factory.mktemp("cache")
    environment = os.environ | {
        "JAX_COMPILATION_CACHE_DIR": str(cache),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PLATFORMS": "cpu",
    }
    overrides = {
        "data.synthetic.rows": 6000,
        "data.batch_size": 128,
        "embedding.dim": 4,
        "ensemble.num_students": 3,
        "ensemble.students.mlp.hidden_units": (8,),
        "train.max_epochs": 10,
        "train.patience": 100,
        "train.log_every": 3,
        "train.checkpoint_every": 5,
    }

    def run(workdir):
        command = [sys.executable, "-m", "experiments.train", "--config=configs/quickstart.py"]
        command += [f"--workdir={workdir}", *(f"--config.{key}={value}" for key, value in overrides.items())]
        return subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    return run


def finish(process):
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 0, output


def newest_checkpoint(workdir):
    names = [path.name for path in (workdir / "checkpoints" / "latest").glob("*")]
    return max((int(name) for name in names if name.isdigit()), default=0)


@pytest.fixture(scope="module")
def whole(start, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("resume") / "whole"
    finish(start(workdir))
    return workdir


@pytest.mark.parametrize("kills", [2, pytest.param(10, marks=pytest.mark.long)])
def test_kills_change_nothing(start, whole, tmp_path, kills):
    killed = tmp_path / "killed"
    rng = random.Random(0)
    points = []
    for _ in range(kills):
        process = start(killed)
        before = newest_checkpoint(killed)
        deadline = time.monotonic() + 120
        while newest_checkpoint(killed) == before and process.poll() is None:
            assert time.monotonic() < deadline, "no checkpoint"
            time.sleep(0.005)
        time.sleep(rng.uniform(0, 0.3))
        assert process.poll() is None, f"finished after {len(points)} kills: make the run longer"
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        points.append(newest_checkpoint(killed))
    assert len(set(points)) == kills
    assert not (killed / "result.json").exists()

    finish(start(killed))
    expected, actual = (json.loads((workdir / "result.json").read_text()) for workdir in (whole, killed))
    for key in ("valid", "test", "best_epoch", "epochs", "params", "config"):
        assert actual[key] == expected[key]
    assert (killed / "metrics.jsonl").read_text() == (whole / "metrics.jsonl").read_text()
