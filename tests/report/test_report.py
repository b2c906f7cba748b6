"""Tables and figures from result.json files."""

import json

import pytest

from ektf_jax.errors import InputError
from ektf_jax.report import figures, page, published, results


@pytest.fixture
def runs(tmp_path):
    """Two seeds of EKTF at K = 2, one plain ensemble, one single MLP, one concat ensemble."""

    def write(name, method, students, auc, seed=1, fusion="mean"):
        result = {
            "config": {
                "transfer": {"name": method},
                "ensemble": {
                    "num_students": max(len(students), 1),
                    "fusion": fusion,
                    "students": {"a": {"name": "mlp"}},
                },
            },
            "dataset": {"name": "ml1m"},
            "params": 1234,
            "seed": seed,
            "test": {
                "ensemble": {"auc": auc, "logloss": 0.3},
                "students": [{"auc": student, "logloss": 0.3} for student in students],
            },
            "train_samples_per_second": 10.0,
        }
        (tmp_path / name).mkdir()
        (tmp_path / name / "result.json").write_text(json.dumps(result))

    write("e1", "ektf", [0.90, 0.91], 0.92, seed=1)
    write("e2", "ektf", [0.92, 0.91], 0.94, seed=2)
    write("p", "none", [0.8, 0.7], 0.9)
    write("s", "none", [0.85], 0.85)
    return tmp_path


def test_the_table_has_a_row_per_method_and_k_averaged_over_seeds(runs):
    rows = results.table(results.load(runs)).splitlines()[2:]
    assert rows == [
        "| single MLP | 1 | 1 | 1,234 | 0.8500 | 0.3000 | 0.8500 | 0.8500 | +0.0000 |",
        "| plain mean of MLP | 2 | 1 | 1,234 | 0.9000 | 0.3000 | 0.8000 | 0.7000 | +0.1000 |",
        "| EKTF of MLP | 2 | 2 | 1,234 | 0.9300 ± 0.0141 | 0.3000 | 0.9150 | 0.9050 | +0.0150 |",
    ]


def test_an_ensemble_without_student_predictions_leaves_their_cells_empty(runs):
    result = json.loads((runs / "p" / "result.json").read_text())
    result["test"]["students"] = []
    result["config"]["ensemble"]["fusion"] = "concat"
    (runs / "p" / "result.json").write_text(json.dumps(result))
    assert "| plain concat of MLP | 2 | 1 | 1,234 | 0.9000 | 0.3000 | - | - | - |" in results.table(
        results.load(runs)
    )
    figures.students_and_ensemble(results.load(runs), "without students")


def test_the_report_writes_table_and_pictures(runs, tmp_path):
    table = page.write(runs, tmp_path / "out", title="A title", ceiling=0.95)
    text = (tmp_path / "out" / "report.md").read_text()
    assert table in text
    assert "(students.png)" in text
    assert (tmp_path / "out" / "students.png").stat().st_size > 5_000
    assert "A title" in (tmp_path / "out" / "students.svg").read_text()


def test_the_figure_draws_every_student_and_every_ensemble(runs):
    figure = figures.students_and_ensemble(results.load(runs), "title")
    (axes,) = figure.axes
    heights = sorted(point[1] for collection in axes.collections for point in collection.get_offsets())
    assert heights == pytest.approx(sorted([0.85, 0.85, 0.90, 0.91, 0.92, 0.91, 0.92, 0.94, 0.8, 0.7, 0.9]))


def test_no_result_and_broken_results_are_named(tmp_path):
    with pytest.raises(InputError, match=r"no result\.json"):
        results.load(tmp_path)
    (tmp_path / "result.json").write_text('{"config": {}}')
    with pytest.raises(InputError, match=r"result\.json: not a result"):
        results.load(tmp_path)


def test_the_paper_has_155_numbers_and_ours_stand_beside_them(runs):
    assert published.metrics(2, "ipinyou")["ektf_latest"] == (0.005530, 0.7848)
    assert published.metrics(4, "kkbox")["ektf_cin"] == (0.4897, 0.8458)
    sizes = [
        len(published.metrics(table, dataset))
        for table, datasets in (
            (2, ("criteo", "ml1m", "kdd12", "ipinyou", "kkbox")),
            (4, ("criteo", "ml1m", "kkbox")),
        )
        for dataset in datasets
    ]
    assert sizes == [19] * 5 + [20] * 3
    rows = results.table_2(results.load(runs), "ml1m").splitlines()[2:]
    assert rows == [
        "| mlp | 1 | 1 | 0.8500 | 0.9030 | -0.0530 | 0.3000 | 0.3100 |",
        "| EKTF_MLP | 2 | 2 | 0.9300 | 0.9062 | +0.0238 | 0.3000 | 0.3036 |",
    ]
    assert results.table_2(results.load(runs), "criteo") == ""
