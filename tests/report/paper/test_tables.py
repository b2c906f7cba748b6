"""Tables from made-up runs: values, marks, tests, missing cells."""

import numpy as np
import pytest
from scipy import stats

from ektf_jax.report import render, seeds
from ektf_jax.report.paper import claims, tables

from ..conftest import LATEST, load, result

MLP = {"mlp": {"name": "mlp"}}
ECN = {"ecn": {"name": "ecn"}}


def of_the_test_split(table):
    """The cells' texts of each row, but those of the columns of validation."""
    shown = [i for i, name in enumerate(table.header) if not name.startswith("validation")]
    return [[row[i].text for i in shown] for row in table.rows]


def rows(table):
    """The cells' texts of the test split by (first cell, second cell)."""
    return {(row[0], row[1]): row[2:] for row in of_the_test_split(table)}


BASELINE, OURS = [0.8000, 0.8001, 0.8003], [0.9000, 0.9002, 0.9003]


@pytest.fixture
def table_2(write):
    for seed, (baseline, ours) in enumerate(zip(BASELINE, OURS, strict=True)):
        write(result("none", [baseline], kinds=ECN, seed=seed))
        write(result("ektf", [0.89 + 0.001 * seed, 0.88], ours, seed=seed, loss=0.29))
    write(result("none", [0.95]))  # the best baseline, but of one seed: not one to test against
    directory = write(result("ektf", [0.90, 0.91, 0.92], 0.93, kinds=LATEST, loss=0.28))
    return tables.table_2(load(directory), "ml1m")


def test_table_2_has_ours_beside_the_papers(table_2):
    found = rows(table_2)
    assert len(found) == 18 + 2 * 6 + 1
    mean, deviation = np.mean(OURS), np.std(OURS, ddof=1)
    p = stats.ttest_ind(OURS, BASELINE, equal_var=False).pvalue
    assert p < 1e-3
    assert found["EKTF_MLP", "2"][:5] == [
        "3",
        f"{mean:.4f} ± {deviation:.4f} ★",
        "0.9062",
        f"{mean - 0.9062:+.4f}",
        f"{p:.1e} better",
    ]
    assert found["ECN", "1"][:5] == ["3", "0.8001 ± 0.0002", "0.9059", "-0.1058", ""]
    # The best student is that of the best AUC in each run, and brings its own logloss.
    assert found["EKTF_MLP, best student", "2"][1:3] == ["0.8910 ± 0.0010 ★", "0.9061"]
    assert found["EKTF_MLP, best student", "2"][5] == "0.2900 ± 0.0000"


def test_table_2_has_what_others_published(table_2):
    assert rows(table_2)["QNN-alpha", "1"][2] == "0.9088"
    assert (table_2.header[5], table_2.notes[2]) == (
        "paper",
        "Published elsewhere than in the paper, on rows as they were: by the model's authors FCN, QNN-alpha.",
    )


def test_table_2_of_frappe_is_beside_bars(write):
    table = tables.table_2(load(write(result("none", [0.984], dataset="frappe_redrawn"))), "frappe_redrawn")
    found = rows(table)
    assert table.header[5] == "BARS"
    assert found["MLP", "1"][:4] == ["1", "0.9840", "0.9833", "+0.0007"]
    assert found["FINAL(1B)", "1"][2] == "0.9852"
    assert found["ECN", "1"][2] == found["EKTF_Latest", "3"][2] == "—"
    (note,) = [note for note in table.notes if note.startswith("Published")]
    assert note.startswith(
        "Published elsewhere than in the paper, on rows as they were: by BARS LR, FM, PNN, "
    )
    assert note.endswith(", MLP; by the model's authors QNN-alpha.")


def test_table_2_leaves_missing_cells_and_counts_them(table_2):
    found = rows(table_2)
    assert found["DeepFM", "1"] == ["0", "—", "0.9051", "—", "", "—", "0.3073", "—", ""]
    assert found["EKTF_MLP", "10"] == ["0", "—", "0.9062", "—", "—", "—", "0.3036", "—", "—"]
    assert table_2.notes[-1].startswith("Runs for 5 of 31 rows are here; missing: PNN; Wide & Deep; DeepFM;")
    assert "EKTF_MLP K = 3;" in table_2.notes[-1]


