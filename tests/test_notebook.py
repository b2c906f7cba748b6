"""The notebooks run as their readers would, without Jupyter, and show what their text says."""

import json
import tempfile
from pathlib import Path

import numpy as np
import pytest

from docs import notebook

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
PATH = EXAMPLES / "students_and_ensemble.ipynb"
SERVING = EXAMPLES / "serving.ipynb"
# A claim that a reader sees is one that a test tries.
CLAIMS = [
    "all of them are far below it",
    "EKTF's students are close to their ensemble, and each is better than any of the\nplain ones",
    "within a hundredth of each other",
    "EKTF's students\nagree far more",
    "Scores rise while the students learn",
    "is largest for the weakest student",
    "The weights stay near 1/4",
    "strongest in the first steps",
    "which gives the very same probabilities",
]


CLAIMS_OF_SERVING = [
    "Neither is written before it gives the run's own probabilities",
    "the best student is nearly as good as the ensemble",
    "the first is out of vocabulary, the second missing",
    "these are the numbers that training told",
    "It gives the bundle's own probabilities",
]


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    return in_directory(PATH, tmp_path_factory)


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    return in_directory(SERVING, tmp_path_factory)


def in_directory(path, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(tmp_path_factory.mktemp("notebook")))
        return notebook.run(path)


def printed(cells):
    return "".join("".join(output.get("text", "")) for cell in cells for output in cell)


def of_students(names, method):
    test = names["results"][method]["test"]
    return test["ensemble"]["auc"], [student["auc"] for student in test["students"]]


@pytest.mark.parametrize(("path", "claims"), [(PATH, CLAIMS), (SERVING, CLAIMS_OF_SERVING)])
def test_the_claims_are_those_of_the_text(path, claims):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    text = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    assert [claim for claim in claims if claim not in text] == []


def test_students_of_the_plain_ensemble_are_far_below_it_and_ektfs_are_close(ran):
    plain, of_plain = of_students(ran[1], "none")
    ensemble, of_ektf = of_students(ran[1], "ektf")
    assert max(of_plain) < plain - 0.015
    assert min(of_ektf) > max(of_plain) + 0.01
    assert abs(ensemble - max(of_ektf)) < 0.01
    assert abs(ensemble - plain) < 0.01
    assert 0.65 < plain < ran[1]["best_possible"]
    plain, ektf = (ran[1]["results"][name]["test"]["diversity"] for name in ("none", "ektf"))
    assert ektf["ambiguity"] < plain["ambiguity"] / 5
    assert ektf["error_correlation"] > 0.98 > plain["error_correlation"]


def test_scores_rise_and_weights_follow_them(ran):
    scores, lam, mu = (ran[1][name] for name in ("scores", "lam", "mu"))
    assert scores[-5:].mean() > scores[0].mean() + 0.1
    assert (lam.argmax(axis=1) == scores.argmin(axis=1)).all()
    np.testing.assert_allclose(lam.sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(mu.sum(axis=2), 1, rtol=1e-5)
    assert (abs(lam - 1 / 4) < 0.03).all()
    assert np.ptp(lam[0]) > 2 * np.ptp(lam[-5:], axis=1).max()
    text = printed(ran[0])
    assert "is taught most: True" in text
    assert "most from the strongest: True" in text
    assert "gives the same: True" in text


@pytest.mark.slow
def test_bundles_give_what_the_run_told_and_a_server_what_they_give(served):
    shown, names = served
    best, tested = names["bundles"]["best"].about, names["result"]["test"]
    assert best["metrics"]["test"]["ensemble"] == tested["students"][int(best["predictor"])]
    assert best["metrics"]["test"]["ensemble"]["auc"] > tested["ensemble"]["auc"] - 0.01
    assert names["scored"].rows == 4000
    known, unknown = names["found"]["ensemble"]
    assert 0 < unknown < 1
    assert known != unknown
    text = printed(shown)
    assert "the AUC that training told: True" in text
    assert "the same over HTTP: True" in text
    assert "400 " in text
    assert "lack the columns item, category, price" in text


@pytest.mark.parametrize("path", [PATH, pytest.param(SERVING, marks=pytest.mark.slow)])
def test_what_is_shown_in_the_file_is_what_running_shows(request, path):
    """Kinds of outputs, not digits: these may differ with the machine and the versions."""
    shown, _ = request.getfixturevalue("ran" if path == PATH else "served")
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    kept = [cell["outputs"] for cell in cells if cell["cell_type"] == "code"]
    assert [[one["output_type"] for one in cell] for cell in kept] == [
        [one["output_type"] for one in cell] for cell in shown
    ]
    # Small enough to read as a change.
    assert path.stat().st_size < 100_000


def test_a_notebook_is_a_page(ran):
    page = notebook.page(PATH)
    assert page.startswith("# Students and their ensemble\n")
    assert page.count("```python\n") == len(ran[0])
    assert page.count("![](data:image/png;base64,") == sum(
        one["output_type"] == "display_data" for cell in ran[0] for one in cell
    )
