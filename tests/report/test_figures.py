"""Figures in general."""

import numpy as np
import pytest

from ektf_jax.report import figures, seeds
from ektf_jax.report.paper import select

from .conftest import LATEST, concat, load, result


def test_the_overview_draws_every_student_and_every_ensemble(write):
    write(result("ektf", [0.90, 0.91], 0.92, seed=1))
    write(result("ektf", [0.92, 0.91], 0.94, seed=2))
    write(concat(3, 0.77))
    directory = write(result("none", [0.8, 0.7], 0.9))
    (axes,) = figures.overview(load(directory), "title", ceiling=0.95).axes
    points = (np.asarray(collection.get_offsets()) for collection in axes.collections)
    heights = np.sort(np.concatenate([*points])[:, 1])
    assert heights == pytest.approx(np.sort([0.90, 0.91, 0.92, 0.91, 0.92, 0.94, 0.77, 0.8, 0.7, 0.9]))


def test_the_overview_of_many_is_of_mlps(write):
    for rate in range(1, 20):
        write(result("kd", [0.8, 0.9], learning_rate=rate / 100))
    write(result("ektf", [0.8] * 3, kinds=LATEST))
    directory = write(result("ektf", [0.8, 0.9]))
    (axes,) = figures.overview(load(directory), "title", chosen=select.in_overview).axes
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["EKTF\nof MLP\nK = 2"]
    assert len(seeds.groups(load(directory))) == 21


def test_runs_apart_have_a_panel_of_their_own_scale(write):
    write(result("ektf", [0.90, 0.91], 0.92))
    directory = write(result("none", [0.5, 0.6], 0.7))
    plain, own = figures.overview(load(directory), "title", apart=select.ektf()).axes
    assert [tick.get_text() for tick in own.get_xticklabels()] == ["EKTF\nof MLP\nK = 2"]
    assert plain.get_ylim()[0] < 0.5 < 0.7 < plain.get_ylim()[1]
    assert 0.85 < own.get_ylim()[0] < own.get_ylim()[1] < 0.95


def test_for_a_telephone_panels_stand_below_each_other_and_text_stays_as_large(write):
    write(result("ektf", [0.90, 0.91], 0.92))
    directory = write(result("none", [0.5, 0.6], 0.7))
    figure = figures.overview(load(directory), "a title of many words, " * 3, apart=select.ektf())
    sizes = [tick.get_fontsize() for axes in figure.axes for tick in axes.get_xticklabels()]
    svg = figures.narrow(figure)
    assert svg == figures.narrow(figure)
    upper, lower = (axes.get_window_extent() for axes in figure.axes)
    assert lower.y1 < upper.y0
    assert lower.x0 == pytest.approx(upper.x0, abs=1)
    width = figure.get_window_extent().width
    assert figure.get_size_inches()[0] == 3.8
    for axes in figure.axes:
        for text in (*axes.get_xticklabels(), vars(axes)["_left_title"]):
            assert text.get_window_extent().x0 >= 0
            assert text.get_window_extent().x1 <= width
    assert [tick.get_fontsize() for axes in figure.axes for tick in axes.get_xticklabels()] == sizes
    assert len(figure.legends) == 1


def test_no_text_of_a_figure_is_read_as_mathematics(write, tmp_path):
    directory = write(result("ektf", [0.8, 0.9], kinds={"a": {"name": "m:$x_{$"}}))
    figure = figures.overview(load(directory), "$\\frac{$ " + "x" * 300)
    figures.save(figure, tmp_path / "a.b")
    assert sorted(path.name for path in tmp_path.glob("a.*")) == ["a.b.png", "a.b.svg"]
    (axes,) = figure.axes
    texts = [axes.title, vars(axes)["_left_title"], *axes.get_xticklabels()]
    assert not any(text.get_parse_math() for text in texts)
    assert axes.get_xticklabels()[0].get_text() == "EKTF\nof $X_{$\nK = 2"
    assert len(axes.get_title(loc="left")) == 80
