"""Tables that any report has."""

from ektf_jax.report import render, tables

from .conftest import concat, load, result


def test_the_summary_has_a_row_per_model_and_k_averaged_over_seeds(write):
    write(result("ektf", [0.90, 0.91], 0.92, seed=1))
    write(result("ektf", [0.92, 0.91], 0.94, seed=2))
    write(result("none", [0.8, 0.7], 0.9))
    write(concat(4, 0.88))
    alone = result("none", [0.85])
    alone["valid"]["ensemble"]["auc"] = 0.84
    directory = write(alone)
    table = tables.summary(load(directory))
    assert render.markdown_table(table).splitlines() == [
        "| model | K | seeds | parameters | validation AUC | ensemble AUC | logloss | best student |"
        " worst student | lead |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
        "| single MLP | 1 | 1 | 1,234 | 0.8400 | 0.8500 | 0.3000 | 0.8500 | 0.8500 | +0.0000 |",
        "| plain concat of MLP | 4 | 1 | 1,234 | 0.8800 | 0.8800 | 0.3000 | - | - | - |",
        "| plain mean of MLP | 2 | 1 | 1,234 | *0.9000* | 0.9000 | 0.3000 | 0.8000 | 0.7000 | +0.1000 |",
        "| EKTF of MLP | 2 | 2 | 1,234 | **0.9300 ± 0.0141** | 0.9300 ± 0.0141 | 0.3000 | 0.9150 | 0.9050 |"
        " +0.0150 |",
    ]


def test_the_cost_is_averaged(write):
    write(result("ektf", [0.7, 0.8], seed=1))
    second = result("ektf", [0.7, 0.8], seed=2)
    directory = write(second | {"epochs": 4, "wall_seconds": 30.0, "train_samples_per_second": 3000.0})
    (row,) = tables.cost(load(directory)).rows
    assert [cell.text for cell in row] == ["EKTF of MLP", "2", "2", "1,234", "1,505", "1.0", "3.5", "2"]


def test_a_metric_that_results_have_is_a_column(write):
    made = result("ektf", [0.90, 0.91], 0.92)
    made["test"]["ensemble"]["brier_score"] = 0.25
    table = tables.summary(load(write(made)))
    (row,) = table.rows
    assert row[table.header.index("brier score")].text == "0.2500"
