"""What the pages of docs/ show, run as their readers would: files, Python, then the command line."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import average_precision_score

from ektf_jax import metrics
from ektf_jax.cli import config as configs
from ektf_jax.config import Config
from ektf_jax.data.encoded import Split
from ektf_jax.result import Result
from ektf_jax.runs import space
from ektf_jax.students import REGISTRY
from ektf_jax.training import loop, optimizer
from ektf_jax.training.evaluate import evaluate_logits
from tests import commands
from tests.bundle import shop

ROOT = Path(__file__).resolve().parents[1]


def page(name):
    return (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8")


def python_of(text):
    return re.findall(r"```python\n(.*?)```", text, re.S)


PAGE = page("students")
TRAINING = page("training")
FILES, OWN_METHOD = (
    dict(re.findall(r"```python\n# (\w+\.py)\n(.*?)```", text, re.S)) for text in (PAGE, page("methods"))
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


def test_a_method_of_ones_own_trains(tmp_path, monkeypatch):
    for name, text in OWN_METHOD.items():
        (tmp_path / name).write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    config = SMALL | {"transfer": {"name": "focal:Focal"}}
    configs.change(config, ("transfer", "Focal", "gamma"), "1.5")  # the page's --config.transfer.Focal.gamma
    assert "`--config.transfer.Focal.gamma=" in page("methods")
    result = loop.train(config, str(tmp_path / "runs/focal"))
    assert Result.read(str(tmp_path / "runs/focal")).test == result["test"]
    assert 0.5 < result["test"]["ensemble"]["auc"] < 1
    assert result["config"]["transfer"]["name"] == "focal:Focal"
    assert result["config"]["transfer"]["Focal"] == {"gamma": 1.5}


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


@pytest.fixture(scope="module")
def shops(tmp_path_factory):
    """A directory with the run and the tables that pages speak of."""
    directory = tmp_path_factory.mktemp("shops")
    (directory / "runs").mkdir()
    shop.train(directory).rename(directory / "runs" / "shop")
    shop.rows(20, 1).write_csv(directory / "new.csv")
    shop.rows(10, 2).write_parquet(directory / "more.parquet")
    return directory


def run_commands(text, directory):
    """Run the export and the scoring of a page, in a directory; returns what the last one printed."""
    for line in re.findall(r"^    python -m (experiments\..*)$", text, re.M):
        line = re.sub(r"(=|,)(runs/\w+|bundle\b|\w+\.\w+)", rf"\1{directory}/\2", line)
        module, *options = line.replace("runs/ektf", "runs/shop").split()
        done = commands.run(module, *options)
        assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_bundle_of_the_page_on_serving(shops, monkeypatch):
    """Its commands, which write two files, and its Python, on the table that it speaks of."""
    printed = run_commands(page("serving"), shops)
    scored = pl.read_parquet(shops / "scored.parquet")
    assert scored.columns == ["session", "p_ensemble", "p_0", "p_1", "p_2"]
    assert len(scored) == 30
    assert re.search(r"^p_ensemble: auc 0\.\d+  logloss 0\.\d+", printed, re.M)
    monkeypatch.chdir(shops)
    (code,) = python_of(page("serving"))
    names = {}
    exec(code, names)
    assert 0 < names["found"]["ensemble"].item() < 1
    assert names["found"]["students"].shape == (3, 1)


def test_what_came_out_is_used_in_five_lines_and_in_more(shops, monkeypatch):
    text = page("tutorials/use")
    run_commands(text, shops)
    monkeypatch.chdir(shops)
    short, long, bundle = python_of(text)
    (of_readme,) = [code for code in python_of((ROOT / "README.md").read_text()) if "load_run" in code]
    assert of_readme == short
    assert len(short.splitlines()) <= 5
    exec(short, first := {})
    exec(long, second := {})
    exec(bundle, third := {})
    assert first["clicks"].shape == (1,)
    assert sum(group.size for group in first["student"].groups) == 1
    assert second["found"]["students"].shape == (3, 2)
    assert second["vectors"].columns == ["value", "vector"]
    np.testing.assert_allclose(third["found"]["ensemble"], first["clicks"], atol=1e-6)


def test_the_loss_trains_networks_of_another_project():
    alone, step = python_of(page("tutorials/loss"))
    exec(alone, names := {})
    np.testing.assert_allclose(sum(names["terms"][:3]), names["loss"], rtol=1e-6)
    exec(step, names := {})
    assert names["terms"].ctr < 0.3  # 0.69 knows nothing
    assert float(names["terms"].scores.min()) > 0.8


def test_the_step_of_many_students():
    (code,) = python_of(page("tutorials/scale"))
    exec(code, names := {})
    assert names["metrics"].terms.scores.shape == (64,)
    assert np.isfinite(names["metrics"].loss)


def test_a_loop_of_ones_own_learns():
    (code,) = python_of(page("own_loop"))
    exec(code, names := {})
    assert len(names["found"]) == 5
    assert names["found"][-1]["auc"] > 0.75
    logits = names["model"](names["ids"]).ensemble
    np.testing.assert_allclose(logits, names["prediction"].ensemble, atol=1e-4)


def test_a_metric_is_one_function_and_its_line(shops, monkeypatch):
    """Nothing but ektf_jax/metrics.py knows what metrics there are."""
    example, added = python_of(page("metrics"))
    exec(example, names := {})
    assert names["found"][0]["gauc"] == pytest.approx(0.5)
    source = Path(metrics.__file__).read_text(encoding="utf-8") + added.partition("\n")[2]
    monkeypatch.setattr(metrics, "METRICS", dict(metrics.METRICS))
    grown: dict = {"__name__": "grown"}
    exec(source, grown)
    rng = np.random.default_rng(0)
    labels, logits = rng.integers(0, 2, 500), rng.integers(-9, 9, 500) / 4
    found = grown["average_precision"](labels, logits)
    assert found == pytest.approx(average_precision_score(labels, logits), rel=1e-12)
    with pytest.raises(ValueError, match="none of 2 rows is positive"):
        grown["average_precision"](np.zeros(2), np.zeros(2))
    metrics.METRICS["average_precision"] = grown["METRICS"]["average_precision"]
    assert metrics.evaluate(labels, logits[None], ["average_precision"]) == [{"average_precision": found}]
    weights = rng.choice([0.0, 0.3, 1.0, 7.5], 500)
    assert grown["average_precision"](labels, logits, weights=weights) == pytest.approx(
        average_precision_score(labels, logits, sample_weight=weights), rel=1e-12
    )
    line = re.search(r"`(Metric\(.*needs=.*\))`", page("metrics")).group(1)
    metrics.METRICS["own_gauc"] = eval(line, vars(metrics))
    for split in (Split(None, labels), Split(None, labels, weights)):
        found = evaluate_logits(split, np.stack([logits, logits]))
        assert list(found["ensemble"]) == ["auc", "logloss", "average_precision"]
    run_commands(page("serving"), shops)
    command = re.search(r"^    (python -m experiments.score.*metrics=.*)$", page("metrics"), re.M).group()
    assert re.search(r"^p_ensemble: auc 0\.\d+  average_precision 0\.\d+", run_commands(command, shops), re.M)


def test_the_commands_of_the_page_on_finished_runs(tmp_path):
    """All of them, in their order, on the table of a shop."""
    shop.prepare(tmp_path / "data" / "today")
    config = shop.config(tmp_path / "data" / "today")
    config["ensemble"] |= {"students": {"mlp": config["ensemble"]["students"]["mlp"]}, "num_students": 1}
    config["train"]["max_epochs"] = 1
    for seed, name in enumerate(("one", "two")):
        loop.train(config | {"seed": seed}, tmp_path / "runs" / name)
    shutil.copytree(tmp_path / "runs" / "one", tmp_path / "runs" / "yesterday")
    (tmp_path / "daily.py").write_text(f"def get_config():\n    return {config!r}\n")
    text = page("ensembles").replace(" \\\n       ", "")
    here = re.compile(r"(=|,)(runs/|data/|bundle)")
    for line in re.findall(r"^    python -m (experiments\..*)$", text, re.M):
        line = here.sub(rf"\1{tmp_path}/\2", line.replace("configs/daily.py", f"{tmp_path}/daily.py"))
        done = commands.run(*shlex.split(line))
        assert done.returncode == 0, done.stderr
        if f"--workdir={tmp_path}/runs/today " in line:
            assert re.search(r"yesterday: (\d+) of \1 values keep their rows, 0 are new", done.stdout)
    for name in ("both", "today", "after", "taught", "labelled"):
        assert Result.read(tmp_path / "runs" / name).test["ensemble"]["auc"] > 0


def test_the_space_of_the_page_on_tuning_is_one_of_its_config(tmp_path):
    (text,) = re.findall(r"```yaml\n# space\.yaml\n(.*?)```", page("tuning"), re.S)
    (tmp_path / "space.yaml").write_text(text, encoding="utf-8")
    (given,) = re.findall(r"--config=(configs/\S+)", page("tuning"))[:1]
    config = Config.from_dict(configs.load(given))
    found = space.read(tmp_path / "space.yaml", config)
    assert len(found) == len(text.splitlines())
    shipped = space.default(config)
    assert list(shipped)[:2] == ["train.learning_rate", "embedding.l2"]


@pytest.mark.slow
def test_the_commands_of_the_page_on_datasets_train_on_a_table_of_ones_own(tmp_path):
    shop.prepare(tmp_path / "encoded")
    lines = re.findall(r"^    python -m (experiments\.train .*=encoded)$", page("datasets"), re.M)
    for line in lines:
        line = line.replace("=encoded", f"={tmp_path}/encoded").replace("=runs/", f"={tmp_path}/runs/")
        small = ["--config.data.batch_size=64", "--config.train.max_epochs=1"]
        done = commands.run(*shlex.split(line), *small)
        assert done.returncode == 0, done.stderr
    kinds = [
        list(Result.read(tmp_path / "runs" / name).config.ensemble.labels) for name in ("shop", "deepfm")
    ]
    assert kinds == [["mlp", "mlp"], ["deepfm"]]