def test_one_seed_is_no_test(table_2):
    latest = rows(table_2)["EKTF_Latest", "3"]
    assert latest[:2] == ["1", "0.9300"]
    assert latest[4] == "—"
    assert "by AUC ECN (3 seeds)" in table_2.notes[0]
    assert "Better, but of one seed: by AUC MLP. " in table_2.notes[0]
    assert table_2.notes[0].endswith("too few for a test: 1.")


def test_worse_is_never_starred(write):
    for seed, (theirs, ours) in enumerate(zip(OURS, BASELINE, strict=True)):
        write(result("none", [theirs], seed=seed))
        directory = write(result("ektf", [0.7, 0.7], ours, seed=seed))
    found = rows(tables.table_2(load(directory), "ml1m"))["EKTF_MLP", "2"]
    assert "★" not in "".join(found)
    p, way = found[4].split()
    assert float(p) < 1e-3
    assert way == "worse"


def test_the_best_two_by_validation_are_marked_and_the_test_split_chooses_nothing(write):
    """On validation the first is best, on the test split the last; so is a run's best student."""
    for kinds, valid, test in ((MLP, 0.83, 0.7), (ECN, 0.82, 0.8), ({"pnn": {"name": "pnn"}}, 0.81, 0.9)):
        made = result("none", [test], kinds=kinds)
        on_validation = {"auc": valid, "logloss": 1 - valid}
        made["valid"] = {"ensemble": on_validation, "students": [on_validation]}
        write(made)
    made = result("ektf", [0.5, 0.6], 0.55)
    made["valid"]["students"] = [{"auc": 0.62, "logloss": 0.4}, {"auc": 0.61, "logloss": 0.3}]
    directory = write(made)
    table = tables.table_2(load(directory), "ml1m")
    columns = {name: i for i, name in enumerate(table.header)}
    marked = {
        row[0].text: [row[columns[name]].rank for name in ("validation AUC", "AUC", "validation logloss")]
        for row in table.rows
        if any(cell.rank for cell in row)
    }
    assert marked == {"MLP": [1, 0, 1], "ECN": [2, 0, 2]}
    (best,) = [row for row in table.rows if row[0].text == "EKTF_MLP, best student" and row[2].text == "1"]
    assert [best[columns[name]].text for name in ("validation AUC", "AUC")] == ["0.6200", "0.5000"]
    text = render.markdown_table(table)
    assert "| **0.8300** | 0.7000 |" in text
    assert "| *0.8200* | 0.8000 |" in text


def test_the_papers_k_is_named_by_the_log_that_has_its_numbers(table_2):
    assert "`EKTF_ML_1M_010` with K = 5" in table_2.notes[1]


def test_ipinyous_logloss_has_six_decimals(write):
    directory = write(result("none", [0.78], loss=0.00554, dataset="ipinyou"))
    found = rows(tables.table_2(load(directory), "ipinyou"))["MLP", "1"]
    assert found[5:8] == ["0.005540", "0.005545", "-0.000005"]


def test_ektf_is_tested_against_the_mlp_and_the_plain_mean(write):
    for seed, (theirs, ours) in enumerate(zip(BASELINE, OURS, strict=True)):
        write(result("none", [theirs], seed=seed, loss=0.3 + 0.001 * seed))
        write(result("ektf", [0.7, 0.7], ours, seed=seed, loss=0.2 + 0.01 * seed))
    directory = write(result("none", [0.7, 0.7], 0.9))
    table = claims.claims(load(directory), "ml1m")
    found = {(row[1].text, row[3].text): [cell.text for cell in row[4:]] for row in table.rows}
    p = stats.ttest_ind(OURS, BASELINE, equal_var=False).pvalue
    p_loss = stats.ttest_ind([0.2, 0.21, 0.22], [0.3, 0.301, 0.302], equal_var=False).pvalue
    assert found["2", "MLP"] == ["3", "+0.1000 ★", f"{p:.1e} better", "", "-0.0910", f"{p_loss:.3f} better"]
    assert found["2", "plain mean of the same"] == ["1", "+0.0002", "—", "", "-0.0900", "—"]
    assert found["4", "MLP"] == ["3", "—", "—", "", "—", "—"]
    assert table.notes[-2] == (
        "Significantly better by AUC: EKTF_MLP K = 2 over MLP. Pairs with too few seeds for a test: 1."
    )
    assert table.notes[-1] == "Runs of both sides of 3 of 18 rows are here."


