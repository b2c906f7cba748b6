"""Ctrl-C and SIGTERM: a run is saved, says where it stopped, and goes on to the same bits."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from ektf_jax.training import loop, stopping
from tests.training.listening import at_evaluation, before_step

ROOT = Path(__file__).resolve().parents[2]
TIMINGS = ("train_samples_per_second", "input_wait", "compile_seconds", "wall_seconds")


def without_timings(result):
    return {key: value for key, value in json.loads(json.dumps(result)).items() if key not in TIMINGS}


@pytest.fixture(scope="module")
def config(tiny_config):
    made = tiny_config(max_epochs=3)
    made["data"]["batch_size"] = 64  # no short batch: a step compiles once
    return made


@pytest.fixture(scope="module")
def whole(tmp_path_factory, config):
    workdir = tmp_path_factory.mktemp("stopping") / "whole"
    return workdir, loop.train(config, workdir)


def in_a_step(number, after):
    """Sends this process a signal while it takes the step after so many."""
    return before_step(after, lambda: signal.raise_signal(number))


def in_the_first_evaluation(number, after):
    return at_evaluation(1, lambda: signal.raise_signal(number))


@pytest.mark.parametrize(
    ("send", "after", "number", "step", "epoch"),
    [
        (in_a_step, 32, signal.SIGINT, 33, 2),
        # whose checkpoint is due anyway, and an epoch's last, whose checkpoint is due anyway too
        pytest.param(in_a_step, 39, signal.SIGTERM, 40, 2, marks=pytest.mark.long),
        pytest.param(in_a_step, 49, signal.SIGINT, 50, 2, marks=pytest.mark.slow),
        (in_the_first_evaluation, 25, signal.SIGTERM, 25, 1),
    ],
)
def test_a_run_stops_where_it_is_saved_and_goes_on_to_the_same_bits(
    whole, tmp_path, config, send, after, number, step, epoch
):
    workdir = tmp_path / "run"
    before = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(stopping.Stopped) as stopped:
        loop.train(config, workdir, [send(number, after)])
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == before
    said = f"{workdir}: stopped after step {step}, in epoch {epoch}, which is saved; the same command goes on"
    assert str(stopped.value) == said
    assert stopped.value.status == 128 + number
    assert (workdir / "checkpoints" / "latest" / str(step)).is_dir()
    assert not (workdir / "result.json").exists()
    assert without_timings(loop.train(config, workdir)) == without_timings(whole[1])
    assert (workdir / "metrics.jsonl").read_text() == (whole[0] / "metrics.jsonl").read_text()


def test_a_second_ctrl_c_does_not_wait_and_a_second_sigterm_changes_nothing():
    with stopping.requests() as requested:
        assert requested() == 0
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        assert requested() == signal.SIGTERM
        signal.raise_signal(signal.SIGINT)
        assert requested() == signal.SIGTERM, "the first one"
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_other_threads_train_without_being_asked():
    found = []

    def work():
        with stopping.requests() as requested:
            found.append(requested())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [0]


OVERRIDES = {
    "data.synthetic.rows": 6000,
    "data.batch_size": 64,
    "embedding.dim": 4,
    "ensemble.num_students": 1,
    "ensemble.students.mlp.hidden_units": (8,),
    "train.max_epochs": 1000,
    "train.patience": 1000,
    "train.checkpoint_every": 5,
}


def start(module, *arguments):
    return subprocess.Popen(
        [sys.executable, "-m", f"experiments.{module}", *arguments],
        cwd=ROOT,
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for_a_checkpoint(process, workdir):
    deadline = time.monotonic() + 200
    while not list(workdir.glob("checkpoints/latest/[0-9]*")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "no checkpoint"
        time.sleep(0.05)


def stop(process, number, status):
    """The lines about it on stderr."""
    process.send_signal(number)
    _, errors = process.communicate(timeout=200)
    assert process.returncode == status, errors
    return [line for line in errors.splitlines() if "stopped" in line]


def newest(workdir):
    names = [path.name for path in (workdir / "checkpoints" / "latest").iterdir()]
    return max(int(name) for name in names if name.isdigit())


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 143, marks=pytest.mark.long)]
)
def test_the_command_line_says_one_line_and_exits_as_the_shell_has_it(tmp_path, number, status):
    workdir = tmp_path / "run"
    overrides = [f"--config.{key}={value}" for key, value in OVERRIDES.items()]
    process = start("train", "--config=configs/quickstart.py", f"--workdir={workdir}", *overrides)
    wait_for_a_checkpoint(process, workdir)
    (line,) = stop(process, number, status)
    assert line.startswith(f"{workdir}: stopped after step {newest(workdir)}, in epoch ")


SWEEP = f"""
import ml_collections

from configs import quickstart


def get_config():
    run = quickstart.get_config()
    run.update_from_flattened_dict({OVERRIDES})
    return ml_collections.ConfigDict({{"runs": {{"a": run, "b": run}}}})
"""


@pytest.mark.slow
def test_a_sweep_stops_its_run_and_says_so(tmp_path):
    (tmp_path / "runs.py").write_text(SWEEP)
    process = start("sweep", f"--config={tmp_path / 'runs.py'}", f"--workdir={tmp_path / 'out'}")
    workdir = tmp_path / "out" / "a"
    wait_for_a_checkpoint(process, workdir)
    (line,) = stop(process, signal.SIGINT, 130)
    assert line.startswith(f"{workdir}: stopped after step {newest(workdir)}, in epoch ")
    assert not (workdir / "failure.json").exists(), "that is no failure"
    assert not (tmp_path / "out" / "b").exists(), "the next one was not begun"
