"""What lists and pretrained vectors cost a step, in small, and as the page has it."""

import json

import pytest

from benchmarks import common, fields, page
from ektf_jax.config import Config


@pytest.mark.slow
def test_the_ways_differ_in_what_they_are_named_after():
    config = Config.from_dict(common.config(fields.SHAPE, 1, {"embedding.dim": 8}, small=True))
    found = {case["way"]: case for case in fields.measure(config, slots=3, numbers=5, steps=1, turns=2)}
    assert list(found) == list(fields.WAYS)
    movies = 3643
    more = {way: case["params"] - found["sum"]["params"] for way, case in found.items()}
    assert more == {
        "no list": -movies * 8 - 8 * 16,  # its rows of the table, and of the first layer's kernel
        "sum": 0,
        "attention": (4 * 8 + 1) * 64 + 64 + 1,
        "sum, frozen vectors": 2 * 5 * 8,  # a matrix for the movie, one for the list
        "sum, trained vectors": 2 * 5 * 8 + 2 * movies * 5,
    }
    for case in found.values():
        assert case["samples_per_second"] == pytest.approx(64 / case["step_seconds"]["median"], rel=0.1)
        assert case["times_the_sum"]["count"] == 2
    assert found["sum"]["times_the_sum"]["max"] == 1


def test_the_page_has_a_row_for_each_way(tmp_path, monkeypatch):
    monkeypatch.setattr(common, "RESULTS", tmp_path)
    case = {
        "way": "attention",
        "params": 1234,
        "step_seconds": {"median": 0.2, "min": 0.1, "max": 0.3},
        "samples_per_second": 20480,
        "times_the_sum": {"median": 1.5, "min": 1.4, "max": 1.6},
    }
    machine = {"cpu": "toy", "cores": 2, "memory_gib": 8.0, "load_before": 0.1}
    content = {"batch_size": 4096, "slots": 20, "numbers": 64, "versions": {"jax": "1"}, "machine": machine}
    (tmp_path / "fields.json").write_text(json.dumps(content | {"cases": [case]}))
    page.write()
    text = (tmp_path / "README.md").read_text()
    assert "4,096 random rows of ML-1M's shape, and a list of 20 movies" in text
    assert "| attention | 1,234 | 200.0 (100.0 to 300.0) | 20,480 | 1.50 (1.40 to 1.60) |" in text