def test_a_claim_that_does_not_hold_says_why(write):
    for seed, auc in enumerate((0.901, 0.903, 0.905)):
        write(result("none", [auc], seed=seed))
        directory = write(result("ektf", [0.7, 0.7], auc + 0.001, seed=seed))
    table = claims.claims(load(directory), "kkbox")
    (mlp,) = [row for row in table.rows if (row[1].text, row[3].text) == ("2", "MLP")]
    # 0.001 over deviations of 0.002: t is 0.5 sqrt(n / 2)
    assert int(mlp[7].text) == pytest.approx(88, abs=4)
    assert (
        "Significantly better by AUC: nothing. Not significantly: EKTF_MLP K = 2 over MLP (+0.0010, where"
        " seeds alone differ by 0.0020 and 0.0020)." in table.notes
    )


def test_claims_set_the_authors_code_beside_the_same_k(write):
    write(result("none", [0.9]))
    directory = write(result("ektf", [0.7, 0.7], 0.905))
    table = claims.claims(load(directory), "ml1m")
    (row,) = [row for row in table.rows if row[1].text == "2" and row[3].text.startswith("the authors' code")]
    assert [cell.text for cell in row[4:6]] == ["2", "+0.0001"]
    assert claims.claims([], "ml1m") is None


def test_claims_set_a_peer_beside_the_same_k(write):
    for seed in (1, 2):
        write(result("ektf", [0.7, 0.7], 0.9 + 0.001 * seed, seed=seed))
        made = result("ektf", [0.7, 0.7], 0.901, seed=seed)
        made["config"]["implementation"] = "PyTorch"
        directory = write(made)
    runs = load(directory)
    ours, peers = ([run for run in runs if (run.peer is not None) == is_peer] for is_peer in (0, 1))
    table = claims.claims(ours, "ml1m", peers)
    found = {(row[1].text, row[3].text): [cell.text for cell in row[2:6]] for row in table.rows}
    assert found["2", "the same by PyTorch"] == ["2", "the same by PyTorch", "2", "+0.0005"]
    assert ("4", "the same by PyTorch") not in found
    labels = {group.label for group in seeds.groups(runs)}
    assert labels == {"EKTF of MLP", "EKTF of MLP [implementation = PyTorch]"}


def test_table_3_is_of_the_students_of_ektf_latest(write):
    students = [0.7, 0.8, 0.9]
    write(result("ektf", students, 0.93, kinds=LATEST))
    write(result("ektf", students, 0.92, kinds=LATEST, options={"dml": False}))
    write(result("ektf", students, 0.91, kinds=LATEST, options={"kd": False}))
    write(result("ektf", [0.7, 0.8], 0.99, options={"examination": False}))  # of MLPs
    directory = write(result("none", students, 0.90, kinds=LATEST))
    table = tables.table_3(load(directory))
    assert [row[:4] for row in of_the_test_split(table)] == [
        ["EKTF_Latest", "1", "0.9300", ""],
        ["only KD", "1", "0.9200", "-0.0100"],
        ["only DML", "1", "0.9100", "-0.0200"],
        ["w/o EM", "0", "—", "—"],
        ["w/o all", "1", "0.9000", "-0.0300"],
    ]
    assert table.notes[-1] == "Runs for 4 of 5 rows are here; missing: w/o EM."


