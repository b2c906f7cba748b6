"""Figures from full and partial runs."""

import math

import pytest

from ektf_jax.report import figures, results, seeds

from .conftest import LATEST, concat, result

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
    runs = results.load(write(result("ektf", [0.8, 0.9])))
    assert [name for name, make in ALL.items() if make(runs) is not None] == []


def test_a_figure_of_some_methods(write, tmp_path):
    for size in (2, 6):
        write(concat(size, 0.8))
        directory = write(result("dml", [0.8] * size))
    runs = results.load(directory)
    drawn = {name: figure for name, make in ALL.items() if (figure := make(runs)) is not None}
    assert list(drawn) == ["figure_2", "figure_4", "figure_5"]
    for name, figure in drawn.items():
        figures.save(figure, tmp_path / name)


def test_a_missing_k_is_a_gap(write):
    for size, methods in ((2, ["ektf", "kd"]), (3, ["kd"]), (4, ["ektf", "kd"])):
        for method in methods:
            directory = write(result(method, [0.8 + 0.01 * size] * size))
    ensembles, _, gaps = figures.figure_7(results.load(directory)).axes
    heights = lines(ensembles)
    assert heights["KD"] == pytest.approx([0.82, 0.83, 0.84])
    assert heights["EKTF"][::2] == pytest.approx([0.82, 0.84])
    assert math.isnan(heights["EKTF"][1])
    assert [tick.get_text() for tick in ensembles.get_xticklabels()] == ["2", "3", "4"]
    assert lines(gaps)["KD"] == pytest.approx([0, 0, 0], abs=1e-12)


def test_figure_8_has_the_authors_runs_beside_ours(section_3):
    auc, logloss = figures.figure_8(results.load(section_3), "ml1m").axes
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
    left, _ = figures.curves(results.load(section_3)).axes
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


def test_the_overview_draws_every_student_and_every_ensemble(write):
    write(result("ektf", [0.90, 0.91], 0.92, seed=1))
    write(result("ektf", [0.92, 0.91], 0.94, seed=2))
    write(concat(3, 0.77))
    directory = write(result("none", [0.8, 0.7], 0.9))
    (axes,) = figures.overview(results.load(directory), "title", ceiling=0.95).axes
    heights = sorted(point[1] for collection in axes.collections for point in collection.get_offsets())
    assert heights == pytest.approx(sorted([0.90, 0.91, 0.92, 0.91, 0.92, 0.94, 0.77, 0.8, 0.7, 0.9]))


def test_the_overview_of_many_is_of_mlps(write):
    for rate in range(1, 20):
        write(result("kd", [0.8, 0.9], learning_rate=rate / 100))
    write(result("ektf", [0.8] * 3, kinds=LATEST))
    directory = write(result("ektf", [0.8, 0.9]))
    (axes,) = figures.overview(results.load(directory), "title").axes
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["EKTF\nof MLP\nK = 2"]
    assert len(seeds.groups(results.load(directory))) == 21


def test_no_text_of_a_figure_is_read_as_mathematics(write, tmp_path):
    directory = write(result("ektf", [0.8, 0.9], kinds={"a": {"name": "m:$x_{$"}}))
    figure = figures.overview(results.load(directory), "$\\frac{$ " + "x" * 300)
    figures.save(figure, tmp_path / "a.b")
    assert sorted(path.name for path in tmp_path.glob("a.*")) == ["a.b.png", "a.b.svg"]
    (axes,) = figure.axes
    texts = [axes.title, axes._left_title, *axes.get_xticklabels()]
    assert not any(text.get_parse_math() for text in texts)
    assert axes.get_xticklabels()[0].get_text() == "EKTF\nof $X_{$\nK = 2"
    assert len(axes.get_title(loc="left")) == 80
