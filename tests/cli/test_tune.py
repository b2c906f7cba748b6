"""`ektf tune` with runs that are trained: what it leaves, what it reads of test data, and kills."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import time

import pytest

from ektf_jax import errors
from ektf_jax.cli import config as configs
from ektf_jax.config import Config
from ektf_jax.runs import space, tune
from tests import commands

CONFIG = """
def get_config():
    return {config!r}
"""
SPACE = """
train.learning_rate: {low: 1e-5, high: 1e-1, log: true}
ensemble.students.*.dropout: {low: 0, high: 0.5, step: 0.1}
"""


@pytest.fixture
def given(tmp_path, tiny_config):
    """A config and a space as files, and the config."""
    config = tiny_config(max_epochs=3)
    config["ensemble"]["num_students"] = 2
    (tmp_path / "mine.py").write_text(CONFIG.format(config=config), encoding="utf-8")
    (tmp_path / "space.yaml").write_text(SPACE, encoding="utf-8")
    return Config.from_dict(config)


def flags(tmp_path, *more, out="out"):
    return [
        f"--config={tmp_path / 'mine.py'}",
        f"--space={tmp_path / 'space.yaml'}",
        f"--workdir={tmp_path / out}",
        *more,
    ]


def trials_of(tmp_path, given, out="out"):
    found = space.read(tmp_path / "space.yaml", given)
    return tune.trials_of(tune.open_search(given, found, tmp_path / out))


def test_a_search_leaves_runs_a_page_and_a_config(tmp_path, given):
    asked = flags(tmp_path, "--trials=7", "--finalists=2", "--seeds=2")
    done = commands.run("experiments.tune", *asked)
    assert done.returncode == 0, done.stderr
    out = tmp_path / "out"
    trials = trials_of(tmp_path, given)
    assert len(trials) == 7
    assert "pruned" in {trial.state for trial in trials}
    for trial in trials:
        workdir = out / "trials" / str(trial.number)
        lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
        assert trial.by_epoch == {line["epoch"]: line["valid"]["ensemble"]["auc"] for line in lines}
        assert (workdir / "result.json").exists() == (trial.state == "complete")
        if trial.state == "complete":  # the epoch whose weights it kept has the best AUC of all
            assert trial.auc == max(trial.by_epoch.values())
            result = json.loads((workdir / "result.json").read_text())
            assert result["config"]["train"]["learning_rate"] == trial.settings["train.learning_rate"]

    # The winner is one of the two best, by the mean over both seeds; its config trains it again.
    (number,) = re.findall(r"^trial (\d+)  valid AUC", done.stdout, re.M)
    assert int(number) in [trial.number for trial in tune.ranked(trials)[:2]]
    assert len(list((out / "finalists").glob("*/s2025/result.json"))) == 2
    best = Config.from_dict(configs.load(str(out / "best.py")))
    assert best == space.varied(
        given, space.read(tmp_path / "space.yaml", given), trials[int(number)].settings
    )
    again = commands.run(
        "experiments.train", f"--config={out / 'best.py'}", f"--workdir={out}/trials/{number}"
    )
    assert again.returncode == 0, again.stderr
    page = (out / "report.md").read_text(encoding="utf-8")
    for heading in ("The winner", "Finalists", "What counted", "History", "Trials"):
        assert f"## {heading}\n" in page
    for line in again.stdout.splitlines()[:1]:
        auc = re.search(r"AUC (\S+)", line).group(1)
        assert f"{float(auc):.3f}" in page or "±" in page
    assert "<svg" not in page
    assert (out / "history.png").exists()
    assert "data:image/svg+xml" in (out / "report.html").read_text(encoding="utf-8")

    # Nobody reads the test metrics of those that did not win: with others, everything is as before.
    before = {name: (out / name).read_bytes() for name in ("report.md", "report.html", "best.py")}
    for path in out.glob("*/**/result.json"):
        if path.relative_to(out).parts[1] != number:
            result = json.loads(path.read_text())
            result["test"]["ensemble"] = {"auc": 0.999999, "logloss": 0.000001}
            path.write_text(json.dumps(result))
    once_more = commands.run("experiments.tune", *asked)
    assert (once_more.returncode, once_more.stdout.splitlines()[-6:]) == (0, done.stdout.splitlines()[-6:])
    assert before == {name: (out / name).read_bytes() for name in before}


def test_bad_flags_are_said_in_a_line(tmp_path, given):
    for more, said in (
        (["--trials=0"], "trials"),
        ([], "trials"),
        (["--trials=1", "--config.train.patience=0"], "config.train.patience = 0 must be at least 1"),
        (["--trials=1", f"--space={tmp_path}/none.yaml"], "none.yaml: cannot be read"),
        (["--trials=1", "--space="], "--space is empty"),
    ):
        done = commands.run("experiments.tune", *flags(tmp_path, *more))
        assert (done.returncode, done.stdout) == (2, "")
        assert said in done.stderr
        assert done.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_missing_optuna_is_said_with_its_extra(monkeypatch, capsys):
    from ektf_jax import cli

    find = cli.importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "optuna" else find(name))
    monkeypatch.delitem(sys.modules, "ektf_jax.cli.tune", raising=False)
    with pytest.raises(SystemExit) as ended:
        cli.call("tune")
    assert ended.value.code == 2
    said = "error: `ektf tune` needs optuna, which is not installed: pip install 'ektf-jax[tune]'\n"
    assert capsys.readouterr().err == said
    assert errors is not None


@pytest.mark.slow
def test_kills_at_random_moments_change_nothing(tmp_path, given):
    """SIGKILL, again and again: study, winner and page are those of a search that ran through."""
    asked = ["--trials=6", "--finalists=2", "--seeds=2"]
    whole = commands.run("experiments.tune", *flags(tmp_path, *asked, out="whole"))
    assert whole.returncode == 0, whole.stderr
    command = [sys.executable, "-m", "experiments.tune", *flags(tmp_path, *asked, out="killed")]
    rng, kills, ended = random.Random(os.environ.get("KILLS_SEED", "0")), 0, False
    wait = 0.0
    while not ended:
        process = subprocess.Popen(
            command, cwd=commands.ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        # Half of them die in the middle of a step or so, the others some seconds after a trial began.
        wait = rng.uniform(4, 12) + min(kills, 30)
        deadline = time.monotonic() + wait
        while time.monotonic() < deadline and process.poll() is None:
            time.sleep(0.02)
        ended = process.poll() is not None
        if not ended:
            process.send_signal(signal.SIGKILL)
            kills += 1
        _, said = process.communicate()
        assert not ended or process.returncode == 0, said
    assert kills >= 3
    assert trials_of(tmp_path, given, "killed") == trials_of(tmp_path, given, "whole")
    for name in ("best.py", "report.md"):
        assert (tmp_path / "killed" / name).read_text() == (tmp_path / "whole" / name).read_text()
