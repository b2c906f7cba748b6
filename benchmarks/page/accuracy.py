"""How good the models are whose latency was measured, from the runs of the report (results/ml1m)."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.page.cells import Result

RUNS = Path("results/ml1m/ektf")
NAMES = {"ml1m": "mlp", "ml1m_latest": "latest"}  # of a shape's runs there


class Point(NamedTuple):
    """A model: the milliseconds of one row, and its test AUC."""

    label: str
    ensemble: bool
    milliseconds: float
    auc: float


def points(cases: Sequence[Result]) -> list[Point]:
    """The models of cases of one row that have runs."""
    found = []
    for case in cases:
        if case["rows"] != 1 or case["shape"] not in NAMES:
            continue
        ensemble = case["what"] == "ensemble"
        sizes = [one["students"] for one in cases if one["shape"] == case["shape"] and one["students"] > 1]
        size = case["students"] if ensemble else min(sizes, default=0)
        if aucs := _aucs(NAMES[case["shape"]], size, case["what"]):
            side = next(name for name in ("onnx bundle", "jax bundle") if name in case["sides"])
            label = f"{NAMES[case['shape']]}, K={size}" if ensemble else case["what"]
            median = case["sides"][side]["median"]
            found.append(Point(label, ensemble, 1e3 * median, float(np.mean(aucs))))
    return found


def _aucs(name: str, students: int, what: str) -> list[float]:
    """Test AUCs of an ensemble, or of its students of a kind, one for each of them and each seed."""
    found = []
    for path in sorted(RUNS.glob(f"{name}_k{students}_s*/result.json")):
        result = json.loads(path.read_text(encoding="utf-8"))
        kinds = list(result["config"]["ensemble"]["students"])
        if what == "ensemble":
            found.append(result["test"]["ensemble"]["auc"])
        else:
            found += [
                student["auc"]
                for number, student in enumerate(result["test"]["students"])
                if kinds[number * len(kinds) // students] == what
            ]
    return found
