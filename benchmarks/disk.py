"""What rows need on disk while and after they are prepared, from text and from parts, and how fast a disk
gives them back: python -m benchmarks.disk --rows=2000000, written to results/benchmarks/disk.json

Made-up rows of Criteo in its own split, prepared by experiments.prepare; then the same rows as Parquet parts
of ids, as another engine would write them, by --dataset=ids. `scratch`: the most that lay there in columns as
codes, which go as the result comes; `beside_it`: the most that there was in all, less the result. Both are
looked at ten times a second. `cold`: random training rows from a file that the page cache has just let go.
"""

import json
import os
import shutil
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import polars as pl
from absl import app, flags

from benchmarks import common
from benchmarks.watched import run
from ektf_jax.data import encoded, generators, loader
from ektf_jax.data.schema import SPLITS

_ROWS = flags.DEFINE_integer("rows", 2_000_000, "Rows, train, valid and test as 8:1:1.", lower_bound=1000)
_PART = 200_000  # rows of a part
_COLD, _REPEAT = 256, 5


def _size(directory: Path) -> int:
    total = 0
    for path in directory.rglob("*"):
        try:
            total += path.stat().st_size
        except OSError:  # it has been removed
            continue
    return total


def _prepare(dataset: str, raw: Path, directory: Path) -> dict[str, Any]:
    """Run the command with its output alone in a directory, and watch that."""
    directory.mkdir()
    most, scratch, done = 0, 0, threading.Event()

    def watch() -> None:
        nonlocal most, scratch
        while not done.wait(0.1):
            most = max(most, _size(directory))
            scratch = max(scratch, sum(map(_size, directory.glob(".out.tmp-*/scratch"))))

    watcher = threading.Thread(target=watch)
    watcher.start()
    arguments = [f"--dataset={dataset}", f"--raw={raw}", f"--out={directory / 'out'}"]
    try:
        found = run([sys.executable, "-m", "experiments.prepare", *arguments])
    finally:
        done.set()
        watcher.join()
    size = _size(directory)
    return {
        "rows_per_second": round(_ROWS.value / found.seconds),
        "peak_gb": round(found.peak / 1e9, 2),
        "bytes_per_row": round(size / _ROWS.value, 1),
        "scratch": round(scratch / _ROWS.value, 1),
        "beside_it": round(max(0, most - size) / _ROWS.value, 1),
    }


def _parts(data: Path, raw: Path) -> None:
    """The rows of an encoded directory as another engine would write them."""
    schema, splits = encoded.open_dataset(data)
    for split in SPLITS:
        (raw / split).mkdir(parents=True)
        for start in range(0, schema.splits[split], _PART):
            ids, labels = (column[start : start + _PART] for column in splits[split][:2])
            frame = pl.DataFrame(ids, schema=[field.name for field in schema.fields], orient="row")
            label = pl.Series(schema.source["spec"]["label"], labels).cast(pl.Int32)
            frame.with_columns(label).write_parquet(raw / split / f"{start:012}.parquet")
    for name in (encoded.SCHEMA, encoded.WORDS):
        shutil.copy(data / name, raw)


def _cold(data: Path) -> float:
    """Rows per second of a gather whose rows come from the disk; the median of a few."""
    split = encoded.open_dataset(data, ["train"])[1]["train"]
    order = loader.order(len(split.labels), seed=0, epoch=0)
    seconds = []
    for at in range(_REPEAT):
        for path in (data / "train").iterdir():
            with path.open("rb") as file:
                os.fsync(file.fileno())
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        started = time.perf_counter()
        loader.gather(split, order[at * _COLD : (at + 1) * _COLD])
        seconds.append(time.perf_counter() - started)
        for column in (split.ids, split.labels):
            list(encoded.chunks(column, len(column)))  # what is mapped is not let go
    return _COLD / sorted(seconds)[_REPEAT // 2]


def main(argv: list[str]) -> None:
    """Prepare twice."""
    del argv
    found: dict[str, Any] = {"rows": _ROWS.value}
    with tempfile.TemporaryDirectory(prefix="disk-") as folder:
        directory = Path(folder)
        generators.write("criteo_x4", directory / "raw", _ROWS.value)
        found["text_bytes_per_row"] = round(_size(directory / "raw") / _ROWS.value, 1)
        found["prepare"] = _prepare("criteo", directory / "raw", directory / "one")
        shutil.rmtree(directory / "raw")
        _parts(directory / "one/out", directory / "parts")
        found["parts_bytes_per_row"] = round(_size(directory / "parts") / _ROWS.value, 1)
        found["ids"] = _prepare("ids", directory / "parts", directory / "two")
        made = [encoded.open_schema(directory / name / "out").arrays for name in ("one", "two")]
        assert made[0] == made[1]
        found["cold_rows_per_second"] = round(_cold(directory / "two/out"))
    found["versions"] = common.versions("numpy", "polars")
    common.write("disk", found)
    print(json.dumps(found))


if __name__ == "__main__":
    app.run(main)
