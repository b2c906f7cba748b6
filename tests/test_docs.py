"""The worked example of docs/students.md, run as its reader would: files, then the command line."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from ektf_jax.config import Config
from ektf_jax.result import Result
from ektf_jax.students import REGISTRY
from ektf_jax.training import loop, optimizer
from tests import commands
from tests.bundle import shop

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "students.md").read_text()
TRAINING = (ROOT / "docs" / "training.md").read_text()
FILES, OWN_METHOD = (
    dict(re.findall(r"```python\n# (\w+\.py)\n(.*?)```", page, re.S)) for page in (PAGE, TRAINING)
)


def test_the_example_is_short_and_trains(tmp_path):
    assert sum(len(text.split("\n")) for text in FILES.values()) < 40
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    command = re.search(r"python (-m experiments\.train --config=nfm.*)", PAGE).group(1)
    small = [
        "--config.data.synthetic.rows=4000",
        "--config.train.max_epochs=1",
        "--config.data.batch_size=256",
    ]
    run = subprocess.run(
        [sys.executable, *command.split(), *small],
        cwd=tmp_path,
        env={"PYTHONPATH": f"{tmp_path}:{ROOT}", "PATH": "", "HOME": str(tmp_path)}
        | {name: value for name, value in os.environ.items() if name.startswith("JAX_")},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    assert re.search(r"test student 1 \(nfm\)  AUC 0\.\d+", run.stdout)
    result = json.loads((tmp_path / "runs" / "nfm_and_mlp" / "result.json").read_text())
    assert result["config"]["ensemble"]["students"]["nfm"] == {"name": "nfm:NFM", "hidden_units": [64]}


@pytest.mark.parametrize("name", REGISTRY)
def test_every_student_is_listed(name):
    assert f"| `{name}` |" in PAGE


SMALL = {
    "data": {"synthetic": {"rows": 4000, "values": (40, 20, 5)}, "batch_size": 256},
    "train": {"max_epochs": 1},
}


def test_a_method_of_ones_own_trains_and_its_run_is_opened(tmp_path, monkeypatch):
    for name, text in OWN_METHOD.items():
        (tmp_path / name).write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    result = loop.train(
        SMALL | {"transfer": {"name": "focal:Focal", "Focal": {"gamma": 1.5}}}, tmp_path / "runs/focal"
    )
    assert 0.5 < result["test"]["ensemble"]["auc"] < 1
    code = re.search(r"```python\n(from ektf_jax import load_run.*?)```", TRAINING, re.S).group(1)
    exec(code, made := {})
    assert made["run"].result.labels == ["mlp", "mlp"]
    assert sum(group.size for group in made["student"].groups) == 1


def test_the_command_of_optimizers_is_a_config():
    command = re.search(r"(--config\.train\.optimizer.*?)\n\n", TRAINING, re.S).group(1)
    given = re.findall(r"--config\.train\.(\S+)=(\S+)", command)
    assert len(given) >= 5
    train = {}
    for name, value in given:
        *group, key = name.split(".")
        place = train
        for part in group:
            place = place.setdefault(part, {})
        place[key] = json.loads(value) if re.match(r"[\d.]", value) else value
    read = Config.from_dict({"train": train}).train
    optimizer.read(read)
    found = optimizer.rates(read, 1000)(0, 1, 0.0)
    np.testing.assert_allclose(found, read.learning_rate / read.warmup_steps, rtol=1e-6)


def test_the_bundle_of_the_page_on_serving(tmp_path, monkeypatch):
    """Its commands, which write two files, and its Python, on the table that it speaks of."""
    (tmp_path / "runs").mkdir()
    shop.train(tmp_path).rename(tmp_path / "runs" / "ektf")
    shop.rows(20, 1).write_csv(tmp_path / "new.csv")
    shop.rows(10, 2).write_parquet(tmp_path / "more.parquet")
    page = (ROOT / "docs" / "serving.md").read_text()
    for line in re.findall(r"^    python -m (experiments\..*)$", page, re.M):
        module, *options = re.sub(r"(=|,)(runs/ektf|bundle|\w+\.\w+)", rf"\1{tmp_path}/\2", line).split()
        done = commands.run(module, *options)
        assert done.returncode == 0, done.stderr
    scored = pl.read_parquet(tmp_path / "scored.parquet")
    assert scored.columns == ["session", "p_ensemble", "p_0", "p_1", "p_2"]
    assert len(scored) == 30
    assert re.search(r"^p_ensemble: auc 0\.\d+  logloss 0\.\d+", done.stdout, re.M)
    monkeypatch.chdir(tmp_path)
    (code,) = re.findall(r"```python\n(.*?)```", page, re.S)
    names = {}
    exec(code, names)
    assert 0 < names["found"]["ensemble"].item() < 1
    assert names["found"]["students"].shape == (3, 1)


def test_the_commands_of_the_page_on_finished_runs(tmp_path):
    """All of them, in their order, on the table of a shop."""
    shop.prepare(tmp_path / "data" / "today")
    config = shop.config(tmp_path / "data" / "today")
    config["ensemble"] |= {"students": {"mlp": config["ensemble"]["students"]["mlp"]}, "num_students": 1}
    config["train"]["max_epochs"] = 1
    for seed, name in enumerate(("one", "two", "yesterday")):
        loop.train(config | {"seed": seed}, tmp_path / "runs" / name)
    (tmp_path / "daily.py").write_text(f"def get_config():\n    return {config!r}\n")
    page = (ROOT / "docs" / "ensembles.md").read_text().replace(" \\\n       ", "")
    here = re.compile(r"(=|,)(runs/|data/|bundle)")
    for line in re.findall(r"^    python -m (experiments\..*)$", page, re.M):
        line = here.sub(rf"\1{tmp_path}/\2", line.replace("configs/daily.py", f"{tmp_path}/daily.py"))
        done = commands.run(*shlex.split(line))
        assert done.returncode == 0, done.stderr
        if "/today " in line:
            assert re.search(r"yesterday: (\d+) of \1 values keep their rows, 0 are new", done.stdout)
    for name in ("both", "today", "after", "taught", "labelled"):
        assert Result.read(tmp_path / "runs" / name).test["ensemble"]["auc"] > 0
