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

from ektf_jax.cli import config as configs
from ektf_jax.config import Config
from ektf_jax.result import Result
from ektf_jax.runs import space, tune
from ektf_jax.search import SearchResult
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


def check_trials(out, trials):
    """What the study has of trials is what their runs tell, and the epoch that is kept has the best AUC."""
    for trial in trials:
        workdir = out / "trials" / str(trial.number)
        lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
        assert trial.by_epoch == {line["epoch"]: line["valid"]["ensemble"]["auc"] for line in lines}
        assert trial.auc == max(trial.by_epoch.values())
        assert (workdir / "result.json").exists() == (trial.state == "complete")
        config = json.loads((workdir / "config.json").read_text())
        assert config["train"]["learning_rate"] == trial.settings["train.learning_rate"]


def test_a_search_leaves_runs_a_page_and_a_config(tmp_path, given):
    asked = flags(tmp_path, "--trials=2", "--finalists=2", "--seeds=2")
    done = commands.run("experiments.tune", *asked)
    assert done.returncode == 0, done.stderr
    out = tmp_path / "out"
    trials = trials_of(tmp_path, given)
    assert len(trials) == 2
    check_trials(out, trials)

    # The winner is the one with the better mean over both seeds; its config is that of its run.
    others = {
        int(path.parent.parent.name): Result.read(path.parent)
        for path in out.glob("finalists/*/*/result.json")
    }
    means = {n: (trials[n].auc + result.valid["ensemble"]["auc"]) / 2 for n, result in others.items()}
    winner = max(means, key=means.get)
    assert re.findall(r"^trial (\d+)  valid AUC (\S+) ±", done.stdout, re.M) == [
        (str(winner), f"{means[winner]:.6f}")
    ]
    best = Config.from_dict(configs.load(str(out / "best.py")))
    assert best == space.varied(given, space.read(tmp_path / "space.yaml", given), trials[winner].settings)
    again = commands.run(
        "experiments.train", f"--config={out / 'best.py'}", f"--workdir={out}/trials/{winner}"
    )
    assert again.returncode == 0, again.stderr
    assert "finished; result.json stays as it is" in again.stdout + again.stderr

    found = SearchResult.read(out)
    assert (list(found.trials), found.winner.number) == (trials, winner)
    assert found.winner.mean == pytest.approx(means[winner])
    assert found.own == 0

    page = (out / "report.md").read_text(encoding="utf-8")
    for heading in ("The winner", "Finalists", "What counted", "History", "Trials"):
        assert f"## {heading}\n" in page
    tests = [Result.read(out / "trials" / str(winner)).test, others[winner].test]
    assert f"| test AUC | {sum(test['ensemble']['auc'] for test in tests) / 2:.6f} ±" in page
    assert (out / "history.png").exists()
    assert "data:image/svg+xml" in (out / "report.html").read_text(encoding="utf-8")

    # Nobody reads the test metrics of those that did not win: with others, everything is as before.
    before = {
        name: (out / name).read_bytes() for name in ("report.md", "report.html", "best.py", "search.json")
    }
    changed = [path for path in out.glob("*/**/result.json") if path.relative_to(out).parts[1] != str(winner)]
    assert len(changed) == 2
    for path in changed:
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


@pytest.mark.long
def test_kills_at_random_moments_change_nothing(tmp_path, given):
    """SIGKILL, again and again: study, winner and page are those of a search that ran through."""
    asked = ["--trials=7", "--finalists=2", "--seeds=2"]
    whole = commands.run("experiments.tune", *flags(tmp_path, *asked, out="whole"))
    assert whole.returncode == 0, whole.stderr
    trials = trials_of(tmp_path, given, "whole")
    assert {trial.state for trial in trials} == {"complete", "pruned"}
    check_trials(tmp_path / "whole", trials)
    command = [sys.executable, "-m", "experiments.tune", *flags(tmp_path, *asked, out="killed")]
    rng, kills, ended = random.Random(os.environ.get("KILLS_SEED", "0")), 0, False
    while not ended:
        process = subprocess.Popen(
            command, cwd=commands.ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        # From when it has begun to some runs later, and each time a second more, so that it ends anywhere.
        deadline = time.monotonic() + rng.uniform(3, 20) + kills
        while time.monotonic() < deadline and process.poll() is None:
            time.sleep(0.02)
        ended = process.poll() is not None
        if not ended:
            process.send_signal(signal.SIGKILL)
            kills += 1
        _, said = process.communicate()
        assert not ended or process.returncode == 0, said
    assert kills >= 3
    assert trials_of(tmp_path, given, "killed") == trials
    check_trials(tmp_path / "killed", trials)
    for name in ("best.py", "report.md", "report.html"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
