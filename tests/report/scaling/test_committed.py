"""What docs/choosing.md and the report say of the committed runs of the study is what they are."""

import json
import re
from pathlib import Path

import pytest

from configs import scaling
from ektf_jax.config import Config
from ektf_jax.report import render, results, seeds
from ektf_jax.report.scaling import curves, tables
from ektf_jax.report.scaling.page import SCALING
from ektf_jax.report.tables import spread
from ektf_jax.training.identity import identity

ROOT = Path(__file__).resolve().parents[3]
RESULTS = ROOT / "results" / "scaling"


@pytest.fixture(scope="module", params=["ml1m", "frappe"])
def study(request):
    runs = results.load(RESULTS / request.param, names=SCALING.names)
    return request.param, curves.curves(seeds.main_runs(runs))


def test_the_page_has_the_means_of_the_runs(study):
    folder, of = study
    page = (ROOT / "docs" / "choosing.md").read_text(encoding="utf-8")
    (table,) = re.findall(f"<!-- results/scaling/{folder} -->\n(.*?)\n<!-- end -->", page, re.S)
    said = {}
    for line in table.splitlines()[2:]:
        name, whose, *cells = line.strip("| ").split(" | ")
        said[name, whose] = cells
    values = {"ensemble": curves.ensemble_auc, "chosen student": curves.student_auc}
    found = {
        (curve.label.partition(",")[0], whose): [spread(curve.over(value)[size], 4) for size in (2, 4, 6, 10)]
        for curve in of
        for whose, value in values.items()
        if curve.ends == (2, 10)
    }
    assert said == found


def test_every_run_is_one_of_the_sweep(study):
    folder, _ = study
    runs = scaling.get_config(folder).runs
    paths = sorted((RESULTS / folder).rglob("result.json"))
    assert len(paths) > 40
    for path in paths:
        name = str(path.parent.relative_to(RESULTS / folder))
        config = Config.from_dict(json.loads(path.read_text())["config"])
        assert identity(config) == identity(Config.from_dict(runs[name])), name


def test_the_report_is_of_the_committed_runs(study):
    _, of = study
    report = (RESULTS / "report.md").read_text(encoding="utf-8")
    for make in (tables.growth, tables.compared, tables.points):
        table = make(of)
        assert table is not None
        assert render.markdown_table(table) in report
