"""The paper's and the authors' numbers."""

import pytest

from ektf_jax.report import names
from ektf_jax.report.paper import published


def test_tables_2_and_4_are_complete():
    assert published.metrics(2, "ipinyou")["ektf_latest"] == (0.005530, 0.7848)
    assert published.metrics(4, "kkbox")["ektf_cin"] == (0.4897, 0.8458)
    assert [len(published.metrics(2, dataset)) for dataset in names.DATASETS] == [19] * 5 + [0, 0]
    assert [len(published.metrics(4, dataset)) for dataset in ("criteo", "ml1m", "kkbox")] == [20] * 3
    assert published.metrics(4, "kdd12") == {}


def test_what_others_published_is_beside_the_papers():
    """FCN and QNN-alpha wherever the paper's datasets have them, and all models of BARS on Frappe."""
    models = {dataset: set(published.others(dataset)) for dataset in names.DATASETS}
    assert models.pop("frappe_redrawn") == models["frappe"]
    assert len(models.pop("frappe")) == 19
    assert models == {
        **{dataset: {"fcn", "qnn"} for dataset in ("criteo", "ml1m", "ipinyou", "kkbox")},
        "kdd12": {"fcn"},
    }
    assert published.others("ml1m")["qnn"] == ((0.296032, 0.908781), "the model's authors")
    assert published.others("frappe_redrawn")["final2b"] == ((0.1311, 0.9857), "BARS")
    assert published.others("mine") == {}


def test_the_authors_runs_by_k():
    runs = published.logged_runs("ml1m", "EKTF")
    assert [run.num_students for run in runs] == [2, 3, 4, 5, 6, 10]
    assert [len(run.students) for run in runs] == [2, 3, 4, 5, 6, 10]
    # EKTF_ML_1M_010's log
    assert runs[3].ensemble == (0.303615, 0.906243)
    assert runs[3].best_student == (0.304035, 0.906130)
    counts = {
        (dataset, family): len(published.logged_runs(dataset, family))
        for dataset in names.DATASETS
        for family in ("EKTF", "EKTF_L", "MLP_mean", "MLPs_sum", "MLPs_concat")
    }
    assert sum(counts.values()) == 47
    assert counts["criteo", "MLP_mean"] == 6


def test_students_of_the_authors_concat_ensembles_are_left_out():
    assert all(run.students == () for run in published.logged_runs("criteo", "MLPs_concat"))


@pytest.mark.parametrize(
    ("dataset", "size"), [("criteo", 10), ("ml1m", 5), ("kdd12", 5), ("ipinyou", 10), ("kkbox", 10)]
)
def test_table_2_is_in_the_logs_cut_off(dataset, size):
    """Two sources, transcribed apart: EKTF_Latest's runs, and the K of EKTF_MLP that the paper leaves out."""
    paper = published.metrics(2, dataset)
    assert paper["ektf_latest"] in [run.cut() for run in published.logged_runs(dataset, "EKTF_L")]
    same = [
        run.num_students for run in published.logged_runs(dataset, "EKTF") if run.cut() == paper["ektf_mlp"]
    ]
    assert same == [size]
