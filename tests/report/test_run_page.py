"""The page of one run."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from ektf_jax import metrics
from ektf_jax.errors import InputError
from ektf_jax.report import run_page
from ektf_jax.report.run_page import About
from ektf_jax.result import Result
from ektf_jax.training import loop
from tests import commands

from .conftest import Checker

ROOT = Path(__file__).resolve().parents[2]
TEN = ROOT / "results" / "scaling" / "ml1m" / "base" / "mlp_k10_s2024"


@pytest.fixture(scope="module")
def finished(tmp_path_factory, tiny_config):
    workdir = tmp_path_factory.mktemp("page") / "run"
    loop.train(tiny_config(max_epochs=2), workdir)
    return workdir


def table_of(text, title):
    lines = text.partition(f"## {title}\n\n")[2].partition("\n\n")[0].splitlines()
    return {line.strip("| ").split(" | ")[0]: line.strip("| ").split(" | ")[1:] for line in lines[2:]}


def test_the_command_writes_all_of_it(finished, tmp_path):
    out = tmp_path / "out"
    done = commands.run("experiments.report", f"--run={finished}", f"--out={out}")
    assert done.returncode == 0, done.stderr
    text = (out / "run.md").read_text()
    result = Result.read(finished)
    found = table_of(text, "Metrics")
    assert found["ensemble"] == [
        f"{of['ensemble'][name]:.4f}" for of in (result.valid, result.test) for name in ("auc", "logloss")
    ]
    assert found[f"student {result.best_student} (mlp)"][0].startswith("**")
    for name in ("curves", "teaching", "predictions", "importance"):
        assert f"({name}.png)" in text
        assert (out / f"{name}.svg").stat().st_size > 1000
    config = table_of(text, "Config")
    assert config["train.max_epochs"] == ["**2**"]  # 100 by default
    assert config["train.clip_norm"] == ["10.0"]
    assert table_of(text, "Data")["rows, test"] == ["200"]
    checker = Checker()
    checker.feed((out / "run.html").read_text())
    assert checker.open == []
    assert all(source.startswith("data:") for source in checker.sources)


def test_a_run_whose_dataset_or_weights_are_gone_has_the_rest(tmp_path):
    done = commands.run("experiments.report", f"--run={TEN}", f"--out={tmp_path}")
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "run.md").read_text()
    assert "K = 10 of mlp, method `ektf`, seed 2024" in text
    assert re.findall(r"\((\w+)\.png\)", text) == ["curves", "teaching"]
    result = json.loads((TEN / "result.json").read_text())
    assert table_of(text, "Embeddings")["Gender"][0] == (
        f"{result['embedding_use']['Gender']['effective_rank']:.1f}"
    )
    assert table_of(text, "Cost")["FLOPs a row predicted"] == [f"{result['flops_per_sample']:,}"]


def test_predictions_are_drawn_as_given(tmp_path):
    rng = np.random.default_rng(0)
    labels, logits = rng.integers(0, 2, 500).astype(float), rng.normal(size=500)
    about = About(Result.read(TEN), [], (labels, {"ensemble": logits}), {"a|b": [0.1, 0.2]})
    run_page.write(about, tmp_path, "t")
    drawn = (tmp_path / "predictions.svg").read_text()
    assert f"ensemble {metrics.auc(labels, logits):.4f}" in drawn or drawn.count("<use") > 100
    assert "curves" not in (tmp_path / "run.md").read_text()


@pytest.mark.parametrize(
    "files",
    [
        {"ratings.dat": {"bytes": 1200, "sha256": "0123456789abcdef"}},
        [{"name": "ratings.dat", "splits": [], "bytes": 1200, "sha256": "0123456789abcdef"}],
    ],
)
def test_a_run_of_any_dataset_names_its_files(tmp_path, files):
    """Tables of one's own list them, MovieLens has them by name."""
    about = changed(tmp_path, lambda result: result["dataset"]["source"].update(files=files))
    run_page.write(about, tmp_path / "out", "t")
    told = table_of((tmp_path / "out/run.md").read_text(), "Data")
    assert told["file ratings.dat"] == ["1,200 bytes, SHA-256 0123456789ab"]


def changed(directory, change, epochs=()):
    result = json.loads((TEN / "result.json").read_text())
    change(result)
    (directory / "result.json").write_text(json.dumps(result))
    return About(Result.read(directory), list(epochs))


@pytest.mark.parametrize(
    "change",
    [
        lambda result: result.pop("params"),
        lambda result: result.update(params="many"),
        lambda result: result["dataset"].update(source=[]),
        lambda result: result["dataset"]["source"].update(files=[{}]),
        lambda result: result["test"].update(diversity={"ambiguity": 1}),
    ],
)
def test_a_result_that_cannot_be_shown_is_named_and_nothing_written(tmp_path, change):
    about = changed(tmp_path, change)
    with pytest.raises(InputError, match=r"result\.json: holds what no run writes"):
        run_page.write(about, tmp_path / "out", "t")
    assert not (tmp_path / "out").exists()


def test_an_epoch_that_cannot_be_shown_is_named(tmp_path):
    epochs = run_page.read_epochs(TEN / "metrics.jsonl")
    del epochs[-1]["train"]["peer_weights"], epochs[0]["train"]["scores"]
    about = changed(tmp_path, lambda result: None, epochs)
    with pytest.raises(InputError, match=r"metrics\.jsonl: holds what no run writes \(KeyError"):
        run_page.write(about, tmp_path / "out", "t")


def test_lines_that_are_no_text_or_no_json_are_named(tmp_path):
    good = (TEN / "metrics.jsonl").read_bytes().splitlines()[0]
    path = tmp_path / "metrics.jsonl"
    for bad in (b"\xff\xfe", good.replace(b'"epoch": 1', b'"epoch": 1, "x": NaN', 1), b"[" * 100_000):
        assert bad != good
        path.write_bytes(good + b"\n" + bad + b"\n")
        with pytest.raises(InputError, match="line 2: not an evaluation"):
            run_page.read_epochs(path)


@pytest.mark.parametrize("line", ["{", "[]", '{"epoch": 1}', '{"epoch": 1, "train": 3, "valid": {}}'])
def test_a_line_that_is_no_evaluation_is_named(tmp_path, line):
    good = (TEN / "metrics.jsonl").read_text().splitlines()[0]
    path = tmp_path / "metrics.jsonl"
    path.write_text(f"{good}\n{line}\n")
    with pytest.raises(InputError, match="line 2: not an evaluation"):
        run_page.read_epochs(path)
    assert run_page.read_epochs(tmp_path / "none.jsonl") == []


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ([], "name either --results=DIR"),
        ([f"--run={TEN}", f"--results={TEN}"], "name either --results=DIR"),
        ([f"--run={TEN}", "--about=paper"], "--about=paper is of --results, not of --run"),
        ([f"--results={TEN}", "--data=x"], "--data=x is of --run, not of --results"),
    ],
)
def test_flags_that_do_not_go_together(tmp_path, flags, said):
    done = commands.run("experiments.report", *flags, f"--out={tmp_path / 'out'}")
    assert done.returncode == 2
    assert said in done.stderr
    assert not (tmp_path / "out").exists()
