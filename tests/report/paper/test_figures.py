"""Figures from full and partial runs."""

import math

import pytest

from ektf_jax.report.figures import save
from ektf_jax.report.paper import figures

from ..conftest import concat, load, result

ALL = {
    "figure_2": figures.figure_2,
    "figure_3": figures.figure_3,
    "figure_4": figures.figure_4,
    "figure_5": figures.figure_5,
    "figure_7": figures.figure_7,
    "figure_8": lambda runs: figures.figure_8(runs, "ml1m"),
    "curves": figures.curves,
}


def lines(axes):
    """Heights by label of the lines with one."""
    return {line.get_label(): list(line.get_ydata()) for line in axes.lines if line.get_label()[0] != "_"}


def test_too_few_runs_make_no_figure(write):
    runs = load(write(result("ektf", [0.8, 0.9])))
    assert [name for name, make in ALL.items() if make(runs) is not None] == []


def test_a_figure_of_some_methods(write, tmp_path):
    for size in (2, 6):
        write(concat(size, 0.8))
        directory = write(result("dml", [0.8] * size))
    runs = load(directory)
    drawn = {name: figure for name, make in ALL.items() if (figure := make(runs)) is not None}
    assert list(drawn) == ["figure_2", "figure_4", "figure_5"]
    for name, figure in drawn.items():
        save(figure, tmp_path / name)


def test_a_missing_k_is_a_gap(write):
    for size, methods in ((2, ["ektf", "kd"]), (3, ["kd"]), (4, ["ektf", "kd"])):
        for method in methods:
            directory = write(result(method, [0.8 + 0.01 * size] * size))
    ensembles, _, gaps = figures.figure_7(load(directory)).axes
    heights = lines(ensembles)
    assert heights["KD"] == pytest.approx([0.82, 0.83, 0.84])
    assert heights["EKTF"][::2] == pytest.approx([0.82, 0.84])
    assert math.isnan(heights["EKTF"][1])
    assert [tick.get_text() for tick in ensembles.get_xticklabels()] == ["2", "3", "4"]
    assert lines(gaps)["KD"] == pytest.approx([0, 0, 0], abs=1e-12)


def test_figure_8_has_the_authors_runs_beside_ours(section_3):
    auc, logloss = figures.figure_8(load(section_3), "ml1m").axes
    heights = lines(auc)
    assert heights["our ensemble"] == pytest.approx([0.85, 0.906, 0.906])
    assert heights["our best student"] == pytest.approx([0.85, 0.891, 0.893])
    assert heights["the authors' ensemble"][3] == 0.906243
    assert heights["the authors' code, this split: ensemble"] == [0.904709, 0.904997, 0.904369, 0.904035]
    assert len(lines(logloss)["the authors' best student"]) == 6
    assert [tick.get_text() for tick in auc.get_xticklabels()] == ["1", "2", "3", "4", "5", "6", "10"]
    ours = next(line for line in auc.lines if line.get_label() == "our ensemble")
    assert list(ours.get_xdata()) == [0, 1, 3]


def test_the_training_curves_are_of_one_k(section_3):
    left, _ = figures.curves(load(section_3)).axes
    heights = lines(left)
    assert list(heights) == [
        "single MLP",
        "plain mean of 4 MLPs",
        "KD of 4 MLPs",
        "DML of 4 MLPs",
        "EKTF of 4 MLPs",
        "EKTF_Latest",
    ]
    assert heights["EKTF of 4 MLPs"] == [0.8, 0.87, 0.86]