def test_table_4_has_the_student_inside_the_ensemble(write):
    write(result("none", [0.80], kinds={"pnn": {"name": "pnn"}}))
    write(result("ektf", [0.91, 0.92, 0.93], 0.95, kinds=LATEST))  # ECN, FINAL(1B), PNN
    kinds = {"dcnv2": {"name": "dcnv2"}, **LATEST}
    directory = write(result("ektf", [0.81, 0.82, 0.83, 0.84], 0.95, kinds=kinds))
    found = rows(tables.table_4(load(directory), "ml1m"))
    assert len(found) == 20
    assert found["EKTF_PNN", "3"][:6] == ["1", "0.9300", "0.9067", "+0.0233", "+0.1300", "+0.0025"]
    assert found["EKTF_ECN", "3"][:6] == ["1", "0.9100", "0.9065", "+0.0035", "—", "+0.0006"]
    assert found["EKTF_DCNv2", "4"][:2] == ["1", "0.8100"]
    assert found["EKTF_DCNv2", "4"][6] == "0.3000"
    assert found["CIN", "1"][1] == "—"


def test_table_4_names_gains_of_the_other_sign(write):
    write(result("none", [0.90], kinds={"crossnetv2": {"name": "crossnetv2"}}, seed=1) | {"epochs": 30})
    write(result("none", [0.90], kinds={"crossnetv2": {"name": "crossnetv2"}}, seed=2) | {"epochs": 33})
    write(result("none", [0.9005], kinds={"cin": {"name": "cin"}}))
    write(result("none", [0.80], kinds={"dcnv2": {"name": "dcnv2"}}))
    for kind in ("cin", "crossnetv2", "dcnv2"):  # after it ECN, FINAL(1B), PNN
        made = result("ektf", [0.898, 0.9, 0.9, 0.9], kinds={kind: {"name": kind}, **LATEST})
        directory = write(made | {"epochs": 20 if kind == "crossnetv2" else 3})
    (note,) = [note for note in tables.table_4(load(directory), "ml1m").notes if "opposite" in note]
    assert note.startswith(
        "Gains of 0.001 or more whose sign is opposite to the paper's:"
        " CrossNetv2 (alone 31.5 epochs, inside EKTF 20); CIN (alone 3 epochs, inside EKTF 3). In EKTF"
    )


def test_table_4_of_a_dataset_that_the_papers_lacks(write):
    directory = write(result("none", [0.80], kinds={"pnn": {"name": "pnn"}}, dataset="kdd12"))
    assert rows(tables.table_4(load(directory), "kdd12"))["PNN", "1"][:4] == ["1", "0.8000", "—", "—"]


def test_table_5_has_a_row_per_method_and_divergence(write):
    students = [0.7, 0.8, 0.9]
    write(result("ektf", students, 0.93, kinds=LATEST))
    write(result("online_kd", students, 0.92, kinds=LATEST, options={"divergence": "mse"}))
    options = {"variant": "general", "divergence": "kl"}
    write(result("kdcl", students, 0.94, kinds=LATEST, options=options))
    write(result("eckd", [0.95]))
    kinds = {"dagfm": {"name": "dagfm", "interaction": "inner"}}
    write(result("dagfm", [0.5], kinds=kinds, options={"stage": "distillation"}))
    directory = write(result("dagfm", [0.91], kinds=kinds, options={"stage": "finetuning"}))
    found = {row[0]: row[1:4] for row in of_the_test_split(tables.table_5(load(directory)))}
    assert len(found) == 2 + 8 + 1 + 3 + 1
    assert found["Online KD (MSE)"] == ["1", "0.9200", "-0.0100"]
    assert found["KDCL-General (KL)"] == ["1", "0.9400", "+0.0100"]
    assert found["KDCL-Naive (MSE)"] == ["0", "—", "—"]
    assert found["ECKD"] == ["1", "0.9500", "+0.0200"]
    assert found["DAGFM-inner"] == ["1", "0.9100", "-0.0200"]
    assert found["DAGFM-kernel"] == ["0", "—", "—"]
    assert found["EKTF"] == ["1", "0.9300", ""]


def test_without_any_run_of_it_there_is_no_table(write):
    runs = load(write(result("kd", [0.7, 0.8])))
    made = (tables.table_2, claims.claims, tables.table_4)
    assert [make(runs, "ml1m") for make in made] == [None] * 3
    assert [make(runs) for make in (tables.table_3, tables.table_5)] == [None, None]
