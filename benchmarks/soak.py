"""Training for long, and killed again and again: results/benchmarks/soak.json.

    python -m benchmarks.soak --dir=DIR [--rows=10000000] [--epochs=40] [--seconds=180]

Generated rows of Criteo are prepared in DIR, and EKTF over two small MLPs is trained on them twice: once
killed with SIGKILL at random moments, `--seconds` apart in the mean, and started again, once left alone.
Memory and processor time are looked at once a second. The same command goes on where it was ended.
"""

import hashlib
import itertools
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import app, flags, logging
from flax import nnx

from benchmarks import common
from benchmarks.faults import kills
from ektf_jax.data import encoded
from ektf_jax.runs import load_run

_DIR = flags.DEFINE_string("dir", None, "Where the rows and the runs are.", required=True)
_ROWS = flags.DEFINE_integer("rows", 10_000_000, "Rows to generate.")
_EPOCHS = flags.DEFINE_integer("epochs", 40, "Epochs of each run.")
_SECONDS = flags.DEFINE_integer("seconds", 180, "Between kills, in the mean.")

_TICKS = os.sysconf("SC_CLK_TCK")


def command(data: Path, workdir: Path, epochs: int) -> list[str]:
    """Train EKTF over two small MLPs on Criteo's schema, for so many epochs whatever comes of them."""
    return [
        *(sys.executable, "-m", "experiments.train", "--config=configs/ektf_mlp.py:criteo"),
        *(f"--config.data.path={data}", f"--workdir={workdir}"),
        *("--config.ensemble.num_students=2", "--config.ensemble.students.mlp.hidden_units=(64, 64)"),
        "--config.embedding.dim=4",  # so that an epoch takes a minute, not ten
        *(f"--config.train.max_epochs={epochs}", f"--config.train.patience={epochs}"),
        "--config.train.checkpoint_every=100",
    ]


def prepare(directory: Path, rows: int) -> Path:
    """Generate and encode rows, where they are not there yet."""
    raw, data = directory / "raw", directory / "data"
    if not data.exists():
        common.child(["-m", "experiments.generate", "--dataset=criteo", f"--rows={rows}", f"--out={raw}"])
        common.child(["-m", "experiments.prepare", "--dataset=criteo", f"--raw={raw}", f"--out={data}"])
    return data


def look(pid: int) -> tuple[float, float]:
    """Resident memory in GB and processor seconds of a process so far."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    (resident,) = (line.split()[1] for line in status.splitlines() if line.startswith("VmRSS:"))
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return int(resident) * 1024 / 1e9, (int(fields[11]) + int(fields[12])) / _TICKS


def watch(run: Sequence[str], workdir: Path, until: float) -> Iterator[dict[str, Any]]:
    """A process of a run, killed when it has lived so long: its memory and time at the end of every epoch.

    The last has `killed`, and what it had when it ended.
    """
    began, lines = time.monotonic(), _epochs(workdir)
    with subprocess.Popen(run, stdout=subprocess.DEVNULL) as process:
        at = {"memory": 0.0, "cpu": 0.0}
        while process.poll() is None:
            time.sleep(1)
            lived = time.monotonic() - began
            try:
                memory, cpu = look(process.pid)
            except (OSError, ValueError):  # it is ending
                continue
            at = {"memory": max(memory, at["memory"]), "cpu": cpu, "seconds": lived}
            if (now := _epochs(workdir)) > lines:
                lines = now
                yield {"epoch": now, **at}
                at["memory"] = 0.0
            if lived > until:
                process.kill()
        if process.returncode not in (0, -9):
            raise SystemExit(f"{' '.join(run)}: status {process.returncode}")
        yield {"epoch": lines, **at, "killed": process.returncode == -9}


def _epochs(workdir: Path) -> int:
    path = workdir / "metrics.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def soak(run: Sequence[str], workdir: Path, seconds: int | None) -> list[list[dict[str, Any]]]:
    """Train to result.json, killed `seconds` apart in the mean, or not; what `watch` saw, by process.

    Kept in a file beside the run, so that a call goes on with the record of an earlier one.
    """
    record = workdir.with_suffix(".jsonl")
    rng = random.Random(record.read_text(encoding="utf-8") if record.exists() else "")
    while not (workdir / "result.json").exists():
        until = float("inf") if seconds is None else rng.uniform(0.2, 1.8) * seconds
        seen = list(watch(run, workdir, until))
        with record.open("a", encoding="utf-8") as file:
            file.write(json.dumps(seen, allow_nan=False) + "\n")
    return [json.loads(line) for line in record.read_text(encoding="utf-8").splitlines()]


def weights(workdir: Path) -> str:
    """SHA-256 of the weights that a finished run keeps."""
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves(nnx.state(load_run(workdir).model())):
        digest.update(np.asarray(leaf).tobytes())
    return digest.hexdigest()


def described(lives: Sequence[Sequence[dict[str, Any]]], rows: int) -> dict[str, Any]:
    """What was seen of a run: samples a processor second and memory over its epochs, in quarters."""
    epochs = [
        (
            after["memory"],
            rows / (after["cpu"] - before["cpu"]),
            rows / (after["seconds"] - before["seconds"]),
        )
        for life in lives
        for before, after in itertools.pairwise(one for one in life if "killed" not in one)
    ]
    quarters = [part for part in np.array_split(np.array(epochs), 4) if len(part)]
    return {
        "hours": round(sum(life[-1]["seconds"] for life in lives) / 3600, 2),
        "processes": len(lives),
        "kills": sum(life[-1]["killed"] for life in lives),
        "whole_epochs": len(epochs),
        "memory_gb": [round(float(part[:, 0].max()), 3) for part in quarters],
        "samples_per_cpu_second": [round(float(np.median(part[:, 1]))) for part in quarters],
        "samples_per_second": [round(float(np.median(part[:, 2]))) for part in quarters],
    }


def main(argv: list[str]) -> None:
    """Train both, compare them, and write the record."""
    del argv
    logging.set_verbosity(logging.WARNING)
    directory = Path(_DIR.value)
    directory.mkdir(parents=True, exist_ok=True)
    data = prepare(directory, _ROWS.value)
    rows = encoded.open_schema(data).splits["train"]
    found = {}
    for name, seconds in {"killed": _SECONDS.value, "undisturbed": None}.items():
        workdir = directory / name
        lives = soak(command(data, workdir, _EPOCHS.value), workdir, seconds)
        found[name] = described(lives, rows)
        print(json.dumps({name: found[name]}), flush=True)
    killed, undisturbed = (kills.contents(directory / name) for name in found)
    same = killed == undisturbed and weights(directory / "killed") == weights(directory / "undisturbed")
    common.write(
        "soak",
        {
            "versions": common.versions("jax", "jaxlib", "flax"),
            "rows": _ROWS.value,
            "train_rows": rows,
            "epochs": _EPOCHS.value,
            "same_bits": same,
            "runs": found,
        },
    )
    if not same:
        different = sorted(
            key for key in killed.keys() | undisturbed.keys() if killed.get(key) != undisturbed.get(key)
        )
        raise SystemExit(f"killed and undisturbed differ: {different}")


if __name__ == "__main__":
    app.run(main)
