"""The notebook runs as its reader would, without Jupyter, and shows what its text says."""

import json
import tempfile
from pathlib import Path

import numpy as np
import pytest

from docs import notebook

PATH = Path(__file__).resolve().parents[1] / "examples" / "students_and_ensemble.ipynb"
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


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(tmp_path_factory.mktemp("notebook")))
        return notebook.run(PATH)


def of_students(names, method):
    test = names["results"][method]["test"]
    return test["ensemble"]["auc"], [student["auc"] for student in test["students"]]


def test_the_claims_are_those_of_the_text():
    cells = json.loads(PATH.read_text(encoding="utf-8"))["cells"]
    text = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    assert [claim for claim in CLAIMS if claim not in text] == []


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
    printed = "".join("".join(output.get("text", "")) for cell in ran[0] for output in cell)
    assert "is taught most: True" in printed
    assert "most from the strongest: True" in printed
    assert "gives the same: True" in printed


def test_what_is_shown_in_the_file_is_what_running_shows(ran):
    """Kinds of outputs, not digits: these may differ with the machine and the versions."""
    cells = json.loads(PATH.read_text(encoding="utf-8"))["cells"]
    kept = [cell["outputs"] for cell in cells if cell["cell_type"] == "code"]
    assert [[one["output_type"] for one in cell] for cell in kept] == [
        [one["output_type"] for one in cell] for cell in ran[0]
    ]
    # Small enough to read as a change.
    assert PATH.stat().st_size < 100_000


def test_a_notebook_is_a_page(ran):
    page = notebook.page(PATH)
    assert page.startswith("# Students and their ensemble\n")
    assert page.count("```python\n") == len(ran[0])
    assert page.count("![](data:image/png;base64,") == sum(
        one["output_type"] == "display_data" for cell in ran[0] for one in cell
    )
