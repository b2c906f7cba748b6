"""Whenever `export` and `score` are killed or cannot write, the old result is there, or the whole new one."""

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest

from ektf_jax.bundle import load, reader
from ektf_jax.bundle import score as scoring
from ektf_jax.bundle.export import export
from ektf_jax.errors import InputError
from tests.bundle import shop
from tests.full_disk import no_file_longer_than

ROOT = Path(__file__).resolve().parents[2]
KILLS = 20


# Imports once, then makes a child for each line "function arguments": none has threads before.
NURSERY = """
import os, sys
from pathlib import Path
from ektf_jax.bundle import load
from ektf_jax.bundle.export import export
from ektf_jax.bundle.score import score

def exporting(run, out, predictor):
    export(Path(run), Path(out), predictor=predictor)

def scoring(bundle, table, out):
    score(load(bundle, runtime="jax"), [Path(table)], Path(out), keep=["session"])

print("ready", flush=True)
for line in sys.stdin:
    name, *arguments = line.rstrip("\\n").split("\\t")
    pid = os.fork()
    if not pid:
        status = 1
        try:
            globals()[name](*arguments)
            status = 0
        finally:
            os._exit(status)
    print(pid, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""


@pytest.fixture(scope="module")
def nursery(tmp_path_factory):
    """start(function, arguments) -> the id of the process, and what tells its status at its end."""
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path_factory.mktemp("cache")),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    with subprocess.Popen(
        [sys.executable, "-c", NURSERY],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout.readline() == "ready\n"

        def start(*arguments):
            process.stdin.write("\t".join(map(str, arguments)) + "\n")
            process.stdin.flush()
            return int(process.stdout.readline()), lambda: int(process.stdout.readline())

        yield start
        process.stdin.close()


def visible(directory):
    return sorted(path.name for path in directory.iterdir() if not path.name.startswith("."))


def kill_while_writing(start, out, arguments, check):
    """`check` the state after each of some kills, from the first byte written to after the last one."""
    rng = random.Random(5)
    for _ in range(2):  # the first one compiles
        _, status = start(*arguments)
        begun = first_written(out)
        assert status() == 0
        length = time.monotonic() - begun
        check()
    killed = 0
    for _ in range(KILLS):
        pid, status = start(*arguments)
        first_written(out)
        time.sleep(rng.uniform(0, length))
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        killed += status() == -signal.SIGKILL
        check()
    assert killed >= KILLS // 4
    assert start(*arguments)[1]() == 0
    assert [path.name for path in out.parent.iterdir()] == [out.name]  # what kills have left is gone


def first_written(out):
    end = time.monotonic() + 120
    seen = {path.name for path in out.parent.iterdir()}
    while not {path.name for path in out.parent.glob(f".{out.name}.tmp-*")} - seen:
        assert time.monotonic() < end
        time.sleep(0.001)
    return time.monotonic()


@pytest.mark.slow
def test_a_killed_export_leaves_a_whole_bundle(run, bundle, nursery, tmp_path):
    out = tmp_path / "bundles" / "bundle"
    out.parent.mkdir()
    export(run, tmp_path / "old", predictor="1")
    shutil.copytree(tmp_path / "old", out)
    found = set()

    def check():
        assert visible(out.parent) == ["bundle"]
        about = reader.describe(out)
        assert {name: reader.sha256(out / name) for name in about["files"]} == about["files"]
        assert set(about["files"]) | {"bundle.json"} == {path.name for path in out.iterdir()}
        found.add(about["predictor"])
        if about["predictor"] == "ensemble":  # the new one: start from the old again
            shutil.rmtree(out)
            shutil.copytree(tmp_path / "old", out)

    kill_while_writing(nursery, out, ("exporting", run, out, "ensemble"), check)
    assert "1" in found


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_killed_score_leaves_a_whole_table(bundle, nursery, tmp_path, suffix):
    shop.rows(40_000, 1).write_csv(tmp_path / "in.csv")
    read = pl.read_csv if suffix == ".csv" else pl.read_parquet
    out = tmp_path / "scored" / f"out{suffix}"
    out.parent.mkdir()
    old = b"what was there before"
    scoring.score(load(bundle, runtime="jax"), [tmp_path / "in.csv"], tmp_path / out.name, keep=["session"])
    whole = read(tmp_path / out.name)
    out.write_bytes(old)
    found = set()

    def check():
        assert visible(out.parent) == [out.name]
        found.add(is_old := out.read_bytes() == old)
        if not is_old:
            assert read(out).equals(whole)
            out.write_bytes(old)

    kill_while_writing(nursery, out, ("scoring", bundle, tmp_path / "in.csv", out), check)
    assert True in found


@pytest.mark.parametrize("size", [10, 3000, 8000])
def test_an_export_to_a_full_disk_leaves_the_old_bundle(run, tmp_path, size):
    out = tmp_path / "bundle"
    export(run, out, predictor="1")
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    assert size < max(map(len, before.values()))
    with no_file_longer_than(size), pytest.raises(InputError, match="cannot write the bundle"):
        export(run, out)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    assert list(tmp_path.iterdir()) == [out]


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".parquet"])
@pytest.mark.parametrize("size", [10, 50_000])
def test_a_score_to_a_full_disk_leaves_the_old_table(bundle, tmp_path, suffix, size):
    table, out = tmp_path / "in.csv", tmp_path / f"out{suffix}"
    shop.rows(20_000, 1).write_csv(table)
    out.write_bytes(b"old")
    predictor = load(bundle, runtime="jax")
    with (
        no_file_longer_than(size),
        pytest.raises(InputError, match=rf"out\{suffix}: cannot be written \(.*--out"),
    ):
        scoring.score(predictor, [table], out)
    assert out.read_bytes() == b"old"
    assert sorted(tmp_path.iterdir()) == sorted([table, out])


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="/proc is where nobody can write")
def test_where_nothing_can_be_written_is_named(run, bundle, tmp_path):
    shop.rows(20, 1).write_csv(tmp_path / "in.csv")
    with pytest.raises(
        InputError, match=r"/proc/none/bundle: cannot write the bundle \(.*choose another --out"
    ):
        export(run, Path("/proc/none/bundle"))
    with pytest.raises(InputError, match=r"/proc/none/out\.csv: cannot be written \(.*choose another --out"):
        scoring.score(load(bundle, runtime="jax"), [tmp_path / "in.csv"], Path("/proc/none/out.csv"))
