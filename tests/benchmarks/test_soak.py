"""Training for long with kills, in small: `python -m benchmarks.soak` does hours."""

import sys
import time

import pytest

from benchmarks import soak
from benchmarks.page import sections

MACHINE = {"cpu": "toy", "cores": 2, "memory_gib": 8.0, "load_before": 0.1}
# Stands in for a run: a line per epoch, five in all, and it goes on where it was killed.
RUN = """
import pathlib, sys, time
workdir = pathlib.Path(sys.argv[1])
workdir.mkdir(exist_ok=True)
for _ in range(workdir.joinpath("metrics.jsonl").read_text().count("\\n") if
               workdir.joinpath("metrics.jsonl").exists() else 0, 5):
    time.sleep(1.5)
    with (workdir / "metrics.jsonl").open("a") as file:
        file.write("{}\\n")
time.sleep(2)
(workdir / "result.json").write_text("{}")
"""


@pytest.mark.slow
def test_a_run_is_killed_and_goes_on_to_its_end(tmp_path):
    lives = soak.soak([sys.executable, "-c", RUN, str(tmp_path / "run")], tmp_path / "run", 5)
    assert lives[-1][-1] == {**lives[-1][-1], "epoch": 5, "killed": False}
    assert len(lives) > 1
    assert all(life[-1]["killed"] for life in lives[:-1])
    epochs = [seen["epoch"] for life in lives for seen in life if "killed" not in seen]
    assert epochs == sorted(set(epochs))
    assert set(epochs) <= {1, 2, 3, 4, 5}
    assert all(0 < seen["memory"] < 1 for life in lives for seen in life if "killed" not in seen)
    # Called again, it says the same and starts nothing.
    began = time.monotonic()
    assert soak.soak(["false"], tmp_path / "run", 5) == lives
    assert time.monotonic() - began < 1


def test_a_run_that_fails_is_said(tmp_path):
    with pytest.raises(SystemExit, match="status 1"):
        soak.soak([sys.executable, "-c", "raise SystemExit(1)"], tmp_path / "run", None)


def test_throughput_is_of_whole_epochs_within_a_process():
    lives = [
        [
            {"epoch": 1, "memory": 9.0, "cpu": 50.0, "seconds": 40.0},  # compiles
            {"epoch": 2, "memory": 2.0, "cpu": 60.0, "seconds": 45.0},
            {"epoch": 2, "memory": 8.0, "cpu": 61.0, "seconds": 46.0, "killed": True},
        ],
        [
            {"epoch": 3, "memory": 9.0, "cpu": 50.0, "seconds": 40.0},
            {"epoch": 4, "memory": 2.5, "cpu": 70.0, "seconds": 50.0},
            {"epoch": 5, "memory": 2.6, "cpu": 75.0, "seconds": 60.0},
            {"epoch": 5, "memory": 1.0, "cpu": 80.0, "seconds": 62.0, "killed": False},
        ],
    ]
    found = soak.described(lives, 1000)
    assert found == {
        "hours": 0.03,
        "processes": 2,
        "kills": 1,
        "whole_epochs": 3,
        "memory_gb": [2.0, 2.5, 2.6],
        "samples_per_cpu_second": [100, 50, 200],
        "samples_per_second": [200, 100, 100],
    }
    result = {"machine": MACHINE, "versions": {"jax": "1"}, "rows": 10, "train_rows": 8, "epochs": 5}
    page = sections.SECTIONS["soak"](result | {"same_bits": True, "runs": {"killed": found}})
    assert [cell.text for cell in page[-1].rows[0]] == [
        "killed",
        "0.03",
        "1",
        "2.0, 2.5, 2.6",
        "100, 50, 200",
        "200, 100, 100",
    ]
    assert "The two left the same bits" in page[1].text
