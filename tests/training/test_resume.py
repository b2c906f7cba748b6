"""A run that is killed again and again ends with the metrics of one that never was."""

import json
import multiprocessing
import os
import random
import signal
import time

import pytest

from configs import quickstart
from ektf_jax.training import loop


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """Starts a process that trains the same run in any working directory."""
    config = quickstart.get_config()
    config.update_from_flattened_dict(
        {
            "data.synthetic.rows": 6000,
            "data.batch_size": 128,
            "embedding.dim": 4,
            "ensemble.num_students": 3,
            "ensemble.students.mlp.hidden_units": (8,),
            "train.patience": 100,
            "train.log_every": 3,
            "train.checkpoint_every": 5,
        }
    )
    # Processes of a server that has imported what trains, and has trained nothing. It has the cache of
    # programs: killed runs spend their time training, and find their kill points quickly.
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload([loop.__name__])
    with pytest.MonkeyPatch.context() as patch:
        if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
            patch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
            patch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
        patch.setenv("JAX_PLATFORMS", "cpu")

        def run(workdir, epochs):
            config.train.max_epochs = epochs
            process = processes.Process(target=loop.train, args=(config.to_dict(), workdir))
            process.start()
            return process

        yield run


def finish(process):
    process.join(600)
    assert process.exitcode == 0


def newest_checkpoint(workdir):
    names = [path.name for path in (workdir / "checkpoints" / "latest").glob("*")]
    return max((int(name) for name in names if name.isdigit()), default=0)


@pytest.mark.parametrize(("kills", "epochs"), [(2, 6), pytest.param(10, 10, marks=pytest.mark.long)])
def test_kills_change_nothing(start, tmp_path, kills, epochs):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    finish(start(whole, epochs))
    rng = random.Random(0)
    points = []
    for _ in range(kills):
        process = start(killed, epochs)
        before = newest_checkpoint(killed)
        deadline = time.monotonic() + 120
        while newest_checkpoint(killed) == before and process.is_alive():
            assert time.monotonic() < deadline, "no checkpoint"
            time.sleep(0.005)
        time.sleep(rng.uniform(0, 0.3))
        assert process.is_alive(), f"finished after {len(points)} kills: make the run longer"
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        points.append(newest_checkpoint(killed))
    assert len(set(points)) == kills
    assert not (killed / "result.json").exists()

    finish(start(killed, epochs))
    expected, actual = (json.loads((workdir / "result.json").read_text()) for workdir in (whole, killed))
    for key in ("valid", "test", "best_epoch", "epochs", "params", "config"):
        assert actual[key] == expected[key]
    assert (killed / "metrics.jsonl").read_text() == (whole / "metrics.jsonl").read_text()
