"""The check of an accelerator, on the CPU: its parts, what a cut leaves, and what the page makes of it."""

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks import accelerator, common, page, peaks, scale
from benchmarks.accelerator import collect, correctness, processes
from ektf_jax.errors import InputError
from ektf_jax.students import REGISTRY

ROOT = Path(__file__).resolve().parents[2]
ANSWERS = """
import json, sys, time
print("a library's chatter")
print(json.dumps({"ready": 1}), flush=True)
for line in sys.stdin:
    time.sleep(0 if line.strip() == "quick" else 60)
    print(json.dumps({"found": line.strip()}), flush=True)
"""
MACHINE = {"cpu": "toy", "cores": 2, "memory_gib": 8.0, "load_before": 0.1, "smoke": False, "gpu": "toy"}


def spread(seconds):
    return {"median": seconds, "min": seconds, "max": seconds, "count": 3}


def step(case, precision, seconds, **found):
    timed = {
        "batch_size": 4096,
        "seconds": spread(3 * seconds),
        "row_seconds": spread(2 * seconds),
        "device_seconds": spread(seconds),
        "compiler_flops": 1e9,
    }
    return {"case": case, "precision": precision, "side": "ours", "variant": "vmap"} | timed | found


def records():
    """What a run on an H100 may find."""
    ready = {"device": "NVIDIA H100 80GB HBM3", "platform": "gpu", "versions": {"jax": "1"}, "ready": 3}
    checked = dict.fromkeys(("losses", "gradients", "logits", "logloss", "drift"), 1e-07)
    peer = {"case": "ml1m:2", "precision": "tf32", "side": "peer"}
    result = {
        "seed": 2024,
        "epochs": 9,
        "train_samples_per_second": 1e6,
        "input_wait": 0.5,
        "dataset": {"name": "ml1m", "source": {"made": "elsewhere"}},
        "test": {"ensemble": {"auc": 0.9, "logloss": 0.3}},
    }
    return [
        {"part": "machine", **MACHINE},
        {"part": "correctness", "case": "mlp", "passed": True, **checked},
        {"part": "correctness", "case": "afn", "passed": False, "error": "out of memory"},
        {"part": "ready", **ready},
        {"part": "rates", "float32": 5e13, "tf32": 4e14, "bfloat16": 8e14, "bytes": 3e12},
        {"part": "step", **step("ml1m:2", "tf32", 0.0005)},
        {"part": "step", **peer, "variant": "eager", "seconds": spread(0.006), "row_seconds": 0.005},
        {"part": "step", **peer, "variant": "compiled", "error": "no answer"},
        {
            "part": "together",
            "case": "ml1m:2",
            "runs": 4,
            "as_one": 1,
            "seconds": 9.5,
            "samples_per_second": 3e6,
        },
        {"part": "together", "case": "ml1m:2", "runs": 4, "as_one": 4, "error": "late"},
        {"part": "profile", "kernels": [["gemm", 0.25]], "all_ms": 0.4, "lines": []},
        {"part": "run", "run": "mlp_k2", "seconds": 20.0, "result": result},
        {
            "part": "tests",
            "seconds": 60,
            "tests": 200,
            "failures": 1,
            "errors": 0,
            "skipped": 3,
            "failed": [],
        },
        {"part": "end", "failures": ["correctness"]},
    ]


def write(directory, lines, torn=""):
    text = "".join(json.dumps(line) + "\n" for line in lines) + torn
    (directory / "accelerator.jsonl").write_text(text)


def test_every_student_is_compared_with_the_cpu():
    used = set()
    for case in accelerator.CHECKED:
        config, _ = correctness.settings(case, 8, smoke=True)
        used |= {student["name"] for student in config.ensemble.students.values()}
    assert used == set(REGISTRY)


def test_a_device_that_computes_something_else_does_not_pass(monkeypatch):
    assert correctness.check("lr", 32, smoke=True)["passed"]
    real = correctness.prepare

    def wrong(config, schema, device, stack):
        if stack == "vmap":
            config = replace(config, embedding=replace(config.embedding, l2=0.1))
        return real(config, schema, device, stack)

    monkeypatch.setattr(correctness, "prepare", wrong)
    found = correctness.check("lr", 32, smoke=True)
    assert not found["passed"]
    assert found["gradients"] > correctness.BOUND


