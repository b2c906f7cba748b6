"""What runs of accelerator.sh found, for the page: python -m benchmarks.accelerator.collect DIR...

Reads DIR/accelerator.jsonl, whole or cut off; of what several directories have, the last. Writes
results/benchmarks/accelerator_DEVICE.json. Needs no accelerator. Adds what a step needs by hand
(`benchmarks/scale.py`) and the least time that the device's public rates leave for it, and beside the runs on
MovieLens-1M what the same runs had on a CPU (results/ml1m).
"""

import json
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmarks import accelerator, common, peaks
from ektf_jax.errors import InputError

Record = dict[str, Any]

# What tells the records of a part from one another; other parts have one.
KEYS = {
    "correctness": ("case",),
    "step": ("side", "variant", "case", "precision"),
    "residence": ("case", "rows"),
    "together": ("case", "runs", "as_one"),
    "run": ("run",),
    "note": ("text",),
}


def read(path: Path) -> list[Record]:
    """The records; a last line that a cut tore is left out."""
    if not path.exists():
        raise InputError(f"{path}: missing; run `bash benchmarks/accelerator.sh --out={path.parent}` first")
    records = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            records.append(json.loads(line))
        except ValueError:
            break
    return records


def gather(records: Iterable[Record]) -> Record:
    """One document of all records, with what is known by hand beside them."""
    latest: dict[tuple[Any, ...], Record] = {}
    ready = []
    for record in records:
        found = {key: value for key, value in record.items() if key not in ("part", "at")}
        part = record["part"]
        if part == "ready" and "device" in found:
            ready.append(found)
        key = part, *(found.get(key) for key in KEYS.get(part, ()))
        if "error" not in found or key not in latest:
            latest[key] = found
    by_part: dict[str, list[Record]] = {}
    for (part, *_), found in latest.items():
        by_part.setdefault(part, []).append(found)
    machine = by_part["machine"][0]
    # A check of some parts alone may have no step; a whole run says what it ran with too.
    ready += [
        {"device": run["result"]["device"], "versions": run["result"]["versions"]}
        for run in by_part.get("run", [])
        if "versions" in run.get("result", {})
    ]
    if not ready:
        raise InputError(
            "accelerator.jsonl: no step was ready and no run ended, so its device is unknown; run the parts"
            " steps or runs too"
        )
    device = ready[0]["device"]
    peak = peaks.PEAKS.get(device)
    document = {
        "benchmark": "accelerator",
        "command": "bash benchmarks/accelerator.sh" + (" --smoke" if machine["smoke"] else ""),
        "machine": machine,
        "device": device,
        "notes": [note["text"] for note in by_part.get("note", [])],
        "versions": ready[-1]["versions"],
        "peak": None if peak is None else vars(peak),
        "correctness": by_part.get("correctness", []),
        "rates": one(by_part, "rates"),
        "steps": [with_floor(step, peak, machine["smoke"]) for step in by_part.get("step", [])],
        "residence": by_part.get("residence", []),
        "together": by_part.get("together", []),
        "runs": [beside_cpu(run) for run in by_part.get("run", [])],
        "tests": one(by_part, "tests"),
        "profile": one(by_part, "profile"),
    }
    return document | {"missing": missing(document)}


def missing(document: Record) -> list[str]:
    """Names of what a whole check finds, that these runs did not come to."""
    timed = {
        (step["case"], step["precision"])
        for step in document["steps"]
        if step["variant"] == "vmap" and "error" not in step
    }
    checked = {case["case"] for case in document["correctness"]}
    ended = {run["run"] for run in document["runs"] if "result" in run}
    steps = [
        f"{case} in {precision}"
        for precision in accelerator.PRECISIONS
        for case in map(accelerator.case_name, accelerator.CASES)
        if (case, precision) not in timed
    ]
    return [
        *(steps if timed else ["steps"]),
        *(f"correctness of {case}" for case in accelerator.CHECKED if case not in checked),
        *(f"run {name}" for name, *_ in accelerator.RUNS if name not in ended),
        *(part for part in ("tests", "profile") if document[part] is None),
    ]


def one(by_part: dict[str, list[Record]], part: str) -> Record | None:
    """The record of a part that has one; None where the run did not come to it."""
    return by_part.get(part, [None])[0]


def with_floor(step: Record, peak: peaks.Peak | None, smoke: bool) -> Record:
    """A step with its FLOPs and bytes by hand, and the least seconds that `peak` leaves for them."""
    from benchmarks import scale

    if smoke or step["side"] != "ours" or "error" in step:
        return step
    need = scale.needs(*common.split_case(step["case"]))
    found: Record = {"flops": need.flops, "bytes": need.bytes_moved()}
    if peak is not None:
        products, memory = found["flops"] / peak.flops[step["precision"]], found["bytes"] / peak.bandwidth
        found |= {
            "floor_seconds": max(products, memory),
            "bound_by": "products" if products > memory else "memory",
        }
    return step | found


def beside_cpu(run: Record) -> Record:
    """A run on MovieLens-1M with the test AUC of the same run on a CPU, if it is in results/ml1m."""
    result = run.get("result")
    if result is None:
        return run
    path = Path("results/ml1m/ektf") / f"{run['run']}_s{result['seed']}" / "result.json"
    if result["dataset"]["name"] == "synthetic" or not path.exists():
        return run
    cpu = json.loads(path.read_text(encoding="utf-8"))
    same = cpu["dataset"]["source"] == result["dataset"]["source"]
    return run | {"cpu": {key: cpu[key] for key in ("test", "epochs")}} if same else run


def main(argv: list[str]) -> None:
    """Write the file."""
    directories = [Path(directory) for directory in argv[1:]]
    document = gather(record for directory in directories for record in read(directory / "accelerator.jsonl"))
    if document["machine"]["smoke"]:
        raise InputError(
            f"{', '.join(argv[1:])}: a smoke test, whose figures mean nothing; run without --smoke"
        )
    name = re.sub(r"[^a-z0-9]+", "_", document["device"].lower()).strip("_")
    path = common.RESULTS / f"accelerator_{name}.json"
    path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    print(path)


if __name__ == "__main__":
    try:
        main(sys.argv)
    except InputError as error:
        sys.exit(f"error: {error}")
