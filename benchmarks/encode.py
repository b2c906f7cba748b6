"""Raw text to encoded dataset, experiments.prepare beside FuxiCTR 2.3: results/benchmarks/encode.json.

    python -m benchmarks.encode --peer_python=PYTHON       a Python that has FuxiCTR (the extra `peers`)
    python -m benchmarks.encode --peer_python=none --rows=1000000,10000000      ours alone, at two sizes

Each run is a process of its own, timed from its start to its end with all imports; ours and FuxiCTR's take
turns. FuxiCTR is run at the first size only: its memory grows with the rows.

Both read the same synthetic train.csv, valid.csv and test.csv (8:1:1), put numbers into the same buckets,
count values in train alone, keep those of 10 rows or more and write all three splits with ids for values;
missing values and the bucket 0 are OOV for both, and `features` is the same. FuxiCTR counts by polars's
streaming engine, then looks each cell up in a Python dictionary, by way of Ray with half of the cores; its
Parquet files hold a column of int64 for each field. Ours also checks every line, takes the files' sha256,
syncs the result to disk and reads it once more.

Peak memory: of the sums of proportional set sizes of the process and its descendants, sampled every 0.2 s, or
the process's own maximum resident set size where that is larger. `projected_minutes` is what the full files
would take at the pace of the largest size, KDD12's with synthetic files of KDD12.
"""

import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from absl import app, flags

from benchmarks import common
from benchmarks.watched import Run, run
from ektf_jax.data import encoded, generators

_ROWS = flags.DEFINE_list("rows", ["1000000"], "Rows of the synthetic files, one or more sizes, rising.")
_REPEAT = flags.DEFINE_integer("repeat", 3, "Runs of each side and size.", lower_bound=1)
_PEER = flags.DEFINE_string("peer_python", sys.executable, "A Python that has FuxiCTR; none leaves it out.")
_SCRATCH = flags.DEFINE_string("scratch", None, "Where to put the files, 500 bytes a row; default: TMPDIR.")

FULL = {"criteo": 45_840_617, "kdd12": 149_639_105}  # rows of the official files
_GENERATED = {"criteo": "criteo_x4", "kdd12": "kdd12"}


def ours(dataset: str, raw: Path, out: Path) -> tuple[Run, int]:
    """Encodes with experiments.prepare; the second result is V."""
    shutil.rmtree(out, ignore_errors=True)
    arguments = [f"--dataset={dataset}", f"--raw={raw}", f"--out={out}"]
    done = run([sys.executable, "-m", "experiments.prepare", *arguments])
    return done, encoded.open_schema(out).num_features


def fuxictr(raw: Path, out: Path) -> tuple[Run, int]:
    """Encodes with FuxiCTR; the second result is V."""
    shutil.rmtree(out, ignore_errors=True)
    done = run([_PEER.value, "-m", "benchmarks.encode_fuxictr", str(raw), str(out)])
    return done, int(done.printed.split()[-1])


def measure(dataset: str, rows: int, beside: bool) -> dict[str, Any]:
    """Repeats ours, and FuxiCTR's `beside` it, on one set of files."""
    runs: dict[str, list[tuple[Run, int]]] = {side: [] for side in ("ours", "fuxictr")[: 1 + beside]}
    with tempfile.TemporaryDirectory(dir=_SCRATCH.value, prefix="encode-") as scratch:
        raw, out = Path(scratch, "raw"), Path(scratch, "out")
        generators.write(_GENERATED[dataset], raw, rows)
        for _ in range(_REPEAT.value):
            runs["ours"].append(ours(dataset, raw, out))
            if beside:
                runs["fuxictr"].append(fuxictr(raw, out))
    result: dict[str, Any] = {"dataset": dataset, "rows": rows}
    for side, done in runs.items():
        result[side] = {
            "rows_per_second": common.spread([rows / one.seconds for one, _ in done], 0),
            "peak_gb": common.spread([one.peak / 1e9 for one, _ in done], 2),
            "features": done[0][1],
        }
    if beside:
        pairs = zip(runs["fuxictr"], runs["ours"], strict=True)
        result["times_as_fast"] = common.spread(
            [theirs[0].seconds / here[0].seconds for theirs, here in pairs], 1
        )
    return result


def _versions(beside: bool) -> dict[str, str]:
    found = common.versions("polars", "numpy")
    if beside:
        code = "from importlib.metadata import version as v; print(v('fuxictr'), v('polars'))"
        found["fuxictr"], found["polars_of_fuxictr"] = run([_PEER.value, "-c", code]).printed.split()
    return found


def main(argv: list[str]) -> None:
    """Measure every size of --rows; write and print the JSON."""
    del argv
    beside = _PEER.value != "none"
    sizes = [int(rows) for rows in _ROWS.value]
    report: dict[str, Any] = {"versions": _versions(beside), "runs": []}
    for place, rows in enumerate(sizes):
        for dataset in FULL:
            one = measure(dataset, rows, beside and place == 0 and dataset == "criteo")
            report["runs"].append(one)
            print(json.dumps(one), file=sys.stderr, flush=True)
    peaks = [one["ours"]["peak_gb"]["max"] for one in report["runs"] if one["dataset"] == "criteo"]
    report["criteo_peak_grows_by"] = round(peaks[-1] / peaks[0] - 1, 3)
    pace = {one["dataset"]: one["ours"]["rows_per_second"]["median"] for one in report["runs"]}  # the last's
    report["projected_minutes"] = {name: round(rows / pace[name] / 60, 1) for name, rows in FULL.items()}
    common.write("encode", report)
    print(json.dumps(report))


if __name__ == "__main__":
    app.run(main)