def test_apart_is_relative_over_a_whole_tree():
    one, other = (
        {"a": np.array([3.0, 0.0]), "b": np.array(4.0)},
        {"a": np.array([3.0, 0.0]), "b": np.array(4.5)},
    )
    assert correctness.apart(other, one) == pytest.approx(0.1)
    assert correctness.apart({}, {}) == 0


def test_a_worker_answers_and_a_silent_one_is_ended(tmp_path):
    with (tmp_path / "log.txt").open("w") as log:
        worker = processes.Worker(["-c", ANSWERS], log)
        assert worker.answer(30) == {"ready": 1}
        assert worker.ask("quick", 30) == {"found": "quick"}
        started = time.monotonic()
        assert "no answer within 1 s" in worker.ask("slow", 1)["error"]
        assert time.monotonic() - started < 20
        assert worker.process.poll() is not None
        assert "gone" in worker.ask("quick", 30)["error"]


def test_a_part_that_takes_too_long_is_stopped_and_one_that_fails_is_told(tmp_path):
    with (tmp_path / "log.txt").open("w") as log:
        assert processes.ended([sys.executable, "-c", "pass"], log, 60) is None
        assert "ended with 3" in str(processes.ended([sys.executable, "-c", "raise SystemExit(3)"], log, 60))
        slow = [sys.executable, "-c", "import time; time.sleep(60)"]
        assert processes.ended(slow, log, 0.5) == "stopped after 0 s"


def test_records_are_written_as_they_come_and_failures_are_known(tmp_path):
    made = processes.Records(tmp_path / "accelerator.jsonl", time.monotonic())
    made.add("step", seconds=1)
    made.add("correctness", case="mlp", passed=False)
    assert [line["part"] for line in collect.read(tmp_path / "accelerator.jsonl")] == ["step", "correctness"]
    made.add("tests", failed=[{"test": "t"}])
    made.add("run", error="stopped")
    assert made.failures == ["correctness", "tests", "run"]


def test_outcomes_of_tests(tmp_path):
    report = tmp_path / "report.xml"
    report.write_text(
        '<testsuites><testsuite tests="3" failures="1" errors="0" skipped="1">'
        '<testcase classname="tests.a" name="fine"/><testcase classname="tests.a" name="bad">'
        '<failure message="1 is not 2">...</failure></testcase></testsuite></testsuites>'
    )
    found = processes.outcomes(report)
    assert (found["tests"], found["failures"], found["skipped"]) == (3, 1, 1)
    assert found["failed"] == [{"test": "tests.a::bad", "message": "1 is not 2"}]


def test_the_page_has_what_a_device_found(tmp_path, monkeypatch):
    write(tmp_path, records())
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(common, "RESULTS", tmp_path / "results")
    (tmp_path / "results").mkdir()
    collect.main(["collect", str(tmp_path)])
    (file,) = (tmp_path / "results").iterdir()
    assert file.name == "accelerator_nvidia_h100_80gb_hbm3.json"
    need = scale.needs("ml1m", 2)
    floor = max(need.flops / 494.7e12, need.bytes_moved() / 3.35e12)
    (found, *_) = json.loads(file.read_text())["steps"]
    assert found["floor_seconds"] == pytest.approx(floor)
    page.write()
    text = (tmp_path / "results" / "README.md").read_text()
    assert "## On NVIDIA H100 80GB HBM3" in text
    share = f"{floor / 0.0005:.0%}"
    row = "| ML-1M, K=2 | tf32 | vmap | 0.500 | 1.000 | 1.500 | 8,192,000 | 5.000 (5.00) |  |"
    assert f"{row} {need.flops / 0.0005 / 1e12:,.1f} | {share} (" in text
    assert "| mlp | 1.0e-07 |" in text
    assert "| afn | out of memory |" in text
    assert "| mlp_k2 | 20 | 9 | 1,000,000 | 50% | 0.9000 |  |" in text
    assert "Of 200 tests on the device 1 failed and 3 were skipped" in text
    assert "| ML-1M, K=2 | 4 | in turns | 3,000,000 | 9.5 |" in text
    assert "| ml1m:2 |  | late |" in text
    assert "| gemm | 0.2500 |" in text
    assert "Not measured yet: ml1m:10 in tf32, ml1m:1 in tf32," in text
    assert "ml1m:2 in tf32" not in text


