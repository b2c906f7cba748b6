"""The page that sets searches side by side, from made-up ones."""

import json
from pathlib import Path

import pytest

from configs import table2
from ektf_jax.config import Config
from ektf_jax.errors import InputError
from ektf_jax.report import searches
from ektf_jax.report.paper.names import NAMES
from ektf_jax.search import Finalist, SearchResult, Trial
from ektf_jax.training.identity import identity
from tests.report import conftest

TUNED = Path(__file__).resolve().parents[2] / "results" / "tuned"
TITLE = "Models of Table 2, each with 15 trials"


def write_search(directory, kind, aucs, own_auc, dataset="ml1m"):
    """A search of two trials: the config's own settings, and the winner with its seeds."""
    trials = [
        Trial(0, "complete", own_auc, {"train.learning_rate": 0.001}, {1: own_auc}),
        Trial(1, "complete", aucs[0], {"train.learning_rate": 1 / 3}, {1: aucs[0]}),
        Trial(2, "pruned", 0.5, {"train.learning_rate": 0.1}, {1: 0.5}),
    ]
    runs = {1: "trials/1"} | {seed: f"finalists/1/s{seed}" for seed in range(2, len(aucs) + 1)}
    winner = Finalist(1, trials[1].settings, dict(enumerate(aucs, start=1)), runs)
    directory.mkdir(parents=True)
    SearchResult(Config(), 0, trials, {}, [winner]).write(directory)
    for name, auc, seed in [("trials/0", own_auc, 1), *zip(runs.values(), aucs, runs, strict=True)]:
        (directory / name).mkdir(parents=True)
        made = conftest.result("none", [auc], kinds={kind: {"name": kind}}, seed=seed, dataset=dataset)
        made["test"]["ensemble"]["auc"] = auc - 0.01
        (directory / name / "result.json").write_text(json.dumps(made))


def test_models_are_ranked_by_the_winners_validation(tmp_path):
    write_search(tmp_path / "in" / "fm", "fm", [0.82, 0.80], 0.79)
    write_search(tmp_path / "in" / "ecn", "ecn", [0.83], 0.831)
    write_search(tmp_path / "in" / "other", "lr", [0.7], 0.6, dataset="frappe")
    told = searches.write(tmp_path / "in", tmp_path / "out", NAMES, title="Searches")
    page = (tmp_path / "out" / "report.md").read_text(encoding="utf-8")
    ecn = "| single ECN | 1 | 2 + 1 | 1 | 1,234 | 0.8310 | **0.8300** | 0.8210 | 0.8200 | 0.3000 |"
    fm = "| single FM | 1 | 2 + 1 | 2 | 1,234 | 0.7900 | *0.8100 ± 0.0141* | 0.7800 | 0.8000 ± 0.0141 |"
    assert page.index(ecn) < page.index(fm)
    assert "| single LR | 1 | 2 + 1 | 1 | 1,234 | 0.6000 | 0.7000 | 0.5900 | 0.6900 | 0.3000 |" in page
    assert "| single FM | train.learning_rate | 0.001 | 0.333333 |" in page
    assert ecn in told
    checker = conftest.Checker()
    checker.feed((tmp_path / "out" / "report.html").read_text(encoding="utf-8"))
    assert not checker.open


def test_a_run_of_the_winner_that_is_missing_is_said(tmp_path):
    with pytest.raises(InputError, match=r"no search\.json below it"):
        searches.write(tmp_path, tmp_path / "out", NAMES, title="")
    write_search(tmp_path / "fm", "fm", [0.82, 0.80], 0.79)
    (tmp_path / "fm" / "finalists" / "1" / "s2" / "result.json").unlink()
    with pytest.raises(InputError, match=r"finalists/1/s2: has no result\.json"):
        searches.write(tmp_path, tmp_path / "out", NAMES, title="")
    assert not (tmp_path / "out").exists()


def test_of_the_winner_alone_the_results_must_be_whole(tmp_path):
    """A trial whose rate was far too high has a logloss that no table has."""
    write_search(tmp_path / "fm", "fm", [0.82], 0.79)
    other = tmp_path / "fm" / "trials" / "2" / "result.json"
    other.parent.mkdir()
    winner = tmp_path / "fm" / "trials" / "1" / "result.json"
    diverged = json.loads(winner.read_text())
    diverged["test"]["ensemble"]["logloss"] = 1e11
    other.write_text(json.dumps(diverged))
    told = searches.write(tmp_path, tmp_path / "out", NAMES, title="")
    assert "| single FM | 1 | 2 + 1 | 1 | 1,234 | 0.7900 | 0.8200 |" in told
    winner.write_text(json.dumps(diverged))
    with pytest.raises(InputError, match=r"trials/1/result\.json: .*logloss"):
        searches.write(tmp_path, tmp_path / "out", NAMES, title="")


def test_without_the_first_run_there_is_no_before(tmp_path):
    write_search(tmp_path / "in" / "fm", "fm", [0.82], 0.79)
    (tmp_path / "in" / "fm" / "trials" / "0" / "result.json").unlink()
    told = searches.write(tmp_path / "in", tmp_path / "out", NAMES, title="")
    assert "| single FM | 1 | 2 + 1 | 1 | 1,234 | — | 0.8200 | — | 0.8100 | 0.3000 |" in told


def test_the_committed_page_is_of_the_committed_searches(tmp_path):
    searches.write(TUNED, tmp_path, NAMES, title=TITLE)
    assert (tmp_path / "report.md").read_bytes() == (TUNED / "report.md").read_bytes()


@pytest.mark.parametrize("path", sorted(TUNED.rglob("search.json")), ids=lambda path: path.parent.name)
def test_a_committed_search_is_of_a_published_config_with_as_many_trials_as_all(path):
    dataset, model = path.parts[-3:-1]
    found = SearchResult.read(path.parent)
    assert identity(found.config) == identity(
        Config.from_dict(table2.get_config(f"{dataset},{model}").to_dict())
    )
    assert sum(trial.state in ("complete", "pruned") for trial in found.trials) == 15
    assert len(found.winner.aucs) == 3
    best = max(trial.auc or 0.0 for trial in found.trials if trial.state == "complete")
    assert found.trials[found.winner.number].auc == best
