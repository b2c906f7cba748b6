"""What docs/choosing.md and the reports say of the committed runs of the study is what they are."""

import json
from pathlib import Path

import pytest

from configs import scaling
from docs import study
from ektf_jax.config import Config
from ektf_jax.report import render
from ektf_jax.report.scaling import tables
from ektf_jax.runs import sweep
from ektf_jax.training.identity import identity

RESULTS = Path(__file__).resolve().parents[3] / "results"


def test_the_page_has_the_means_of_the_runs():
    page = study.PAGE.read_text(encoding="utf-8")
    assert study.written(page) == page


@pytest.mark.parametrize("directory", study.TABLES)
def test_every_run_is_one_of_the_sweep(directory):
    """On a second split it is the same but for its data."""
    where, dataset = directory.split("/")
    runs = scaling.get_config(dataset).runs
    paths = sorted((RESULTS / directory).rglob("result.json"))
    assert len(paths) > 16
    for path in paths:
        name = str(path.parent.relative_to(RESULTS / directory))
        if where == "scaling_second":
            runs[name].data.path = "data/ml1m_second"
        config = Config.from_dict(json.loads(path.read_text())["config"])
        asked = sweep.located({name: Config.from_dict(runs[name])}, name)
        assert identity(config) == identity(asked), name


@pytest.mark.parametrize("directory", study.TABLES)
def test_the_report_is_of_the_committed_runs(directory):
    report = (RESULTS / directory).with_name("report.md").read_text(encoding="utf-8")
    for make in (tables.growth, tables.compared, tables.points):
        table = make(study.study(directory))
        assert table is not None
        assert render.markdown_table(table) in report