@pytest.fixture
def page_of(tmp_path, monkeypatch):
    """The page of records, which may end in a torn line."""

    def made(lines, torn=""):
        write(tmp_path, lines, torn)
        monkeypatch.chdir(ROOT)
        monkeypatch.setattr(common, "RESULTS", tmp_path)
        collect.main(["collect", str(tmp_path)])
        page.write()
        return (tmp_path / "README.md").read_text()

    return made


def test_a_cut_run_leaves_a_page(page_of):
    text = page_of(records()[:6], torn='{"part": "st')
    assert "run mlp_k2, run mlp_k10, run latest_k3, tests, profile." in text
    assert "| ML-1M, K=2 | tf32 | vmap | 0.500 |" in text


def test_whole_runs_alone_have_a_page(page_of):
    """What they ran on and with is in their results."""
    result = json.loads((ROOT / "results/ml1m/ektf/mlp_k2_s2024/result.json").read_text())
    run = {"part": "run", "run": "mlp_k2", "seconds": 9, "result": result | {"device": "NVIDIA H200"}}
    text = page_of([{"part": "machine", **MACHINE}, run])
    assert "## On NVIDIA H200" in text
    assert "Not measured yet: steps, correctness of" in text
    assert "### Steps" not in text


def test_of_several_sittings_the_last_measurement_counts_and_an_error_after_it_does_not():
    first, step_again = records(), {"part": "step", **step("ml1m:2", "tf32", 0.0004)}
    failed = {"part": "correctness", "case": "mlp", "passed": False, "error": "out of memory"}
    found = collect.gather([*first, step_again, failed])
    assert len(found["steps"]) == 3
    assert found["steps"][0]["device_seconds"]["median"] == 0.0004
    assert {case["case"]: case["passed"] for case in found["correctness"]} == {"mlp": True, "afn": False}


def test_the_same_run_on_a_cpu_stands_beside_a_run(monkeypatch):
    monkeypatch.chdir(ROOT)
    cpu = json.loads(Path("results/ml1m/ektf/mlp_k2_s2024/result.json").read_text(encoding="utf-8"))
    run = {"run": "mlp_k2", "result": cpu}
    assert collect.beside_cpu(run)["cpu"]["test"] == cpu["test"]
    other = cpu | {"dataset": cpu["dataset"] | {"source": {}}}
    assert "cpu" not in collect.beside_cpu({"run": "mlp_k2", "result": other})


def test_what_cannot_be_collected_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"accelerator\.jsonl: missing; run `bash"):
        collect.main(["collect", str(tmp_path)])
    write(tmp_path, [{"part": "machine", **MACHINE}])
    with pytest.raises(InputError, match="its device is unknown"):
        collect.main(["collect", str(tmp_path)])
    write(tmp_path, [line | {"smoke": True} for line in records()])
    with pytest.raises(InputError, match="a smoke test"):
        collect.main(["collect", str(tmp_path)])


def test_public_rates_are_those_of_scale_on_paper():
    (h100,) = [device for device in scale.DEVICES if device.name == "H100 SXM"]
    assert (h100.flops, h100.bandwidth) == (494.7e12, 3.35e12)
    assert all(set(peak.flops) == set(accelerator.PRECISIONS) for peak in peaks.PEAKS.values())


@pytest.mark.long
def test_smoke(tmp_path):
    """Every part works, here and without what this interpreter has beside the parts' own needs."""
    done = subprocess.run(
        ["bash", "benchmarks/accelerator.sh", "--smoke", f"--out={tmp_path}", "--seconds=3000"],
        cwd=ROOT,
        env=os.environ | {"PYTHON": sys.executable},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + (tmp_path / "log.txt").read_text()
    found = collect.gather(collect.read(tmp_path / "accelerator.jsonl"))
    assert not {"tests", "profile"} & set(found["missing"])
    assert [case["passed"] for case in found["correctness"]] == [True, True]
    ours = [step for step in found["steps"] if step["side"] == "ours"]
    assert {step["precision"] for step in ours} == set(accelerator.PRECISIONS)
    assert {step["variant"] for step in ours} == {"vmap", "scan", "two passes"}
    assert all(step["device_seconds"]["median"] > 0 for step in ours)
    assert found["rates"]["tf32"] > 0
    assert found["profile"]["kernels"]
    assert [line["as_one"] for line in found["together"]] == [1, 4]
    assert found["runs"][0]["result"]["epochs"] == 2
    assert found["tests"]["tests"] > found["tests"]["skipped"]
