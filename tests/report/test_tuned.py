"""The page about a search, from trials of every state."""

import numpy as np
import pytest

from ektf_jax.config import Config
from ektf_jax.report import tuned
from ektf_jax.search import Finalist, SearchResult, Trial


def trial(number, state, by_epoch, rate=0.1, name="a"):
    auc = max(by_epoch, default=None)
    return Trial(number, state, auc, {"x.rate": rate, "y.name": name}, dict(enumerate(by_epoch, start=1)))


TRIALS = [
    trial(0, "complete", [0.6, 0.7]),
    trial(1, "fail", []),
    trial(2, "complete", [0.65, 0.69], rate=1e-05 / 3),
    trial(3, "pruned", [0.5, 0.55], name="[8, 8]"),
    trial(4, "complete", [0.7, 0.75]),
    trial(5, "running", [0.4]),
]
WINNER = Finalist(4, TRIALS[4].settings, {1: 0.75, 2: 0.73}, {1: "trials/4", 2: "finalists/4/s2"})
OTHER = Finalist(0, TRIALS[0].settings, {1: 0.7, 2: 0.72}, {1: "trials/0", 2: "finalists/0/s2"})
TEST = {1: {"auc": 0.8, "logloss": 0.4}, 2: {"auc": 0.7, "logloss": 0.5}}


def lines_of(figure):
    (axes,) = figure.axes
    return {line.get_label(): line.get_data() for line in axes.lines}


def test_the_history_has_the_best_complete_trial_so_far():
    numbers, best = lines_of(tuned.history(TRIALS))["best so far"]
    assert list(numbers) == [0, 2, 4]
    assert list(best) == [0.7, 0.7, 0.75]
    points = [collection.get_offsets().tolist() for collection in tuned.history(TRIALS).axes[0].collections]
    assert points == [[[0, 0.7], [2, 0.69], [4, 0.75]], [[3, 0.55]]]


def test_each_trial_has_a_line_over_its_epochs():
    figure = tuned.epochs(TRIALS, 4)
    drawn = [line.get_ydata() for line in figure.axes[0].lines]
    assert sorted(map(tuple, drawn)) == sorted(tuple(t.by_epoch.values()) for t in TRIALS if t.by_epoch)
    np.testing.assert_array_equal(lines_of(figure)["winner"], [[1, 2], [0.7, 0.75]])


def test_the_page_has_the_winner_the_finalists_and_every_trial(tmp_path):
    found = SearchResult(Config(), 0, TRIALS, {"x.rate": 0.9, "y.name": 0.1}, [WINNER, OTHER])
    tuned.write(found, TEST, tmp_path)
    page = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "Of 6 trials, 3 complete, 1 pruned, 1 failed, 1 running, trial 4 won." in page
    assert "Trial 0 has the settings that the search began from." in page
    assert "| test AUC | 0.750000 ± 0.070711 |" in page
    assert "| 4 | **0.740000 ± 0.014142** | 0.750000 | 0.730000 |" in page
    assert "| 0 | *0.710000 ± 0.014142* | 0.700000 | 0.720000 |" in page
    assert "| x.rate | 0.900 |" in page
    for row in (
        "| 0 | complete | *0.700000* | 2 | 0.1 | a |",
        "| 1 | failed | — | 0 | 0.1 | a |",
        "| 2 | complete | 0.690000 | 2 | 3.33333e-06 | a |",
        "| 3 | pruned | 0.550000 | 2 | 0.1 | [8, 8] |",
        "| 4 | complete | **0.750000** | 2 | 0.1 | a |",
        "| 5 | running | 0.400000 | 1 | 0.1 | a |",
    ):
        assert row in page
    written = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert written.count("<img") == 2
    assert "Seeds: 1, 2" in written


@pytest.mark.parametrize("importances", [{}, {"x.rate": 0.0, "y.name": 0.0}])
def test_a_page_of_one_trial(tmp_path, importances):
    alone = Finalist(0, TRIALS[0].settings, {1: 0.7}, {1: "trials/0"})
    tuned.write(SearchResult(Config(), None, TRIALS[:1], importances, [alone]), {1: TEST[1]}, tmp_path)
    page = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "Finalists" not in page
    assert "began from" not in page
    assert ("What counted" in page) == bool(importances)
    assert "| test AUC | 0.800000 |" in page
