"""What looking into runs takes, in small, and as the page has it."""

import json

import pytest

from benchmarks import common, judging, page
from ektf_jax.runs import load_run
from ektf_jax.training import loop
from tests.bundle import shop


@pytest.mark.slow
def test_both_ways_find_the_same_and_the_page_says_so(tmp_path, monkeypatch):
    shop.prepare(tmp_path / "data")
    loop.train(shop.config(tmp_path / "data"), tmp_path / "run")
    run = load_run(tmp_path / "run")
    found = judging.importance(run, repeats=3, turns=2)
    assert found["largest_difference"] < 1e-3  # rows elsewhere in a batch may round otherwise: a pair of them
    assert (found["rows"], found["fields"]) == (run.schema.splits["valid"], 4)
    compared = judging.comparison(2000, 1)
    assert 0 < compared["seconds"]["median"] < 60
    monkeypatch.setattr(common, "RESULTS", tmp_path)
    content = {
        "importance": found | {"ours_seconds": {"median": 2.0, "min": 1.0, "max": 3.0}},
        "compare": compared,
        "versions": {"jax": "1"},
        "machine": {"cpu": "toy", "cores": 2, "memory_gib": 8.0, "load_before": 0.1},
    }
    (tmp_path / "judging.json").write_text(json.dumps(content))
    page.write()
    text = (tmp_path / "README.md").read_text()
    assert "| permutation importance | 2.00 (1.00 to 3.00) |" in text
    assert "comparison of two predictors of 2,000 rows" in text
