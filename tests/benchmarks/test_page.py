"""The page says what the JSON files say."""

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import common, page
from benchmarks.page import accuracy

ROOT = Path(__file__).resolve().parents[2]

MACHINE = {"cpu": "toy", "cores": 2, "memory_gib": 8.0, "load_before": 0.1}


def spread(median, low, high):
    return {"median": median, "min": low, "max": high, "count": 3}


def write(directory, name, content):
    document = {"benchmark": name, "command": f"python -m benchmarks.{name}", "machine": MACHINE, **content}
    (directory / f"{name}.json").write_text(json.dumps(document))


def test_page(tmp_path, monkeypatch):
    monkeypatch.setattr(common, "RESULTS", tmp_path)
    case = {
        "shape": "ml1m",
        "students": 3,
        "batch_size": 4096,
        "epoch_rows": 40_960,
        "params": 1,
        "versions": {"ours": {"jax": "1"}, "peer": {"torch": "2"}},
        "step": {
            "ours_seconds": spread(0.1, 0.09, 0.12),
            "peer_seconds": spread(0.2, 0.19, 0.22),
            "speedup": spread(2.0, 1.9, 2.1),
        },
        "epoch": {
            "ours_seconds": spread(1.25, 1.2, 1.3),
            "peer_seconds": spread(2.0, 1.9, 2.2),
            "speedup": spread(1.6, 1.5, 1.7),
            "input_wait": spread(0.0123, 0.01, 0.02),
        },
    }
    write(tmp_path, "train", {"peer_malloc": "default", "cases": [case]})
    kept = {
        "shape": "criteo",
        "students": 2,
        "epoch_steps": 20,
        "step_seconds": spread(0.4, 0.39, 0.5),
        "epoch_step_seconds": spread(0.405, 0.4, 0.41),
        "kept": spread(0.9876, 0.97, 1.001),
        "input_wait": spread(0.005, 0.004, 0.006),
    }
    write(tmp_path, "epoch", {"versions": {"jax": "1"}, "cases": [kept]})
    models = [
        {
            "model": model,
            "params": 1234,
            "samples_per_second": rate,
            "step_seconds": spread(4096 / rate, 4096 / rate, 4096 / rate),
            "compile_seconds": 2.0,
            "peak_mib": 100,
        }
        for model, rate in (("afn", 1000), ("mlp", 64_000))
    ]
    write(tmp_path, "students", {"versions": {"jax": "1"}, "cases": models})
    growth = {"constant": 1.0, "per_student": 2.0, "r_squared": 0.99, "exponent": 1.0}
    cases = [
        {
            "students": k,
            "params": k,
            "step_seconds": spread(0.1 * k, 0.1 * k, 0.1 * k),
            "compile_seconds": 2.0 if k == 2 else 2.5,
            "peak_mib": 100 * k,
        }
        for k in (2, 8, 64)
    ]
    fits = dict.fromkeys(("step_seconds", "compile_seconds", "peak_mib"), growth)
    write(tmp_path, "scale_k", {"shape": "ml1m", "versions": {}, "cases": cases, "growth": fits})
    member = {"way": "members", "temporary_mib": 1080}
    write(tmp_path, "members", {"shape": "ml1m", "versions": {}, "cases": [cases[0] | member]})
    variant = {
        "students": 2,
        "variant": "a loop over students",
        "step_seconds": spread(0.12, 0.11, 0.13),
        "times_as_long": spread(1.2, 1.1, 1.3),
        "compile_seconds": spread(2.5, 2.4, 2.6),
        "temporary_mib": 1234,
    }
    write(tmp_path, "variants", {"shape": "ml1m", "versions": {}, "cases": [variant]})
    page.write()
    text = (tmp_path / "README.md").read_text()
    assert "| 2 | a loop over students | 120.0 (110.0 to 130.0) | 1.20 (1.10 to 1.30) | 2.5" in text
    assert "| ML-1M, K=3 | step | 100.0 (90.0 to 120.0) | 200.0 (190.0 to 220.0) | 40,960 |" in text
    assert "| 32,768 | 1.60 (1.50 to 1.70) | 1.23% |" in text  # ten steps of 4,096 in 1.25 s
    assert "| 98.8% (97.0% to 100.1%) | 0.50% (0.40% to 0.60%) |" in text
    fastest, slowest = text.index("| mlp | 1,234 | 64.0"), text.index("| afn | 1,234 | 4,096.0")
    assert fastest < slowest
    assert "| 8 | 8 | 800.0 (800.0 to 800.0) | 100.0 | 2.5 | 800 |" in text
    assert "1.25 times as long as at K=2, and a step takes 1.00 times as long per student" in text
    assert "| 2 | members | 2 | 200.0 (200.0 to 200.0) | 1,080 | 200 |" in text
    assert "Evaluation" not in text
    names = {path.name for path in tmp_path.iterdir()}
    assert {"train.png", "train.svg", "scale_k.png", "scale_k.svg"} <= names


def test_the_command_of_a_result_has_no_place_of_the_machine(tmp_path, monkeypatch):
    monkeypatch.setattr(common, "RESULTS", tmp_path)
    monkeypatch.setattr(
        "sys.argv", ["x", "--repeat=5", "--before=/some where/old", "--peer_python=/some where/python"]
    )
    common.write("residence", {})
    told = json.loads((tmp_path / "residence.json").read_text(encoding="utf-8"))
    assert told["command"] == "python -m benchmarks.residence --repeat=5 --before=DIR"


def test_accuracy_over_latency_is_of_the_runs_of_the_report(monkeypatch):
    monkeypatch.chdir(ROOT)

    def case(shape, what, students, rows, **medians):
        sides = {name.replace("_", " "): {"median": median} for name, median in medians.items()}
        return {"shape": shape, "what": what, "students": students, "rows": rows, "sides": sides}

    found = accuracy.points(
        [
            case("ml1m", "mlp", 1, 1, jax_bundle=0.002, onnx_bundle=0.001),
            case("ml1m", "mlp", 1, 64, jax_bundle=0.02),
            case("ml1m", "ensemble", 10, 1, jax_bundle=0.003),
            case("ml1m_latest", "ecn", 1, 1, jax_bundle=0.004),
            case("ml1m_latest", "ensemble", 3, 1, jax_bundle=0.005),
            case("criteo", "ensemble", 2, 1, jax_bundle=0.006),
        ]
    )
    assert [(point.label, point.ensemble, point.milliseconds) for point in found] == [
        ("mlp", False, 1.0),
        ("mlp, K=10", True, 3.0),
        ("ecn", False, 4.0),
        ("latest, K=3", True, 5.0),
    ]
    (tens,) = Path("results/ml1m/ektf").glob("mlp_k10_s*/result.json")
    tested = json.loads(tens.read_text(encoding="utf-8"))["test"]
    assert found[1].auc == tested["ensemble"]["auc"]
    assert found[0].auc == pytest.approx(np.mean([student["auc"] for student in tested["students"]]))
    latest = [
        json.loads(path.read_text(encoding="utf-8"))["test"]["students"][0]["auc"]  # in alphabetical order
        for path in Path("results/ml1m/ektf").glob("latest_k3_s*/result.json")
    ]
    assert found[2].auc == pytest.approx(np.mean(latest))
    assert [point.label for point in accuracy.points([case("kdd12", "mlp", 1, 1, jax_bundle=1.0)])] == []
